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
    package var zone: String
    package var clusterKind: DatastoreKind
    package var clusterRole: RoleWish
    /// Whether the state directory survives a power cut; without it the node never votes.
    package var isDurable: Bool
    /// Whether data of a datastore is on this machine already.
    package var hasClusterData: Bool
    /// The founding record existed and cannot be read: the node never votes again.
    package var isAmnesiac: Bool

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
        zone = "\(token.name).internal"
        clusterKind = .none
        clusterRole = .auto
        isDurable = true
        hasClusterData = false
        isAmnesiac = false
    }
}

/// What a node wrote in an earlier life.
package struct RestoredState: Sendable {
    package var founding: [UInt8]?
    package var ledgerEntries: [[UInt8]]
    package var timestamp: TAI64N?
    package var peerCache: [UInt8]?

    package init(
        founding: [UInt8]? = nil, ledgerEntries: [[UInt8]] = [], timestamp: TAI64N? = nil,
        peerCache: [UInt8]? = nil
    ) {
        self.founding = founding
        self.ledgerEntries = ledgerEntries
        self.timestamp = timestamp
        self.peerCache = peerCache
    }
}
