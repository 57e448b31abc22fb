import Consensus
import MeshBase

/// Lease boards with a virtual network, clocks and disks, and pieces of work that want one name,
/// decided by one seed. Time is true time in milliseconds. The last machine is no server: it never
/// votes.
///
/// Checked from outside: no two pieces of work run at the same time, the numbers under which they
/// run only grow, and at the end everybody knows the voters.
package struct LeaseWorld {
    enum Event {
        case deliver(to: Int, from: NodeID, [UInt8])
        case timer(machine: Int, life: Int)
        case worker(machine: Int, life: Int)
        case crash(machine: Int)
        case restart(machine: Int)
        case replace(machine: Int)
        /// Everybody but this machine starts anew, quickly.
        case dip(survivor: Int)
        case partition([Int])
        case company
        case heal
    }

    struct Machine {
        var identity: NodeID
        var board: LeaseBoard?
        var record: [UInt8]?
        var voters: [UInt8]?
        var life = 0
        var clock = SimulatedClock(start: .zero, origin: .zero, rate: 1, wallError: 0)
        var timerAt: Int?
        var random: SeededGenerator
        /// The piece of work of this machine.
        var session: UInt64 = 0
        var runsUnder: UInt64?
        /// True time until which the work may go on, as its supervisor knows it.
        var runsUntil = 0
        var endsAt = 0
    }

    var dice: Dice
    var queue = EventQueue<Event>()
    var machines: [Machine] = []
    var groups: [Int]
    var now = 0
    var loss: Double
    var nextIdentity: Int
    var isHealing = false
    var rules: LeaseRules
    package private(set) var violation: String?
    /// What happened, one line each; only when asked for.
    package private(set) var story: [String] = []
    private let tellsStory: Bool
    var highest: UInt64 = 0
    package private(set) var starts = 0
    var startsAfterHealing = 0
    package private(set) var events = 0
    /// Epochs that the world went through.
    package private(set) var epoch: UInt32 = 1
    var voters = [FoundingWorld.node(0)]
    /// The epoch some time before the end: everybody must have heard of it.
    private var lateEpoch: UInt32 = 1
    var replacements = 0
    let troubled = 60_000
    let healing = 40_000

    package init(
        seed: UInt64, rules: LeaseRules = LeaseRules(), count: Int = 6, tellsStory: Bool = false
    ) {
        self.tellsStory = tellsStory
        dice = Dice(seed ^ 0x1EA5E)
        self.rules = rules
        loss = Double.random(in: 0...0.3, using: &dice)
        groups = [Int](repeating: 0, count: count)
        nextIdentity = count
        for number in 0..<count {
            machines.append(
                Machine(
                    identity: FoundingWorld.node(number),
                    random: SeededGenerator(seed: seed &* 1_000 &+ UInt64(number))))
            add(.restart(machine: number), at: dice.span(0...2_000))
        }
        for _ in 0..<dice.pick(0..<14) {
            add(.crash(machine: dice.pick(0..<count)), at: dice.span(3_000...troubled))
        }
        for _ in 0..<dice.pick(0..<4) {
            add(.replace(machine: dice.pick(0..<count)), at: dice.span(10_000...troubled))
        }
        for _ in 0..<dice.pick(0..<4) {
            add(.dip(survivor: dice.pick(0..<count)), at: dice.span(5_000...troubled))
        }
        for _ in 0..<dice.pick(0..<10) {
            let start = dice.span(0...troubled)
            add(.partition((0..<count).map { _ in dice.pick(0..<2) }), at: start)
            add(
                .partition([Int](repeating: 0, count: count)), at: start + dice.span(500...20_000))
        }
        for time in stride(from: 500, through: troubled + healing, by: 1_000) {
            add(.company, at: time)
        }
        add(.heal, at: troubled)
    }

    /// A fifth of the real lengths: the same order of things in less virtual time.
    static var timing: LeaseTiming {
        var timing = LeaseTiming()
        timing.hold = .seconds(2)
        timing.renewal = .milliseconds(500)
        timing.resend = .milliseconds(150)
        timing.attempt = .milliseconds(900)
        timing.look = .milliseconds(300)
        timing.absence = .seconds(6)
        timing.inquiry = .seconds(6)
        return timing
    }

    /// Runs to the end, to the first broken rule, or until so many events have happened.
    package mutating func run(steps: Int = .max) {
        while violation == nil, events < steps, let item = queue.popFirst() {
            now = Int(item.time.nanoseconds / 1_000_000)
            if now < troubled + healing - 12_000 { lateEpoch = epoch }
            guard now <= troubled + healing else { break }
            let event = item.event
            events += 1
            for index in machines.indices { endWork(index) }
            handle(event)
        }
        // Disks that are lost together with a majority of the voters are lost for good.
        let living = Set(machines.map(\.identity)).intersection(voters).count
        if violation == nil, startsAfterHealing == 0, living > voters.count / 2 {
            violation = "liveness: nobody got the lease after all faults were gone"
        }
        let ignorant = machines.indices.filter {
            machines[$0].board.map { $0.voterEpoch < lateEpoch } ?? false
        }
        if violation == nil, living > voters.count / 2, events < steps, !ignorant.isEmpty {
            violation = "liveness: \(ignorant.map { "n\($0)" }) never heard of change \(lateEpoch)"
        }
    }

    private mutating func add(_ event: Event, at milliseconds: Int) {
        queue.add(event, at: .zero + .milliseconds(Int64(milliseconds)))
    }

    private mutating func tell(_ text: @autoclosure () -> String) {
        if tellsStory { story.append("\(BootInstant.zero + .milliseconds(Int64(now))) \(text())") }
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .deliver(let to, let from, let bytes):
            step(to) { board, at, random, actions in
                board.receive(bytes, from: from, at: at, random: &random, into: &actions)
            }
        case .timer(let machine, let life):
            guard machines[machine].life == life else { return }
            machines[machine].timerAt = nil
            step(machine) { board, at, random, actions in
                board.timeout(at: at, random: &random, into: &actions)
            }
        case .worker(let machine, let life):
            guard machines[machine].life == life else { return }
            work(machine)
        case .crash(let machine):
            crash(machine)
            let isQuick = dice.chance(0.5)
            add(
                .restart(machine: machine), at: now + dice.span(50...(isQuick ? 500 : 12_000)))
        case .dip(let survivor):
            for machine in machines.indices where machine != survivor {
                crash(machine)
                add(.restart(machine: machine), at: now + dice.span(20...300))
            }
        case .restart(let machine): restart(machine)
        case .replace(let machine):
            guard !isHealing, replacements < 3 else { return }
            replacements += 1
            crash(machine)
            machines[machine].record = nil
            machines[machine].voters = nil
            machines[machine].identity = FoundingWorld.node(nextIdentity)
            nextIdentity += 1
            add(.restart(machine: machine), at: now + dice.span(50...3_000))
        case .partition(let groups):
            guard !isHealing else { return }
            self.groups = groups
            tell("sides of the network: \(groups)")
        case .company: tellCompany()
        case .heal:
            isHealing = true
            tell("all faults are over")
            loss = 0
            groups = [Int](repeating: 0, count: machines.count)
            for machine in machines.indices { restart(machine) }
        }
    }

    private mutating func tellCompany() {
        for machine in machines.indices {
            let group = machines.indices.filter {
                groups[$0] == groups[machine] && machines[$0].board != nil
            }
            let alive = Set(group.map { machines[$0].identity })
            let servers = group.filter { $0 < machines.count - 1 }.map { machines[$0].identity }
            step(machine) { board, at, random, actions in
                board.companyChanged(
                    candidates: servers.sorted(), alive: alive, at: at, random: &random,
                    into: &actions)
            }
        }
    }

    private func name(of node: NodeID) -> String {
        machines.firstIndex { $0.identity == node }.map { "n\($0)" } ?? "a lost machine"
    }

    // MARK: - Work

    /// The supervisor of a piece of work asks every 200 ms and stops it in time by its own clock.
    private mutating func work(_ machine: Int) {
        add(.worker(machine: machine, life: machines[machine].life), at: now + 200)
        guard machines[machine].board != nil else { return }
        if machines[machine].session == 0 {
            machines[machine].session = machines[machine].random.next()
        }
        let session = machines[machine].session
        if machines[machine].runsUnder != nil, now >= machines[machine].endsAt {
            machines[machine].runsUnder = nil
            tell("n\(machine) is done with its work")
            machines[machine].session = 0
            step(machine) { board, at, random, actions in
                board.release("job", session: session, at: at, random: &random, into: &actions)
            }
            return
        }
        var status: LeaseStatus?
        step(machine) { board, at, random, actions in
            status = board.campaign(
                "job", session: session, at: at, random: &random, into: &actions)
        }
        guard let status else { return }
        switch status.phase {
        case .held:
            guard let deadline = status.deadline else { return }
            machines[machine].runsUntil = trueTime(deadline, on: machine)
            if machines[machine].runsUnder == nil, now < machines[machine].runsUntil {
                begin(machine, status.number)
            }
        case .unavailable where machines[machine].runsUnder == nil && status.number == 0: break
        case .unavailable, .waiting:
            machines[machine].runsUnder = nil
            if status.phase == .unavailable { machines[machine].session = 0 }
        }
    }

    private mutating func begin(_ machine: Int, _ number: UInt64) {
        for other in machines.indices where machines[other].runsUnder != nil {
            violation =
                "two pieces of work run at the same time, under "
                + "\(machines[other].runsUnder ?? 0) and \(number), at \(now) ms"
        }
        if number <= highest { violation = "number \(number) after \(highest), at \(now) ms" }
        highest = max(highest, number)
        starts += 1
        if isHealing { startsAfterHealing += 1 }
        machines[machine].runsUnder = number
        tell("n\(machine) works under number \(number)")
        machines[machine].endsAt = now + dice.span(50...8_000)
    }

    private mutating func endWork(_ machine: Int) {
        if machines[machine].runsUnder != nil, now >= machines[machine].runsUntil {
            machines[machine].runsUnder = nil
            tell("n\(machine)'s time is over")
            machines[machine].session = 0
        }
    }

    // MARK: - Machines

    private var instant: BootInstant { .zero + .milliseconds(Int64(now)) }

    private func bootTime(_ machine: Int) -> BootInstant { machines[machine].clock.local(instant) }

    private func trueTime(_ instant: BootInstant, on machine: Int) -> Int {
        Int(machines[machine].clock.global(instant).nanoseconds / 1_000_000)
    }

    private mutating func crash(_ machine: Int) {
        if machines[machine].board != nil { tell("n\(machine) goes down") }
        machines[machine].board = nil
        machines[machine].life += 1
        machines[machine].timerAt = nil
        machines[machine].runsUnder = nil
        machines[machine].session = 0
    }

    private mutating func restart(_ machine: Int) {
        guard machines[machine].board == nil else { return }
        if dice.chance(0.5) {
            machines[machine].clock = SimulatedClock(
                start: instant, origin: .zero + dice.pause(0...5_000),
                rate: dice.number(0.9...1.1), wallError: 0)
        }
        machines[machine].life += 1
        tell("n\(machine) starts")
        machines[machine].board = LeaseBoard(
            configuration: LeaseConfiguration(
                meshID: FoundingWorld.meshID, node: machines[machine].identity, mayVote: true,
                timing: Self.timing, rules: rules),
            record: machines[machine].record, voters: machines[machine].voters,
            at: bootTime(machine), signer: KeyedHashSigner(node: machines[machine].identity))
        step(machine) { board, at, random, actions in
            board.founded(
                generation: 1, founder: FoundingWorld.node(0), at: at, random: &random,
                into: &actions)
        }
        add(.worker(machine: machine, life: machines[machine].life), at: now + 50)
    }

    private mutating func step(
        _ machine: Int,
        _ body: (inout LeaseBoard, BootInstant, inout SeededGenerator, inout [LeaseAction]) -> Void
    ) {
        guard var board = machines[machine].board else { return }
        var actions: [LeaseAction] = []
        body(&board, bootTime(machine), &machines[machine].random, &actions)
        machines[machine].board = board
        for action in actions {
            switch action {
            case .persist(let record): machines[machine].record = record
            case .persistVoters(let voters): machines[machine].voters = voters
            case .send(let peer, let bytes): transmit(bytes, from: machine, to: peer)
            case .votersChanged(let epoch, let voters):
                guard epoch > self.epoch else { continue }
                self.epoch = epoch
                self.voters = voters
                let names = voters.map { name(of: $0) }.joined(separator: " ")
                tell("change \(epoch): \(names) decide")
            case .dropped: break
            }
        }
        guard let deadline = machines[machine].board?.deadline else { return }
        let time = max(trueTime(deadline, on: machine) + 1, now + 1)
        if let planned = machines[machine].timerAt, planned <= time { return }
        machines[machine].timerAt = time
        add(.timer(machine: machine, life: machines[machine].life), at: time)
    }

    private mutating func transmit(_ bytes: [UInt8], from sender: Int, to peer: NodeID) {
        guard let target = machines.firstIndex(where: { $0.identity == peer }),
            groups[target] == groups[sender], !dice.chance(loss)
        else { return }
        for _ in 0..<(dice.chance(0.05) ? 2 : 1) {
            let delay = dice.chance(0.05) ? dice.span(200...4_000) : dice.span(1...40)
            add(
                .deliver(to: target, from: machines[sender].identity, bytes), at: now + delay)
        }
    }
}
