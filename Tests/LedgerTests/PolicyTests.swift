import Cryptography
import Ledger
import MeshBase
import Testing

/// Who may write what, and how much of it the mesh carries.
@Suite("Policies and quotas")
struct PolicyTests {
    static let root = ledgerKey(777)

    /// A ledger that knows the root and takes its words that begin with 1.
    static func author(_ number: UInt64) -> Author {
        var author = Author(number)
        var configuration = ledgerConfiguration(ledgerKey(number))
        configuration.root = root.publicKey
        configuration.policyVerifier = { $0.first == 1 }
        author.state = LedgerState(configuration: configuration, at: author.now)
        _ = try? author.put("members", "certificate", ledgerCertificate(author.state.local))
        return author
    }

    static func word(_ value: [UInt8], by key: SigningKey = root) -> LedgerEntry {
        LedgerEntry.policy(
            key: "word", value: value, meshID: LedgerNetwork.meshID, rootKey: key)
    }

    @Test("A bucket bounds its values, for writers and for receivers")
    func sizes() throws {
        var author = Author(2)
        #expect(throws: LedgerProblem.policy) {
            try author.put("egress", "exit", [UInt8](repeating: 0, count: 257))
        }
        try author.put("egress", "exit", [UInt8](repeating: 0, count: 256))
        #expect(throws: LedgerProblem.policy) { try author.put("members", "other", [1]) }
        #expect(throws: LedgerProblem.policy) { try author.put("policy", "word", [1]) }
    }

    @Test("The root's word is taken without a certificate, kept and passed on; nobody else's is")
    func rootsWord() throws {
        let peer = ledgerKey(9).publicKey
        var victim = Self.author(1)
        victim.connect(peer)
        let before = victim.fingerprint
        for forged in [Self.word([1], by: ledgerKey(9)), Self.word([2])] {
            victim.actions = []
            victim.receive([6] + framed(forged), from: peer)
            #expect(victim.actions == [.dropped(.policy)])
        }
        let unsigned = Array(Self.word([1]).encode().dropLast()) + [0]
        victim.actions = []
        var writer = ByteWriter()
        writer.write(long: unsigned)
        victim.receive([6] + writer.bytes, from: peer)
        #expect(victim.actions == [.dropped(.signature)])
        #expect(victim.fingerprint == before)

        victim.connect(ledgerKey(8).publicKey)
        victim.actions = []
        victim.receive([6] + framed(Self.word([1, 2])), from: peer)
        #expect(victim.state.entries(bucket: "policy").map(\.value) == [[1, 2]])
        #expect(victim.sends.contains { $0.first == 6 }, "it is passed on")

        // It survives a restart, and a check after which no certificate counts.
        var actions: [LedgerAction] = []
        victim.state.reverify(with: { _ in nil }, into: &actions)
        #expect(victim.state.knownOwners == [Self.root.publicKey])
        #expect(victim.state.allEntries.count == 1)
    }

    @Test("Users never fill what machines need, and everything has a bound")
    func quotas() throws {
        let peer = ledgerKey(9).publicKey
        var victim = Author(1)
        victim.connect(peer)
        let value = [UInt8](repeating: 7, count: 600)
        var number: UInt64 = 100
        var isFull = false
        while !isFull, number < 300 {
            number += 1
            var other = Author(number)
            victim.receive([6] + framed(other.certificate), from: peer)
            for key in 0..<60 {
                victim.actions = []
                let entry = try other.put("notes", "\(key)", value)
                victim.receive([6] + framed(entry), from: peer)
                isFull = isFull || victim.actions.contains(.dropped(.ledgerFull))
            }
        }
        #expect(isFull)
        #expect(victim.state.byteCount <= LedgerLimits.bytes)
        #expect(victim.state.userByteCount <= LedgerLimits.userBytes)
        #expect(throws: LedgerProblem.ledgerFull) { try victim.put("notes", "mine", value) }
        // A newcomer and its machine still fit.
        var newcomer = Author(999)
        victim.receive([6] + framed(newcomer.certificate), from: peer)
        victim.receive([6] + framed(try newcomer.put("machines", "self", [1])), from: peer)
        #expect(
            victim.state.entry(bucket: "machines", key: "self", owner: newcomer.state.local) != nil)
        // What leaves makes room.
        var actions: [LedgerAction] = []
        let keeper = victim.state.local
        victim.state.reverify(
            with: {
                ledgerConfiguration(ledgerKey(1)).certificateVerifier($0).flatMap {
                    $0 == keeper ? $0 : nil
                }
            }, into: &actions)
        #expect(victim.state.userByteCount == 0)
        try victim.put("notes", "mine", value)
    }

    @Test("Whom the rumor missed gets the write by an offer")
    func offers() throws {
        // Five peers, three of which get the rumor.
        var writer = Author(1)
        let peers = (10..<15).map { ledgerKey(UInt64($0)).publicKey }
        for peer in peers { writer.connect(peer) }
        writer.actions = []
        try writer.put("notes", "k", [1])
        let rumored = Set(
            writer.actions.compactMap { action -> NodeID? in
                if case .send(let node, let bytes) = action, bytes.first == 6 { node } else { nil }
            })
        #expect(rumored.count == 3)
        writer.actions = []
        writer.advance(by: .milliseconds(600))
        let offered = Set(
            writer.actions.compactMap { action -> NodeID? in
                if case .send(let node, let bytes) = action, bytes.first == 8 { node } else { nil }
            })
        #expect(offered == Set(peers))
        // Who offers it to us needs no offer any more.
        let offer = try #require(writer.sends.first { $0.first == 8 })
        writer.receive(offer, from: peers[0])
        writer.actions = []
        writer.advance(by: .seconds(2))
        #expect(
            !writer.actions.contains { action in
                if case .send(let node, let bytes) = action {
                    node == peers[0] && bytes.first == 8
                } else {
                    false
                }
            })
    }
}
