import Cryptography
import Kademlia
import MeshBase
import NetAddress
import Testing

@Suite("Strangers can say what they like")
struct HostileInputTests {
    private let start = BootInstant(nanoseconds: 1_000_000_000)

    private func node(_ rules: DHTRules, random: inout SeededGenerator) -> DHTNode {
        DHTNode(
            configuration: DHTConfiguration(rules: rules), at: start, random: &random)
    }

    private func query(
        _ method: KRPCQuery.Method, id: KademliaID, want: [AddressFamily] = [],
        isReadOnly: Bool = false
    ) -> [UInt8] {
        KRPCMessage(
            transaction: [1, 2],
            body: .query(KRPCQuery(sender: id, method: method, want: want)),
            isReadOnly: isReadOnly
        ).encoded
    }

    private func answers(_ actions: [DHTAction]) -> [KRPCMessage] {
        actions.compactMap { action in
            guard case .send(let bytes, _, _) = action else { return nil }
            return try? KRPCMessage(decoding: bytes)
        }
    }

    private func ask(
        _ node: inout DHTNode, _ method: KRPCQuery.Method, from source: SocketAddress,
        random: inout SeededGenerator
    ) -> KRPCMessage.Body? {
        var actions: [DHTAction] = []
        node.receive(
            query(method, id: KademliaID(random: &random), isReadOnly: true), from: source,
            at: start, random: &random, into: &actions)
        return answers(actions).first?.body
    }

    /// What is refused leaves no trace, and no answer that a forged source could use.
    @Test func rejectedInputChangesNothing() throws {
        var random = SeededGenerator(seed: 1)
        var node = node(.plain, random: &random)
        let answer = KRPCMessage(
            transaction: [0, 0, 0, 1], body: .response(KRPCResponse(sender: .init(random: &random)))
        ).encoded
        let ping = query(.ping, id: KademliaID(random: &random), isReadOnly: true)
        var inputs: [[UInt8]] = [answer, [], Array("de".utf8), Array("d1:y1:qe".utf8)]
        for _ in 0..<500 {
            var bytes = Bool.random(using: &random) ? answer : ping
            for _ in 0..<3 {
                bytes[Int(random.next(upperBound: UInt64(bytes.count)))] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            inputs.append(bytes)
            inputs.append(Array(ping.prefix(Int(random.next(upperBound: UInt64(ping.count))))))
            inputs.append(random.bytes(64))
        }
        var rejected = 0
        var before = Fingerprint()
        node.fingerprint(into: &before)
        for input in inputs {
            var actions: [DHTAction] = []
            node.receive(input, from: place(3), at: start, random: &random, into: &actions)
            var after = Fingerprint()
            node.fingerprint(into: &after)
            // What a change made into a good question of a serving node may be verified.
            if case .dropped? = actions.first {
                rejected += 1
                #expect(after.value == before.value, "\(input.hex)")
            }
            before = after
        }
        #expect(rejected > 1_000)
    }

    @Test func writesNeedTheTokenOfTheirAddress() throws {
        var random = SeededGenerator(seed: 2)
        var node = node(.plain, random: &random)
        let value = StoredValue.immutable(Bencode.text("x").encoded)
        let body = ask(
            &node, .get(target: value.target, sequence: nil), from: place(1), random: &random)
        guard case .response(let response) = body else {
            Issue.record("no answer")
            return
        }
        let token = try #require(response.token)
        let put = KRPCQuery.Method.put(value, comparing: nil, token: token)
        #expect(ask(&node, put, from: place(2), random: &random) == .failure(.badToken))
        #expect(node.status.storedItems == 0)
        guard case .response = ask(&node, put, from: place(1), random: &random) else {
            Issue.record("refused")
            return
        }
        #expect(node.status.storedItems == 1)
    }

    /// The refusals of BEP 44, one after the other.
    @Test func signedValuesAreRefusedByTheBook() throws {
        var random = SeededGenerator(seed: 3)
        var node = node(.plain, random: &random)
        let signer = SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 3, count: 32)))
        let item = { (text: String, sequence: Int64) in
            MutableItem(signing: .text(text), with: signer, salt: [], sequence: sequence)
        }
        let target = MutableItem.target(key: signer.publicKey, salt: [])
        guard
            case .response(let response) = ask(
                &node, .get(target: target, sequence: nil), from: place(1), random: &random)
        else {
            Issue.record("no answer")
            return
        }
        let token = try #require(response.token)
        func put(_ item: MutableItem, _ comparing: Int64? = nil) -> KRPCFailure? {
            let body = ask(
                &node, .put(.mutable(item), comparing: comparing, token: token), from: place(1),
                random: &random)
            if case .failure(let failure) = body { return failure }
            return nil
        }
        #expect(put(item("one", 5)) == nil)
        #expect(put(item("one", 5)) == nil, "the same again keeps it alive")
        #expect(put(item("other", 5)) == .staleSequence)
        #expect(put(item("older", 4)) == .staleSequence)
        #expect(put(item("two", 6), 4) == .compareFailed)
        #expect(put(item("two", 6), 0) == .compareFailed)
        var forged = item("two", 6)
        forged.value = Bencode.text("three").encoded
        #expect(put(forged, 5) == .badSignature)
        #expect(put(item("two", 6), 5) == nil)
        var long = item("two", 7)
        long.salt = [UInt8](repeating: 1, count: 65)
        #expect(put(long) == .saltTooBig)
        var big = item("two", 7)
        big.value = Bencode.bytes([UInt8](repeating: 1, count: 998)).encoded
        #expect(put(big) == .tooBig)

        // Whoever has it already is told the number only.
        guard
            case .response(let known) = ask(
                &node, .get(target: target, sequence: 6), from: place(1), random: &random)
        else {
            Issue.record("no answer")
            return
        }
        #expect(known.sequence == 6 && known.value == nil && known.signature == nil)
    }

    /// A flood from one network and from many: answers are few, tables stay small.
    @Test func floodsAreBounded() {
        var random = SeededGenerator(seed: 4)
        var node = node(.world, random: &random)
        // In the open a node answers after its first quarter of an hour.
        var now = start + .seconds(16 * 60)
        var actions: [DHTAction] = []
        node.timeout(at: now, random: &random, into: &actions)
        #expect(node.status.isServing)
        var sent = 0
        for index in 0..<20_000 {
            now = now + .microseconds(500)
            let source = SocketAddress(
                ip: .v4(0x2D00_0001 + UInt32(index % 7_000) << 8), port: UInt16(1_000 + index))
            let target = KademliaID(random: &random)
            let method: KRPCQuery.Method =
                index % 2 == 0 ? .getPeers(infoHash: target) : .findNode(target: target)
            actions = []
            node.receive(
                query(method, id: KademliaID(random: &random)), from: source, at: now,
                random: &random, into: &actions)
            for case .send(let bytes, _, _) in actions { sent += bytes.count }
        }
        // Ten seconds: the burst, then 8 kB/s, and two verifying pings a second.
        #expect(sent < 24_000 + 10 * 8_000 + 30 * 100, "\(sent) bytes were answered")
        #expect(node.nodeCount == 0)
    }

    @Test func storageIsBounded() throws {
        var random = SeededGenerator(seed: 5)
        var node = node(.members, random: &random)
        var now = start
        for _ in 0..<3_000 {
            now = now + .milliseconds(50)
            let value = StoredValue.immutable(Bencode.bytes(random.bytes(100)).encoded)
            let source = place(1)
            var actions: [DHTAction] = []
            node.receive(
                query(
                    .get(target: value.target, sequence: nil), id: KademliaID(random: &random),
                    isReadOnly: true), from: source, room: 1_000, at: now, random: &random,
                into: &actions)
            guard case .response(let response) = answers(actions).first?.body,
                let token = response.token
            else { continue }
            node.receive(
                query(
                    .put(value, comparing: nil, token: token), id: KademliaID(random: &random),
                    isReadOnly: true), from: source, at: now, random: &random, into: &actions)
        }
        #expect(node.status.storedItems == 500)
    }

    /// BEP 43: who only asks is not entered, and answers nobody.
    @Test func readOnlyNodesAreNotEntered() {
        var random = SeededGenerator(seed: 6)
        var node = node(.plain, random: &random)
        for isReadOnly in [true, false] {
            var actions: [DHTAction] = []
            node.receive(
                query(.ping, id: KademliaID(random: &random), isReadOnly: isReadOnly),
                from: place(1), at: start, random: &random, into: &actions)
            // An answer, and for a serving node the ping that may enter it.
            #expect(answers(actions).count == (isReadOnly ? 1 : 2))
        }
        var quiet = self.node(.world, random: &random)
        var actions: [DHTAction] = []
        quiet.receive(
            query(.ping, id: KademliaID(random: &random)), from: place(1), at: start,
            random: &random, into: &actions)
        #expect(answers(actions).isEmpty)
    }

    /// Inside the envelope an answer is never longer than what was sent.
    @Test func membersAnswerWithNoMoreThanTheyGot() {
        var random = SeededGenerator(seed: 7)
        var node = node(.members, random: &random)
        for room in stride(from: 60, through: 1_100, by: 20) {
            let message = query(
                .findNode(target: KademliaID(random: &random)), id: KademliaID(random: &random),
                isReadOnly: true)
            var actions: [DHTAction] = []
            node.receive(
                message, from: place(1), room: max(room, message.count), at: start,
                random: &random, into: &actions)
            for case .send(let bytes, _, _) in actions {
                #expect(bytes.count <= max(room, message.count))
            }
        }
    }
}
