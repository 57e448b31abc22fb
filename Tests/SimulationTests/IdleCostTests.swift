import MeshBase
import Simulator
import Testing

/// What a mesh costs that has nothing to do: at most 1 kB per second and node.
@Test(arguments: [3, 10, 50]) func anIdleMeshIsQuiet(machines: Int) {
    let world = Simulation(options: SimulationOptions(seed: 1, machines: machines))
    world.run(until: world.now + .seconds(120))
    let before = world.traffic
    let seconds = 150
    world.run(until: world.now + .seconds(seconds))
    var perNode: [Double] = []
    for (former, present) in zip(before, world.traffic) {
        perNode.append(Double(present.bytes - former.bytes) / Double(seconds))
    }
    #expect(perNode.allSatisfy { $0 < 1_000 }, "bytes per second: \(perNode)")
}
