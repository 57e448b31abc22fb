import ClusterPlan
import Ledger
import MeshBase
import MeshNode
import NetAddress

/// What must hold in every world at every time, told as sentences when it does not. The names I1
/// to I7 are those of docs/protocols/founding.md.
extension Simulation {
    /// Every rule that was broken so far; empty in a good world.
    package var safetyViolations: [String] {
        checkEverything()
        return violations
    }

    /// Adds a broken rule once, and to the story.
    func report(_ violation: String) {
        guard !violations.contains(violation) else { return }
        violations.append(violation)
        tell("VIOLATION: \(violation)")
    }

    func checkEverything() {
        checkBeliefs()
        checkDatastores()
        checkAddresses()
    }

    /// I1, I5: all nodes that believe in a founder believe in the same.
    private func checkBeliefs() {
        var founders: Set<NodeID> = []
        for machine in machines {
            guard let view = machine.node?.foundingView else { continue }
            if view.phase == .ready, let owner = view.owner { founders.insert(owner) }
            if let alarm = view.alarm, !options.expectsAlarm {
                report("\(machine.name) raises an alarm: \(alarm)")
            }
        }
        if founders.count > 1 {
            report("nodes believe in different founders: \(founders.sorted())")
        }
    }

    /// I2, I3, I7: one certified cluster, and at no moment two datastores that do not belong
    /// together.
    func checkDatastores() {
        for violation in datastores.violations { report(violation) }
        let released = datastores.released
        if released.count > 1 { report("\(released.count) clusters were founded") }
        var running: Set<ClusterIdentity> = []
        var uncertified = 0
        for machine in machines where machine.host.isRunning {
            switch machine.disk.datastore {
            case .none, .retired, .foreign:
                report("\(machine.name) runs a datastore without data")
            case .founding(let cluster):
                guard machine.clock.local(now) < machine.host.deadline else { continue }
                uncertified += 1
                running.insert(cluster)
            case .server(let cluster), .agent(let cluster):
                running.insert(cluster)
            }
        }
        if uncertified > 1 { report("\(uncertified) uncertified datastores run at once") }
        if running.count > 1 { report("datastores of \(running.count) foundings run at once") }
        for (_, cluster) in datastores.clusters {
            guard let policy = options.policy, cluster.members.count > policy.servers else {
                continue
            }
            report("a cluster has \(cluster.members.count) servers")
        }
    }

    /// I2 where it is decided: what a node orders must be right at the moment of the order.
    func checkOrder(_ command: HostCommand, of machine: SimulatedMachine) {
        guard let view = machine.node?.foundingView else { return }
        switch command {
        case .found(_, let generation, let deadline):
            if view.claimCertificate == nil || !view.isOwner || view.generation != generation {
                report("\(machine.name) founds without a certified claim")
            }
            if view.readyCertificate != nil { report("\(machine.name) founds after READY") }
            if deadline <= machine.clock.local(now) {
                report("\(machine.name) founds past its deadline")
            }
        case .release(let cluster):
            if view.ready?.caHash != cluster.caHash {
                report("\(machine.name) releases what is not certified")
            }
        case .admit(let admission):
            if view.ready?.caHash != admission.cluster.caHash {
                report("\(machine.name) admits a machine without READY")
            }
        case .inspect, .extendDeadline, .stop, .setAside, .makeRequest, .startJoined, .startAgent,
            .restartExisting, .probe, .evict, .expel, .retire:
            break
        }
    }

    /// The address in a server's certificates never changes.
    private func checkAddresses() {
        for machine in machines {
            guard let node = machine.node, case .server(let cluster) = machine.disk.datastore,
                let members = datastores.clusters[cluster]?.members,
                let own = members.first(where: {
                    $0.id == node.configuration.identity.node.bytes.prefix64
                })
            else { continue }
            if own.ipv4 != node.ipv4 {
                let former = own.ipv4?.description ?? "none"
                let present = node.ipv4?.description ?? "none"
                report("server \(machine.name) changed its address \(former) to \(present)")
            }
        }
    }
}

/// What must come true after the faults are over.
extension Simulation {
    /// Everything that is not as it should be yet; empty when all is well.
    package var complaints: [String] {
        var result: [String] = []
        if !machines.allSatisfy(\.isUp) { result.append("machines are down") }
        if !isFullyConnected { result.append("not everybody is connected") }
        if !ledgersAgree { result.append("ledgers differ") }
        result += addressComplaints
        result += writeComplaints
        if let policy = options.policy, policy.foundsFromTokenAlone, !needsAPerson {
            let (servers, agents) = clusterMembers
            let wanted = min(policy.servers, machines.count - options.agents)
            if servers != wanted || servers + agents != machines.count {
                result.append("\(servers) servers and \(agents) agents, not \(wanted) servers")
            }
        }
        return result
    }

    /// Whether a disk was lost on which the founding or a place in the datastore depended: what
    /// becomes of the cluster then is not for machines to decide.
    package var needsAPerson: Bool {
        lostClaim || !lostIdentities.isDisjoint(with: datastores.known)
    }

    /// Whether every running node holds the same ledger.
    package var ledgersAgree: Bool {
        let digests = machines.compactMap { $0.node?.ledgerDigest }
        return digests.count == machines.count && Set(digests).count == 1
    }

    /// Whether every running node knows all others and has the sessions that it wants.
    package var isFullyConnected: Bool {
        let present = Set(machines.compactMap { $0.node?.configuration.identity.node })
        return machines.allSatisfy { machine in
            guard let node = machine.node else { return false }
            let own = node.configuration.identity.node
            guard node.members.count >= present.count - 1,
                present.allSatisfy({ $0 == own || node.members[$0] != nil })
            else { return false }
            return node.wantedSessions.intersection(present).allSatisfy { other in
                guard let member = node.members[other] else { return false }
                return member.isConnected && member.state == .alive
            }
        }
    }

    /// Addresses are distinct, and everybody has the same opinion of them.
    private var addressComplaints: [String] {
        var owners: [IPAddress: Int] = [:]
        for machine in machines {
            guard let node = machine.node else { continue }
            guard let own = node.ipv4 else { return ["\(machine.name) has no IPv4 address"] }
            if let other = owners.updateValue(machine.index, forKey: own) {
                return ["n\(other) and \(machine.name) both have \(own)"]
            }
            for other in machines where other.index != machine.index {
                let known = other.node?.members[node.configuration.identity.node]?.ipv4
                if known != own {
                    let text = known?.description ?? "nothing"
                    return ["\(other.name) believes \(text) of \(machine.name), which has \(own)"]
                }
            }
        }
        return []
    }

    /// What users were told is written can be read on every machine.
    private var writeComplaints: [String] {
        for author in machines {
            guard let owner = author.node?.configuration.identity.node else { continue }
            for (key, value) in author.written.sorted(by: { $0.key < $1.key }) {
                for machine in machines {
                    let held = machine.node?.ledgerEntries(bucket: "users")
                        .first { $0.owner == owner && $0.key == key }
                    if held?.value != value {
                        return ["\(machine.name) has not what \(author.name) wrote as \(key)"]
                    }
                }
            }
        }
        return []
    }

    /// How many nodes take part in a certified cluster now.
    package var clusterMembers: (servers: Int, agents: Int) {
        var servers = 0
        var agents = 0
        for machine in machines where machine.host.isRunning {
            guard let view = machine.node?.status(at: machine.clock.local(now)).cluster,
                view.phase == .ready || view.phase == .joined
            else { continue }
            if view.role == .server { servers += 1 } else { agents += 1 }
        }
        return (servers, agents)
    }

    // MARK: - For tests

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
        machines[index].node?.status(at: machines[index].clock.local(now))
    }

    /// What the node of a machine wrote in each of its lives.
    package func foundingLogs(of index: Int) -> [String] { machines[index].foundingLogs }

    /// The node of a machine, `nil` while it is down.
    package func node(of index: Int) -> Node? { machines[index].node }

    /// What the clocks of a machine say.
    package func clock(of index: Int) -> Now { machines[index].clock.now(now) }

    /// What every machine has sent so far.
    package var traffic: [SimulatedTraffic] { machines.map(\.traffic) }

    /// How often each machine was woken by a deadline of its node.
    package var wakes: [Int] { machines.map(\.allWakes) }

    /// How many pings of this machine were answered.
    package func pongs(of index: Int) -> Int { machines[index].pongs }

    /// Feeds one input to a node, whatever it is.
    package func inject(_ input: NodeInput, into index: Int) {
        step(machines[index], input)
    }
}
