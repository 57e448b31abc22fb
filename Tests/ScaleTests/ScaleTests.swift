import Foundation
import Ledger
import Membership
import MeshBase
import Testing

/// What a large mesh promises, of the cores alone: how soon an update is everywhere, and what it
/// costs to have nothing to say.
@Suite(.serialized) struct ScaleTests {
    static let nodes = 1_000

    @Test("An update reaches all of 1,000 nodes", arguments: [(0.2, 3), (0.5, 6)])
    func convergence(loss: Double, seconds: Int) {
        var mesh = LargeMesh(count: Self.nodes, seed: 11, probes: false)
        mesh.run(for: .seconds(2))
        mesh.loss = loss
        var all: [Duration] = []
        for update in 0..<3 {
            let writer = update * 217 % Self.nodes
            let start = mesh.now
            let id = LedgerKey(bucket: "dns", key: "update \(update)", owner: mesh.ids[writer])
            mesh.put(writer, "dns", "update \(update)", Array(repeating: 1, count: 60))
            mesh.run(for: .seconds(30)) { $0.arrivals[id]?.count == Self.nodes }
            let delays = mesh.delays(of: id, since: start)
            // Whom it has not reached by now waits for a comparison of digests.
            let missing = Self.nodes - delays.count
            all += Array(repeating: Duration.seconds(30), count: missing)
            all += delays
        }
        all.sort()
        let late = all[all.count * 99 / 100]
        print(
            "measured: loss \(loss): median \(all[all.count / 2]), p99 \(late), last \(all.last ?? .zero)"
        )
        #expect(late <= .seconds(seconds))
    }

    @Test("An idle mesh of 1,000 nodes costs at most 1 kB/s and node")
    func idle() {
        var mesh = LargeMesh(count: Self.nodes, seed: 12, probes: true)
        mesh.run(for: .seconds(70))
        let before = mesh.bytes
        let seconds = 20
        mesh.run(for: .seconds(seconds))
        let rates = zip(before, mesh.bytes).map { Double($1 - $0) / Double(seconds) }
        let mean = rates.reduce(0, +) / Double(rates.count)
        print("measured: idle \(mean) B/s on average, at most \(rates.max() ?? 0)")
        #expect(rates.allSatisfy { $0 <= 1_000 })
    }

    @Test("Sessions of a large mesh: few for everybody, and everybody within a few hops")
    func graph() {
        let mesh = LargeMesh(count: Self.nodes, seed: 13, probes: false)
        let degrees = mesh.links.map(\.count)
        #expect(degrees.allSatisfy { (4...40).contains($0) })
        #expect(degrees.reduce(0, +) < 14 * Self.nodes)
        var reached: Set<Int> = [0]
        var edge: Set<Int> = [0]
        var hops = 0
        while reached.count < Self.nodes, hops < 100 {
            hops += 1
            edge = Set(edge.flatMap { mesh.links[$0] }).subtracting(reached)
            reached.formUnion(edge)
        }
        #expect(hops <= 7, "\(hops) hops")
    }
}
