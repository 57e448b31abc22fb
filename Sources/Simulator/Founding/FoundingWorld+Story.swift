import ClusterPlan
import Consensus
import MeshBase

/// A world in words.
extension FoundingWorld {
    func describe(_ certificate: DecisionCertificate) -> String {
        let statement = certificate.statement
        let votes = "\(certificate.votes.count) votes"
        let generation = statement.generation
        switch statement.value {
        case .claim(let claim):
            return "\(name(of: claim.owner)) may found generation \(generation) (\(votes))"
        case .outcome(.ready(let owner, _, _)):
            return "generation \(generation) of \(name(of: owner)) is ready (\(votes))"
        case .outcome(.abandoned(let node)):
            return "generation \(generation) is abandoned by \(name(of: node)) (\(votes))"
        }
    }

    func describe(_ data: LocalDatastore) -> String {
        switch data {
        case .none: "no data"
        case .founding(let cluster): "uncertified, generation \(cluster.generation)"
        case .server(let cluster): "server of generation \(cluster.generation)"
        case .agent(let cluster): "agent of generation \(cluster.generation)"
        case .foreign: "foreign data"
        case .retired: "retired"
        }
    }

    func name(of node: NodeID) -> String {
        let number = FoundingWorld.number(of: node)
        return machines.first { $0.number == number }?.name ?? "a lost machine (\(number))"
    }

    /// How it stands, one line for each machine.
    package var standing: [String] {
        machines.map { machine in
            guard let view = machine.founding?.view else { return "  \(machine.name) is down" }
            let reason = view.reason.isEmpty ? "" : ": \(view.reason)"
            return "  \(machine.name) \(view.phase), generation \(view.generation), "
                + "\(describe(machine.disk.data))\(reason)"
        }
    }

    /// What the course is, in one line.
    package var headline: String {
        let policy = course.policy
        var text =
            "seed \(seed): \(policy.mode), T \(policy.voterLimit), f \(policy.diskLosses), "
            + "q \(policy.quorum), S \(policy.servers)"
        for (name, count) in [
            ("with growth tokens", course.growth), ("too many", course.excess),
            ("lost disks", course.diskLosses), ("rollbacks", course.rollbacks),
            ("clones", course.clones), ("torn records", course.amnesias),
            ("crashes", course.crashes), ("cuts", course.cuts), ("clogs", course.clogs.count),
            ("sleeps", course.sleeps),
            ("wall clock jumps", course.wallJumps), ("takeovers", course.takeovers),
            ("inits", course.inits), ("resets", course.resets),
        ] where count > 0 {
            text += ", \(count) \(name)"
        }
        return text
    }
}
