import ClusterPlan
import Configuration
import Cryptography
import MeshBase
import MeshNode
import NetAddress

/// What `up` was told, in the terms of this floor.
package struct NodeSettings: Sendable {
    package var token: NetworkToken
    /// `nil` leaves the place to the rule of the state directory.
    package var stateDirectory: String?
    /// `nil` for no TUN device.
    package var interfaceName: String?
    package var fixedIPv4: IPAddress?
    package var hostname: String
    /// `nil`: random once, then kept.
    package var listenPort: UInt16?
    /// Host names or addresses with ports.
    package var peers: [(host: String, port: UInt16)]
    package var usesLocalDiscovery: Bool
    package var dht: DHTChoice
    /// Host names or addresses with ports of nodes of the DHT.
    package var dhtBootstrap: [(host: String, port: UInt16)]
    /// Packet threads; 0 leaves their number to the machine.
    package var shards: Int
    package var names: NameService
    package var zone: String?
    /// `nil`: the machine's resolv.conf without ourselves.
    package var upstreams: [DNSUpstream]?
    package var routes: [DNSRoute] = []
    package var logsQueries = false
    package var resolverIntegration = DNSIntegrationChoice.off
    package var clusterKind: DatastoreKind
    package var clusterRole: RoleWish
    /// Paths outside the state directory whose presence means that a datastore was set up here.
    package var datastorePaths: [String]
    /// What this machine carries for others.
    package var relay = RelayBudget.usual
    /// Whether members may also come by TLS on port 443.
    package var relaysByTLS = false
    /// Whether the gateway is asked to send a port here.
    package var mapsPorts = true
    /// Whether many ports are tried where two NATs leave nothing else.
    package var guessesPorts = false
    /// The file into which the founding and the planner are written down; `nil` for none.
    package var foundingLog: String?

    /// Where names are answered.
    package enum NameService: Hashable, Sendable {
        case off
        /// Port 53 of the overlay addresses.
        case overlay
        case address(SocketAddress)
    }

    package init(token: NetworkToken, hostname: String) {
        self.token = token
        self.hostname = hostname
        peers = []
        usesLocalDiscovery = true
        dht = DHTChoice(mode: token.dht)
        dhtBootstrap = []
        shards = 0
        names = .overlay
        clusterKind = .none
        clusterRole = .auto
        datastorePaths = []
    }
}
