import ClusterPlan
import Ledger
import MeshBase
import MeshNode

/// What must hold in every world, told as sentences when it does not.
extension Simulation {
    /// Safety: at no moment may there be two certified clusters, nor two nodes that believe in
    /// different founders of one generation.
    package var safetyViolations: [String] {
        var violations: [String] = []
        let released = datastores.released
        if released.count > 1 {
            violations.append("\(released.count) clusters were founded: \(released)")
        }
        var readyFounders: Set<NodeID> = []
        for machine in machines {
            guard let view = machine.node?.status(at: now).founding else { continue }
            if view.phase == .ready, let owner = view.owner { readyFounders.insert(owner) }
        }
        if readyFounders.count > 1 {
            violations.append("nodes believe in different founders: \(readyFounders.sorted())")
        }
        return violations
    }

    /// Whether every running node holds the same ledger.
    package var ledgersAgree: Bool {
        let digests = machines.compactMap { $0.node?.ledgerDigest }
        return digests.count == machines.count && Set(digests).count == 1
    }

    /// Whether every running node knows all others and has a session with each.
    package var isFullyConnected: Bool {
        machines.allSatisfy { machine in
            guard let node = machine.node else { return false }
            return node.members.count >= machines.count - 1
                && node.members.values.filter(\.isConnected).count >= machines.count - 1
        }
    }

    /// How many nodes take part in a certified cluster now.
    package var clusterMembers: (servers: Int, agents: Int) {
        var servers = 0
        var agents = 0
        for machine in machines {
            guard let view = machine.node?.status(at: now).cluster,
                view.phase == .ready || view.phase == .joined
            else { continue }
            if view.role == .server { servers += 1 } else { agents += 1 }
        }
        return (servers, agents)
    }

    /// The last lines of what happened, for a failing test.
    package func storyTail(_ count: Int = 60) -> String {
        story.suffix(count).joined(separator: "\n")
    }

    /// Says one thing to one node, as its API would.
    package func command(_ command: NodeCommand, on index: Int) {
        step(machines[index], .command(command))
    }

    /// One node's status, `nil` while it is down.
    package func status(of index: Int) -> NodeStatus? {
        machines[index].node?.status(at: now)
    }
}
