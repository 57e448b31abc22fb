import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// What this node knows about the cluster, for people and programs.
    package var view: ClusterView {
        ClusterView(
            phase: viewPhase, role: viewRole, members: viewMembers, agents: viewAgents,
            reason: viewReason, isAddressFixed: isAddressFixed)
    }

    private var foundingPhase: ClusterView.Phase {
        switch founding.phase {
        case .none: .none
        case .refused: .refused
        case .waiting: .waiting
        case .claiming: .claiming
        case .starting: .starting
        case .ready: takesPart ? .joining : .ready
        case .fenced: .fenced
        case .alarm: .alarm
        }
    }

    private var viewPhase: ClusterView.Phase {
        guard takesPart else { return .none }
        switch stage {
        case .inspecting, .empty, .halted: return foundingPhase
        case .founding: return .starting
        case .requesting, .starting: return .joining
        case .restarting, .running: return founding.isOwner ? .ready : .joined
        case .settingAside: return .fenced
        case .leaving: return .joined
        case .retired: return .none
        case .alarmed: return .alarm
        }
    }

    private var viewRole: DatastoreRole? {
        switch stage {
        case .founding, .halted: .server
        case .starting(_, let role), .restarting(_, let role), .running(_, let role): role
        case .leaving(let departure): departure.role
        case .inspecting, .empty, .requesting, .settingAside, .retired, .alarmed: nil
        }
    }

    private var viewReason: String {
        guard takesPart else { return "this machine takes no part in a cluster" }
        let words =
            switch stage {
            case .inspecting: "looking for a datastore on this machine"
            case .empty, .halted: founding.reason
            case .founding(let run):
                run.cluster == nil
                    ? "starting the datastore" : "waiting for the certificate of READY"
            case .requesting(let attempt):
                attempt.answer.isEmpty ? "asking a server for admission" : attempt.answer
            case .starting: "starting as a member of the datastore"
            case .restarting: "starting the datastore with its own data"
            case .running:
                observed.last?.isHealthy ?? true ? "" : "the datastore does not answer"
            case .settingAside(_, let reason): reason
            case .leaving(let departure):
                departure.isRemoved
                    ? "stopping after it was removed" : "leaving: asking a server to remove it"
            case .retired: "this machine has left the cluster"
            case .alarmed(let reason): reason
            }
        let told = [words, trouble == words ? "" : trouble, conflictText].filter { !$0.isEmpty }
        guard let first = told.first, told.count > 1 else { return told.first ?? "" }
        return first + " (" + told.dropFirst().joined(separator: "; ") + ")"
    }

    private var isAddressFixed: Bool {
        switch stage {
        case .inspecting, .empty, .retired, .alarmed: false
        case .requesting(let attempt): attempt.target != nil
        case .founding, .halted, .starting, .restarting, .running, .settingAside, .leaving: true
        }
    }

    private var viewMembers: [ClusterMember] {
        let list = observed.last?.members ?? publishedMembers
        let byAddress = Dictionary(
            peers.values.compactMap { peer in peer.ipv4.map { ($0, peer.id) } },
            uniquingKeysWith: min)
        return list.map { member in
            ClusterMember(
                name: member.name, node: member.ipv4.flatMap { byAddress[$0] },
                ipv4: member.ipv4, isVoter: !member.isLearner, isStarted: member.isStarted)
        }
    }

    /// The cluster that facts must speak of to be shown here.
    private var shownCluster: ClusterIdentity? {
        switch stage {
        case .running(let cluster, _), .restarting(let cluster, _), .starting(let cluster, _):
            cluster
        case .inspecting, .empty, .founding, .halted, .requesting, .settingAside, .leaving,
            .retired,
            .alarmed:
            founding.readyCluster
        }
    }

    /// What the ready server with the lowest id published; live ones first.
    private var publishedMembers: [DatastoreMember] {
        guard let cluster = shownCluster else { return [] }
        let owners = memberFacts.keys.sorted().filter { memberFacts[$0]?.cluster == cluster }
        let alive = owners.first { peers[$0]?.isAlive ?? false && roleFacts[$0]?.isReady ?? false }
        guard let owner = alive ?? owners.first else { return [] }
        return memberFacts[owner]?.members ?? []
    }

    private var viewAgents: [ClusterAgent] {
        if let observation = observed.last { return observation.agents }
        guard let cluster = shownCluster else { return [] }
        return roleFacts.filter { $0.value.cluster == cluster && $0.value.role == .agent }
            .map { ClusterAgent(name: $0.value.name, node: $0.key) }
            .sorted { ($0.name, $0.node) < ($1.name, $1.node) }
    }
}
