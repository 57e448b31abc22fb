import ClusterPlan
import Cryptography
import MeshBase
import MeshNode
import NetAddress

/// Everything that goes wrong, by plan or by chance.
extension Simulation {
    /// Ends every fault and brings every machine up: from here on the world must become well.
    package func heal() {
        faultsAreOver = true
        partition = []
        separated = []
        tell("healed")
        for machine in machines {
            machine.actionsUntilCrash = nil
            if !machine.isUp { add(.start(machine: machine.index), after: .zero) }
        }
    }

    /// Cuts the machines in `side` off from all others until ``heal()`` or ``rejoin()``.
    package func split(_ side: Set<Int>) {
        partition = side
        tell("split off \(side.sorted())")
    }

    /// Nothing passes between any two of these machines until ``heal()`` or ``rejoin()``; they reach
    /// all others.
    package func separate(_ machines: Set<Int>) {
        separated = machines
        tell("nothing passes between \(machines.sorted())")
    }

    /// The routers in front of a machine start anew, the outermost perhaps with another address.
    package func rebootRouter(of index: Int, renumbering: Bool) {
        guard let outermost = machines[index].routers.indices.last else { return }
        addressesGiven += 1
        for router in machines[index].routers.indices {
            let address = machines[index].routers[router].address
            machines[index].routers[router].reboot(
                address: renumbering && router == outermost
                    ? .v4(0x2D13_0002 + addressesGiven << 8) : address)
        }
        tell("the router of \(machines[index].name) starts anew")
    }

    /// Ends a partition.
    package func rejoin() {
        partition = []
        separated = []
        tell("network whole again")
    }

    /// Stops a machine at once; it comes back after `downTime`, or with ``heal()``.
    package func crash(_ index: Int, downTime: Duration? = nil) {
        stop(machines[index])
        if let downTime { add(.start(machine: index), after: downTime) }
    }

    /// Stops a machine that says goodbye first.
    package func shutDown(_ index: Int, downTime: Duration? = nil) {
        step(machines[index], .command(.leave))
        crash(index, downTime: downTime)
    }

    /// The machine crashes before it has carried out so many more actions, in whatever list.
    package func crash(_ index: Int, afterActions count: Int) {
        machines[index].actionsUntilCrash = count
    }

    /// Wipes the disk of a machine, which must be down.
    package func loseDisk(of index: Int) {
        let machine = machines[index]
        precondition(!machine.isUp, "a running machine keeps its disk")
        diskLosses += 1
        lostIdentities.insert(machine.disk.identity.node)
        if machine.ownedClaim { lostClaim = true }
        machine.disk = SimulatedDisk(identitySeed: random.next())
        machine.written = [:]
        machine.ownedClaim = false
        tell("\(machine.name) loses its disk")
    }

    /// Gives a machine another address, as DHCP may.
    package func move(_ index: Int) {
        addressesGiven += 1
        let machine = machines[index]
        machine.address.ip = .v4(0xC0A8_0100 + addressesGiven)
        tell("\(machine.name) moves to \(machine.address)")
        step(machine, .interfaces([machine.interface]))
    }

    /// Writes an entry of a user on one machine; `nil` withdraws it.
    package func write(_ value: [UInt8]?, key: String, on index: Int) {
        let machine = machines[index]
        guard machine.isUp else { return }
        var actions: [NodeAction] = []
        let clock = machine.clock.now(now)
        do {
            if let value {
                try machine.withNode {
                    try $0.put(bucket: "users", key: key, value: value, at: clock, into: &actions)
                }
            } else {
                try machine.withNode {
                    try $0.delete(bucket: "users", key: key, at: clock, into: &actions)
                }
            }
        } catch {
            tell("\(machine.name) refuses to write \(key): \(error)")
            return
        }
        // Only what was carried out to the end was promised to the user.
        machine.written[key] = .none
        if carryOut(actions, of: machine) { machine.written.updateValue(value, forKey: key) }
        noteStep(of: machine)
    }

    /// A member says something to another in its tunnel, whatever its own node would say.
    package func say(_ frame: ControlFrame, as index: Int, to other: Int) {
        guard let key = machines[index].node?.configuration.identity.staticKey.publicKey else {
            return
        }
        step(machines[other], .controlFrame(frame.encode(), from: key))
    }

    func stop(_ machine: SimulatedMachine) {
        guard machine.isUp else { return }
        tell("\(machine.name) stops")
        noteClaim(of: machine)
        endStreams(of: machine)
        machine.stop()
    }

    private func noteClaim(of machine: SimulatedMachine) {
        guard let view = machine.node?.foundingView else { return }
        if view.isOwner || view.phase == .claiming { machine.ownedClaim = true }
    }

    func crashNow(_ machine: SimulatedMachine) {
        stop(machine)
        if diskLosses < options.faults.diskLossLimit, chance(options.faults.diskLoss) {
            loseDisk(of: machine.index)
        }
        let downTime = random.duration(in: options.faults.downTime)
        add(.start(machine: machine.index), after: downTime)
    }

    // MARK: - Chance

    var faults: FaultPlan { faultsAreOver ? FaultPlan() : options.faults }

    func chance(_ probability: Double) -> Bool {
        probability > 0 && Double(random.next() >> 11) / 9_007_199_254_740_992 < probability
    }

    private func pause(mean: Duration) -> Duration {
        random.duration(in: .zero...(mean * 2))
    }

    func scheduleFaults() {
        for machine in machines {
            scheduleCrash(of: machine.index)
            scheduleMove(of: machine.index)
        }
        if options.faults.beginsSplit {
            add(.halve, after: .zero)
        } else if let mean = options.faults.partitionInterval {
            add(.partition, after: pause(mean: mean))
        }
        if let mean = options.faults.writeInterval { add(.write, after: pause(mean: mean)) }
    }

    private func scheduleCrash(of index: Int) {
        guard let mean = options.faults.crashInterval else { return }
        add(.crash(machine: index), after: pause(mean: mean))
    }

    private func scheduleMove(of index: Int) {
        guard let mean = options.faults.moveInterval else { return }
        add(.move(machine: index), after: pause(mean: mean))
    }

    func randomCrash(_ machine: SimulatedMachine) {
        guard !faultsAreOver else { return }
        defer { scheduleCrash(of: machine.index) }
        guard machine.isUp else { return }
        if chance(options.faults.orderlyStop) {
            step(machine, .command(.leave))
        } else if chance(options.faults.crashMidway) {
            machine.actionsUntilCrash = Int(random.next() % 4)
            return
        }
        crashNow(machine)
    }

    func randomHalves() {
        partition = Set(machines.map(\.index).shuffled(using: &random).prefix(machines.count / 2))
        tell("network split: \(partition.sorted()) from the others")
        add(.mend, after: random.duration(in: options.faults.partitionLength))
        if let mean = options.faults.partitionInterval { add(.partition, after: pause(mean: mean)) }
    }

    func randomPartition() {
        guard !faultsAreOver, let mean = options.faults.partitionInterval else { return }
        partition = Set(machines.map(\.index).filter { _ in random.next() & 1 == 0 })
        tell("network split: \(partition.sorted()) from the others")
        add(.mend, after: random.duration(in: options.faults.partitionLength))
        add(.partition, after: pause(mean: mean))
    }

    func randomMove(_ machine: SimulatedMachine) {
        guard !faultsAreOver else { return }
        move(machine.index)
        scheduleMove(of: machine.index)
    }

    func randomWrite() {
        guard !faultsAreOver, let mean = options.faults.writeInterval else { return }
        let index = Int(random.next() % UInt64(machines.count))
        let value = random.next() % 4 == 0 ? nil : random.bytes(Int(random.next() % 64))
        write(value, key: "k\(random.next() % 6)", on: index)
        add(.write, after: pause(mean: mean))
    }
}
