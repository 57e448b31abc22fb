import Cryptography
import Ledger
import MeshBase
import Testing

@Suite("Earlier lives")
struct EarlierLifeTests {
    @Test("A node that lost its disk learns its versions from its peers and wins with new writes")
    func lostDisk() {
        var network = LedgerNetwork(count: 3, seed: 51)
        network.connectAll(0..<3)
        for value in 1...9 { network.put(0, "dns", "host", [UInt8(value)]) }
        network.put(0, "dns", "old", [7])
        network.run(for: .seconds(5))
        network.restart(0, disk: [:])
        network.putCertificate(0)
        network.put(0, "dns", "host", [100])
        network.run(for: .seconds(30)) { $0.hasConverged && $0.nodes[0].counter > 10 }
        #expect(network.hasConverged)
        let owner = network.ids[0]
        let again = network.changes[0].filter { $0.value == [100] }
        #expect(again.count == 2, "written, and once more above the earlier life")
        #expect(!network.nodes[0].isCloned, "an earlier life is no clone")
        for node in network.nodes {
            #expect(node.entry(bucket: "dns", key: "host", owner: owner)?.value == [100])
            #expect(node.entry(bucket: "dns", key: "old", owner: owner)?.value == [7])
        }
    }

    @Test("A deletion after a lost disk holds against the earlier life")
    func lostDiskDelete() {
        var network = LedgerNetwork(count: 2, seed: 52)
        network.connect(0, 1)
        for value in 1...5 { network.put(0, "dns", "host", [UInt8(value)]) }
        network.run(for: .seconds(5))
        network.disconnect(0, 1)
        network.restart(0, disk: [:])
        network.putCertificate(0)
        network.put(0, "dns", "host", [9])
        network.delete(0, "dns", "host")
        network.connect(0, 1)
        network.run(for: .seconds(30)) { $0.hasConverged }
        #expect(network.hasConverged)
        #expect(network.nodes[1].entries(bucket: "dns").isEmpty)
    }

    @Test("A tombstone keeps older copies from returning")
    func tombstone() {
        var network = LedgerNetwork(count: 3, seed: 53)
        network.connectAll(0..<3)
        network.put(0, "dns", "host", [1])
        network.run(for: .seconds(5))
        network.disconnect(0, 2)
        network.disconnect(1, 2)
        network.delete(0, "dns", "host")
        network.run(for: .seconds(5))
        network.disconnect(0, 1)
        network.connect(1, 2)
        network.run(for: .seconds(30)) { $0.nodes[1].digest == $0.nodes[2].digest }
        #expect(network.nodes[1].entries(bucket: "dns").isEmpty)
        #expect(network.nodes[2].entries(bucket: "dns").isEmpty)
    }

    @Test("Two clones of one machine do not write against each other without end")
    func clones() {
        var network = LedgerNetwork(count: 2, seed: 54)
        network.connect(0, 1)
        network.run(for: .seconds(2))
        // The clone speaks through node 1's link with the key of node 0.
        var clone = Author(54 << 32)
        var writes = 0
        for round in 0..<400 {
            guard let entry = try? clone.put("dns", "host", [UInt8(round & 255), 1]) else { break }
            network.put(0, "dns", "host", [7])
            let before = network.nodes[0].counter
            let peer = network.ids[1]
            network.input(0) {
                $0.receive([6] + framed(entry), from: peer, at: $1, random: &$2, into: &$3)
            }
            if network.nodes[0].counter > before { writes += 1 }
            if let mine = network.nodes[0].allEntries.last(where: { $0.key == "host" }) {
                clone.connect(peer)
                clone.receive([6] + framed(mine), from: peer)
            }
        }
        #expect(writes <= 131, "\(writes) answers in an instant")
        #expect(network.nodes[0].isCloned, "and the node says so")
    }

    @Test("The disk is checked: damaged and foreign entries are left out")
    func restore() throws {
        var author = Author(1)
        let good = try author.put("dns", "host", [1])
        var foreigner = Author(2, meshID: [UInt8](repeating: 8, count: 16))
        let foreign = [foreigner.certificate, try foreigner.put("dns", "x", [2])]
        let state = LedgerState(
            configuration: ledgerConfiguration(ledgerKey(1)),
            restored: foreign + [good, author.certificate], at: .zero)
        #expect(state.discardedAtRestore == 2)
        #expect(state.digest == author.state.digest)
        #expect(state.counter == good.version)
    }

    @Test("A revoked owner's entries go, all of them, and do not come back")
    func revocation() {
        var network = LedgerNetwork(count: 3, seed: 55)
        network.connectAll(0..<3)
        network.put(2, "dns", "host", [1])
        network.run(for: .seconds(5))
        let revoked = network.ids[2]
        network.input(0) { state, _, _, actions in
            state.reverify(
                with: { bytes in
                    let node = Bytes32(bytes.dropFirst()).map { NodeID($0) }
                    return node == revoked ? nil : node
                }, into: &actions)
        }
        #expect(!network.nodes[0].knownOwners.contains(revoked))
        #expect(network.disks[0].keys.allSatisfy { $0.owner != revoked })
        network.run(for: .seconds(20))
        #expect(!network.nodes[0].knownOwners.contains(revoked))
        #expect(network.drops.contains(.certificate))
    }
}
