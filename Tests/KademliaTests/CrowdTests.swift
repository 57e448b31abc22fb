import Cryptography
import Kademlia
import MeshBase
import NetAddress
import Testing

@Suite("Among strangers")
struct CrowdTests {
    private let signer = SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 4, count: 32)))

    /// Public machines in networks of their own; what the world's DHT looks like from inside.
    private func world(_ count: Int, seed: UInt64) -> VirtualDHT {
        var dht = VirtualDHT(seed: seed)
        for index in 0..<count {
            let known = index == 0 ? [] : [place(index / 2)]
            dht.add(place(index), rules: .world, bootstrap: known, isPublic: true)
            dht.run(for: .milliseconds(200))
        }
        dht.run(until: dht.now + .seconds(120)) { dht in
            dht.agents.values.allSatisfy { $0.node.nodeCount >= 8 }
        }
        return dht
    }

    /// Names next to `target` that addresses of the liars' own earned (BEP 42): whoever has many
    /// networks has many names to choose from.
    private func crowd(_ count: Int, around target: KademliaID) -> [SocketAddress: KademliaID] {
        var random = SeededGenerator(seed: 1)
        var names: [(address: SocketAddress, id: KademliaID)] = []
        for network in 0..<20_000 {
            let address = SocketAddress(ip: .v4(0x5900_0001 + UInt32(network) << 8), port: 6_881)
            for seed in 0..<8 {
                let id = KademliaID(for: address.ip, seed: UInt8(seed), random: &random)
                names.append((address, id))
            }
        }
        names.sort { $0.id ^ target < $1.id ^ target }
        var result: [SocketAddress: KademliaID] = [:]
        for (address, id) in names where result.count < count {
            if result[address] == nil { result[address] = id }
        }
        return result
    }

    @Test func publicMachinesServeAndEarnTheirNames() {
        let dht = world(50, seed: 1)
        for (address, agent) in dht.agents {
            #expect(agent.node.status.isServing)
            #expect(agent.node.nodeCount >= 8, "\(address) knows \(agent.node.nodeCount)")
            #expect(agent.node.ownID(.v4)?.isEarned(by: address.ip) == true)
        }
    }

    /// Whoever settles around a value's name, takes writes and gives nothing back, hides nothing:
    /// the walk sees that the neighbourhood is too dense, and goes and writes farther.
    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func aCrowdAroundATargetHidesNothing(_ seed: UInt64) throws {
        var dht = world(100, seed: seed)
        let target = MutableItem.target(key: signer.publicKey, salt: [])
        dht.liars = crowd(12, around: target)
        dht.letLiarsIntroduceThemselves(toEach: 4)
        let knowing = dht.agents.values.filter { agent in
            agent.node.contacts(.v4).contains { dht.liars[$0.address] != nil }
        }
        #expect(knowing.count >= 20, "the liars are in \(knowing.count) tables")
        let read = { (dht: inout VirtualDHT, index: Int) in
            try #require(
                dht.walk(place(index)) {
                    $0.get(signer.publicKey, salt: [], at: $1, random: &$2, into: &$3)
                })
        }
        let before = try read(&dht, 7)
        let item = MutableItem(signing: .text("here"), with: signer, salt: [], sequence: 1)
        _ = dht.put(.mutable(item), after: before.operation, from: place(7))
        var finders = 0
        for index in stride(from: 1, to: 100, by: 5) {
            finders += try read(&dht, index).walk.item == item ? 1 : 0
        }
        print("measured: \(finders) of 20 find a value in a crowd of 12 liars")
        #expect(finders >= 19)
    }

    /// Nodes that do not know `get` keep their places, and walks stop waiting for them.
    @Test func whoDoesNotAnswerGetIsNotGone() throws {
        var dht = VirtualDHT(seed: 3)
        for index in 0..<8 {
            dht.add(place(index), rules: .plain, bootstrap: index == 0 ? [] : [place(0)])
        }
        dht.withoutGet = [place(1), place(2), place(3)]
        dht.run(for: .seconds(60))
        var waited: [Duration] = []
        for _ in 0..<4 {
            let begin = dht.now
            _ = dht.walk(place(0)) {
                $0.get(signer.publicKey, salt: [], at: $1, random: &$2, into: &$3)
            }
            waited.append(dht.now - begin)
            dht.run(for: .seconds(10))
        }
        #expect(waited[0] > .milliseconds(800), "\(waited)")
        #expect(waited[3] < .milliseconds(500), "\(waited)")
        let known = Set(dht.agents[place(0)]?.node.contacts(.v4).map(\.address) ?? [])
        #expect(known.isSuperset(of: dht.withoutGet))
        #expect(known.count == 7)
    }

    /// Announcing needs no storage of values, only what every node has.
    @Test func membersMeetByAnnouncingWhereNobodyKeepsValues() {
        var dht = VirtualDHT(seed: 4)
        for index in 0..<20 {
            dht.add(place(index), rules: .plain, bootstrap: index == 0 ? [] : [place(0)])
        }
        dht.withoutGet = Set((0..<20).map(place))
        dht.run(for: .seconds(20))
        let secret = SecretBytes(copying: [UInt8](repeating: 8, count: 32))
        for index in 20..<23 {
            // Without public addresses they serve nobody.
            dht.add(
                place(index), rules: .plain, bootstrap: [place(0)], secret: secret,
                announces: index != 22)
        }
        let haveMet = dht.run(until: dht.now + .seconds(30)) { dht in
            dht.peers[place(20)]?.contains(place(21)) == true
                && dht.peers[place(21)]?.contains(place(20)) == true
        }
        #expect(haveMet, "\(dht.peers)")
        #expect(dht.peers[place(22)] == nil, "who was not told to does not take part")
        #expect(dht.peers[place(20)]?.contains(place(22)) == false)
    }
}
