import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// Stands in for the datastores that all machines found and join.
///
/// It keeps what no single node can see: every founding that ever happened, and which of them were
/// certified. The checkers ask it.
package struct SimulatedDatastores {
    struct Cluster {
        var founder: NodeID
        var members: [DatastoreMember] = []
        var agents: [ClusterAgent] = []
        var isReleased = false
    }

    /// Grants are as long with noise that stands for their secrets.
    var grantBytes = 0
    private(set) var clusters: [ClusterIdentity: Cluster] = [:]
    /// Everybody who ever founded a datastore or was admitted to one.
    private(set) var known: Set<NodeID> = []
    /// Rules that a host would have had to break to do as it was told.
    private(set) var violations: [String] = []

    /// The clusters that a certified outcome released; more than one is the failure that must
    /// never happen.
    var released: [ClusterIdentity] {
        clusters.filter(\.value.isReleased).keys.sorted {
            ($0.generation, $0.caHash) < ($1.generation, $1.caHash)
        }
    }

    /// What a log must not hold.
    package static let noise: [UInt8] = Array("sealed and not for logs ".utf8)

    /// Carries out one command of `node`.
    mutating func execute(
        _ command: HostCommand, of node: NodeID, data: inout LocalDatastore,
        isRunning: inout Bool, random: inout SeededGenerator
    ) -> HostReport? {
        switch command {
        case .inspect:
            return .inspected(data)
        case .found(let identity, let generation, _):
            return found(
                identity, generation: generation, of: node, data: &data, isRunning: &isRunning,
                random: &random)
        case .extendDeadline:
            return nil
        case .release(let cluster):
            guard case .founding(cluster) = data else { return nil }
            clusters[cluster]?.isReleased = true
            data = .server(cluster)
            return nil
        case .stop:
            isRunning = false
            return nil
        case .setAside:
            if case .server(let cluster) = data, clusters[cluster]?.isReleased == true {
                violations.append("\(node.short) sets the certified cluster's data aside")
            }
            data = .none
            isRunning = false
            return .asideSet
        case .makeRequest(let identity):
            return .requestMade(identity.node.bytes.bytes)
        case .admit(let admission):
            return admit(admission, by: node)
        case .startJoined(let delivery):
            return start(delivery, as: .server, data: &data, isRunning: &isRunning)
        case .startAgent(let delivery):
            return start(delivery, as: .agent, data: &data, isRunning: &isRunning)
        case .restartExisting:
            return restart(data, isRunning: &isRunning)
        case .probe:
            return observe(data)
        case .evict(let memberID):
            for cluster in clusters.keys {
                clusters[cluster]?.members.removeAll { $0.id == memberID && !$0.isStarted }
            }
            return .evicted(memberID: memberID)
        case .expel(let leaver, let nonce):
            for cluster in clusters.keys {
                clusters[cluster]?.members.removeAll { $0.name == leaver.name }
                clusters[cluster]?.agents.removeAll { $0.name == leaver.name }
            }
            return .expelled(leaver.node, nonce: nonce)
        case .retire:
            data = .retired
            isRunning = false
            return .retired
        }
    }

    private func member(_ identity: HostIdentity, isStarted: Bool = true) -> DatastoreMember {
        DatastoreMember(
            id: identity.node.bytes.prefix64, name: identity.name, ipv4: identity.ipv4,
            isStarted: isStarted, isLearner: false)
    }

    private mutating func found(
        _ identity: HostIdentity, generation: UInt32, of node: NodeID,
        data: inout LocalDatastore, isRunning: inout Bool, random: inout SeededGenerator
    ) -> HostReport {
        switch data {
        case .founding(let known) where known.generation == generation:
            isRunning = true
            return .founded(known, facts: facts(of: known))
        case .founding, .server, .agent, .retired, .foreign:
            return .foundingFailed(generation: generation, reason: "other data is on the disk")
        case .none:
            break
        }
        let cluster = ClusterIdentity(generation: generation, caHash: random.bytes32())
        var founded = Cluster(founder: node)
        founded.members.append(member(identity))
        clusters[cluster] = founded
        known.insert(node)
        data = .founding(cluster)
        isRunning = true
        return .founded(cluster, facts: facts(of: cluster))
    }

    /// Settings that no other cluster has.
    private func facts(of cluster: ClusterIdentity) -> GenesisFacts {
        GenesisFacts(settings: cluster.caHash)
    }

    private mutating func admit(_ admission: Admission, by server: NodeID) -> HostReport {
        let joiner = admission.joiner
        guard let cluster = clusters[admission.cluster], cluster.isReleased else {
            violations.append("\(server.short) admits \(joiner.node.short) before READY")
            return .refused(joiner: joiner.node, nonce: admission.nonce, .wrongCluster)
        }
        let isMember = cluster.members.contains { $0.id == joiner.node.bytes.prefix64 }
        let isTaken = cluster.members.contains {
            $0.ipv4 == joiner.ipv4 && $0.id != joiner.node.bytes.prefix64
        }
        guard !isTaken else {
            return .refused(joiner: joiner.node, nonce: admission.nonce, .addressInUse)
        }
        let hasRoom = cluster.members.count < admission.serverLimit
        let role: DatastoreRole =
            admission.wish != .agent && (isMember || hasRoom) ? .server : .agent
        if role == .agent, admission.wish == .server {
            return .postponed(joiner: joiner.node, nonce: admission.nonce, .full)
        }
        known.insert(joiner.node)
        if role == .server, !isMember {
            let newcomer = member(joiner, isStarted: false)
            clusters[admission.cluster]?.members.append(newcomer)
        }
        var grant = ByteWriter()
        grant.write(admission.cluster.generation)
        grant.write(admission.cluster.caHash)
        while grant.count < grantBytes { grant.write(raw: SimulatedDatastores.noise) }
        return .admitted(
            joiner: joiner.node, nonce: admission.nonce, role: role, sealed: grant.bytes)
    }

    private mutating func start(
        _ delivery: GrantDelivery, as role: DatastoreRole, data: inout LocalDatastore,
        isRunning: inout Bool
    ) -> HostReport {
        guard clusters[delivery.cluster] != nil else {
            return .startFailed(.badGrant, reason: "unknown cluster")
        }
        if delivery.facts != facts(of: delivery.cluster) {
            violations.append("\(delivery.identity.node.short) joins without certified settings")
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
            data = .server(delivery.cluster)
        case .agent:
            let agent = ClusterAgent(name: identity.name, node: identity.node)
            if clusters[delivery.cluster]?.agents.contains(agent) == false {
                clusters[delivery.cluster]?.agents.append(agent)
            }
            data = .agent(delivery.cluster)
        }
        isRunning = true
        return .running(delivery.cluster, role)
    }

    private func restart(_ data: LocalDatastore, isRunning: inout Bool) -> HostReport {
        switch data {
        case .server(let cluster):
            isRunning = true
            return .running(cluster, .server)
        case .agent(let cluster):
            isRunning = true
            return .running(cluster, .agent)
        case .none, .founding, .foreign, .retired:
            return .startFailed(.removed, reason: "nothing to start")
        }
    }

    private func observe(_ data: LocalDatastore) -> HostReport {
        switch data {
        case .founding(let cluster), .server(let cluster), .agent(let cluster):
            guard let known = clusters[cluster] else { return .unobservable(reason: "unknown") }
            return .observed(
                Observation(isHealthy: true, members: known.members, agents: known.agents))
        case .none, .foreign, .retired:
            return .unobservable(reason: "no datastore")
        }
    }
}
