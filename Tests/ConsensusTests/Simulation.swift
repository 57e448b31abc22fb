import Consensus
import MeshBase

/// What a simulated mesh goes through.
struct Course {
    var policy: GenesisPolicy
    var rules = FoundingRules()
    /// Machines beside the T that vote: they only learn.
    var bystanders = 0
    /// Machines that come with a wiped disk and a new identity, at most f.
    var diskLosses = 0
    /// Machines whose record is damaged once.
    var amnesias = 0
    /// Milliseconds of true time with faults.
    var troubled = 60_000
    /// Milliseconds of true time to recover in.
    var healing = 150_000
    var takesOver = true
    /// Look at the disk before each vote leaves.
    var checksDurability = true
    /// The largest deviation of a boot clock's rate.
    var drift = 0.1
    /// How many crashes and partitions there are at most, and how likely a machine dies between
    /// two actions of one list.
    var turbulence = 6
    var crashBetween = 0.01

    init(policy: GenesisPolicy) { self.policy = policy }

    /// A varied course from a number.
    static func varied(_ seed: UInt64) -> Course {
        var dice = Dice(seed ^ 0xC0FFEE)
        let voters = [2, 3, 3, 4, 5, 5, 6, 7][dice.pick(0..<8)]
        let losses = dice.pick(0..<min(voters, 3))
        var course = Course(
            policy: GenesisPolicy(voterLimit: voters, diskLosses: losses, servers: 1))
        if dice.chance(0.2) { course.policy.takeover = .minutes(1) }
        course.bystanders = dice.pick(0..<2)
        course.diskLosses = dice.pick(0..<losses + 1)
        course.amnesias = dice.chance(0.2) ? 1 : 0
        course.takesOver = dice.chance(0.7)
        if dice.chance(0.3) { course.makeStormy() }
        return course
    }

    /// Crashes and partitions all the time.
    mutating func makeStormy() {
        turbulence = 40
        crashBetween = 0.03
        takesOver = true
    }
}

/// A whole mesh of founding cores with a virtual network, clocks, disks and datastores, decided
/// by one seed. Time is true time in milliseconds.
struct Simulation {
    enum Event {
        case deliver(to: Int, from: NodeID, [UInt8])
        case timer(machine: Int, life: Int)
        case hostReady(machine: Int, life: Int, start: Int)
        case hostFenced(machine: Int, life: Int)
        case crash(machine: Int, wipes: Bool, forgets: Bool)
        case restart(machine: Int, reboots: Bool)
        case partition([Int])
        case takeover(machine: Int)
        case heal
    }

    struct Machine {
        var identity: NodeID
        let isVoter: Bool
        var founding: Founding?
        var disk: [UInt8]?
        var isAmnesiac = false
        /// Grows with every start, so that timers of an earlier life find nobody.
        var life = 0
        var rate = 1.0
        /// True time at which the boot clock read zero.
        var bootedAt = 0
        /// The datastore runs for this generation; it is certified or has a deadline.
        var running: UInt32?
        var starts = 0
        /// Which founding made the data on disk.
        var data: Bytes32?
        var random: SeededGenerator
        var hasLostIdentity = false
        var timerAt: Int?
    }

    let course: Course
    var dice: Dice
    var queue = EventQueue<Event>()
    var machines: [Machine] = []
    /// Machines of the same number can talk.
    var groups: [Int]
    var loss: Double
    var duplication: Double
    var slow: Double
    var now = 0
    var nextIdentity: Int
    var isHealing = false
    var checker: Checker
    var events = 0
    /// Chance that a machine dies between two actions of one list.
    var crashBetween: Double

    init(course: Course, seed: UInt64) {
        self.course = course
        dice = Dice(seed)
        let count = course.policy.voterLimit + course.bystanders
        groups = [Int](repeating: 0, count: count)
        nextIdentity = count
        loss = Double.random(in: 0...0.3, using: &dice)
        duplication = Double.random(in: 0...0.2, using: &dice)
        slow = Double.random(in: 0...0.1, using: &dice)
        crashBetween = Double.random(in: 0...course.crashBetween, using: &dice)
        checker = Checker(course: course)
        for number in 0..<count {
            let isVoter = number < course.policy.voterLimit
            let identity = nodeID(number)
            if isVoter { checker.voters.insert(identity) }
            machines.append(
                Machine(
                    identity: identity, isVoter: isVoter,
                    random: SeededGenerator(seed: seed &* 1_000 &+ UInt64(number))))
            queue.add(.restart(machine: number, reboots: true), at: dice.span(0...8_000))
        }
        planFaults()
    }

    static var timing: FoundingTiming {
        var timing = FoundingTiming()
        timing.hold = .seconds(12)
        timing.observation = .seconds(4)
        timing.probeInterval = .seconds(2)
        timing.slowProbeInterval = .seconds(3)
        timing.statusLifetime = .seconds(9)
        timing.rankDelay = .milliseconds(600)
        timing.attempt = .seconds(3)
        timing.backoffLimit = .seconds(6)
        return timing
    }

    private mutating func planFaults() {
        let end = course.troubled
        let count = machines.count
        for _ in 0..<dice.pick(0..<course.turbulence) {
            let victim = dice.pick(0..<count)
            let time = dice.span(0...end)
            queue.add(.crash(machine: victim, wipes: false, forgets: false), at: time)
        }
        for _ in 0..<course.diskLosses {
            let victim = dice.pick(0..<course.policy.voterLimit)
            queue.add(
                .crash(machine: victim, wipes: true, forgets: false), at: dice.span(5_000...end))
        }
        for _ in 0..<course.amnesias {
            let victim = dice.pick(0..<course.policy.voterLimit)
            queue.add(
                .crash(machine: victim, wipes: false, forgets: true), at: dice.span(5_000...end))
        }
        for _ in 0..<dice.pick(0..<course.turbulence) {
            let groups = (0..<count).map { _ in dice.pick(0..<2) }
            let from = dice.span(0...end)
            queue.add(.partition(groups), at: from)
            queue.add(
                .partition([Int](repeating: 0, count: count)), at: from + dice.span(1_000...25_000))
        }
        if course.takesOver {
            for _ in 0..<dice.pick(1..<max(course.turbulence / 2, 2)) {
                let machine = dice.pick(0..<course.policy.voterLimit)
                queue.add(.takeover(machine: machine), at: dice.span(10_000...end))
            }
        }
        queue.add(.heal, at: end)
    }

    /// Runs to the end, to the first violation, or until everybody is ready.
    mutating func run() {
        let limit = course.troubled + course.healing
        while checker.violation == nil, let (time, event) = queue.next(), time <= limit {
            now = time
            events += 1
            handle(event)
            if isHealing, machines.allSatisfy({ $0.founding?.view.phase == .ready }) { break }
        }
        checker.finish(self)
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .deliver(let to, let from, let bytes):
            announceVoter(from, to: to)
            step(to) { founding, at, random, actions in
                founding.receive(bytes, from: from, at: at, random: &random, into: &actions)
            }
        case .timer(let machine, let life):
            guard machines[machine].life == life else { return }
            machines[machine].timerAt = nil
            step(machine) { founding, at, random, actions in
                founding.timeout(at: at, random: &random, into: &actions)
            }
        case .hostReady(let machine, let life, let start):
            guard machines[machine].life == life, machines[machine].starts == start,
                machines[machine].running != nil, let data = machines[machine].data
            else { return }
            let fails = dice.chance(0.15)
            step(machine) { founding, at, random, actions in
                if fails {
                    founding.datastoreFailed(
                        reason: "no luck", at: at, random: &random, into: &actions)
                } else {
                    founding.datastoreReady(
                        caHash: data, at: at, random: &random, into: &actions)
                }
            }
        case .hostFenced(let machine, let life):
            guard machines[machine].life == life else { return }
            step(machine) { founding, at, random, actions in
                founding.datastoreFenced(at: at, random: &random, into: &actions)
            }
        case .crash(let machine, let wipes, let forgets):
            crash(machine, wipes: wipes, forgets: forgets)
        case .restart(let machine, let reboots):
            restart(machine, reboots: reboots)
        case .partition(let groups):
            guard !isHealing else { return }
            self.groups = groups
            for machine in machines.indices { refreshReachable(machine) }
        case .takeover(let machine):
            step(machine) { founding, at, random, actions in
                try? founding.operatorTakeover(at: at, random: &random, into: &actions)
            }
        case .heal: heal()
        }
    }

    private mutating func heal() {
        isHealing = true
        (loss, duplication, slow, crashBetween) = (0, 0, 0, 0)
        groups = [Int](repeating: 0, count: machines.count)
        for machine in machines.indices {
            if machines[machine].founding == nil { restart(machine, reboots: false) }
            refreshReachable(machine)
        }
        // An operator who finds the founder lost says so, again and again.
        for attempt in 0..<6 where course.takesOver {
            let founder = checker.lastClaimOwner
            guard let founder, !machines.contains(where: { $0.identity == founder }) else { break }
            for machine in 0..<course.policy.voterLimit {
                queue.add(.takeover(machine: machine), at: now + 30_000 + attempt * 15_000)
            }
        }
    }

    // MARK: - One machine

    private func bootTime(_ machine: Int) -> BootInstant {
        let elapsed = Double(now - machines[machine].bootedAt) * machines[machine].rate
        return BootInstant(nanoseconds: UInt64(max(elapsed, 0) * 1_000_000))
    }

    private func trueTime(_ instant: BootInstant, on machine: Int) -> Int {
        let milliseconds = Double(instant.nanoseconds) / 1_000_000
        return machines[machine].bootedAt
            + Int((milliseconds / machines[machine].rate).rounded(.up))
    }

    private mutating func step(
        _ machine: Int,
        _ body: (inout Founding, BootInstant, inout SeededGenerator, inout [FoundingAction]) -> Void
    ) {
        guard var founding = machines[machine].founding else { return }
        var actions: [FoundingAction] = []
        body(&founding, bootTime(machine), &machines[machine].random, &actions)
        machines[machine].founding = founding
        execute(actions, on: machine)
        schedule(machine)
    }

    private mutating func schedule(_ machine: Int) {
        guard let deadline = machines[machine].founding?.deadline else { return }
        let time = max(trueTime(deadline, on: machine), now + 1)
        if let planned = machines[machine].timerAt, planned <= time { return }
        machines[machine].timerAt = time
        queue.add(.timer(machine: machine, life: machines[machine].life), at: time)
    }

    private mutating func execute(_ actions: [FoundingAction], on machine: Int) {
        for action in actions {
            if crashBetween > 0, dice.chance(crashBetween) {
                crash(machine, wipes: false, forgets: false)
                return
            }
            switch action {
            case .persist(let record):
                machines[machine].disk = record
                checker.persisted(record, by: machines[machine].identity, in: self)
            case .send(let peer, let message):
                checker.sends(message, from: machines[machine])
                transmit(message, from: machine, to: peer)
            case .startDatastore(let generation, _):
                begin(generation, on: machine)
            case .stopDatastore:
                machines[machine].running = nil
            case .fenceDatastore:
                machines[machine].running = nil
                machines[machine].data = nil
                queue.add(
                    .hostFenced(machine: machine, life: machines[machine].life),
                    at: now + dice.span(10...2_000))
            case .decided(let certificate):
                checker.decided(certificate, in: self)
            case .voterUnknown(let voter):
                if checker.voters.contains(voter) { announceVoter(voter, to: machine) }
            case .alarm(let text):
                checker.alarms.append(text)
            case .dropped, .reset: break
            }
            if checker.violation != nil { return }
        }
    }

    private mutating func begin(_ generation: UInt32, on machine: Int) {
        machines[machine].running = generation
        machines[machine].starts += 1
        if machines[machine].data == nil {
            machines[machine].data = machines[machine].random.bytes32()
        }
        checker.starts(generation, on: machine, in: self)
        queue.add(
            .hostReady(
                machine: machine, life: machines[machine].life, start: machines[machine].starts),
            at: now + dice.span(500...14_000))
    }

    private mutating func announceVoter(_ voter: NodeID, to machine: Int) {
        guard checker.voters.contains(voter) else { return }
        step(machine) { founding, at, random, actions in
            founding.voterSeen(voter, at: at, random: &random, into: &actions)
        }
    }

    private mutating func crash(_ machine: Int, wipes: Bool, forgets: Bool) {
        machines[machine].founding = nil
        machines[machine].life += 1
        machines[machine].timerAt = nil
        // Before READY the datastore cannot outlive the daemon.
        machines[machine].running = nil
        if wipes {
            machines[machine].disk = nil
            machines[machine].data = nil
            machines[machine].isAmnesiac = false
            machines[machine].identity = nodeID(nextIdentity)
            machines[machine].hasLostIdentity = true
            nextIdentity += 1
            checker.voters.insert(machines[machine].identity)
        }
        if forgets {
            machines[machine].disk = nil
            machines[machine].isAmnesiac = true
        }
        if isHealing { return }
        queue.add(
            .restart(machine: machine, reboots: dice.chance(0.5) || wipes),
            at: now + dice.span(100...20_000))
    }

    private mutating func restart(_ machine: Int, reboots: Bool) {
        guard machines[machine].founding == nil else { return }
        if reboots {
            machines[machine].bootedAt = now - dice.span(0...5_000)
            machines[machine].rate = Double.random(
                in: (1 - course.drift)...(1 + course.drift), using: &dice)
        }
        let record = machines[machine].disk.flatMap { try? FoundingRecord(decoding: $0) }
        let configuration = FoundingConfiguration(
            meshID: testMesh, policy: course.policy, node: machines[machine].identity,
            isVoter: machines[machine].isVoter, isDurable: true,
            mayFound: machines[machine].isVoter, hasLocalData: machines[machine].data != nil,
            isAmnesiac: machines[machine].isAmnesiac, timing: Self.timing, rules: course.rules)
        machines[machine].founding = Founding(
            configuration: configuration, restored: record, at: bootTime(machine),
            signer: KeyedHashSigner(node: machines[machine].identity))
        machines[machine].life += 1
        machines[machine].timerAt = nil
        for other in machines.indices { refreshReachable(other) }
        schedule(machine)
    }

    private mutating func refreshReachable(_ machine: Int) {
        guard machines[machine].founding != nil else { return }
        let others = machines.indices.filter {
            $0 != machine && groups[$0] == groups[machine] && machines[$0].founding != nil
        }
        let identities = others.map { machines[$0].identity }
        machines[machine].founding?.setReachable(identities)
        schedule(machine)
    }

    private mutating func transmit(_ message: [UInt8], from sender: Int, to peer: NodeID) {
        guard let target = machines.firstIndex(where: { $0.identity == peer }) else { return }
        guard groups[target] == groups[sender], !dice.chance(loss) else { return }
        for _ in 0..<(dice.chance(duplication) ? 2 : 1) {
            let delay = dice.chance(slow) ? dice.span(500...6_000) : dice.span(1...120)
            queue.add(
                .deliver(to: target, from: machines[sender].identity, message), at: now + delay)
        }
    }
}
