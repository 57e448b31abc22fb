import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// Stands in for the executors of all machines and for the datastores that they found.
///
/// It keeps what no single node can see: every founding that ever happened, and which of them were
/// certified. The checker asks it.
struct SimulatedDatastores {
    struct Cluster {
        var founder: NodeID
        var members: [DatastoreMember] = []
        var agents: [ClusterAgent] = []
        var isReleased = false
    }

    private(set) var clusters: [ClusterIdentity: Cluster] = [:]

    /// The clusters that a certified outcome released; more than one is the failure that must
    /// never happen.
    var released: [ClusterIdentity] {
        clusters.filter(\.value.isReleased).keys.sorted {
            ($0.generation, $0.caHash) < ($1.generation, $1.caHash)
        }
    }

    /// How long a command takes; commands without an answer take no time.
    static func duration(of command: HostCommand) -> Duration {
        switch command {
        case .found: .milliseconds(1_600)
        case .startJoined: .milliseconds(1_200)
        case .admit: .milliseconds(700)
        case .startAgent, .restartExisting: .milliseconds(300)
        case .inspect, .extendDeadline, .release, .stop, .setAside, .makeRequest, .probe, .evict:
            .milliseconds(20)
        }
    }

    /// Carries out one command of `node`.
    mutating func execute(
        _ command: HostCommand, of node: NodeID, disk: inout SimulatedDisk,
        isRunning: inout Bool, random: inout SeededGenerator
    ) -> HostReport? {
        switch command {
        case .inspect:
            return .inspected(disk.datastore)
        case .found(let identity, let generation, _):
            if case .founding(let known) = disk.datastore, known.generation == generation {
                isRunning = true
                return .founded(known)
            }
            let cluster = ClusterIdentity(generation: generation, caHash: random.bytes32())
            var founded = Cluster(founder: node)
            founded.members.append(member(identity))
            clusters[cluster] = founded
            disk.datastore = .founding(cluster)
            isRunning = true
            return .founded(cluster)
        case .extendDeadline:
            return nil
        case .release(let cluster):
            clusters[cluster]?.isReleased = true
            disk.datastore = .server(cluster)
            return nil
        case .stop:
            isRunning = false
            return nil
        case .setAside:
            disk.datastore = .none
            isRunning = false
            return .asideSet
        case .makeRequest(let identity):
            return .requestMade(identity.node.bytes.bytes)
        case .admit(let admission):
            return admit(admission)
        case .startJoined(let delivery):
            return start(delivery, as: .server, disk: &disk, isRunning: &isRunning)
        case .startAgent(let delivery):
            return start(delivery, as: .agent, disk: &disk, isRunning: &isRunning)
        case .restartExisting:
            switch disk.datastore {
            case .server(let cluster):
                isRunning = true
                return .running(cluster, .server)
            case .agent(let cluster):
                isRunning = true
                return .running(cluster, .agent)
            case .none, .founding:
                return .startFailed(.removed, reason: "nothing to start")
            }
        case .probe:
            return observe(disk)
        case .evict(let memberID):
            for cluster in clusters.keys {
                clusters[cluster]?.members.removeAll { $0.id == memberID && !$0.isStarted }
            }
            return .evicted(memberID: memberID)
        }
    }

    private func member(_ identity: HostIdentity, isStarted: Bool = true) -> DatastoreMember {
        DatastoreMember(
            id: identity.node.bytes.prefix64, name: identity.name, ipv4: identity.ipv4,
            isStarted: isStarted, isLearner: false)
    }

    private mutating func admit(_ admission: Admission) -> HostReport {
        let joiner = admission.joiner
        guard let cluster = clusters[admission.cluster], cluster.isReleased else {
            return .refused(joiner: joiner.node, nonce: admission.nonce, .wrongCluster)
        }
        let isMember = cluster.members.contains { $0.id == joiner.node.bytes.prefix64 }
        let hasRoom = cluster.members.count < admission.serverLimit
        let role: DatastoreRole =
            admission.wish != .agent && (isMember || hasRoom) ? .server : .agent
        if role == .agent, admission.wish == .server {
            return .postponed(joiner: joiner.node, nonce: admission.nonce, .full)
        }
        if role == .server, !isMember {
            let newcomer = member(joiner, isStarted: false)
            clusters[admission.cluster]?.members.append(newcomer)
        }
        var grant = ByteWriter()
        grant.write(admission.cluster.generation)
        grant.write(admission.cluster.caHash)
        return .admitted(
            joiner: joiner.node, nonce: admission.nonce, role: role, sealed: grant.bytes)
    }

    private mutating func start(
        _ delivery: GrantDelivery, as role: DatastoreRole, disk: inout SimulatedDisk,
        isRunning: inout Bool
    ) -> HostReport {
        guard clusters[delivery.cluster] != nil else {
            return .startFailed(.badGrant, reason: "unknown cluster")
        }
        let identity = delivery.identity
        switch role {
        case .server:
            let index = clusters[delivery.cluster]?.members.firstIndex {
                $0.id == identity.node.bytes.prefix64
            }
            guard let index else { return .startFailed(.removed, reason: "not a member") }
            let started = member(identity)
            clusters[delivery.cluster]?.members[index] = started
            disk.datastore = .server(delivery.cluster)
        case .agent:
            let agent = ClusterAgent(name: identity.name, node: identity.node)
            if clusters[delivery.cluster]?.agents.contains(agent) == false {
                clusters[delivery.cluster]?.agents.append(agent)
            }
            disk.datastore = .agent(delivery.cluster)
        }
        isRunning = true
        return .running(delivery.cluster, role)
    }

    private func observe(_ disk: SimulatedDisk) -> HostReport {
        switch disk.datastore {
        case .founding(let cluster), .server(let cluster), .agent(let cluster):
            guard let known = clusters[cluster] else { return .unobservable(reason: "unknown") }
            return .observed(
                Observation(isHealthy: true, members: known.members, agents: known.agents))
        case .none:
            return .unobservable(reason: "no datastore")
        }
    }
}
