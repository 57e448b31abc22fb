import Cryptography
import MeshBase
import NetAddress

/// One peer of a tunnel device, as its owner wants it.
package struct TunnelPeerConfiguration: Sendable {
    package var publicKey: StaticPublicKey
    /// Mixed into the handshake; both ends must hold the same, or both none.
    package var presharedKey: SecretBytes?
    /// Where to reach the peer before it was heard; `nil` keeps what is known.
    package var endpoint: SocketAddress?
    /// A keepalive after this much silence, and a tunnel that is always kept up.
    package var persistentKeepalive: Duration?
    /// The packet suite of every session with this peer; handshakes of the other are refused.
    package var suite: PacketSuite

    package init(
        publicKey: StaticPublicKey, presharedKey: SecretBytes? = nil,
        endpoint: SocketAddress? = nil, persistentKeepalive: Duration? = nil,
        suite: PacketSuite = .chaCha20Poly1305
    ) {
        self.publicKey = publicKey
        self.presharedKey = presharedKey
        self.endpoint = endpoint
        self.persistentKeepalive = persistentKeepalive
        self.suite = suite
    }
}

/// What a tunnel device wants done, in this order.
package enum TunnelAction: Sendable {
    /// Make this stamp durable before any later action of the list. After a restart it is the
    /// `lastTimestamp` of the new device.
    case reserveTimestamp(TAI64N)
    case send(datagram: [UInt8], to: SocketAddress)
    /// Packets may arrive on this session from now on.
    case installSession(StaticPublicKey, TransportSession)
    /// Send with this session from now on, beginning with what waits.
    case useSession(StaticPublicKey, TransportSession)
    case removeSession(StaticPublicKey, localIndex: UInt32)
    /// A handshake proved that the peer is reached here.
    case endpointChanged(StaticPublicKey, SocketAddress)
    /// No answer for REKEY_ATTEMPT_TIME; drop what waits. Later traffic may try again.
    case unreachable(StaticPublicKey)
    case dropped(HandshakeDropReason)
}

/// Why a datagram had no effect. Nothing is ever sent in return but a cookie.
package enum HandshakeDropReason: Hashable, Sendable, CaseIterable {
    /// Not the type, length or reserved bytes of a handshake message.
    case malformed
    /// The sender does not know this device's public key.
    case wrongMAC1
    /// Under load and without a valid cookie; a cookie was sent.
    case cookieRequired
    /// Under load and above this source's share.
    case rateLimited
    /// Not for this device, or tampered with, or another preshared key.
    case notAuthentic
    /// Well made, by a static key that is not a peer.
    case unknownPeer
    /// A stamp not greater than the greatest seen from this peer.
    case replayed
    /// Sooner after the peer's last initiation than any implementation sends.
    case tooFrequent
    /// The receiver index names no handshake of ours.
    case unknownIndex
    /// The peer is configured for the other packet suite.
    case wrongSuite
}

/// What is known of one peer, for display and for path selection.
package struct TunnelStatus: Hashable, Sendable {
    /// When the latest handshake completed.
    package var lastHandshake: BootInstant?
    package var endpoint: SocketAddress?
    package var suite: PacketSuite
    /// Whether packets can be sent right now.
    package var hasSession: Bool
    /// Whether a handshake of ours waits for an answer.
    package var isConnecting: Bool
}
