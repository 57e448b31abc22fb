import ClusterPlan
import Consensus
import MeshBase

/// Everything that goes wrong, and its end.
extension FoundingWorld {
    // MARK: - Plan

    func planFaults() {
        let end = Int(course.troubled.clampedNanoseconds / 1_000_000)
        let first = machines.count
        for machine in machines.indices {
            add(
                .start(machine: machine, reboots: true, clock: drawClock()),
                after: dice.pause(0...6_000))
            add(
                .gossip(machine: machine, partner: dice.pick(0..<first)),
                after: dice.pause(0...1_000))
        }
        func plan(_ count: Int, from begin: Int = 0, _ event: (inout Dice) -> FoundingEvent) {
            for _ in 0..<count { add(event(&dice), after: dice.pause(begin...end)) }
        }
        let voters = course.policy.voterLimit + course.excess
        plan(course.crashes) {
            .crash(machine: $0.pick(0..<first), $0.chance(0.5) ? .power : .daemon)
        }
        plan(course.diskLosses, from: 3_000) { .crash(machine: $0.pick(0..<voters), .wiped) }
        plan(course.rollbacks, from: 3_000) {
            .crash(
                machine: $0.pick(0..<voters),
                .rolledBack($0.chance(0.5) ? 1 : $0.pick(1..<30)))
        }
        plan(course.amnesias, from: 3_000) { .crash(machine: $0.pick(0..<voters), .torn) }
        plan(course.clones, from: 3_000) { .clone(machine: $0.pick(0..<voters)) }
        plan(course.wallJumps) {
            let century = 100 * 365 * 86_400
            return .wallJump(
                machine: $0.pick(0..<first), seconds: Int64($0.span(-century...century)))
        }
        plan(course.takeovers, from: 5_000) {
            .say(machine: $0.pick(0..<voters), .takeover)
        }
        plan(course.inits) { .say(machine: $0.pick(0..<voters), .initialise) }
        plan(course.resets, from: 5_000) { .say(machine: $0.pick(0..<voters), .reset) }
        for _ in 0..<course.sleeps {
            let machine = dice.pick(0..<first)
            let begin = dice.span(0...end)
            add(.sleep(machine: machine), after: .milliseconds(begin))
            add(.awake(machine: machine), after: .milliseconds(begin + dice.span(500...30_000)))
        }
        for _ in 0..<course.cuts {
            let begin = dice.span(0...end)
            add(.links(drawLinks()), after: .milliseconds(begin))
            if dice.chance(0.7) {
                let whole = [UInt64](repeating: .max, count: links.count)
                add(.links(whole), after: .milliseconds(begin + dice.span(1_000...20_000)))
            }
        }
        add(.heal, after: .milliseconds(end))
    }

    func drawClock() -> ClockDraw {
        let drift = Int(course.drift * 1_000_000)
        // A few machines think that it is 1970 or a century later.
        let error = dice.chance(0.2) ? Int64(dice.span(-1_700_000_000...3_000_000_000)) : 0
        return ClockDraw(
            origin: dice.span(1...10_000),
            rate: 1_000_000 + (drift == 0 ? 0 : dice.span(-drift...drift)), wallError: error)
    }

    /// Who can send to whom: one alone, two sides, one side deaf, or any single paths cut.
    private func drawLinks() -> [UInt64] {
        let count = links.count
        var links = [UInt64](repeating: .max, count: count)
        let isOneWay = dice.chance(0.4)
        var side: UInt64 = 0
        switch dice.pick(0..<3) {
        case 0: side = 1 << UInt64(dice.pick(0..<count))
        case 1: side = dice.next()
        default:
            let share = dice.number(0.1...0.5)
            for from in 0..<count {
                for to in 0..<count where from != to && dice.chance(share) {
                    links[from] &= ~(1 << UInt64(to))
                }
            }
            return links
        }
        for from in 0..<count {
            let isInside = side & (1 << UInt64(from)) != 0
            if isInside { links[from] = side } else if !isOneWay { links[from] = ~side }
        }
        return links
    }

    // MARK: - Machines

    func start(
        _ machine: FoundingMachine, reboots: Bool, clock: ClockDraw, _ mishap: Mishap?
    ) {
        guard !machine.isUp, !(machine.isClone && isHealing) else { return }
        if reboots || machine.life == 0 {
            machine.clock = SimulatedClock(
                start: now, origin: .zero + .milliseconds(Int64(clock.origin)),
                rate: Double(clock.rate) / 1_000_000, wallError: clock.wallError)
        }
        machine.life += 1
        machine.alarm = nil
        let configuration = FoundingConfiguration(
            meshID: FoundingWorld.meshID, policy: course.policy, node: machine.identity,
            isVoter: machine.part == .voter, isDurable: true, mayFound: true,
            hasLocalData: machine.disk.data != .none, root: FoundingWorld.root,
            timing: course.timing, rules: course.rules)
        machine.founding = Founding(
            configuration: configuration, restoring: machine.disk.record,
            at: self.clock(of: machine).boot, signer: KeyedHashSigner(node: machine.identity))
        machine.cluster = ClusterCoordinator(
            configuration: FoundingMachine.clusterConfiguration(
                number: machine.number, index: machine.index, servers: course.policy.servers))
        tell("\(machine.name) starts\(reboots ? " after a boot" : "")")
        timeout(machine, mishap)
        guard machine.isUp else { return }
        for slot in machine.ledger.slots {
            if let entry = machine.ledger[slot] { notice(slot, entry.value, at: machine) }
        }
        meet([], at: machine)
        refreshCompany()
    }

    func crash(_ machine: FoundingMachine, _ crash: FoundingCrash) {
        leaveUnfinished(machine)
        machine.powerOff(keepsBootClock: crash == .daemon)
        tell("\(machine.name) goes down: \(crash.text)")
        switch crash {
        case .daemon, .power: break
        case .wiped:
            machine.disk = FoundingDisk()
            machine.snapshots = []
            machine.ledger = WorldLedger()
            checker.isLost(machine)
            machine.number = nextNumber
            nextNumber += 1
            checker.voters.insert(machine.number)
            tell("\(machine.name) lost its disk and is somebody new")
        case .torn:
            machine.disk.record = machine.disk.record.map { Array($0.prefix($0.count / 2)) } ?? [0]
            machine.disk.decoded = nil
        case .rolledBack(let writes):
            guard let past = machine.snapshots.suffix(writes).first else { break }
            machine.disk = past
            machine.snapshots.removeLast(min(writes, machine.snapshots.count))
            checker.isRolledBack(machine)
        }
        refreshCompany()
        guard !isHealing else { return }
        let reboots = crash != .daemon
        add(
            .start(machine: machine.index, reboots: reboots, clock: drawClock()),
            after: dice.pause(100...15_000))
    }

    /// Everything on the machine stands still, and the boot clock goes on.
    func sleep(_ machine: FoundingMachine) {
        guard machine.isUp, !machine.isAsleep, !isHealing else { return }
        machine.isAsleep = true
        tell("\(machine.name) falls asleep")
        refreshCompany()
    }

    func wakeUp(_ machine: FoundingMachine) {
        guard machine.isUp, machine.isAsleep else { return }
        machine.isAsleep = false
        tell("\(machine.name) wakes up")
        timeout(machine)
        refreshCompany()
    }

    /// The machine's disk runs a second time, elsewhere.
    func clone(_ original: FoundingMachine) {
        guard !isHealing, machines.count < links.count, !original.isClone else { return }
        let clone = FoundingMachine(
            index: machines.count, part: original.part, number: original.number, isClone: true,
            seed: seed, servers: course.policy.servers)
        clone.disk = original.disk
        clone.ledger = original.ledger
        machines.append(clone)
        checker.isCloned(original)
        tell("\(clone.name) runs from a copy of \(original.name)'s disk")
        add(
            .start(machine: clone.index, reboots: true, clock: drawClock()),
            after: dice.pause(100...3_000))
        add(
            .gossip(machine: clone.index, partner: dice.pick(0..<machines.count)),
            after: .seconds(1))
    }

    /// Ends every fault, for good.
    func heal() {
        guard !isHealing else { return }
        isHealing = true
        healedAt = now
        tell("all faults are over")
        links = [UInt64](repeating: .max, count: links.count)
        for machine in machines {
            if machine.isClone {
                machine.powerOff(keepsBootClock: false)
            } else if !machine.isUp {
                add(
                    .start(machine: machine.index, reboots: false, clock: drawClock()),
                    after: .zero)
            } else if machine.isAsleep {
                wakeUp(machine)
            }
        }
        refreshCompany()
        add(.assist, after: .seconds(6))
    }

    // MARK: - Operators

    func say(_ word: OperatorWord, on machine: FoundingMachine, _ mishap: Mishap? = nil) {
        guard machine.isUp, !machine.isAsleep, !(isHealing && mishap != nil) else { return }
        tell("an operator says \(word.rawValue) on \(machine.name)")
        step(machine, mishap) { (founding: inout Founding, at, random, actions) in
            switch word {
            case .takeover:
                try? founding.operatorTakeover(at: at, random: &random, into: &actions)
            case .initialise:
                try? founding.operatorInit(at: at, random: &random, into: &actions)
            case .reset:
                let reset = FoundingReset(
                    generation: founding.generation + 1, meshID: FoundingWorld.meshID,
                    policyHash: course.policy.hash,
                    sign: KeyedHashSigner(node: FoundingWorld.root).sign)
                try? founding.operatorReset(
                    reset.encoded, at: at, random: &random, into: &actions)
            }
        }
    }

    /// What a person does who reads `cluster explain` and can help.
    func assist() {
        guard !isSettled, decidedAt == nil else { return }
        add(.assist, after: .seconds(4))
        let able = machines.filter { $0.isUp && canVote($0) }
            .sorted { ($1.summary.generation, $0.index) < ($0.summary.generation, $1.index) }
        if let confused = machines.first(where: \.asksForReset) {
            confused.alarm = nil
            say(.reset, on: able.first ?? confused)
            return
        }
        guard let leader = able.first, leader.summary.phase != .ready else { return }
        guard let owner = leader.summary.owner else {
            // Turns come by themselves where the policy allows; a person has to choose otherwise.
            let waits = now - healedAt > .seconds(12)
            if !course.policy.foundsFromTokenAlone || waits {
                let chosen = able.first { $0.summary.phase != .fenced && isEligible($0) }
                say(.initialise, on: chosen ?? leader)
            }
            return
        }
        let isThere = able.contains { $0.identity == owner && $0.summary.phase != .refused }
        if !isThere {
            say(leader.founding?.view.takeoverProblem == nil ? .takeover : .reset, on: leader)
        }
    }

    private func isEligible(_ machine: FoundingMachine) -> Bool {
        if case .designated(let only) = course.policy.mode { return machine.identity == only }
        return true
    }

    private func canVote(_ machine: FoundingMachine) -> Bool {
        guard machine.part == .voter, let view = machine.founding?.view else { return false }
        return view.votingProblem == nil
    }

    // MARK: - The end

    /// Whether enough voters are left, and those that the policy needs.
    var canDecide: Bool {
        let able = machines.filter { $0.isUp && canVote($0) }
        if case .designated(let only) = course.policy.mode,
            !able.contains(where: { $0.identity == only })
        {
            return machines.contains { $0.summary.phase == .ready }
        }
        return able.count >= course.policy.quorum
    }

    func noteDecision() {
        guard isHealing, decidedAt == nil else { return }
        let present = machines.filter { !$0.isClone }
        if present.allSatisfy({ $0.isUp && $0.summary.phase == .ready }) {
            decidedAt = now
            tell("every machine knows that the cluster is ready")
        }
    }

    /// Whether every machine knew after healing that the cluster is ready.
    package var isDecided: Bool { decidedAt != nil }
    /// Whether the datastore had all its members in the end.
    package var isWhole: Bool { isComplete }

    /// Whether nothing is left to wait for.
    var isSettled: Bool {
        guard isHealing else { return false }
        let since = now - healedAt
        if since > FoundingCourse.decisionLimit + .seconds(1), decidedAt == nil { return true }
        guard let decidedAt else {
            return since > .seconds(20) && (checker.expectsNothing || !canDecide)
        }
        return isComplete || needsAPerson || now - decidedAt > FoundingCourse.completionLimit
    }

    /// Whether the datastore depends on a disk that is gone, or on one that went back in time, or
    /// a reset arrived that too few voters are left for.
    var needsAPerson: Bool {
        checker.hasHurtDisks && !datastores.known.isDisjoint(with: checker.hurt)
            || machines.contains { $0.isUp && $0.summary.phase != .ready } && !canDecide
            || machines.contains { machine in
                if case .foreign = machine.disk.data { true } else { false }
            }
    }

    /// Whether the datastore has all its servers, and everybody else uses it.
    var isComplete: Bool {
        let present = machines.filter { !$0.isClone }
        let wanted = min(course.policy.servers, present.count)
        var servers = 0
        for machine in present {
            guard machine.host.isRunning, machine.isUp else { return false }
            switch machine.disk.data {
            case .server: servers += 1
            case .agent: break
            case .none, .founding, .foreign, .retired: return false
            }
        }
        return servers == wanted
    }

    /// After the run: was the promise of liveness kept?
    func checkEnd() {
        guard checker.violation == nil, isHealing else { return }
        checker.finish(self)
    }
}
