import Cryptography
import MeshBase
import NetAddress

/// What this machine puts into its certificate and its datastore configuration.
package struct HostIdentity: Hashable, Sendable {
    /// The member's name in the datastore: host name and six digits of the node id.
    package var name: String
    package var node: NodeID
    package var ipv4: IPAddress
    package var ipv6: IPAddress
    package var dnsName: String

    package init(
        name: String, node: NodeID, ipv4: IPAddress, ipv6: IPAddress, dnsName: String
    ) {
        self.name = name
        self.node = node
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.dnsName = dnsName
    }
}

/// A joiner at the admission desk.
package struct Admission: Hashable, Sendable {
    /// 16 bytes that the grant repeats, so that an old grant cannot answer a new request.
    package var nonce: [UInt8]
    package var joiner: HostIdentity
    /// The grant is sealed to this key.
    package var joinerKey: StaticPublicKey
    /// What this kind of datastore needs to know; for etcd a DER certificate signing request, of
    /// which only the key counts, since names come from `joiner`.
    package var request: [UInt8]
    package var wish: RoleWish
    /// No more servers than this.
    package var serverLimit: Int
    /// The member that the joiner declares lost; 0 when it declares none.
    package var replaces: UInt64
    package var cluster: ClusterIdentity
    /// Names, in the datastore, of living machines with the joiner's host name.
    package var livingNamesakes: Set<String> = []

    package init(
        nonce: [UInt8], joiner: HostIdentity, joinerKey: StaticPublicKey, request: [UInt8],
        wish: RoleWish, serverLimit: Int, replaces: UInt64, cluster: ClusterIdentity
    ) {
        self.nonce = nonce
        self.joiner = joiner
        self.joinerKey = joinerKey
        self.request = request
        self.wish = wish
        self.serverLimit = serverLimit
        self.replaces = replaces
        self.cluster = cluster
    }
}

/// A sealed grant on its way to the machine that opens it.
package struct GrantDelivery: Hashable, Sendable {
    package var sealed: [UInt8]
    /// What the opened grant must repeat.
    package var nonce: [UInt8]
    package var identity: HostIdentity
    /// The certified cluster: the grant's authority must have this hash.
    package var cluster: ClusterIdentity
    /// What was certified with it: what the grant says must agree.
    package var facts: GenesisFacts

    package init(
        sealed: [UInt8], nonce: [UInt8], identity: HostIdentity, cluster: ClusterIdentity,
        facts: GenesisFacts = GenesisFacts()
    ) {
        self.sealed = sealed
        self.nonce = nonce
        self.identity = identity
        self.cluster = cluster
        self.facts = facts
    }
}

/// One step on this machine. Commands are executed one after the other; `stop` also interrupts the
/// one that is running.
package enum HostCommand: Hashable, Sendable {
    /// Answered by `inspected`.
    case inspect
    /// Create authority and certificates, start a new datastore that cannot outlive the daemon or
    /// `deadline`. Data of the same generation is taken up again. Answered by `founded` or
    /// `foundingFailed`.
    case found(HostIdentity, generation: UInt32, deadline: BootInstant)
    /// The owner's hold was renewed: the running datastore may live until then. No answer.
    case extendDeadline(BootInstant)
    /// READY is certified: note it on disk, then let the datastore outlive the daemon. No answer
    /// unless it fails (`exited`).
    case release(ClusterIdentity)
    /// Stop the datastore. No answer.
    case stop(reason: String)
    /// Rename, never delete, what belongs to `generation`. Answered by `asideSet`.
    case setAside(generation: UInt32)
    /// Make a key once and a signing request. Answered by `requestMade` or `failed`.
    case makeRequest(HostIdentity)
    /// Serve one joiner. Answered by `admitted`, `postponed`, `refused` or `mustConfirm`.
    case admit(Admission)
    /// Open the grant and start as a new member. Answered by `running` or `startFailed`.
    case startJoined(GrantDelivery)
    /// Open the grant and become a client. Answered by `running` or `startFailed`.
    case startAgent(GrantDelivery)
    /// Adopt the running datastore or start it with its own data; `servers` say that they are ready.
    /// Answered by `running` or `startFailed`.
    case restartExisting(servers: [IPAddress] = [])
    /// Look at health, members and agents. Answered by `observed` or `unobservable`.
    case probe
    /// Remove a member that never came up. Answered by `evicted`.
    case evict(memberID: UInt64)
    /// Remove a machine that leaves, as member or agent, under its name or its address. Answered by
    /// `expelled` or `failed`.
    case expel(HostIdentity, nonce: [UInt8])
    /// This machine has left: stop, rename the data, remember it. Answered by `retired` or `failed`.
    case retire(generation: UInt32)
}

/// A member as the datastore itself lists it.
package struct DatastoreMember: Hashable, Sendable {
    package var id: UInt64
    /// Empty until the member has started once.
    package var name: String
    package var ipv4: IPAddress?
    package var isStarted: Bool
    package var isLearner: Bool

    package init(
        id: UInt64, name: String, ipv4: IPAddress?, isStarted: Bool, isLearner: Bool
    ) {
        self.id = id
        self.name = name
        self.ipv4 = ipv4
        self.isStarted = isStarted
        self.isLearner = isLearner
    }
}

/// A machine that uses the datastore, as the datastore itself lists it.
package struct DatastoreClient: Hashable, Sendable {
    package var name: String
    package var ipv4: IPAddress?

    package init(name: String, ipv4: IPAddress?) {
        self.name = name
        self.ipv4 = ipv4
    }
}

/// What the datastore says about itself.
package struct Observation: Hashable, Sendable {
    /// This machine's endpoint answers and there is a leader.
    package var isHealthy: Bool
    package var members: [DatastoreMember]
    package var agents: [ClusterAgent]
    /// Agents that the datastore knows by name and address only.
    package var clients: [DatastoreClient]

    package init(
        isHealthy: Bool, members: [DatastoreMember], agents: [ClusterAgent],
        clients: [DatastoreClient] = []
    ) {
        self.isHealthy = isHealthy
        self.members = members
        self.agents = agents
        self.clients = clients
    }
}

/// What a datastore left on this machine's disk.
package enum LocalDatastore: Hashable, Sendable {
    case none
    /// Founded here, but READY was not noted.
    case founding(ClusterIdentity)
    /// A member of a certified cluster.
    case server(ClusterIdentity)
    case agent(ClusterIdentity)
    /// A datastore that this mesh did not found, with the hash of its authority.
    case foreign(caHash: Bytes32)
    /// This machine has left for good.
    case retired
}

package enum StartFailure: String, Hashable, Sendable {
    /// Worth another try with what is on disk.
    case transient
    /// The cluster no longer knows this member: set the data aside and join again.
    case removed
    /// The grant did not open, or names another cluster or machine.
    case badGrant
}

/// Why a joiner has to come back.
package enum PostponeReason: UInt8, Hashable, Sendable, CaseIterable {
    case busy = 1
    /// Another member has not caught up yet.
    case anotherJoining = 2
    /// The datastore refuses changes while it is not healthy.
    case unhealthy = 3
    /// All places for servers are taken.
    case full = 4
    /// The asked node is not a ready server (any more).
    case notServing = 5
    /// The joiner's IPv4 address is not settled yet.
    case addressUnsettled = 6

    package var text: String {
        switch self {
        case .busy: "the server is admitting another machine"
        case .anotherJoining: "another server has not caught up yet"
        case .unhealthy: "the datastore accepts no new member at the moment"
        case .full: "all places for servers are taken"
        case .notServing: "the asked machine is not a ready server"
        case .addressUnsettled: "this machine's IPv4 address is not settled yet"
        }
    }
}

package enum RefusalReason: UInt8, Hashable, Sendable, CaseIterable {
    case wrongCluster = 1
    /// Another live member has the joiner's address.
    case addressInUse = 2
    case badRequest = 3
    /// The joiner wants to be a server, and the admin key did not name it.
    case notNamed = 4

    package var text: String {
        switch self {
        case .wrongCluster: "the server belongs to another cluster"
        case .addressInUse: "another member of the datastore has this machine's address"
        case .badRequest: "the server refused the certificate request"
        case .notNamed:
            "only machines that the admin key named become servers here; say `token voter ID`"
        }
    }
}

/// What came of a command, or what happened on its own.
package enum HostReport: Hashable, Sendable {
    case inspected(LocalDatastore)
    /// `facts` are what the founder wants certified with READY.
    case founded(ClusterIdentity, facts: GenesisFacts = GenesisFacts())
    case foundingFailed(generation: UInt32, reason: String)
    case asideSet
    case requestMade([UInt8])
    case admitted(joiner: NodeID, nonce: [UInt8], role: DatastoreRole, sealed: [UInt8])
    case postponed(joiner: NodeID, nonce: [UInt8], PostponeReason)
    case refused(joiner: NodeID, nonce: [UInt8], RefusalReason)
    /// A started member with the joiner's name exists; only the joiner can say that it is lost.
    case mustConfirm(joiner: NodeID, nonce: [UInt8], memberID: UInt64)
    case running(ClusterIdentity, DatastoreRole)
    case startFailed(StartFailure, reason: String)
    case observed(Observation)
    case unobservable(reason: String)
    case evicted(memberID: UInt64)
    case expelled(NodeID, nonce: [UInt8])
    case retired
    /// A command without a more precise answer failed.
    case failed(reason: String)
    /// The datastore process ended without having been told to.
    case exited(reason: String)
}
