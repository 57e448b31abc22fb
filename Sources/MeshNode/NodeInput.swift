import ClusterPlan
import Cryptography
import DNS
import MeshBase
import NetAddress
import PathDiscovery
import WireGuard

/// Everything that can happen to a node.
package enum NodeInput: Sendable {
    /// A datagram at the UDP port that is not a packet of a known session.
    case datagram([UInt8], from: SocketAddress)
    /// A decrypted tunnel payload whose first nibble is neither 4 nor 6.
    case controlFrame([UInt8], from: StaticPublicKey)
    /// Packets wait for a session with this peer.
    case sessionWanted(StaticPublicKey)
    /// The first authenticated packet came in on this session.
    case sessionConfirmed(localIndex: UInt32)
    /// An authenticated packet of this peer came from another address.
    case endpointMoved(StaticPublicKey, to: SocketAddress)
    /// A multicast DNS datagram.
    case multicast([UInt8], from: SocketAddress, interface: UInt32, toGroup: Bool)
    /// The local network interfaces, at start and whenever they changed.
    case interfaces([LocalInterface])
    /// Addresses where members may be, given by the user.
    case candidates([SocketAddress])
    /// Addresses where nodes of the DHT may be.
    case dhtBootstrap([SocketAddress])
    /// A stream or another UDP port came or went.
    case carrier(CarrierReport)
    /// Packets leave this machine by another default route, though its addresses are the same.
    case waysOutChanged
    /// Who may map ports, at start and whenever it changed.
    case gatewayChanged(GatewayLink?)
    case gateway(GatewayReport)
    /// A datastore command came to an end.
    case host(HostReport)
    /// Somebody asks for something.
    case command(NodeCommand)
    /// The deadline passed.
    case timeout
}

/// A local network interface on which members can be reached.
package struct LocalInterface: Hashable, Sendable {
    package var index: UInt32
    package var name: String
    package var addresses: [IPAddress]
    /// The blocks that are directly on the link.
    package var prefixes: [IPPrefix]
    package var isMulticast: Bool

    package init(
        index: UInt32, name: String, addresses: [IPAddress], prefixes: [IPPrefix],
        isMulticast: Bool
    ) {
        self.index = index
        self.name = name
        self.addresses = addresses
        self.prefixes = prefixes
        self.isMulticast = isMulticast
    }
}

/// What the API asks of a node.
package enum NodeCommand: Sendable {
    /// Probe a member through its tunnel; answered by ``NodeAction/pong(id:roundTrip:)``.
    case ping(id: UInt32, NodeID)
    /// Say goodbye: the node is about to stop.
    case leave
}

/// Everything that a node can want, to be carried out in order.
package enum NodeAction: Sendable {
    case send([UInt8], to: SocketAddress)
    /// Send a datagram that nobody on the path may cut: it tells whether it fits.
    case sendUnfragmented([UInt8], to: SocketAddress)
    /// Sent so that it dies after so many hops: it opens our NAT and does not arrive.
    case sendShort([UInt8], to: SocketAddress, hops: UInt8)
    /// For whoever carries datagrams by streams and other UDP ports.
    case carrier(CarrierOrder)
    /// For whoever speaks with the gateway.
    case gateway(PortMappingAction)
    case sendMulticast([UInt8], to: DiscoveryDestination)
    /// Must be durable before any later action of the same list is carried out.
    case persist(DurableRecord)
    /// The forwarding snapshot changed: publish ``Node/forwarding`` after this step.
    case forwardingChanged
    /// The addresses of the interface changed to these.
    case addressesChanged(ipv4: IPAddress?, ipv6: IPAddress)
    /// The names of the zone changed: publish ``Node/names``.
    case namesChanged
    case host(HostCommand)
    case pong(id: UInt32, roundTrip: Duration)
    case log(LogLevel, String)
    /// Lines for the founding log: what happened, what was wanted, and the state after it. They come
    /// before the actions that they tell of.
    case record(String)
}

/// What a node keeps over restarts.
package enum DurableRecord: Sendable {
    /// The whole founding record; replaces the former one.
    case founding([UInt8])
    /// The whole lease record; replaces the former one.
    case leases([UInt8])
    /// The whole chain of the voters on leases.
    case leaseVoters([UInt8])
    /// One ledger entry, appended.
    case ledgerEntry([UInt8])
    /// An entry left the ledger: what is alive replaces the whole file before it grows again.
    case ledgerShrank
    /// The newest handshake stamp that may be used, reserved ahead.
    case timestamp(TAI64N)
    /// Addresses of members, for the next start; need not be durable at once.
    case peerCache([UInt8])
    /// Nodes of the DHT, for the next start; need not be durable at once.
    case dhtContacts([UInt8])
}

package enum LogLevel: String, Sendable {
    case debug, info, notice, warning, error
}
