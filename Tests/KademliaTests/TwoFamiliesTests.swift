import Kademlia
import MeshBase
import NetAddress
import Testing

/// Machine `index` of an IPv6 network in which each has a /64 of its own.
private func place6(_ index: Int) -> SocketAddress {
    SocketAddress(ip: .v6(0x2001_0DB8_0000_0000 + UInt64(index), 1), port: 6_881)
}

@Suite("Two families, two networks (BEP 32)")
struct TwoFamiliesTests {
    /// A find_node answer with both lists, and values of both sizes, byte by byte.
    @Test func bothCompactFormsAreRead() throws {
        let id = [UInt8](repeating: 0x61, count: 20)
        let name = [UInt8](repeating: 0x62, count: 20)
        let four: [UInt8] = [45, 18, 1, 2, 0x1A, 0xE1]
        let six = try hex("20010db8000000000000000000000009") + [0x1A, 0xE1]
        var bytes = Array("d1:rd2:id20:".utf8) + id
        bytes += Array("5:nodes26:".utf8) + name + four
        bytes += Array("6:nodes638:".utf8) + name + six
        bytes += Array("5:token2:xx6:valuesl6:".utf8) + four + Array("18:".utf8) + six
        bytes += Array("ee1:t2:aa1:y1:re".utf8)
        let message = try KRPCMessage(decoding: bytes)
        guard case .response(let response) = message.body else {
            Issue.record("not an answer")
            return
        }
        let addresses = [try address("45.18.1.2:6881"), try address("[2001:db8::9]:6881")]
        #expect(response.nodes.map(\.address) == addresses)
        #expect(response.peers == addresses)
        #expect(message.encoded == bytes)
    }

    /// Each list is told in the family that the question came by, unless it wants others.
    @Test func questionsSayWhichNodesTheyWant() throws {
        var random = SeededGenerator(seed: 1)
        let start = BootInstant(nanoseconds: 1_000_000_000)
        var node = DHTNode(
            configuration: DHTConfiguration(rules: .plain), at: start, random: &random)
        // One of each family answers a ping, and so gets into its table.
        for known in [place(1), place6(1)] {
            var actions: [DHTAction] = []
            let query = KRPCMessage(
                transaction: [1],
                body: .query(KRPCQuery(sender: KademliaID(random: &random), method: .ping)))
            node.receive(query.encoded, from: known, at: start, random: &random, into: &actions)
            for case .send(let bytes, let target, _) in actions {
                let message = try KRPCMessage(decoding: bytes)
                guard case .query = message.body else { continue }
                let answer = KRPCMessage(
                    transaction: message.transaction,
                    body: .response(KRPCResponse(sender: KademliaID(random: &random))))
                node.receive(
                    answer.encoded, from: target, at: start, random: &random, into: &actions)
            }
        }
        #expect(node.status.nodesIPv4 == 1 && node.status.nodesIPv6 == 1)
        func nodes(from asker: SocketAddress, want: [AddressFamily]) throws -> [SocketAddress] {
            var actions: [DHTAction] = []
            let query = KRPCQuery(
                sender: KademliaID(random: &random),
                method: .findNode(target: KademliaID(random: &random)), want: want)
            node.receive(
                KRPCMessage(transaction: [2], body: .query(query), isReadOnly: true).encoded,
                from: asker, at: start, random: &random, into: &actions)
            guard case .send(let bytes, _, _)? = actions.first,
                case .response(let response) = try KRPCMessage(decoding: bytes).body
            else { return [] }
            return response.nodes.map(\.address)
        }
        #expect(try nodes(from: place(9), want: []) == [place(1)])
        #expect(try nodes(from: place6(9), want: []) == [place6(1)])
        #expect(try nodes(from: place(9), want: [.v6]) == [place6(1)])
        #expect(try nodes(from: place6(9), want: [.v4, .v6]) == [place(1), place6(1)])
    }

    /// The whole of it by IPv6 alone: names that /64s earned, peers of 18 bytes.
    @Test func aNetworkOfIPv6Alone() throws {
        var dht = VirtualDHT(seed: 2)
        for index in 0..<20 {
            dht.add(
                place6(index), rules: .world, bootstrap: index == 0 ? [] : [place6(0)],
                isPublic: true)
            dht.run(for: .milliseconds(200))
        }
        let hasConverged = dht.run(until: dht.now + .seconds(60)) { dht in
            dht.agents.values.allSatisfy { $0.node.status.nodesIPv6 >= 8 }
        }
        #expect(hasConverged)
        for (address, agent) in dht.agents {
            #expect(agent.node.ownID(.v6)?.isEarned(by: address.ip) == true)
        }
        let infoHash = KademliaID(hashing: Array("something".utf8))
        _ = dht.walk(place6(3)) {
            $0.findPeers(of: infoHash, announcing: 6_881, at: $1, random: &$2, into: &$3)
        }
        dht.run(for: .seconds(10))
        let found = dht.walk(place6(17)) {
            $0.findPeers(of: infoHash, at: $1, random: &$2, into: &$3)
        }
        #expect(found?.walk.peers == [place6(3)])
    }
}
