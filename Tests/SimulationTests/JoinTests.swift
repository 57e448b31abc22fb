import MeshBase
import Simulator
import Testing

/// A mesh of 22 is not fully joined: a newcomer meets few members itself, and all others hear of it
/// from them at once, not when they next compare ledgers.
@Test(arguments: UInt64(1)...10) func aNewcomerIsSoonKnownToAll(seed: UInt64) {
    let world = Simulation(options: SimulationOptions(seed: seed, machines: 22))
    let newcomer = 21
    #expect(world.run(until: world.now + .seconds(120)) { $0.complaints.isEmpty })
    world.shutDown(newcomer)
    world.run(until: world.now + .seconds(3))
    world.loseDisk(of: newcomer)
    world.heal()
    let isKnown = world.run(until: world.now + .seconds(2)) { world in
        guard let own = world.status(of: newcomer) else { return false }
        return (0..<newcomer).allSatisfy { index in
            let peer = world.status(of: index)?.peers.first { $0.id == own.id }
            return peer?.hostname == own.hostname
        }
    }
    #expect(isKnown, "\(world.complaints)\n\(world.storyTail())")
}
