import Cryptography
import MeshBase
import NetAddress
import Testing
import WireGuard

@Suite("A bad network")
struct StormTests {
    /// Twenty minutes of two-way traffic while a third of all datagrams is lost, a fifth doubled,
    /// all delayed by up to 300 ms, and both ends restart now and then. Afterwards the network is
    /// good again, and one attempt later the tunnel must be too.
    @Test("loss, duplication, reordering and restarts heal", arguments: UInt64(1)...12)
    func heals(seed: UInt64) {
        let pair = Pair()
        pair.bob.device.setEndpoint(pair.alice.key, pair.alice.address)
        var dice = SeededGenerator(seed: seed)
        pair.world.loses = { _ in dice.next() % 3 == 0 }
        pair.world.delays = { _ in
            let copies = dice.next() % 5 == 0 ? 2 : 1
            return (0..<copies).map { _ in
                dice.duration(in: .milliseconds(1)...Duration.milliseconds(300))
            }
        }
        for number in 0..<1200 {
            if dice.next() % 200 == 0 {
                pair.alice.restart()
                pair.alice.add(pair.bob, endpoint: pair.bob.address)
            }
            if dice.next() % 200 == 0 {
                pair.bob.restart()
                pair.bob.add(pair.alice, endpoint: pair.alice.address)
            }
            pair.exchange(number)
            pair.world.run(for: .seconds(1))
            #expect(pair.alice.installed.count <= 4 && pair.bob.installed.count <= 4)
        }
        pair.world.loses = { _ in false }
        pair.world.delays = { _ in [TunnelWorld.latency] }
        for number in 1200..<1225 {
            pair.exchange(number)
            pair.world.run(for: .seconds(1))
        }
        pair.exchange(9999)
        pair.world.run(for: .seconds(1))
        #expect(pair.alice.received.last == packet(9999))
        #expect(pair.bob.received.last == packet(9999))
        // No packet is ever delivered twice.
        let numbers = Set(pair.bob.received)
        #expect(numbers.count == pair.bob.received.count)
        // Every handshake takes REKEY_TIMEOUT at least, from either side.
        let seconds = 1226
        #expect(pair.world.count(ofType: 1) <= 2 * seconds / 5)
    }

    @Test("many peers of one device keep apart")
    func manyPeers() {
        let world = TunnelWorld()
        let hub = TunnelHost(world, seed: 7, address: "192.0.2.1:1")
        var spokes: [TunnelHost] = []
        for number in 0..<30 {
            let spoke = TunnelHost(
                world, seed: UInt64(number) + 50, address: "198.51.100.\(number + 1):9")
            spoke.add(hub, endpoint: hub.address)
            hub.add(spoke)
            spokes.append(spoke)
        }
        for (number, spoke) in spokes.enumerated() { spoke.send(packet(number), to: hub) }
        world.run(for: .seconds(1))
        #expect(Set(hub.received) == Set((0..<30).map(packet)))
        for (number, spoke) in spokes.enumerated() { hub.send(packet(number), to: spoke) }
        world.run(for: .seconds(1))
        for (number, spoke) in spokes.enumerated() {
            #expect(spoke.received == [packet(number)])
        }
    }
}
