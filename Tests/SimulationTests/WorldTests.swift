import Consensus
import MeshBase
import MeshNode
import Simulator
import Testing

private func run(_ options: SimulationOptions, seconds: Int64) -> Simulation {
    let world = Simulation(options: options)
    world.run(until: world.now + .seconds(seconds))
    return world
}

@Test func threeMachinesMeetAndAgree() {
    let world = Simulation(options: SimulationOptions(seed: 1, machines: 3))
    let met = world.run(until: world.now + .seconds(20)) { $0.isFullyConnected && $0.ledgersAgree }
    #expect(met, "\(world.storyTail())")
    let addresses = (0..<3).compactMap { world.status(of: $0)?.ipv4 }
    #expect(Set(addresses).count == 3, "\(addresses)")
    for index in 0..<3 {
        #expect(world.status(of: index)?.peers.count == 2)
    }
}

@Test func aSeedReplaysToTheSameTrace() {
    var options = SimulationOptions(seed: 7, machines: 4, policy: GenesisPolicy(voterLimit: 4))
    options.faults.loss = 0.1
    options.faults.duplication = 0.05
    options.faults.crashInterval = .seconds(30)
    options.hashesEveryStep = true
    let first = run(options, seconds: 40)
    let second = run(options, seconds: 40)
    #expect(first.steps == second.steps)
    #expect(first.traceHash == second.traceHash)
    options.seed = 8
    #expect(run(options, seconds: 40).traceHash != first.traceHash)
}

/// As above with everything that can go wrong, through healing.
@Test(arguments: [UInt64(5), 14, 477]) func aHostileSeedReplaysToTheSameTrace(seed: UInt64) {
    var options = SimulationOptions.hostile(seed: seed)
    options.hashesEveryStep = true
    let first = Trial(options, faultsFor: .seconds(45))
    let second = Trial(options, faultsFor: .seconds(45))
    #expect(first.simulation.steps == second.simulation.steps)
    #expect(first.simulation.traceHash == second.simulation.traceHash)
    #expect(first.simulation.story == second.simulation.story)
}

@Test func fiveMachinesFoundOneClusterOfThreeServersAndTwoAgents() {
    let options = SimulationOptions(
        seed: 3, machines: 5, policy: GenesisPolicy(voterLimit: 5, servers: 3))
    let world = Simulation(options: options)
    let formed = world.run(until: world.now + .seconds(120)) { $0.clusterMembers == (3, 2) }
    #expect(formed, "\(world.storyTail(200))")
    #expect(world.safetyViolations.isEmpty)
}

@Test func aMeshWithoutPolicyRefusesToFound() {
    let world = run(SimulationOptions(seed: 4, machines: 3), seconds: 30)
    for index in 0..<3 {
        #expect(world.status(of: index)?.founding.phase != .ready)
    }
    #expect(world.clusterMembers == (0, 0))
}

@Test func aMinorityFoundsNothing() {
    let options = SimulationOptions(
        seed: 5, machines: 4, policy: GenesisPolicy(voterLimit: 4, servers: 3))
    let world = Simulation(options: options)
    world.split([0, 1])
    world.run(until: world.now + .seconds(120))
    #expect(world.safetyViolations.isEmpty)
    #expect(world.clusterMembers == (0, 0), "two of four are not three\n\(world.storyTail())")
    world.heal()
    let formed = world.run(until: world.now + .seconds(180)) { $0.clusterMembers == (3, 1) }
    #expect(formed, "\(world.storyTail(200))")
    #expect(world.safetyViolations.isEmpty)
}
