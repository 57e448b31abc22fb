import ClusterPlan
import Consensus
import MeshBase
import MeshNode

/// What the two cores of one machine want, in order; as in a node's list of actions.
enum FoundingEffect {
    case persist([UInt8])
    case send(NodeID, FoundingWire, [UInt8])
    case host(HostCommand)
    case publish(String, [UInt8])
    case decided(DecisionCertificate)
    case reset(FoundingReset)
    case search(NodeID)
    case alarm(String)
}

/// One step of a machine: an input goes in, the wishes of both cores come out as one list, and
/// that is carried out as far as the machine lives.
extension FoundingWorld {
    typealias FoundingBody = (
        inout Founding, BootInstant, inout SeededGenerator, inout [FoundingAction]
    ) -> Void
    typealias ClusterBody = (
        inout ClusterCoordinator, Now, inout SeededGenerator, inout [ClusterAction]
    ) -> Void

    /// What the machine's clocks say.
    func clock(of machine: FoundingMachine) -> Now {
        var clock = machine.clock.now(now)
        if course.poisonsClock {
            clock.boot = clock.boot + .seconds(machine.clock.wallError)
        }
        return clock
    }

    func step(
        _ machine: FoundingMachine, _ mishap: Mishap? = nil, founding body: FoundingBody
    ) {
        guard machine.isUp else { return }
        var effects: [FoundingEffect] = []
        apply(body, to: machine, into: &effects)
        carryOut(effects, of: machine, mishap)
    }

    func step(_ machine: FoundingMachine, _ mishap: Mishap? = nil, cluster body: ClusterBody) {
        guard machine.isUp else { return }
        var effects: [FoundingEffect] = []
        apply(body, to: machine, into: &effects)
        carryOut(effects, of: machine, mishap)
    }

    func timeout(_ machine: FoundingMachine, _ mishap: Mishap? = nil) {
        guard machine.isUp else { return }
        var effects: [FoundingEffect] = []
        let boot = clock(of: machine).boot
        if let due = machine.withFounding({ $0.deadline }) ?? nil, due <= boot {
            let body: FoundingBody = { $0.timeout(at: $1, random: &$2, into: &$3) }
            apply(body, to: machine, into: &effects)
        }
        if let due = machine.cluster.deadline, due <= boot {
            let body: ClusterBody = { $0.timeout(at: $1, random: &$2, into: &$3) }
            apply(body, to: machine, into: &effects)
        }
        carryOut(effects, of: machine, mishap)
    }

    private func apply(
        _ body: FoundingBody, to machine: FoundingMachine, into effects: inout [FoundingEffect]
    ) {
        var actions: [FoundingAction] = []
        let boot = clock(of: machine).boot
        let changed = machine.withFounding { founding in
            body(&founding, boot, &machine.random, &actions)
            return FoundingSummary(founding)
        }
        guard var summary = changed else { return }
        for action in actions {
            switch action {
            case .persist(let record): effects.append(.persist(record))
            case .send(let peer, let bytes): effects.append(.send(peer, .founding, bytes))
            case .decided(let certificate):
                effects.append(.decided(certificate))
                let statement = certificate.statement
                effects.append(
                    .publish(
                        "decision/\(statement.register)/\(statement.generation)",
                        certificate.encoded))
            case .reset(let reset):
                effects.append(.reset(reset))
                effects.append(.publish("reset/\(reset.generation)", reset.encoded))
            case .voterUnknown(let voter): effects.append(.search(voter))
            case .alarm(let text): effects.append(.alarm(text))
            // The planner gives the orders, from the summary below.
            case .startDatastore, .stopDatastore, .fenceDatastore, .dropped: break
            }
        }
        if !course.rules.obeysDeadline, summary.startDeadline != nil {
            summary.startDeadline = .distantFuture
        }
        guard summary != machine.summary else { return }
        machine.summary = summary
        apply(
            { $0.foundingChanged(summary, at: $1, random: &$2, into: &$3) }, to: machine,
            into: &effects)
    }

    private func apply(
        _ body: ClusterBody, to machine: FoundingMachine, into effects: inout [FoundingEffect]
    ) {
        var actions: [ClusterAction] = []
        let clock = clock(of: machine)
        body(&machine.cluster, clock, &machine.random, &actions)
        for action in actions {
            switch action {
            case .host(let command): effects.append(.host(command))
            case .send(let peer, let bytes): effects.append(.send(peer, .cluster, bytes))
            case .publish(let key, let value): effects.append(.publish(key, value))
            case .foundingReady(let caHash, let facts):
                apply(
                    {
                        $0.datastoreReady(
                            caHash: caHash, facts: facts.encoded, at: $1, random: &$2, into: &$3)
                    },
                    to: machine, into: &effects)
            case .foundingFailed(let reason):
                apply(
                    { $0.datastoreFailed(reason: reason, at: $1, random: &$2, into: &$3) },
                    to: machine, into: &effects)
            case .alarm(let text): effects.append(.alarm(text))
            case .dropped: break
            }
        }
    }

    /// Carries out what a machine wants, in order, as far as it lives.
    private func carryOut(
        _ effects: [FoundingEffect], of machine: FoundingMachine, _ mishap: Mishap?
    ) {
        for (index, effect) in effects.enumerated() {
            if let mishap, mishap.actions == index {
                if mishap.keepsWrite, case .persist(let record) = effect {
                    write(record, of: machine)
                }
                crash(machine, .power)
                return
            }
            switch effect {
            case .persist(let record): write(record, of: machine)
            case .send(let peer, let wire, let bytes):
                checker.sends(bytes, wire, from: machine)
                transmit(bytes, wire, from: machine, to: peer)
            case .host(let command): order(command, on: machine)
            case .publish(let key, let value): publish(key, value, by: machine)
            case .decided(let certificate):
                tell("\(machine.name) learns \(describe(certificate))")
                checker.decided(certificate, in: self)
            case .reset(let reset): checker.isReset(to: reset.generation)
            case .search(let voter):
                let number = FoundingWorld.number(of: voter)
                if checker.voters.contains(number) {
                    add(.introduce(machine: machine.index, voter: number), after: .milliseconds(50))
                }
            case .alarm(let text):
                machine.alarm = text
                tell("\(machine.name) ALARM: \(text)")
            }
            if checker.violation != nil { return }
        }
        noteStep(of: machine)
    }

    private func write(_ record: [UInt8], of machine: FoundingMachine) {
        machine.keepSnapshot()
        machine.disk.record = record
        machine.disk.decoded = try? FoundingRecord(decoding: record)
        checker.persisted(machine, in: self)
    }

    /// Plans the next wake-up.
    func noteStep(of machine: FoundingMachine) {
        guard machine.isUp, !machine.isAsleep,
            let deadline = earlier(
                machine.withFounding({ $0.deadline }) ?? nil, machine.cluster.deadline),
            deadline != .distantFuture
        else { return }
        var time = max(machine.clock.global(deadline), now + .milliseconds(1))
        // Such a clock may stand still or leap; nodes then look often.
        if course.poisonsClock { time = now + .milliseconds(250) }
        if machine.wakeAt.map({ time < $0 || $0 < now }) ?? true {
            machine.wakeAt = time
            add(.wake(machine: machine.index, life: machine.life), at: time)
        }
    }

    // MARK: - Inputs

    func receive(
        _ bytes: [UInt8], _ wire: FoundingWire, from number: Int, at machine: FoundingMachine,
        _ mishap: Mishap?
    ) {
        let sender = FoundingWorld.node(number)
        switch wire {
        case .founding:
            step(machine, mishap) { (founding: inout Founding, at, random, actions) in
                founding.receive(bytes, from: sender, at: at, random: &random, into: &actions)
            }
        case .cluster:
            step(machine, mishap) { (cluster: inout ClusterCoordinator, at, random, actions) in
                cluster.receive(bytes, from: sender, at: at, random: &random, into: &actions)
            }
        }
    }

    func tell(_ report: HostReport, to machine: FoundingMachine, _ mishap: Mishap? = nil) {
        step(machine, mishap) { (cluster: inout ClusterCoordinator, at, random, actions) in
            cluster.hostReported(report, at: at, random: &random, into: &actions)
        }
        if report == .asideSet {
            step(machine) { (founding: inout Founding, at, random, actions) in
                founding.datastoreFenced(at: at, random: &random, into: &actions)
            }
        }
    }

    /// Voters' certificates were verified.
    func introduce(_ numbers: [Int], to machine: FoundingMachine) {
        for number in numbers where checker.voters.contains(number) && number != machine.number {
            step(machine) { (founding: inout Founding, at, random, actions) in
                founding.voterSeen(
                    FoundingWorld.node(number), at: at, random: &random, into: &actions)
            }
        }
    }

    func meet(_ company: [Int], at machine: FoundingMachine) {
        machine.company = company
        introduce(company, to: machine)
        let nodes = company.map { FoundingWorld.node($0) }
        step(machine) { (founding: inout Founding, at, random, actions) in
            founding.setReachable(nodes)
            founding.timeout(at: at, random: &random, into: &actions)
        }
        let peers = machines.filter { !$0.isClone }.map { other in
            other.peer(
                isAlive: other === machine || company.contains(other.number),
                mayServe: !course.guardsServers || course.policy.mode != .voters
                    || other.part == .voter)
        }
        step(machine) { (cluster: inout ClusterCoordinator, at, random, actions) in
            cluster.membershipChanged(peers, at: at, random: &random, into: &actions)
        }
    }

    // MARK: - Ledger

    private func publish(_ key: String, _ value: [UInt8], by machine: FoundingMachine) {
        publications += 1
        let slot = WorldLedger.Slot(owner: machine.number, key: key)
        if machine.ledger.take(slot, version: publications, value: value) {
            notice(slot, value, at: machine)
        }
    }

    /// Two machines tell each other what is new.
    func gossip(_ index: Int, _ partner: Int) {
        let next = isHealing ? 300...600 : 400...1_000
        add(
            .gossip(machine: index, partner: dice.pick(0..<machines.count)),
            after: dice.pause(next))
        guard machines.indices.contains(index), machines.indices.contains(partner) else { return }
        let (one, other) = (machines[index], machines[partner])
        guard one.isUp, other.isUp, !one.isAsleep, !other.isAsleep, one !== other,
            canSend(one, to: other), canSend(other, to: one),
            one.ledger.digest != other.ledger.digest
        else { return }
        copyLedger(of: one, to: other)
        copyLedger(of: other, to: one)
    }

    private func copyLedger(of source: FoundingMachine, to target: FoundingMachine) {
        for slot in source.ledger.slots {
            guard let (version, value) = source.ledger[slot],
                target.ledger.take(slot, version: version, value: value)
            else { continue }
            notice(slot, value, at: target)
        }
    }

    func notice(_ slot: WorldLedger.Slot, _ value: [UInt8], at machine: FoundingMachine) {
        if slot.key.hasPrefix("decision/") || slot.key.hasPrefix("reset/") {
            guard slot.owner != machine.number else { return }
            step(machine) { (founding: inout Founding, at, random, actions) in
                if slot.key.hasPrefix("reset/") {
                    founding.resetFound(value, at: at, random: &random, into: &actions)
                } else {
                    founding.certificateFound(value, at: at, random: &random, into: &actions)
                }
            }
            return
        }
        step(machine) { (cluster: inout ClusterCoordinator, at, random, actions) in
            cluster.factChanged(
                owner: FoundingWorld.node(slot.owner), key: slot.key, value: value, at: at,
                random: &random, into: &actions)
        }
    }
}
