import ClusterPlan
import MeshBase

/// The executors of the machines: one step after the other, and `stop` interrupts.
extension FoundingWorld {
    func order(_ command: HostCommand, on machine: FoundingMachine) {
        switch command {
        case .extendDeadline(let deadline): machine.host.deadline = deadline
        case .stop:
            interrupt(machine)
            machine.host.queue.append(command)
            beginNextStep(on: machine)
        default:
            if case .release(let cluster) = command {
                machine.releasesBesideOthers = machine.knowsOthers(in: cluster)
            }
            machine.host.queue.append(command)
            beginNextStep(on: machine)
        }
    }

    private func beginNextStep(on machine: FoundingMachine) {
        guard machine.host.current == nil, !machine.host.queue.isEmpty else { return }
        let command = machine.host.queue.removeFirst()
        machine.host.current = command
        machine.host.ticket += 1
        let usual = Int(SimulatedHost.duration(of: command).clampedNanoseconds / 1_000_000)
        var range = usual / 2...usual * 2
        // A datastore may take nearly as long as its founder may wait for it.
        if case .found(_, let generation, _) = command {
            if !isHealing { range = 500...7_000 }
            checker.starts(generation, on: machine, in: self)
            tell("\(machine.name) founds a datastore, generation \(generation)")
        }
        add(
            .hostDone(
                machine: machine.index, life: machine.life, ticket: machine.host.ticket,
                fails: !isHealing && dice.chance(course.hostFailure)),
            after: dice.pause(range))
    }

    func finishStep(on machine: FoundingMachine, life: Int, ticket: Int, fails: Bool) {
        guard machine.life == life, machine.host.ticket == ticket else { return }
        guard !machine.isAsleep else {
            // It goes on when the machine does.
            add(
                .hostDone(machine: machine.index, life: life, ticket: ticket, fails: fails),
                after: .seconds(1))
            return
        }
        guard let command = machine.host.current else { return }
        machine.host.current = nil
        let report =
            (fails ? SimulatedHost.failure(of: command) : nil) ?? perform(command, on: machine)
        beginNextStep(on: machine)
        if let report { tell(report, to: machine) }
    }

    /// The long steps before a `stop` break off; the short ones are done first.
    private func interrupt(_ machine: FoundingMachine) {
        let steps = (machine.host.current.map { [$0] } ?? []) + machine.host.queue
        machine.host.current = nil
        machine.host.queue = []
        for command in steps {
            switch command {
            case .found, .startJoined, .startAgent, .restartExisting, .admit, .inspect,
                .makeRequest, .probe, .evict, .expel, .retire:
                if case .found = command, machine.random.next() & 1 == 0 {
                    // The start may have come as far as data on disk.
                    _ = perform(command, on: machine)
                    machine.host.isRunning = false
                }
                if let report = SimulatedHost.failure(of: command) {
                    schedule(report, on: machine)
                } else {
                    schedule(.failed(reason: "interrupted"), on: machine)
                }
            case .release, .setAside, .stop, .extendDeadline:
                if let report = perform(command, on: machine) { schedule(report, on: machine) }
            }
        }
    }

    private func schedule(_ report: HostReport, on machine: FoundingMachine) {
        machine.reportCount += 1
        machine.reports[machine.reportCount] = report
        add(
            .hostReport(
                machine: machine.index, life: machine.life, number: machine.reportCount),
            after: .milliseconds(1))
    }

    /// Whatever was under way when a machine went down came to its end, or did not.
    func leaveUnfinished(_ machine: FoundingMachine) {
        guard let command = machine.host.current, machine.random.next() & 1 == 0 else { return }
        machine.host.current = nil
        _ = perform(command, on: machine)
    }

    private func perform(_ command: HostCommand, on machine: FoundingMachine) -> HostReport? {
        switch command {
        case .found(_, let generation, let deadline):
            machine.host.deadline = max(machine.host.deadline, deadline)
            let isLate = clock(of: machine).boot >= deadline
            guard !isLate || !course.rules.obeysDeadline else {
                return .foundingFailed(generation: generation, reason: "the deadline passed")
            }
        case .release(let cluster): checker.releases(cluster, on: machine, in: self)
        case .admit(let admission): checker.admits(admission.cluster, on: machine)
        case .restartExisting, .startJoined, .startAgent:
            checker.restarts(machine, in: self)
        default: break
        }
        let wasRunning = machine.host.isRunning
        let before = machine.disk.data
        let report = datastores.execute(
            command, of: machine.identity, data: &machine.disk.data,
            isRunning: &machine.host.isRunning, random: &machine.random)
        if machine.host.isRunning != wasRunning || machine.disk.data != before {
            tell(
                "\(machine.name) datastore \(machine.host.isRunning ? "runs" : "is stopped"), "
                    + "\(describe(machine.disk.data))")
        }
        return report
    }
}
