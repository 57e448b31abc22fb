import Cryptography
import Glibc
import Kademlia
import MeshBase
import NetAddress
import Testing

/// Our own nodes alone are the DHT, all have just started, and each of them looks for a mesh of its
/// own. In that storm two members behind routers must meet. More worlds:
///
///     STORM_SEEDS=1000 swift test -c release --filter StormTests
@Suite("In the storm of the first searches")
struct StormTests {
    private func secret(_ number: Int) -> SecretBytes {
        SecretBytes(copying: [UInt8](repeating: UInt8(number), count: 32))
    }

    private func member(_ number: Int) -> NodeID {
        SigningKey(seed: secret(number)).publicKey
    }

    /// How long two members need that start `pause` after the others.
    private func meeting(
        _ count: Int, loss: Double, pause: Duration, second: Int64, seed: UInt64
    ) -> (Duration?, VirtualDHT) {
        var dht = VirtualDHT(seed: seed)
        dht.loss = loss
        let machines = (0..<count).map(place) + [place(1_001), place(1_002)]
        for machine in machines { dht.clockError[machine] = second }
        let begin = dht.now
        for index in 0..<count {
            dht.add(
                place(index), rules: .world, bootstrap: index == 0 ? [] : [place(0)],
                member: member(index), secret: secret(index), isPublic: true)
            dht.run(for: .milliseconds(40))
        }
        dht.run(for: begin + pause - dht.now)
        let start = dht.now
        for (index, known) in [(1_001, place(0)), (1_002, place(count - 1))] {
            dht.add(
                place(index), rules: .world, bootstrap: [known],
                member: member(index % 1_000 + 100),
                secret: secret(200))
            dht.run(for: .milliseconds(300))
        }
        let haveMet = dht.run(until: start + .seconds(120)) {
            $0.found[place(1_001)]?.isEmpty == false && $0.found[place(1_002)]?.isEmpty == false
        }
        return (haveMet ? dht.now - start : nil, dht)
    }

    /// Two of three hours begin or end while they meet: then all look into twice as many slots.
    @Test(arguments: [12, 50], [0, 0.2])
    func twoMeet(_ count: Int, _ loss: Double) {
        let seeds = getenv("STORM_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 4
        var times: [Double] = []
        for seed in 1...seeds {
            let (time, dht) = meeting(
                count, loss: loss, pause: .seconds(Int(seed % 8) * 5),
                second: Int64(seed % 6) * 600, seed: seed)
            #expect(
                time.map { $0 < .seconds(60) } == true,
                "seed \(seed), \(count) nodes, loss \(loss): \(String(describing: time)), \(dht.drops)"
            )
            times.append(time?.inSeconds ?? .infinity)
        }
        times.sort()
        print(
            "measured: \(seeds) times two met among \(count) nodes that had just started, loss "
                + "\(loss): median \(times[times.count / 2]) s, longest \(times[times.count - 1]) s"
        )
    }
}
