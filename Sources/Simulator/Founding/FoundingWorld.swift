import ClusterPlan
import Consensus
import Cryptography
import MeshBase
import MeshNode

/// A whole site of founding and planning cores with a virtual network, clocks, disks and
/// datastores, decided by one seed. The cores are those of a real node; only the signatures are
/// cheap (``KeyedHashSigner``), so that a machine runs a million such worlds in hours.
///
/// 1. For a while everything goes wrong that the course says; no rule may be broken.
/// 2. Then all faults end at once; within ``FoundingCourse/decisionLimit`` every machine must know
///    that the cluster is ready, and after that the datastore must get all its members.
///
/// It stops when nothing is left to happen, or at the first broken rule.
package final class FoundingWorld {
    package let course: FoundingCourse
    package let seed: UInt64
    package private(set) var now = BootInstant(nanoseconds: 1_000_000_000)
    package private(set) var eventCount = 0
    /// What happened, one line each; only when asked for.
    package private(set) var story: [String] = []
    /// Every event as ``FoundingLog`` writes it; only when asked for.
    package private(set) var log: [String] = []
    let keeps: Keeping
    var dice: Dice
    var machines: [FoundingMachine] = []
    /// Bit b of number a: a can send to b.
    var links: [UInt64]
    let checker: FoundingChecker
    var datastores = SimulatedDatastores()
    var isHealing = false
    var healedAt = BootInstant.distantFuture
    var decidedAt: BootInstant?
    var nextNumber: Int
    /// Grows with every ledger entry.
    var publications = 0
    private var queue = EventQueue<FoundingEvent>()
    private let replays: Bool

    /// What a run keeps for a person.
    package enum Keeping: Sendable { case nothing, story, log, everything }

    package convenience init(seed: UInt64, keeping: Keeping = .nothing) {
        self.init(course: .varied(seed), seed: seed, keeping: keeping)
    }

    package convenience init(course: FoundingCourse, seed: UInt64, keeping: Keeping = .nothing) {
        self.init(course: course, seed: seed, keeping: keeping, replays: false)
        planFaults()
    }

    /// - Parameter replays: events come from a log alone.
    init(course: FoundingCourse, seed: UInt64, keeping: Keeping, replays: Bool) {
        self.course = course
        self.seed = seed
        self.replays = replays
        keeps = keeping
        dice = Dice(seed)
        let voters = course.policy.voterLimit + course.excess
        let count = voters + course.growth
        links = [UInt64](repeating: .max, count: count + course.clones)
        nextNumber = count
        checker = FoundingChecker(course: course)
        for index in 0..<count {
            let part: FoundingMachine.Part = index < voters ? .voter : .growth
            if part == .voter { checker.voters.insert(index) }
            machines.append(
                FoundingMachine(
                    index: index, part: part, number: index, isClone: false, seed: seed,
                    servers: course.policy.servers))
        }
    }

    /// The identity with this number.
    package static func node(_ number: Int) -> NodeID {
        NodeID(
            Bytes32(word0: UInt64(number + 1) << 32, word1: 0, word2: 0, word3: UInt64(number)))
    }

    static func number(of node: NodeID) -> Int { Int(node.bytes.prefix64 >> 32) - 1 }

    static let meshID = [UInt8](repeating: 7, count: 16)
    /// Signs resets; no machine has its number.
    static let root = node(9_999)

    // MARK: - Running

    /// Runs until everything is settled, a rule is broken, or so many events have happened.
    package func run(steps: Int = .max) {
        while checker.violation == nil, eventCount < steps, let item = queue.popFirst() {
            let mishap = drawMishap()
            play(LoggedEvent(time: item.time, event: item.event, mishap: mishap))
            if case .gossip = item.event, isSettled { break }
        }
        checkEnd()
    }

    /// Lets one event happen.
    func play(_ item: LoggedEvent) {
        now = max(now, item.time)
        eventCount += 1
        if keeps == .log || keeps == .everything { log.append(item.text) }
        handle(item.event, at: item.time, mishap: item.mishap)
        noteDecision()
    }

    /// One number for all state; equal for equal runs.
    package var fingerprint: UInt64 {
        var fingerprint = Fingerprint()
        for machine in machines {
            fingerprint.mix(machine.number)
            fingerprint.mix(machine.isUp)
            machine.founding?.fingerprint(into: &fingerprint)
            machine.cluster.fingerprint(into: &fingerprint)
            fingerprint.mix(machine.disk.record ?? [])
        }
        return fingerprint.value
    }

    package var violation: String? { checker.violation }

    private func drawMishap() -> Mishap? {
        guard !isHealing, dice.chance(course.crashMidway) else { return nil }
        return Mishap(actions: dice.pick(0..<5), keepsWrite: dice.chance(0.5))
    }

    private func handle(_ event: FoundingEvent, at time: BootInstant, mishap: Mishap?) {
        switch event {
        case .start(let index, let reboots, let clock):
            withMachine(index) { start($0, reboots: reboots, clock: clock, mishap) }
        case .deliver(let index, let number, let from, let wire, let bytes):
            withMachine(index) { machine in
                guard machine.number == number, !machine.isAsleep else { return }
                receive(bytes, wire, from: from, at: machine, mishap)
            }
        case .wake(let index, let life):
            withMachine(index) { machine in
                guard machine.life == life, replays || machine.wakeAt == time else { return }
                machine.wakeAt = nil
                if !machine.isAsleep { timeout(machine, mishap) }
            }
        case .hostDone(let index, let life, let ticket, let fails):
            withMachine(index) { finishStep(on: $0, life: life, ticket: ticket, fails: fails) }
        case .hostReport(let index, let life, let number):
            withMachine(index) { machine in
                guard machine.life == life, let report = machine.reports[number] else { return }
                machine.reports[number] = nil
                tell(report, to: machine, mishap)
            }
        case .crash(let index, let crash): withMachine(index) { self.crash($0, crash) }
        case .links(let links):
            guard links.count == self.links.count, !isHealing else { return }
            setLinks(links)
        case .wallJump(let index, let seconds):
            withMachine(index) { $0.clock = $0.clock.jumped(by: seconds) }
        case .sleep(let index): withMachine(index) { sleep($0) }
        case .awake(let index): withMachine(index) { wakeUp($0) }
        case .clone(let index): withMachine(index) { clone($0) }
        case .introduce(let index, let voter):
            withMachine(index) { introduce([voter], to: $0) }
        case .gossip(let index, let partner): gossip(index, partner)
        case .say(let index, let word): withMachine(index) { say(word, on: $0, mishap) }
        case .heal: heal()
        case .assist: assist()
        }
    }

    private func withMachine(_ index: Int, _ body: (FoundingMachine) -> Void) {
        guard machines.indices.contains(index) else { return }
        body(machines[index])
    }

    func add(_ event: FoundingEvent, after delay: Duration) {
        if !replays { queue.add(event, at: now + delay) }
    }

    func add(_ event: FoundingEvent, at time: BootInstant) {
        if !replays { queue.add(event, at: time) }
    }

    func tell(_ text: @autoclosure () -> String) {
        guard keeps == .story || keeps == .everything else { return }
        story.append("\(now) \(text())")
    }

    // MARK: - Network

    func canSend(_ from: FoundingMachine, to: FoundingMachine) -> Bool {
        links[from.index] & (1 << UInt64(to.index)) != 0
    }

    private func setLinks(_ links: [UInt64]) {
        self.links = links
        tell("the network changes: \(linkText)")
        refreshCompany()
    }

    private var linkText: String {
        let cut = machines.flatMap { from in
            machines.filter { $0 !== from && !canSend(from, to: $0) }.map {
                "\(from.name)→\($0.name)"
            }
        }
        return cut.isEmpty ? "whole again" : "cut " + cut.joined(separator: " ")
    }

    /// Tells every machine whom it can talk to. A path that is open in one direction counts: a
    /// session outlives the other one for a while.
    func refreshCompany() {
        for machine in machines where machine.isUp && !machine.isAsleep {
            let company = machines.filter { other in
                other.number != machine.number && other.isUp && !other.isAsleep
                    && (canSend(machine, to: other) || canSend(other, to: machine))
            }.map(\.number)
            if company != machine.company { meet(company, at: machine) }
        }
    }

    func transmit(
        _ bytes: [UInt8], _ wire: FoundingWire, from sender: FoundingMachine, to peer: NodeID
    ) {
        let number = FoundingWorld.number(of: peer)
        let targets = machines.filter { $0.number == number && $0.isUp }
        guard !targets.isEmpty else { return }
        // Of two machines with one key the network reaches one or the other.
        let target = targets.count == 1 ? targets[0] : targets[dice.pick(0..<targets.count)]
        let (loss, duplication, slowness) =
            isHealing ? (0, 0, 0) : (course.loss, course.duplication, course.slowness)
        guard canSend(sender, to: target), !dice.chance(loss) else { return }
        let isClear = isHealing || course.clogs.isEmpty
        let clogged = isClear ? .zero : wait(from: sender, to: target)
        for _ in 0..<(dice.chance(duplication) ? 2 : 1) {
            let delay = dice.chance(slowness) ? dice.pause(500...6_000) : dice.pause(1...120)
            add(
                .deliver(
                    machine: target.index, number: number, from: sender.number, wire, bytes),
                after: clogged + delay)
        }
    }

    /// How long the path between two machines stays clogged.
    private func wait(from sender: FoundingMachine, to target: FoundingMachine) -> Duration {
        let time = Int((now - .zero) / .milliseconds(1))
        let ends = course.clogs.filter {
            $0.from == sender.index && $0.to == target.index && $0.span.contains(time)
        }
        return .milliseconds(Int64((ends.map(\.span.upperBound).max() ?? time) - time))
    }
}
