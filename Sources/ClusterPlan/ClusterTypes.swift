import Cryptography
import MeshBase
import NetAddress

/// The datastore that a mesh founds. One planner serves them all; what differs is behind
/// ``HostCommand`` and in the plan of that datastore (``EtcdPlan``).
package enum DatastoreKind: String, Hashable, Sendable {
    case none
    case etcd
    case k3s
    case k0s
    /// An operator's program.
    case program
}

/// What the operator lets this machine be (`--role`).
package enum RoleWish: UInt8, Hashable, Sendable {
    /// Server while servers are wanted, agent afterwards.
    case auto = 0
    /// Waits for a free server's place rather than become an agent.
    case server = 1
    /// Never founds and never holds datastore data.
    case agent = 2
    /// Mesh only.
    case none = 3
}

/// What a machine is in the datastore.
package enum DatastoreRole: UInt8, Hashable, Sendable {
    case server = 1
    case agent = 2
}

/// What does not change while the daemon runs.
package struct ClusterConfiguration: Hashable, Sendable {
    package var kind: DatastoreKind
    package var role: RoleWish
    package var node: NodeID
    package var staticPublicKey: StaticPublicKey
    /// S of the genesis policy: how many servers the datastore gets.
    package var serverLimit: Int
    package var hostname: String
    /// The DNS zone of the mesh, without a leading dot: `mesh.internal`.
    package var zone: String

    package init(
        kind: DatastoreKind, role: RoleWish, node: NodeID, staticPublicKey: StaticPublicKey,
        serverLimit: Int, hostname: String, zone: String
    ) {
        self.kind = kind
        self.role = role
        self.node = node
        self.staticPublicKey = staticPublicKey
        self.serverLimit = serverLimit
        self.hostname = hostname
        self.zone = zone
    }
}

/// A machine of the mesh as the planner sees it; this machine is one of them.
package struct ClusterPeer: Hashable, Sendable {
    package var id: NodeID
    package var staticKey: StaticPublicKey
    /// `nil` while the address is unclaimed or contested: such a machine gets no join grant.
    package var ipv4: IPAddress?
    package var ipv6: IPAddress
    /// What the machine calls itself; several may bear one name.
    package var hostname: String
    /// Its name in the mesh's zone.
    package var dnsLabel: String
    /// A hint for choosing whom to ask; it grants nothing.
    package var isAlive: Bool
    /// Whether it may become a server: in the founding mode `voters` only machines that the admin
    /// key named may, everywhere else all may.
    package var mayServe: Bool

    package init(
        id: NodeID, staticKey: StaticPublicKey, ipv4: IPAddress?, ipv6: IPAddress,
        hostname: String, dnsLabel: String? = nil, isAlive: Bool, mayServe: Bool = true
    ) {
        self.id = id
        self.staticKey = staticKey
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.hostname = hostname
        self.dnsLabel = dnsLabel ?? hostname
        self.isAlive = isAlive
        self.mayServe = mayServe
    }
}

/// Which founding a datastore belongs to: the generation of the claim and the hash of the
/// certificate authority that the certified outcome names.
package struct ClusterIdentity: Hashable, Sendable {
    package var generation: UInt32
    package var caHash: Bytes32

    package init(generation: UInt32, caHash: Bytes32) {
        self.generation = generation
        self.caHash = caHash
    }
}

/// The state of the founding registers, as far as the planner needs it.
package struct FoundingSummary: Hashable, Sendable {
    package enum Phase: String, Hashable, Sendable {
        case none, refused, waiting, claiming, starting, ready, fenced, alarm
    }

    package var phase: Phase
    package var generation: UInt32
    /// The node that the certified claim of this generation names.
    package var owner: NodeID?
    /// The owner's own deadline while `starting`; past it the datastore must not run.
    package var startDeadline: BootInstant?
    /// Present when `ready` is certified.
    package var caHash: Bytes32?
    /// What was certified with it.
    package var facts: GenesisFacts
    package var isOwner: Bool
    /// Words for a person.
    package var reason: String

    package init(
        phase: Phase, generation: UInt32 = 0, owner: NodeID? = nil,
        startDeadline: BootInstant? = nil, caHash: Bytes32? = nil,
        facts: GenesisFacts = GenesisFacts(), isOwner: Bool = false, reason: String = ""
    ) {
        self.phase = phase
        self.generation = generation
        self.owner = owner
        self.startDeadline = startDeadline
        self.caHash = caHash
        self.facts = facts
        self.isOwner = isOwner
        self.reason = reason
    }

    /// The cluster that is certified as ready; `nil` before.
    package var readyCluster: ClusterIdentity? {
        guard phase == .ready, let caHash else { return nil }
        return ClusterIdentity(generation: generation, caHash: caHash)
    }
}

/// A member of the datastore, for people and programs.
package struct ClusterMember: Hashable, Sendable {
    package var name: String
    /// The mesh node behind the member, when its address or name is known here.
    package var node: NodeID?
    package var ipv4: IPAddress?
    package var isVoter: Bool
    package var isStarted: Bool
}

/// A machine that uses the datastore as a client.
package struct ClusterAgent: Hashable, Sendable {
    package var name: String
    package var node: NodeID

    package init(name: String, node: NodeID) {
        self.name = name
        self.node = node
    }
}

/// What `cluster status` prints.
package struct ClusterView: Hashable, Sendable {
    /// `ready` is the founder, `joined` are the others.
    package enum Phase: String, Hashable, Sendable {
        case none, refused, waiting, claiming, starting, ready, joining, joined, fenced, alarm
    }

    package var phase: Phase
    /// What this machine is in the datastore; `nil` while undecided or outside.
    package var role: DatastoreRole?
    /// Sorted by name.
    package var members: [ClusterMember]
    /// Sorted by name.
    package var agents: [ClusterAgent]
    /// Words for a person: what is happening and what it waits for.
    package var reason: String
    /// From the moment an address goes into a certificate it must not change any more.
    package var isAddressFixed: Bool
}

/// What the coordinator wants done. The interpreter executes the list in order.
package enum ClusterAction: Hashable, Sendable {
    /// Run off the control thread; the outcome returns through `hostReported`.
    case host(HostCommand)
    /// A message of at most 1,200 bytes for the coordinator of `to`; it may be lost.
    case send(to: NodeID, [UInt8])
    /// A public fact of this node for the ledger bucket `cluster`; never a secret. It comes back
    /// on every node through `factChanged`.
    case publish(key: String, value: [UInt8])
    /// The datastore of this owner is healthy: propose `outcome = ready` with this hash and these
    /// facts.
    case foundingReady(caHash: Bytes32, facts: GenesisFacts)
    /// The datastore of this owner did not start.
    case foundingFailed(reason: String)
    /// Something that needs a person.
    case alarm(String)
    /// A message or fact that was refused and changed nothing.
    case dropped(ClusterDropReason)
}

package enum ClusterDropReason: String, Hashable, Sendable {
    case malformed, unknownSender, notTakingPart, unexpected
}
