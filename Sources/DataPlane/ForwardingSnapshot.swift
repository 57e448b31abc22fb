import Cryptography
import MeshBase
import NetAddress
import WireGuard

/// What the packet threads need to know of the peers: the whole of it, each time it changes.
package struct ForwardingSnapshot: Sendable {
    package var peers: [ForwardingPeer]
    package var channels: ForwardingChannels

    package init(
        peers: [ForwardingPeer] = [], channels: ForwardingChannels = ForwardingChannels()
    ) {
        self.peers = peers
        self.channels = channels
    }
}

/// One peer of a ``ForwardingSnapshot``.
package struct ForwardingPeer: Sendable {
    package var key: StaticPublicKey
    /// Where to send. Applied when it differs from the last published one; in between the data
    /// plane follows the source of authentic packets by itself.
    package var endpoint: SocketAddress?
    /// The channel of the relay at `endpoint`; 0 when the peer itself is there.
    package var channel: UInt32
    /// What stands for the way in use when a packet's source is compared with it: `endpoint`, or
    /// the relayed address of the channel.
    package var address: SocketAddress?
    /// Raise it to apply an unchanged `endpoint` again, over what the data plane has followed.
    package var endpointSerial: UInt32
    /// Inner addresses that are sent to this peer and accepted from it. The longest match wins;
    /// of equal prefixes, the one of the later peer in the list.
    package var prefixes: [IPPrefix]
    /// The session to send with; packets wait while there is none.
    package var sending: TransportSession?
    /// Every session to receive on, `sending` included or not.
    package var receiving: [TransportSession]

    /// The largest datagram (UDP payload) that the path to the peer carries; `nil` for what the
    /// device's MTU makes.
    package var pathLimit: Int?
    /// Whether the peer puts together packets that were sent in two pieces.
    package var joinsPieces: Bool

    package init(
        key: StaticPublicKey, endpoint: SocketAddress? = nil, endpointSerial: UInt32 = 0,
        prefixes: [IPPrefix] = [], sending: TransportSession? = nil,
        receiving: [TransportSession] = [], channel: UInt32 = 0, address: SocketAddress? = nil,
        pathLimit: Int? = nil, joinsPieces: Bool = false
    ) {
        self.key = key
        self.endpoint = endpoint
        self.channel = channel
        self.address = address ?? endpoint
        self.endpointSerial = endpointSerial
        self.prefixes = prefixes
        self.sending = sending
        self.receiving = receiving
        self.pathLimit = pathLimit
        self.joinsPieces = joinsPieces
    }
}

/// What the packet threads report to control.
package enum DataPlaneEvent: Hashable, Sendable {
    /// A datagram that is not a packet of a session: a handshake message, an envelope, KRPC. Its
    /// source is unproven.
    case datagram([UInt8], from: SocketAddress)
    /// The payload of an authentic packet that is not IP, padding included.
    case controlFrame(peer: StaticPublicKey, [UInt8])
    /// Packets for the peer wait, and there is no session to send with. Repeated at most once a
    /// second while more packets come.
    case sessionWanted(peer: StaticPublicKey)
    /// An authentic packet came on a session that is newer than the sending one. May be repeated
    /// until a snapshot sends with it.
    case sessionConfirmed(peer: StaticPublicKey, localIndex: UInt32)
    /// An authentic packet came from a new source, to which the data plane already answers if it
    /// follows sources. Otherwise it is told again each second.
    case endpointMoved(peer: StaticPublicKey, SocketAddress)
}

/// Why a packet went no further. Counted, never answered.
package enum PacketDropReason: Int, Hashable, Sendable, CaseIterable {
    // From the device.
    case malformedFromDevice
    case noRoute
    /// No session, and no room to wait for one.
    case waitingQueueFull
    /// Larger than the path to the peer carries; its sender was told.
    case tooLarge
    /// The socket stayed full, or the kernel refused the destination.
    case sendFailed
    // From the network.
    /// Neither a packet nor anything that control would read.
    case unrecognized
    /// Control does not keep up with datagrams of unproven source, or would not with so many
    /// handshakes.
    case controlRingFull
    /// A datagram of unproven source waited for so long that its sender expects no answer any more.
    case stale
    case unknownSession
    case expiredSession
    case notAuthentic
    case replayed
    case malformedPayload
    /// A piece of a packet whose other piece did not come.
    case pieceWithoutOther
    /// More to carry for others than this node allows.
    case relayBudgetSpent
    /// The inner source address is not one of the sender's.
    case wrongSource
    /// There is no device, or it refused the packet.
    case deviceRefused
}

/// What has passed between this node and one peer, as WireGuard counts it: whole datagrams
/// without their IP and UDP headers.
package struct PeerTraffic: Hashable, Sendable {
    package var receivedPackets: UInt64 = 0
    package var receivedBytes: UInt64 = 0
    package var sentPackets: UInt64 = 0
    package var sentBytes: UInt64 = 0

    package init() {}

    static func += (sum: inout PeerTraffic, other: PeerTraffic) {
        sum.receivedPackets += other.receivedPackets
        sum.receivedBytes += other.receivedBytes
        sum.sentPackets += other.sentPackets
        sum.sentBytes += other.sentBytes
    }
}
