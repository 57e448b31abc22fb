import ClusterPlan
import Consensus
import Cryptography
import Membership
import MeshBase
import NetAddress
import WireGuard

/// The keys of one machine, made once and kept for ever.
package struct NodeIdentity: Sendable {
    package let signingKey: SigningKey
    package let staticKey: StaticPrivateKey

    package init(signingSeed: SecretBytes, staticSecret: SecretBytes) {
        signingKey = SigningKey(seed: signingSeed)
        staticKey = StaticPrivateKey(staticSecret)
    }

    package var node: NodeID { signingKey.publicKey }
}

/// What a node is told at start; nothing of it changes while it runs.
package struct NodeConfiguration: Sendable {
    package var token: NetworkToken
    package var identity: NodeIdentity
    package var certificate: MembershipCertificate
    package var hostname: String
    /// The UDP port that the runtime has bound.
    package var listenPort: UInt16
    /// An IPv4 address that the user insists on; otherwise it comes from the key.
    package var fixedIPv4: IPAddress?
    /// IPv4 blocks that this machine reaches otherwise; an overlapping plan keeps it IPv6-only.
    package var localRoutes: [IPPrefix]
    package var usesLocalDiscovery: Bool
    package var dht: DHTChoice
    package var zone: String
    package var clusterKind: DatastoreKind
    package var clusterRole: RoleWish
    /// The packet suites that this machine is fast at, one bit each.
    package var suites: PacketSuites
    /// Whether the state directory survives a power cut; without it the node never votes.
    package var isDurable: Bool
    /// Whether data of a datastore is on this machine already.
    package var hasClusterData: Bool
    /// The founding record existed and cannot be read: the node never votes again.
    package var isAmnesiac: Bool
    /// What this machine carries for other members.
    package var relay = RelayBudget.usual
    /// Whether the interpreter carries datagrams by streams and other UDP ports.
    package var hasCarrier = false
    /// Whether the gateway is asked to send a port here.
    package var mapsPorts = false
    /// Whether many ports are tried where two NATs leave nothing else.
    package var guessesPorts = false
    /// Whether what happens to the founding and the planner is written down.
    package var keepsFoundingLog = false

    package init(
        token: NetworkToken, identity: NodeIdentity, certificate: MembershipCertificate,
        hostname: String, listenPort: UInt16
    ) {
        self.token = token
        self.identity = identity
        self.certificate = certificate
        self.hostname = hostname
        self.listenPort = listenPort
        fixedIPv4 = nil
        localRoutes = []
        usesLocalDiscovery = true
        dht = .off
        zone = "\(token.name).internal"
        clusterKind = .none
        clusterRole = .auto
        suites = .available
        isDurable = true
        hasClusterData = false
        isAmnesiac = false
    }
}

/// How much a machine relays for others.
package enum RelayBudget: Hashable, Sendable {
    case off
    /// Bytes a second, of all channels together.
    case limited(bytesPerSecond: UInt64)
    case unlimited

    /// 10 Mbit/s: enough for work, too little to notice at home.
    package static let usual = RelayBudget.limited(bytesPerSecond: 1_250_000)
}

/// Packet suites as members tell each other, one bit per suite.
package struct PacketSuites: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    package static let chaCha20Poly1305 = PacketSuites(rawValue: 1)
    package static let aes256GCM = PacketSuites(rawValue: 2)

    /// What this machine can do.
    package static var available: PacketSuites {
        PacketSuite.aes256GCM.isAvailable ? [.chaCha20Poly1305, .aes256GCM] : .chaCha20Poly1305
    }

    /// The suite of two nodes: AES-256-GCM exactly when both name it.
    package func chosen(with other: PacketSuites) -> PacketSuite {
        contains(.aes256GCM) && other.contains(.aes256GCM) ? .aes256GCM : .chaCha20Poly1305
    }
}

/// What a node wrote in an earlier life.
package struct RestoredState: Sendable {
    package var founding: [UInt8]?
    package var leases: [UInt8]?
    package var leaseVoters: [UInt8]?
    package var ledgerEntries: [[UInt8]]
    package var timestamp: TAI64N?
    package var peerCache: [UInt8]?
    package var dhtContacts: [UInt8]?

    package init(
        founding: [UInt8]? = nil, ledgerEntries: [[UInt8]] = [], timestamp: TAI64N? = nil,
        peerCache: [UInt8]? = nil, dhtContacts: [UInt8]? = nil
    ) {
        self.founding = founding
        self.ledgerEntries = ledgerEntries
        self.timestamp = timestamp
        self.peerCache = peerCache
        self.dhtContacts = dhtContacts
    }
}
