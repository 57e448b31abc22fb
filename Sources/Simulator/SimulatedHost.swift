import ClusterPlan
import MeshBase

/// The executor of one machine: one step after the other, and `stop` interrupts.
struct SimulatedHost {
    /// Waiting steps, oldest first.
    var queue: [HostCommand] = []
    var current: HostCommand?
    /// Names the running step; the end of an interrupted one is void.
    var ticket = 0
    /// Whether the datastore's process is there.
    var isRunning = false
    /// Until when an uncertified datastore may run, on the machine's clock.
    var deadline: BootInstant = .zero

    mutating func powerOff() {
        queue = []
        current = nil
        isRunning = false
    }

    /// How long a step takes; steps without an answer take no time.
    static func duration(of command: HostCommand) -> Duration {
        switch command {
        case .found: .milliseconds(1_600)
        case .startJoined: .milliseconds(1_200)
        case .admit: .milliseconds(700)
        case .startAgent, .restartExisting: .milliseconds(300)
        case .inspect, .extendDeadline, .release, .stop, .setAside, .makeRequest, .probe, .evict,
            .expel, .retire:
            .milliseconds(20)
        }
    }

    /// What a step that can fail says when it does.
    static func failure(of command: HostCommand) -> HostReport? {
        let reason = "simulated failure"
        switch command {
        case .found(_, let generation, _):
            return .foundingFailed(generation: generation, reason: reason)
        case .startJoined, .startAgent, .restartExisting:
            return .startFailed(.transient, reason: reason)
        case .admit(let admission):
            return .postponed(
                joiner: admission.joiner.node, nonce: admission.nonce, .unhealthy)
        case .probe: return .unobservable(reason: reason)
        case .makeRequest, .evict, .expel, .retire: return .failed(reason: reason)
        case .inspect, .extendDeadline, .release, .stop, .setAside: return nil
        }
    }
}

extension Simulation {
    /// Takes an order of the node's coordinator.
    func order(_ command: HostCommand, on machine: SimulatedMachine) {
        checkOrder(command, of: machine)
        switch command {
        case .extendDeadline(let deadline):
            machine.host.deadline = deadline
        case .stop:
            interrupt(machine)
            machine.host.queue.append(command)
            beginNextStep(on: machine)
        default:
            machine.host.queue.append(command)
            beginNextStep(on: machine)
        }
    }

    /// The long steps before a `stop` break off; the short ones are done first.
    private func interrupt(_ machine: SimulatedMachine) {
        let steps = (machine.host.current.map { [$0] } ?? []) + machine.host.queue
        machine.host.current = nil
        machine.host.queue = []
        for command in steps {
            switch command {
            case .found(_, let generation, _):
                // The start may have come as far as data on disk.
                if chance(0.5) {
                    _ = perform(command, on: machine)
                    machine.host.isRunning = false
                }
                schedule(
                    .foundingFailed(generation: generation, reason: "interrupted"), on: machine)
            case .startJoined, .startAgent, .restartExisting:
                schedule(.startFailed(.transient, reason: "interrupted"), on: machine)
            case .admit, .inspect, .makeRequest, .probe, .evict, .expel, .retire:
                schedule(.failed(reason: "interrupted"), on: machine)
            case .release, .setAside, .stop, .extendDeadline:
                if let report = perform(command, on: machine) { schedule(report, on: machine) }
            }
        }
    }

    private func schedule(_ report: HostReport, on machine: SimulatedMachine) {
        add(
            .hostReport(machine: machine.index, life: machine.life, report),
            after: .milliseconds(1))
    }

    private func beginNextStep(on machine: SimulatedMachine) {
        guard machine.host.current == nil, !machine.host.queue.isEmpty else { return }
        let command = machine.host.queue.removeFirst()
        machine.host.current = command
        machine.host.ticket += 1
        let usual = SimulatedHost.duration(of: command)
        add(
            .hostDone(
                machine: machine.index, life: machine.life, ticket: machine.host.ticket),
            after: random.duration(in: usual / 2...usual * 2))
    }

    /// The running step came to its end.
    func finishStep(on machine: SimulatedMachine, ticket: Int) {
        guard machine.host.ticket == ticket, let command = machine.host.current else { return }
        machine.host.current = nil
        let report: HostReport? =
            SimulatedHost.failure(of: command).flatMap { chance(faults.hostFailure) ? $0 : nil }
            ?? perform(command, on: machine)
        checkDatastores()
        if machine.actionsUntilCrash != nil {
            // Done, and nobody was told.
            crashNow(machine)
            return
        }
        beginNextStep(on: machine)
        if let report { step(machine, .host(report)) }
    }

    private func perform(_ command: HostCommand, on machine: SimulatedMachine) -> HostReport? {
        guard let node = machine.node?.configuration.identity.node else { return nil }
        if case .found(_, let generation, let deadline) = command {
            machine.host.deadline = max(machine.host.deadline, deadline)
            guard machine.clock.local(now) < deadline else {
                return .foundingFailed(generation: generation, reason: "the deadline passed")
            }
        }
        let wasRunning = machine.host.isRunning
        let report = datastores.execute(
            command, of: node, data: &machine.disk.datastore, isRunning: &machine.host.isRunning,
            random: &random)
        if machine.host.isRunning != wasRunning {
            tell("\(machine.name) datastore \(wasRunning ? "stops" : "runs")")
        }
        return report
    }
}
