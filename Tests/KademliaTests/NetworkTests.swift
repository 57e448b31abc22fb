import Cryptography
import Kademlia
import MeshBase
import NetAddress
import Testing

/// Machine `index` of a network in which each has a /24 of its own.
func place(_ index: Int) -> SocketAddress {
    SocketAddress(ip: .v4(0x2D00_0009 + UInt32(index) << 8), port: 6_881)
}

@Suite("Fifty nodes on one network")
struct NetworkTests {
    /// Everybody knows the first one only.
    private func network(
        _ count: Int, rules: DHTRules = .plain, loss: Double, seed: UInt64
    ) -> VirtualDHT {
        var dht = VirtualDHT(seed: seed)
        dht.loss = loss
        for index in 0..<count {
            dht.add(place(index), rules: rules, bootstrap: index == 0 ? [] : [place(0)])
            dht.run(for: .milliseconds(100))
        }
        return dht
    }

    private func get(_ dht: inout VirtualDHT, _ index: Int) throws
        -> (operation: DHTOperation, walk: DHTWalk)
    {
        let result = dht.walk(place(index)) {
            $0.get(signer.publicKey, salt: [], at: $1, random: &$2, into: &$3)
        }
        return try #require(result)
    }

    private func put(
        _ value: StoredValue, after operation: DHTOperation, _ dht: inout VirtualDHT, _ index: Int
    ) throws -> DHTStoring {
        let result = dht.put(value, after: operation, from: place(index))
        return try #require(result)
    }

    private var signer: SigningKey {
        SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 9, count: 32)))
    }

    @Test(arguments: [0, 0.2], [1, 2] as [UInt64])
    func theyConvergeAndKeepValues(_ loss: Double, _ seed: UInt64) throws {
        var dht = network(50, loss: loss, seed: seed)
        let hasConverged = dht.run(until: dht.now + .seconds(60)) { dht in
            dht.agents.values.allSatisfy { $0.node.nodeCount >= 8 }
        }
        let fewest = dht.agents.values.map(\.node.nodeCount).min() ?? 0
        #expect(hasConverged, "the least known node knows \(fewest) after a minute")

        // A signed value written by one is found by all others.
        let first = try get(&dht, 7)
        #expect(first.walk.item == nil)
        let item = MutableItem(signing: .text("one"), with: signer, salt: [], sequence: 1)
        let storing = try put(.mutable(item), after: first.operation, &dht, 7)
        #expect(storing.stored >= 5, "\(storing)")
        for index in stride(from: 0, to: 50, by: 5) {
            let read = try get(&dht, index)
            #expect(read.walk.item == item, "node \(index) read \(read.walk)")
        }

        // Peers of an info-hash (BEP 5).
        let infoHash = KademliaID(hashing: Array("something".utf8))
        _ = dht.walk(place(3)) {
            $0.findPeers(of: infoHash, announcing: 6_881, at: $1, random: &$2, into: &$3)
        }
        dht.run(for: .seconds(10))
        let found = dht.walk(place(41)) {
            $0.findPeers(of: infoHash, at: $1, random: &$2, into: &$3)
        }
        #expect(found?.walk.peers == [place(3)])

        // An immutable value.
        let value = StoredValue.immutable(Bencode.text("never changes").encoded)
        let before = dht.walk(place(11)) {
            $0.get(value.target, at: $1, random: &$2, into: &$3)
        }
        _ = try put(value, after: try #require(before?.operation), &dht, 11)
        let after = dht.walk(place(44)) {
            $0.get(value.target, at: $1, random: &$2, into: &$3)
        }
        #expect(after?.walk.value == value.value)
    }

    @Test func whoComparesNeverOverwritesUnseen() throws {
        var dht = network(20, loss: 0, seed: 5)
        dht.run(for: .seconds(20))
        // Both read before either writes.
        let anna = try get(&dht, 3)
        let bert = try get(&dht, 12)
        let first = MutableItem(signing: .text("anna"), with: signer, salt: [], sequence: 10)
        let second = MutableItem(signing: .text("bert"), with: signer, salt: [], sequence: 11)
        let won = try put(.mutable(first), after: anna.operation, &dht, 3)
        #expect(won.conflicts == 0 && won.stored > 0)
        let lost = try put(.mutable(second), after: bert.operation, &dht, 12)
        #expect(lost.stored == 0 && lost.conflicts > 0, "\(lost)")
        let read = try get(&dht, 17)
        #expect(read.walk.item == first)
    }

    @Test func aNodeFindsTheOthersAgainAfterARestart() throws {
        var dht = network(20, loss: 0, seed: 6)
        dht.run(for: .seconds(30))
        let snapshot = try #require(dht.agents[place(5)]?.node.snapshot)
        dht.add(place(5), rules: .plain, bootstrap: [])
        dht.with(place(5)) { agent, now, _, _ in agent.restore(snapshot, at: now.boot) }
        let isBack = dht.run(until: dht.now + .seconds(10)) { dht in
            dht.agents[place(5)]?.node.nodeCount ?? 0 >= 8
        }
        #expect(isBack)
    }

    @Test func aNodeIsForgottenWhenItIsGone() {
        var dht = network(10, loss: 0, seed: 7)
        dht.run(for: .seconds(30))
        dht.remove(place(4))
        let isForgotten = dht.run(until: dht.now + .seconds(3_600)) { dht in
            dht.agents.filter { $0.key != place(4) }.values.allSatisfy { agent in
                !agent.node.contacts(.v4).contains { $0.address == place(4) }
            }
        }
        #expect(isForgotten)
    }

    /// Idle cost: what 50 nodes send in an hour, beyond their first minutes.
    @Test func idleNodesAreQuiet() {
        var dht = network(50, rules: .members, loss: 0, seed: 8)
        dht.run(for: .seconds(300))
        let before = dht.sentBytes
        dht.run(for: .seconds(1_800))
        // 28 bytes of IP and UDP each are not counted here; padding of questions is.
        let rate = Double(dht.sentBytes - before) / 1_800 / 50
        print("measured: an idle DHT node among 50 sends \(rate) bytes of KRPC per second")
        #expect(rate < 100)
    }
}
