import ClusterPlan
import Consensus
import Cryptography
import Membership
import MeshBase

/// Leases: who votes on them follows from the founding and from the servers that are ready.
extension Node {
    static func leaseConfiguration(_ configuration: NodeConfiguration) -> LeaseConfiguration {
        LeaseConfiguration(
            meshID: configuration.token.meshID, node: configuration.identity.node,
            mayVote: configuration.isDurable && !configuration.isAmnesiac)
    }

    mutating func withLeases(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout LeaseBoard, inout SeededGenerator, inout [LeaseAction]) -> Void
    ) {
        var results: [LeaseAction] = []
        body(&leases, &random, &results)
        for result in results {
            switch result {
            case .persist(let record): actions.append(.persist(.leases(record)))
            case .persistVoters(let chain): actions.append(.persist(.leaseVoters(chain)))
            case .send(let node, let message):
                send(ControlFrame(kind: .lease, body: message), to: node, at: now, into: &actions)
            case .votersChanged(let epoch, let voters):
                let names = voters.map(\.short).joined(separator: ", ")
                actions.append(
                    .log(.notice, "leases are decided by \(names) (change \(epoch - 1))"))
            case .dropped(let reason): drop("lease \(reason)")
            }
        }
    }

    /// The founder is the first voter of a ready cluster.
    mutating func tellLeasesOfFounding(at now: Now, into actions: inout [NodeAction]) {
        guard let certificate = founding.view.readyCertificate, let founder = founding.view.owner
        else { return }
        let generation = certificate.statement.generation
        withLeases(at: now, into: &actions) { leases, random, results in
            leases.founded(
                generation: generation, founder: founder, at: now.boot, random: &random,
                into: &results)
        }
    }

    /// Servers of the datastore are the voters that everything else depends on already.
    mutating func tellLeasesOfCompany(at now: Now, into actions: inout [NodeAction]) {
        guard !leases.voters.isEmpty else { return }
        let servers = cluster.view.members.filter { $0.isStarted && $0.isVoter }
            .compactMap(\.node)
        var alive: Set<NodeID> = [id]
        for (node, member) in members where member.state == .alive { alive.insert(node) }
        withLeases(at: now, into: &actions) { leases, random, results in
            leases.companyChanged(
                candidates: servers.sorted(), alive: alive, at: now.boot, random: &random,
                into: &results)
        }
    }

    /// A piece of work wants a lease, or has ended.
    package mutating func lease(
        _ name: String, session: UInt64, isOver: Bool, at now: Now,
        into actions: inout [NodeAction]
    ) -> LeaseStatus {
        var status = LeaseStatus(phase: .unavailable, number: 0, reason: "given up")
        withLeases(at: now, into: &actions) { leases, random, results in
            if isOver {
                leases.release(
                    name, session: session, at: now.boot, random: &random, into: &results)
            } else {
                status = leases.campaign(
                    name, session: session, at: now.boot, random: &random, into: &results)
            }
        }
        return status
    }
}
