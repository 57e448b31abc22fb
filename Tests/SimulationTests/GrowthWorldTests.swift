import Consensus
import MeshBase
import Simulator
import Testing

/// Machines beyond those of the policy, as whole nodes with real certificates and signatures.
@Suite struct GrowthWorldTests {
    /// However many machines come with `token grow`: without a quorum of voters nobody founds, and with
    /// one they only join.
    @Test(arguments: UInt64(70)...77) func growthTokensNeverFound(seed: UInt64) {
        var options = SimulationOptions(
            seed: seed, machines: 7, policy: GenesisPolicy(voterLimit: 3))
        options.growth = 4
        options.startSpread = .seconds(1)
        let world = Simulation(options: options)
        world.split([0])
        world.run(until: world.now + .seconds(90))
        for index in 1..<7 {
            let founding = world.status(of: index)?.founding
            #expect(founding?.owner == nil && founding?.phase != .ready)
        }
        #expect(world.clusterMembers == (0, 0), "\(world.storyTail())")
        world.rejoin()
        let isWell = world.run(until: world.now + .seconds(240)) { $0.clusterMembers == (3, 4) }
        #expect(isWell, "\(world.storyTail())")
        let founder = world.status(of: 6)?.founding.owner
        #expect((0..<3).contains { world.status(of: $0)?.id == founder })
        #expect(world.safetyViolations == [])
    }

    /// Six machines with the founding token of three. Whoever has met more than four of them, alarms
    /// and votes no more.
    @Test(arguments: UInt64(80)...87) func tooManyFoundingTokensAlarmOnContact(seed: UInt64) {
        var options = SimulationOptions(
            seed: seed, machines: 6, policy: GenesisPolicy(voterLimit: 3))
        options.startSpread = .zero
        let world = Simulation(options: options)
        let allAlarmed = world.run(until: world.now + .seconds(60)) { world in
            (0..<6).allSatisfy { world.status(of: $0)?.founding.alarm != nil }
        }
        #expect(allAlarmed, "\(world.storyTail())")
        for index in 0..<6 {
            let status = world.status(of: index)
            #expect(status?.founding.votingProblem?.contains("token grow") == true)
        }
        world.run(until: world.now + .seconds(60))
        #expect(world.clusterMembers == (0, 0), "they met before anybody could found")
        #expect(world.safetyViolations == [])
    }
}
