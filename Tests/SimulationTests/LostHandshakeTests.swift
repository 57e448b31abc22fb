import MeshBase
import Simulator
import Testing

/// WireGuard repeats an initiation after five seconds. Where a member has just been seen to answer
/// that is too long to wait for one lost datagram.
@Test(arguments: UInt64(1)...5) func aLostFirstHandshakeCostsASecond(seed: UInt64) {
    var options = SimulationOptions(seed: seed, machines: 3)
    options.usesLocalDiscovery = false
    options.startSpread = .milliseconds(10)
    options.faults.losesFirstInitiations = true
    let world = Simulation(options: options)
    let begin = world.now
    let met = world.run(until: begin + .seconds(30)) { $0.isFullyConnected }
    #expect(met, "\(world.storyTail())")
    // Two rounds: the others are known by the first one.
    #expect(world.now - begin < .seconds(4), "\(world.now - begin)\n\(world.storyTail())")
}
