import MeshBase
import Simulator
import Testing

/// No local discovery, and no peer is named: one address of the DHT is all.
@Test(arguments: [0, 0.2]) func machinesMeetByDHTAlone(loss: Double) {
    var options = SimulationOptions(seed: 11, machines: 8)
    options.usesLocalDiscovery = false
    options.usesDHT = true
    options.faults.loss = loss
    let world = Simulation(options: options)
    let met = world.run(until: world.now + .seconds(90)) { $0.isFullyConnected && $0.ledgersAgree }
    #expect(met, "\(world.storyTail())")
    print("measured: eight machines met by DHT after \(world.now), loss \(loss)")
}
