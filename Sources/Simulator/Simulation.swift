import ClusterPlan
import Cryptography
import DNS
import MeshBase
import MeshNode
import NetAddress
import PathDiscovery
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
    /// Broken rules, each told once.
    package internal(set) var violations: [String] = []
    /// The machines of one side while the network is split.
    var partition: Set<Int> = []
    /// Two machines that do not reach each other, though both reach all others.
    var separated: Set<Int> = []
    /// Whose networks let no UDP in or out.
    var withoutUDP: Set<Int> = []
    var diskLosses = 0
    /// From whom to whom the first initiation is lost already.
    private var initiationsLost: Set<[Int]> = []
    /// Who is gone with its disk.
    var lostIdentities: Set<NodeID> = []
    /// A machine lost its disk that held or sought the claim to found.
    var lostClaim = false
    var faultsAreOver = false
    var addressesGiven: UInt32 = 0
    /// Keeps a copy of every datagram that arrives, for tests that replay them.
    package var recordsDatagrams = false
    private var recorded: [(machine: Int, bytes: [UInt8], source: SocketAddress)] = []
    private var queue = EventQueue<SimulatedEvent>()
    /// Where machines were found last, by their outer address.
    private var places: [IPAddress: Int] = [:]
    private var trace = Fingerprint()
    private var nextCheck = BootInstant.zero
    private var pace = (second: UInt64(0), steps: 0)

    package init(options: SimulationOptions) {
        self.options = options
        random = SeededGenerator(seed: options.seed)
        datastores.grantBytes = options.grantBytes
        var token = SimulationToken(options: options, random: &random)
        let drawn = (0..<options.machines).map { _ in
            (delay: random.duration(in: .zero...options.startSpread), seed: random.next())
        }
        if options.policy?.mode == .voters {
            for machine in drawn.dropLast(options.agents + options.growth) {
                token.name(voter: SimulatedDisk(identitySeed: machine.seed).identity.node)
            }
        }
        for (index, (delay, identitySeed)) in drawn.enumerated() {
            machines.append(
                SimulatedMachine(
                    index: index, identitySeed: identitySeed,
                    token: index >= options.machines - options.growth
                        ? token.token.grown() : token.token,
                    role: index >= options.machines - options.agents ? .agent : .auto,
                    usesLocalDiscovery: options.usesLocalDiscovery))
            machines[index].usesDHT = options.usesDHT
            machines[index].keepsLog = options.keepsLogs
            if !options.nats.isEmpty {
                machines[index].settle(
                    behind: index < options.nats.count ? options.nats[index] : nil,
                    acceptingInput: options.routersAcceptInput)
                machines[index].hasCarrier =
                    options.routersAcceptInput || options.guessesPorts || options.usesStreams
                machines[index].guessesPorts = options.guessesPorts
            }
            queue.add(.start(machine: index), at: now + delay)
        }
        scheduleFaults()
    }

    /// One number for everything that happened; equal for equal seeds.
    package var traceHash: UInt64 { trace.value }

    // MARK: - Running

    /// How often the state of all nodes is looked at.
    private static let checkInterval = Duration.milliseconds(250)
    /// No machine has a reason to be woken more often within a second; more means that a deadline
    /// stays in the past, on which a real machine's control thread would spin.
    private static let wakeLimit = 1_000
    /// Per machine and second; far more than any healthy exchange.
    private static let stepLimit = 5_000

    /// Runs until `time`, or until `isDone` holds at one of the regular checks.
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
            countStep()
            if now >= nextCheck {
                nextCheck = now + Self.checkInterval
                checkEverything()
                if isDone(self) { return true }
            }
        }
        now = max(now, time)
        return isDone(self)
    }

    private func countStep() {
        let second = now.nanoseconds / 1_000_000_000
        if pace.second != second { pace = (second, 0) }
        pace.steps += 1
        precondition(
            pace.steps < Self.stepLimit * machines.count * machines.count,
            "time stands still:\n\(storyTail())")
    }

    private func handle(_ event: SimulatedEvent) {
        switch event {
        case .start(let index): start(machines[index])
        case .crash(let index): randomCrash(machines[index])
        case .partition: randomPartition()
        case .halve: randomHalves()
        case .mend:
            partition = []
            tell("network whole again")
        case .move(let index): randomMove(machines[index])
        case .write: randomWrite()
        case .wake(let index, let life, let time):
            let machine = machines[index]
            guard machine.life == life, machine.wakeAt == time else { return }
            machine.wakeAt = nil
            if machine.countWake(at: now) == Self.wakeLimit {
                report("\(machine.name) spins")
            }
            step(machine, .timeout)
        case .datagram(let index, let bytes, let source):
            arrived(bytes, at: machines[index], from: source)
        case .serve(let index, let life):
            guard machines[index].life == life else { return }
            serve(machines[index])
        case .multicast(let index, let bytes, let source):
            guard machines[index].isUp else { return }
            step(machines[index], .multicast(bytes, from: source, interface: 1, toGroup: true))
        case .doorDatagram(let index, let bytes, let port, let source):
            receive(bytes, at: machines[index], door: port, from: source)
        case .carrier(let index, let life, let report):
            guard machines[index].life == life else { return }
            step(machines[index], .carrier(report))
        case .hostDone(let index, let life, let ticket):
            guard machines[index].life == life, machines[index].isUp else { return }
            finishStep(on: machines[index], ticket: ticket)
        case .hostReport(let index, let life, let report):
            guard machines[index].life == life else { return }
            step(machines[index], .host(report))
        }
    }

    func add(_ event: SimulatedEvent, after delay: Duration) {
        queue.add(event, at: now + delay)
    }

    // MARK: - Machines

    private func start(_ machine: SimulatedMachine) {
        guard !machine.isUp else { return }
        machine.life += 1
        machine.clock = newClock()
        var actions: [NodeAction] = []
        machine.start(seed: random.bytes32(), at: now, into: &actions)
        tell("\(machine.name) starts")
        carryOut(actions, of: machine)
        step(machine, .interfaces([machine.interface]))
        if machine.usesDHT {
            step(machine, .dhtBootstrap([machines[0].address]))
        } else if !machine.usesLocalDiscovery, machine.index != 0 {
            step(machine, .candidates([machines[0].address]))
        }
    }

    /// Every life of a machine has its own boot clock, and its wall clock may be wrong anew.
    private func newClock() -> SimulatedClock {
        let drift = options.faults.clockDrift
        let unit = Double(random.next() >> 11) / 9_007_199_254_740_992
        let error = options.faults.wallClockError
        return SimulatedClock(
            start: now,
            origin: .zero + random.duration(in: .milliseconds(1)...(.seconds(10))),
            rate: drift == 0 ? 1 : 1 - drift + 2 * drift * unit,
            wallError: error == 0 ? 0 : Int64.random(in: -error...error, using: &random))
    }

    func step(_ machine: SimulatedMachine, _ input: NodeInput) {
        guard machine.isUp else { return }
        var actions: [NodeAction] = []
        machine.withNode { $0.receive(input, at: machine.clock.now(now), into: &actions) }
        carryOut(actions, of: machine)
        noteStep(of: machine)
    }

    /// Plans the next wake-up of a node that just did something.
    func noteStep(of machine: SimulatedMachine) {
        if options.hashesEveryStep {
            var fingerprint = Fingerprint()
            machine.node?.fingerprint(into: &fingerprint)
            trace.mix(fingerprint.value)
        }
        let next = machine.withNode { $0.deadline }
        guard let deadline = next, deadline != .distantFuture else { return }
        let time = max(machine.clock.global(deadline), now + .microseconds(1))
        if machine.wakeAt.map({ time < $0 || $0 < now }) ?? true {
            machine.wakeAt = time
            queue.add(.wake(machine: machine.index, life: machine.life, time), at: time)
        }
    }

    /// Carries out the actions in order; `false` when the machine crashed on the way.
    @discardableResult
    func carryOut(_ actions: [NodeAction], of machine: SimulatedMachine) -> Bool {
        var forwardingChanged = false
        for action in actions {
            if let left = machine.actionsUntilCrash {
                if left == 0 {
                    crashNow(machine)
                    return false
                }
                machine.actionsUntilCrash = left - 1
            }
            switch action {
            // The virtual network cuts nothing and carries every size.
            case .send(let bytes, let target), .sendUnfragmented(let bytes, let target):
                transmit(bytes, from: machine, to: target)
            case .sendShort(let bytes, let target, _):
                transmit(bytes, from: machine, to: target, arrives: false)
            case .sendMulticast(let bytes, let target):
                transmitMulticast(bytes, from: machine, to: target)
            case .persist(let record):
                machine.disk.write(record, of: machine.node)
            case .host(let command):
                order(command, on: machine)
            case .log(let level, let text):
                if level != .debug { tell("\(machine.name): \(text)") }
            case .pong:
                machine.pongs += 1
            case .forwardingChanged:
                forwardingChanged = true
            case .carrier(let order):
                carry(order, of: machine)
            case .record(let lines):
                machine.foundingLogs[machine.foundingLogs.count - 1] += lines
            case .addressesChanged, .namesChanged, .gateway:
                break
            }
        }
        if forwardingChanged { machine.snapshots += 1 }
        return true
    }

    // MARK: - Network

    func isCut(_ first: Int, _ second: Int) -> Bool {
        partition.contains(first) != partition.contains(second)
            || separated.contains(first) && separated.contains(second)
    }

    private func hasNoUDP(_ first: Int, _ second: Int) -> Bool {
        withoutUDP.contains(first) || withoutUDP.contains(second)
    }

    /// - Parameters:
    ///   - door: the further port from which it goes.
    ///   - arrives: otherwise it opens the way for what comes back, and dies on the way.
    func transmit(
        _ bytes: [UInt8], from sender: SimulatedMachine, to target: SocketAddress,
        door: UInt16? = nil, arrives: Bool = true
    ) {
        if target.isStandIn {
            guard let guest = sender.doors.guests[target] else {
                sendInStream(bytes, from: sender, by: target)
                return
            }
            transmit(bytes, from: sender, to: guest.remote, door: guest.port)
            return
        }
        sender.traffic.count(bytes, kind: bytes.first ?? 0)
        let source = outside(of: sender, to: target, door: door)
        // What is lost beyond the routers was let out by the first and never seen by the second.
        guard arrives, let place = machine(at: target.ip),
            !isCut(sender.index, place.index), !hasNoUDP(sender.index, place.index),
            !chance(faults.loss),
            !isLostInitiation(bytes, from: sender.index, to: place.index),
            let port = innerPort(of: place, at: target, from: source)
        else { return }
        let copies = chance(faults.duplication) ? 2 : 1
        for _ in 0..<copies {
            let delay = random.duration(in: faults.delay)
            if port == place.address.port {
                add(.datagram(machine: place.index, bytes, source: source), after: delay)
            } else {
                add(
                    .doorDatagram(machine: place.index, bytes, port: port, source: source),
                    after: delay)
            }
        }
    }

    private func isLostInitiation(_ bytes: [UInt8], from sender: Int, to target: Int) -> Bool {
        guard faults.losesFirstInitiations, let type = bytes.first, type == 1 || type == 5 else {
            return false
        }
        return initiationsLost.insert([sender, target]).inserted
    }

    /// The machine to which this address leads.
    func machine(at ip: IPAddress) -> SimulatedMachine? {
        if let known = places[ip], machines[known].outerAddress == ip { return machines[known] }
        let found = machines.first { $0.outerAddress == ip }
        places[ip] = found?.index
        return found
    }

    /// Where a datagram of the machine is seen to come from.
    private func outside(of machine: SimulatedMachine, to target: SocketAddress, door: UInt16?)
        -> SocketAddress
    {
        var source = SocketAddress(ip: machine.address.ip, port: door ?? machine.address.port)
        for index in machine.routers.indices {
            source = machine.routers[index].outgoing(
                from: source, to: target, at: now, random: &random)
        }
        return source
    }

    /// The machine's own port to which the datagram comes, if it is let in.
    private func innerPort(
        of machine: SimulatedMachine, at target: SocketAddress, from source: SocketAddress
    ) -> UInt16? {
        var place = target
        for index in machine.routers.indices.reversed() {
            guard place.ip == machine.routers[index].address,
                let inner = machine.routers[index].incoming(to: place.port, from: source, at: now)
            else { return nil }
            place = inner
        }
        return place.ip == machine.address.ip || machine.routers.isEmpty ? place.port : nil
    }

    private func transmitMulticast(
        _ bytes: [UInt8], from sender: SimulatedMachine, to target: DiscoveryDestination
    ) {
        sender.traffic.count(bytes, kind: 0)
        var source = sender.address
        source.port = 5_353
        for receiver in machines where receiver.index != sender.index {
            if case .unicast(let address, _) = target, address.ip != receiver.address.ip {
                continue
            }
            guard !isCut(sender.index, receiver.index), !chance(faults.loss) else { continue }
            add(
                .multicast(machine: receiver.index, bytes, source: source),
                after: random.duration(in: faults.delay))
        }
    }

    func deliver(_ bytes: [UInt8], to machine: SimulatedMachine, from source: SocketAddress) {
        guard machine.isUp else { return }
        if recordsDatagrams { recorded.append((machine.index, bytes, source)) }
        trace.mix(bytes.count)
        var (bytes, source) = (bytes, source)
        let relayed = machine.withNode { $0.relayed(bytes, from: source) }
        if case .arrived(let inner, let address) = relayed {
            (bytes, source) = (inner, address)
        }
        guard bytes.first == 4 else {
            step(machine, .datagram(bytes, from: source))
            return
        }
        for input in machine.openPacket(bytes, from: source, at: now) { step(machine, input) }
    }

    /// What has arrived at a machine since ``recordsDatagrams`` was set, oldest first.
    package func recordedDatagrams(to index: Int) -> [([UInt8], SocketAddress)] {
        recorded.filter { $0.machine == index }.map { ($0.bytes, $0.source) }
    }

    func tell(_ text: String) {
        guard story.count < SimulationOptions.storyLimit else { return }
        story.append("\(now) \(text)")
    }
}

enum SimulatedEvent {
    case start(machine: Int)
    case crash(machine: Int)
    case partition
    case halve
    case mend
    case move(machine: Int)
    case write
    case wake(machine: Int, life: Int, BootInstant)
    case datagram(machine: Int, [UInt8], source: SocketAddress)
    case serve(machine: Int, life: Int)
    case multicast(machine: Int, [UInt8], source: SocketAddress)
    case doorDatagram(machine: Int, [UInt8], port: UInt16, source: SocketAddress)
    case carrier(machine: Int, life: Int, CarrierReport)
    case hostDone(machine: Int, life: Int, ticket: Int)
    case hostReport(machine: Int, life: Int, HostReport)
}
