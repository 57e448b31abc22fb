import Consensus
import MeshBase
import MeshNode
import NetAddress
import Simulator
import Testing

private func voters(_ count: Int, servers: Int? = nil) -> GenesisPolicy {
    GenesisPolicy(voterLimit: count, servers: servers)
}

/// Runs until all is well, or says what is not.
private func expectWell(
    _ world: Simulation, within limit: Duration = .seconds(180),
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let isWell = world.run(until: world.now + limit) { $0.complaints.isEmpty }
    #expect(
        isWell, "\(world.complaints)\n\(world.storyTail())", sourceLocation: sourceLocation)
    #expect(world.safetyViolations == [], sourceLocation: sourceLocation)
}

private func expectQuicklyWell(
    _ world: Simulation, sourceLocation: SourceLocation = #_sourceLocation
) {
    expectWell(world, within: .seconds(45), sourceLocation: sourceLocation)
}

// MARK: - What the simulator found

/// Sessions outlive a short partition although liveness declared the other side dead; once it is
/// heard again, ledger and founding must talk over the old session and not wait for a new one.
@Test func aPartitionThatSessionsOutliveHealsAtOnce() {
    let world = Simulation(options: SimulationOptions(seed: 9, machines: 3))
    expectQuicklyWell(world)
    world.split([1])
    world.run(until: world.now + .seconds(20))
    #expect(!world.isFullyConnected, "20 seconds of silence are death")
    world.write([1], key: "k", on: 1)
    world.rejoin()
    expectQuicklyWell(world)
}

/// In a full block of addresses a newcomer's wish with the lower hash must not take the address of
/// a running server, neither while that server restarts nor while the newcomer is cut off.
@Test(arguments: [UInt64(57), 251, 412]) func aServerKeepsItsAddress(seed: UInt64) {
    let trial = Trial(.hostile(seed: seed))
    #expect(trial.problems.isEmpty, "\(trial.story())")
}

// MARK: - Restarts

/// A machine is wiped again and again, with and without a goodbye. It is a new member each time,
/// and what is remembered of the former ones does not keep its hostname from it.
@Test func aWipedMachineKeepsItsHostname() {
    let world = Simulation(options: SimulationOptions(seed: 25, machines: 3))
    expectQuicklyWell(world)
    for round in 0..<8 {
        if round.isMultiple(of: 2) { world.shutDown(2) } else { world.crash(2) }
        world.run(until: world.now + .seconds(round.isMultiple(of: 2) ? 1 : 40))
        world.loseDisk(of: 2)
        world.heal()
        expectQuicklyWell(world)
        let isNamed = world.run(until: world.now + .seconds(10)) { world in
            guard let own = world.status(of: 2), own.hostname == "n2" else { return false }
            return (0..<2).allSatisfy { index in
                world.status(of: index)?.peers.first { $0.id == own.id }?.hostname == "n2"
            }
        }
        #expect(isNamed, "round \(round)")
    }
}

@Test func everybodyStartsAtTheSameInstant() {
    var options = SimulationOptions(seed: 21, machines: 6, policy: voters(6))
    options.startSpread = .zero
    expectQuicklyWell(Simulation(options: options))
}

@Test func aNodeRestartsWhileOthersHoldItsOldSessions() {
    let world = Simulation(options: SimulationOptions(seed: 22, machines: 4, policy: voters(4)))
    expectQuicklyWell(world)
    world.crash(2, downTime: .milliseconds(200))
    world.write([1, 2, 3], key: "k", on: 0)
    expectQuicklyWell(world)
}

@Test func aNodeThatSaidGoodbyeComesBack() {
    let world = Simulation(options: SimulationOptions(seed: 23, machines: 4, policy: voters(4)))
    expectQuicklyWell(world)
    for downTime in [Duration.milliseconds(50), .seconds(2), .seconds(100)] {
        world.shutDown(1, downTime: downTime)
        world.run(until: world.now + downTime + .seconds(1))
        expectQuicklyWell(world)
    }
}

@Test func allMachinesLosePowerAtOnce() {
    let world = Simulation(options: SimulationOptions(seed: 24, machines: 5, policy: voters(5)))
    expectQuicklyWell(world)
    for index in 0..<5 { world.crash(index, downTime: .seconds(30)) }
    world.run(until: world.now + .seconds(31))
    expectQuicklyWell(world)
}

/// The machine that is about to found crashes before each single action of its way there.
@Test(arguments: 0..<60) func anOwnerThatCrashesAnywhereFoundsInTheEnd(actions: Int) {
    let options = SimulationOptions(
        seed: UInt64(100 + actions), machines: 3, policy: voters(3))
    let world = Simulation(options: options)
    world.run(until: world.now + .seconds(30)) { world in
        (0..<3).contains { world.status(of: $0)?.founding.phase == .claiming }
    }
    let candidate = (0..<3).first { world.status(of: $0)?.founding.phase == .claiming }
    if let candidate { world.crash(candidate, afterActions: actions) }
    world.run(until: world.now + .seconds(40))
    world.heal()
    expectWell(world)
}

// MARK: - Addresses

@Test func aMemberMovesToAnotherAddress() {
    let world = Simulation(options: SimulationOptions(seed: 31, machines: 3))
    expectQuicklyWell(world)
    for _ in 0..<3 {
        world.move(1)
        world.run(until: world.now + .seconds(40))
        expectQuicklyWell(world)
        let pongs = world.pongs(of: 0)
        if let peer = world.node(of: 1)?.configuration.identity.node {
            world.command(.ping(id: 1, peer), on: 0)
        }
        world.run(until: world.now + .seconds(2))
        #expect(world.pongs(of: 0) == pongs + 1, "\(world.storyTail())")
    }
}

@Test func allMachinesMoveAtOnce() {
    let world = Simulation(options: SimulationOptions(seed: 32, machines: 4))
    expectQuicklyWell(world)
    for index in 0..<4 { world.move(index) }
    world.run(until: world.now + .seconds(5))
    expectWell(world)
}

@Test(arguments: UInt64(1)...8) func aCrowdedBlockOfAddressesIsShared(seed: UInt64) {
    var options = SimulationOptions(seed: seed, machines: 8, policy: voters(8))
    options.ipv4Plan = IPPrefix(.v4(0x0A01_0000), length: 28)
    expectQuicklyWell(Simulation(options: options))
}

@Test func machinesThatClaimedApartAgreeWhenTheyMeet() {
    var options = SimulationOptions(seed: 33, machines: 8)
    options.ipv4Plan = IPPrefix(.v4(0x0A01_0000), length: 28)
    let world = Simulation(options: options)
    world.split([0, 1, 2, 3])
    world.run(until: world.now + .seconds(60))
    world.rejoin()
    expectWell(world)
}

// MARK: - Ledger

@Test(arguments: UInt64(1)...5) func bothSidesOfAPartitionWrite(seed: UInt64) {
    let world = Simulation(options: SimulationOptions(seed: seed, machines: 5))
    expectQuicklyWell(world)
    world.split([0, 1])
    for round in 0..<40 {
        world.write([UInt8(round)], key: "k\(round % 7)", on: round % 5)
        world.run(until: world.now + .seconds(2))
        if round % 10 == 9 { world.write(nil, key: "k\(round % 7)", on: round % 5) }
        if round == 20 { world.crash(3, downTime: .seconds(5)) }
    }
    world.rejoin()
    expectWell(world)
}

// MARK: - Roles and sizes

@Test func agentsOnlyUseTheCluster() {
    var options = SimulationOptions(seed: 41, machines: 5, policy: voters(5, servers: 3))
    options.agents = 1
    let world = Simulation(options: options)
    expectQuicklyWell(world)
    #expect(world.status(of: 4)?.cluster.role == .agent)
    #expect(world.status(of: 4)?.founding.isOwner == false)
}

/// A machine that joins a mesh which no local discovery reaches knows one address only.
@Test func oneKnownAddressIsEnough() {
    var options = SimulationOptions(seed: 42, machines: 6, policy: voters(6))
    options.usesLocalDiscovery = false
    expectQuicklyWell(Simulation(options: options))
}

/// More voters than the eight neighbours with which a node keeps sessions of its own accord, and
/// all of them know all others from their disks, so that nobody is met by chance.
@Test func manyVotersFindAQuorumAfterAPowerCut() {
    let count = 20
    var options = SimulationOptions(seed: 43, machines: count, policy: voters(count))
    options.startSpread = .zero
    let world = Simulation(options: options)
    world.run(until: world.now + .seconds(2))
    let known = (0..<count).compactMap { world.node(of: $0)?.members.count }
    #expect(known.allSatisfy { $0 == count - 1 })
    for index in 0..<count { world.crash(index, downTime: .seconds(1)) }
    let isReady = world.run(until: world.now + .seconds(120)) { world in
        (0..<count).allSatisfy { world.status(of: $0)?.founding.phase == .ready }
    }
    let view = world.status(of: 0)?.founding
    #expect(isReady, "\(view?.answering ?? 0) of \(view?.quorum ?? 0): \(view?.reason ?? "")")
    #expect(world.safetyViolations == [])
}

// MARK: - Faults that last

/// One voter's disk is lost before, while and after the cluster is founded; f = 1 covers it.
@Test(arguments: [Duration.milliseconds(300), .milliseconds(1_500), .seconds(20)])
func aVoterLosesItsDisk(after time: Duration) {
    for seed in UInt64(50)..<56 {
        var options = SimulationOptions(seed: seed, machines: 5, policy: voters(5))
        options.startSpread = .zero
        let world = Simulation(options: options)
        world.run(until: world.now + time)
        let victim = (0..<5).last { world.status(of: $0)?.founding.isOwner == false } ?? 4
        world.crash(victim)
        world.loseDisk(of: victim)
        world.run(until: world.now + .seconds(5))
        world.heal()
        expectWell(world)
    }
}

/// The owner of the claim is cut off before READY. It stops by itself when its time is over, and
/// only after that the others give up on it and found without it; then it comes back and joins.
@Test func aLostOwnerIsSucceededAndJoinsItsSuccessor() {
    var policy = voters(5)
    policy.takeover = .minutes(1)
    var options = SimulationOptions(seed: 61, machines: 5, policy: policy)
    options.startSpread = .zero
    let world = Simulation(options: options)
    func owner() -> Int? { (0..<5).first { world.status(of: $0)?.founding.startDeadline != nil } }
    world.run(until: world.now + .seconds(60)) { _ in owner() != nil }
    guard let first = owner() else {
        Issue.record("nobody starts a datastore\n\(world.storyTail())")
        return
    }
    world.split([first])
    world.run(until: world.now + .seconds(500))
    #expect(world.clusterMembers == (0, 0), "the owner's time is not over")
    let others = world.run(until: world.now + .seconds(1_500)) { $0.clusterMembers == (3, 1) }
    #expect(others, "\(world.storyTail())")
    #expect(world.status(of: first)?.founding.phase != .ready)
    world.rejoin()
    expectWell(world)
    #expect(world.status(of: first)?.founding.generation == 2)
}

/// Boot clocks that differ by forty percent, wall clocks that differ by centuries.
@Test(arguments: UInt64(1)...4) func clocksAreWrong(seed: UInt64) {
    var options = SimulationOptions(seed: seed, machines: 4, policy: voters(4))
    options.faults.clockDrift = 0.2
    options.faults.wallClockError = 100 * 365 * 86_400
    options.faults.crashInterval = .seconds(60)
    let trial = Trial(options, faultsFor: .seconds(120))
    #expect(trial.problems.isEmpty, "\(trial.story())")
}

/// Two halves that never met: by the time they can, their questions on the network are rare.
@Test func halvesThatNeverMetFoundWithinAMinute() {
    var options = SimulationOptions(
        seed: 3, machines: 4, policy: GenesisPolicy(voterLimit: 4, servers: 3))
    options.startSpread = .seconds(1)
    let world = Simulation(options: options)
    world.split([2, 3])
    world.run(until: world.now + .seconds(700))
    #expect(world.status(of: 0)?.peers.count == 1)
    world.heal()
    let founded = world.run(until: world.now + .seconds(60)) { world in
        (0..<4).allSatisfy { world.status(of: $0)?.founding.phase == .ready }
    }
    #expect(founded, "\(world.storyTail())")
}
