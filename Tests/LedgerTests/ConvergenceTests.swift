import Cryptography
import Ledger
import MeshBase
import Testing

@Suite("Convergence")
struct ConvergenceTests {
    @Test("Two nodes that connect are equal after one round trip")
    func oneRoundTrip() {
        var network = LedgerNetwork(count: 2, seed: 1)
        for node in 0..<2 {
            for number in 0..<5 { network.put(node, "dns", "host\(number)", [1, 2, 3]) }
        }
        let start = network.now
        network.connect(0, 1)
        network.run(for: .seconds(5)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.now - start <= .milliseconds(120), "took \(network.now - start)")
        #expect(network.drops.isEmpty)
        network.run(for: .seconds(5))
        #expect(network.sent < 20, "\(network.sent) messages")
    }

    @Test("A newcomer without anything gets everything in one round trip")
    func newcomer() {
        var network = LedgerNetwork(count: 5, seed: 2)
        network.connectAll(0..<4)
        network.run(for: .seconds(5))
        let start = network.now
        network.connect(3, 4)
        network.run(for: .seconds(5)) { $0.nodes[4].knownOwners.count == 5 }
        #expect(network.now - start <= .milliseconds(120), "took \(network.now - start)")
        network.run(for: .seconds(3)) { $0.hasConverged }
        #expect(network.hasConverged, "and the others hear of the newcomer")
    }

    @Test("A write reaches twenty nodes as a rumor")
    func rumor() {
        var network = LedgerNetwork(count: 20, seed: 3)
        network.connectAll(0..<20)
        network.run(for: .seconds(10)) { $0.hasConverged }
        #expect(network.hasConverged)
        network.run(for: .seconds(5))
        let start = network.now
        network.put(6, "machines", "info", [9])
        let author = network.ids[6]
        network.run(for: .seconds(60)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.now - start <= .seconds(12), "took \(network.now - start)")
        for node in network.nodes {
            #expect(node.entry(bucket: "machines", key: "info", owner: author)?.value == [9])
        }
    }

    @Test(
        "Loss, duplication, reordering and changing links: all end equal", arguments: 1...12)
    func storm(seed: UInt64) {
        var network = LedgerNetwork(count: 6, seed: seed)
        network.loss = 0.3
        network.duplication = 0.2
        var written: [LedgerKey: [UInt8]?] = [:]
        var script = SeededGenerator(seed: seed &+ 1_000)
        for step in 0..<60 {
            let node = Int.random(in: 0..<6, using: &script)
            let key = "k\(Int.random(in: 0..<8, using: &script))"
            let id = LedgerKey(bucket: "notes", key: key, owner: network.ids[node])
            switch Int.random(in: 0..<10, using: &script) {
            case 0..<4:
                let value = script.bytes(Int.random(in: 0...300, using: &script))
                network.put(node, "notes", key, value)
                written[id] = .some(value)
            case 4:
                let value = script.bytes(Int.random(in: 1_500...4_096, using: &script))
                network.put(node, "notes", key, value)
                written[id] = .some(value)
            case 5:
                network.delete(node, "notes", key)
                if written[id] != nil { written[id] = .some(nil) }
            case 6, 7:
                let other = Int.random(in: 0..<6, using: &script)
                if other != node { network.connect(node, other) }
            case 8:
                if let link = network.links.sorted(by: { $0.lexicographicallyPrecedes($1) })
                    .randomElement(using: &script)
                {
                    network.disconnect(link[0], link[1])
                }
            default: network.restart(node)
            }
            network.run(for: .milliseconds(Int.random(in: 0..<900, using: &script)))
            if step == 40 { network.loss = 0.5 }
        }
        network.loss = 0.1
        network.connectAll(0..<6)
        network.run(for: .seconds(120)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.longest <= LedgerLimits.messageBytes)
        let live = written.compactMapValues { $0 }
        for node in network.nodes {
            let found = node.entries(bucket: "notes")
            #expect(found.count == live.count)
            let isRight = found.allSatisfy { live[$0.id] == $0.value }
            #expect(isRight)
        }
        for node in network.nodes.indices {
            let stored = Set(network.disks[node].values)
            #expect(stored == Set(network.nodes[node].allEntries), "the disk is the ledger")
        }
    }

    @Test("A healed partition converges, and both halves could write meanwhile")
    func partition() {
        var network = LedgerNetwork(count: 6, seed: 31)
        network.connectAll(0..<3)
        network.connectAll(3..<6)
        for node in 0..<6 { network.put(node, "services", "web", [UInt8(node)]) }
        network.run(for: .seconds(30))
        #expect(Set(network.nodes[0..<3].map(\.digest)).count == 1)
        #expect(!network.hasConverged)
        let healed = network.now
        network.connect(2, 3)
        network.run(for: .seconds(60)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.now - healed <= .seconds(3), "took \(network.now - healed)")
        #expect(network.nodes[0].entries(bucket: "services").count == 6)
    }

    @Test("A large entry arrives in chunks, also over a bad link")
    func largeEntry() {
        var network = LedgerNetwork(count: 3, seed: 32)
        network.loss = 0.25
        network.connect(0, 1)
        network.connect(1, 2)
        network.run(for: .seconds(20))
        let value = (0..<4_096).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        network.put(0, "notes", "big", value)
        network.run(for: .seconds(60)) { $0.hasConverged }
        let author = network.ids[0]
        let arrived = network.nodes[2].entry(bucket: "notes", key: "big", owner: author)?.value
        #expect(arrived?.count == value.count)
        let isEqual = arrived == value
        #expect(isEqual)
        #expect(network.longest <= LedgerLimits.messageBytes)
    }

    @Test("Three hundred owners: a newcomer catches up, and one difference costs little")
    func manyOwners() throws {
        var network = LedgerNetwork(count: 2, seed: 33)
        let authors = (0..<300).map { ledgerKey(9_000 + $0) }
        let entries = try authors.flatMap { try authored(by: $0, count: 4) }
        network.nodes[0] = LedgerState(
            configuration: ledgerConfiguration(network.keys[0]),
            restored: network.nodes[0].allEntries + entries, at: network.now)
        let start = network.now
        network.connect(0, 1)
        network.run(for: .seconds(60)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.nodes[1].knownOwners.count == 302)
        #expect(network.now - start <= .seconds(10), "took \(network.now - start)")
        network.run(for: .seconds(60))
        network.disconnect(0, 1)
        network.put(0, "dns", "late", [5])
        network.sentBytes = 0
        network.connect(0, 1)
        network.run(for: .seconds(2)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.sentBytes < 8_000, "\(network.sentBytes) bytes")
    }

    @Test("An idle mesh is nearly silent")
    func idle() {
        var network = LedgerNetwork(count: 10, seed: 34)
        network.connectAll(0..<10)
        network.run(for: .seconds(120))
        #expect(network.hasConverged)
        network.sentBytes = 0
        network.run(for: .seconds(300))
        let rate = network.sentBytes / 300 / 10
        #expect(rate < 50, "\(rate) B/s and node")
    }

    private func authored(by key: SigningKey, count: Int) throws -> [LedgerEntry] {
        var random = SeededGenerator(seed: 4)
        var actions: [LedgerAction] = []
        var state = LedgerState(configuration: ledgerConfiguration(key), at: .zero)
        try state.put(
            bucket: "members", key: "certificate", value: ledgerCertificate(key.publicKey),
            at: .zero, random: &random, into: &actions)
        for number in 1..<count {
            try state.put(
                bucket: "dns", key: "n\(number)", value: random.bytes(40), at: .zero,
                random: &random, into: &actions)
        }
        return state.allEntries
    }
}
