import ClusterPlan
import Cryptography
import DNS
import MeshBase
import MeshNode
import NetAddress
import WireGuard

/// A deterministic world of real nodes: the same ``Node`` that a machine runs, under a virtual
/// network, virtual clocks and virtual disks.
///
/// One seed and one set of options give one run: the same events in the same order, and the same
/// ``traceHash``. Nothing here sleeps, and nothing here is random that the seed does not decide.
package final class Simulation {
    package let options: SimulationOptions
    package private(set) var now = BootInstant(nanoseconds: 1_000_000_000)
    package private(set) var story: [String] = []
    package private(set) var steps = 0
    var random: SeededGenerator
    var machines: [SimulatedMachine] = []
    var datastores = SimulatedDatastores()
    private var queue = EventQueue<SimulatedEvent>()
    /// The machines of each side while the network is split.
    private var partition: Set<Int> = []
    private var trace = Fingerprint()
    private var diskLosses = 0
    private var faultsAreOver = false

    package init(options: SimulationOptions) {
        self.options = options
        random = SeededGenerator(seed: options.seed)
        let token = SimulationToken(options: options, random: &random)
        for index in 0..<options.machines {
            let delay = random.duration(in: .zero...options.startSpread)
            machines.append(
                SimulatedMachine(
                    index: index, identitySeed: random.next(), token: token.token,
                    wallOffset: wallOffset()))
            queue.add(.start(machine: index), at: now + delay)
        }
        scheduleFaults()
    }

    /// One number for everything that happened; equal for equal seeds.
    package var traceHash: UInt64 { trace.value }

    // MARK: - Running

    /// Runs until `time`, or until `isDone` holds after an event.
    ///
    /// - Returns: whether `isDone` held.
    @discardableResult
    package func run(until time: BootInstant, isDone: (Simulation) -> Bool = { _ in false }) -> Bool
    {
        while let next = queue.nextTime, next <= time, let item = queue.popFirst() {
            now = max(now, item.time)
            steps += 1
            trace.mix(now)
            handle(item.event)
            if isDone(self) { return true }
        }
        now = max(now, time)
        return isDone(self)
    }

    /// Ends every fault and brings every machine up: from here on the world must become well.
    package func heal() {
        faultsAreOver = true
        partition = []
        tell("healed")
        for machine in machines where !machine.isUp {
            queue.add(.start(machine: machine.index), at: now)
        }
    }

    /// Cuts the machines in `side` off from all others until ``heal()``.
    package func split(_ side: Set<Int>) {
        partition = side
        tell("split off \(side.sorted())")
    }

    /// Stops a machine at once; it comes back after `downTime`, or with ``heal()``.
    package func crash(_ index: Int, downTime: Duration? = nil) {
        stop(machines[index])
        if let downTime { queue.add(.start(machine: index), at: now + downTime) }
    }

    private func handle(_ event: SimulatedEvent) {
        switch event {
        case .start(let index): start(machines[index])
        case .crash(let index): randomCrash(machines[index])
        case .partition: randomPartition()
        case .mend:
            partition = []
            tell("network whole again")
        case .wake(let index, let life, let time):
            let machine = machines[index]
            guard machine.life == life, machine.wakeAt == time else { return }
            machine.wakeAt = nil
            step(machine, .timeout)
        case .datagram(let index, let bytes, let source):
            deliver(bytes, to: machines[index], from: source)
        case .multicast(let index, let bytes, let source):
            guard machines[index].isUp else { return }
            step(machines[index], .multicast(bytes, from: source, interface: 1, toGroup: true))
        case .command(let index, let life, let command):
            execute(command, on: machines[index], life: life)
        }
    }

    // MARK: - Machines

    private func start(_ machine: SimulatedMachine) {
        guard !machine.isUp else { return }
        machine.life += 1
        var actions: [NodeAction] = []
        machine.start(seed: random.bytes32(), at: clock(of: machine), into: &actions)
        tell("\(machine.name) starts")
        carryOut(actions, of: machine)
        step(
            machine,
            .interfaces([
                LocalInterface(
                    index: 1, name: "eth0", addresses: [machine.address.ip],
                    prefixes: [SimulatedMachine.network], isMulticast: true)
            ]))
    }

    private func stop(_ machine: SimulatedMachine) {
        guard machine.isUp else { return }
        tell("\(machine.name) stops")
        machine.stop()
    }

    private func randomCrash(_ machine: SimulatedMachine) {
        guard !faultsAreOver else { return }
        defer { scheduleCrash(of: machine.index) }
        guard machine.isUp else { return }
        if chance(options.faults.crashMidway) {
            // The next list of actions breaks off.
            machine.actionsUntilCrash = Int(random.next() % 4)
            return
        }
        crashNow(machine)
    }

    private func crashNow(_ machine: SimulatedMachine) {
        stop(machine)
        if diskLosses < options.faults.diskLossLimit, chance(options.faults.diskLoss) {
            diskLosses += 1
            machine.disk = SimulatedDisk(identitySeed: random.next())
            tell("\(machine.name) loses its disk")
        }
        let downTime = random.duration(in: options.faults.downTime)
        queue.add(.start(machine: machine.index), at: now + downTime)
    }

    /// The machine's clocks: boot time restarts with every life of the machine, and the wall clock
    /// may be wrong.
    private func clock(of machine: SimulatedMachine) -> Now {
        let wall = Int64(now.nanoseconds / 1_000_000_000) + 1_700_000_000 + machine.wallOffset
        return Now(boot: now, wall: WallTime(seconds: wall))
    }

    func step(_ machine: SimulatedMachine, _ input: NodeInput) {
        guard machine.node != nil else { return }
        var actions: [NodeAction] = []
        machine.node?.receive(input, at: clock(of: machine), into: &actions)
        carryOut(actions, of: machine)
        guard let node = machine.node else { return }
        if options.hashesEveryStep {
            var fingerprint = Fingerprint()
            node.fingerprint(into: &fingerprint)
            trace.mix(fingerprint.value)
        }
        guard let deadline = node.deadline else { return }
        let time = max(deadline, now + .microseconds(1))
        if machine.wakeAt.map({ time < $0 || $0 < now }) ?? true {
            machine.wakeAt = time
            queue.add(.wake(machine: machine.index, life: machine.life, time), at: time)
        }
    }

    private func carryOut(_ actions: [NodeAction], of machine: SimulatedMachine) {
        let life = machine.life
        for action in actions {
            if let left = machine.actionsUntilCrash {
                if left == 0 {
                    crashNow(machine)
                    return
                }
                machine.actionsUntilCrash = left - 1
            }
            guard machine.life == life, machine.isUp else { return }
            switch action {
            case .send(let bytes, let target):
                transmit(bytes, from: machine, to: target)
            case .sendMulticast(let bytes, let target):
                transmitMulticast(bytes, from: machine, to: target)
            case .persist(let record):
                machine.disk.write(record)
            case .host(let command):
                let delay = SimulatedDatastores.duration(of: command)
                queue.add(
                    .command(machine: machine.index, life: life, command), at: now + delay)
            case .log(let level, let text):
                if level != .debug { tell("\(machine.name): \(text)") }
            case .pong:
                machine.pongs += 1
            case .forwardingChanged, .addressesChanged, .namesChanged:
                break
            }
        }
        machine.refreshSessions()
    }

    private func execute(_ command: HostCommand, on machine: SimulatedMachine, life: Int) {
        guard machine.life == life, machine.isUp, let id = machine.node?.configuration.identity.node
        else { return }
        let report = datastores.execute(
            command, of: id, disk: &machine.disk, isRunning: &machine.isDatastoreRunning,
            random: &random)
        if let report { step(machine, .host(report)) }
    }

    // MARK: - Network

    private func isCut(_ first: Int, _ second: Int) -> Bool {
        partition.contains(first) != partition.contains(second)
    }

    private func transmit(
        _ bytes: [UInt8], from sender: SimulatedMachine, to target: SocketAddress
    ) {
        guard let receiver = machines.first(where: { $0.address == target }),
            !isCut(sender.index, receiver.index), !loses()
        else { return }
        let copies = chance(faults.duplication) ? 2 : 1
        for _ in 0..<copies {
            queue.add(
                .datagram(machine: receiver.index, bytes, source: sender.address),
                at: now + random.duration(in: faults.delay))
        }
    }

    private func transmitMulticast(
        _ bytes: [UInt8], from sender: SimulatedMachine, to target: DiscoveryDestination
    ) {
        var source = sender.address
        source.port = 5_353
        for receiver in machines where receiver.index != sender.index {
            if case .unicast(let address, _) = target, address.ip != receiver.address.ip {
                continue
            }
            guard !isCut(sender.index, receiver.index), !loses() else { continue }
            queue.add(
                .multicast(machine: receiver.index, bytes, source: source),
                at: now + random.duration(in: faults.delay))
        }
    }

    private func deliver(_ bytes: [UInt8], to machine: SimulatedMachine, from source: SocketAddress)
    {
        guard machine.isUp else { return }
        trace.mix(bytes.count)
        guard bytes.first == 4 else {
            step(machine, .datagram(bytes, from: source))
            return
        }
        for input in machine.openPacket(bytes, from: source, at: now) { step(machine, input) }
    }

    // MARK: - Faults

    private var faults: FaultPlan { faultsAreOver ? FaultPlan() : options.faults }

    private func chance(_ probability: Double) -> Bool {
        probability > 0 && Double(random.next() >> 11) / 9_007_199_254_740_992 < probability
    }

    private func loses() -> Bool { chance(faults.loss) }

    private func wallOffset() -> Int64 {
        let limit = options.faults.wallClockError
        return limit == 0 ? 0 : Int64.random(in: -limit...limit, using: &random)
    }

    private func scheduleFaults() {
        for machine in machines { scheduleCrash(of: machine.index) }
        schedulePartition()
    }

    private func scheduleCrash(of index: Int) {
        guard let mean = options.faults.crashInterval else { return }
        queue.add(.crash(machine: index), at: now + random.duration(in: .zero...(mean * 2)))
    }

    private func schedulePartition() {
        guard let mean = options.faults.partitionInterval else { return }
        queue.add(.partition, at: now + random.duration(in: .zero...(mean * 2)))
    }

    private func randomPartition() {
        guard !faultsAreOver else { return }
        partition = Set(machines.map(\.index).filter { _ in random.next() & 1 == 0 })
        tell("network split: \(partition.sorted()) from the others")
        queue.add(.mend, at: now + random.duration(in: options.faults.partitionLength))
        schedulePartition()
    }

    private func tell(_ text: String) {
        guard story.count < SimulationOptions.storyLimit else { return }
        story.append("\(now) \(text)")
    }
}

enum SimulatedEvent {
    case start(machine: Int)
    case crash(machine: Int)
    case partition
    case mend
    case wake(machine: Int, life: Int, BootInstant)
    case datagram(machine: Int, [UInt8], source: SocketAddress)
    case multicast(machine: Int, [UInt8], source: SocketAddress)
    case command(machine: Int, life: Int, HostCommand)
}
