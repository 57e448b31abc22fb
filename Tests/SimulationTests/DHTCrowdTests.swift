import Glibc
import MeshBase
import Simulator
import Testing

/// Whole nodes; all that each is told is one address of the DHT. A longer run:
///
///     DHT_JOINERS=1000 swift test -c release --filter manyJoinWithinHalfAMinute
@Test func manyJoinWithinHalfAMinute() {
    let count = getenv("DHT_JOINERS").flatMap { Int(String(cString: $0)) } ?? 12
    var options = SimulationOptions(seed: 12, machines: count)
    options.usesLocalDiscovery = false
    options.usesDHT = true
    let world = Simulation(options: options)
    let begin = world.now
    let met = world.run(until: begin + .seconds(30)) { $0.isFullyConnected }
    #expect(met, "\(world.storyTail(20))")
    print("measured: \(count) machines joined by DHT after \((world.now - begin).inSeconds) s")
}
