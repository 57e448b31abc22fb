import Cryptography
import Ledger
import MeshBase
import Testing

@Suite("Hostile input")
struct HostileInputTests {
    /// A ledger with two owners, connected to `peer`.
    static func victim(peer: NodeID) throws -> (Author, [UInt8]) {
        var victim = Author(1)
        try victim.put("dns", "mine", [1])
        victim.connect(peer)
        var other = Author(2)
        other.connect(victim.state.local)
        try other.put("dns", "theirs", [2])
        let rumor = other.sends.last ?? []
        victim.receive(rumor, from: peer)
        return (victim, rumor)
    }

    @Test("Random and damaged bytes change nothing")
    func damaged() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, rumor) = try Self.victim(peer: peer)
        #expect(victim.state.entries(bucket: "dns").count == 2)
        let before = victim.fingerprint
        var random = SeededGenerator(seed: 77)
        for round in 0..<4_000 {
            var bytes = rumor
            if round.isMultiple(of: 4) {
                bytes = random.bytes(Int.random(in: 0...1_300, using: &random))
                // Digests and offers are requests; they may start a comparison.
                if let first = bytes.first, first <= 8 { bytes[0] = 6 + first % 2 }
            } else {
                for _ in 0...Int.random(in: 0...3, using: &random) {
                    let position = Int.random(in: 1..<bytes.count, using: &random)
                    bytes[position] = UInt8.random(in: 0...255, using: &random)
                }
            }
            victim.receive(bytes, from: peer)
        }
        #expect(victim.fingerprint == before)
    }

    @Test("Any bytes at all, under every tag, neither trap nor grow the ledger")
    func anything() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        let before = victim.state.digest
        var random = SeededGenerator(seed: 78)
        for _ in 0..<6_000 {
            var bytes = random.bytes(Int.random(in: 1...400, using: &random))
            bytes[0] = UInt8.random(in: 0...11, using: &random)
            victim.receive(bytes, from: peer)
            victim.advance(by: .milliseconds(5))
        }
        #expect(victim.state.digest == before)
        let long = victim.sends.filter { $0.count > LedgerLimits.messageBytes }
        #expect(long.isEmpty)
    }

    @Test("Entries without the owner's certificate are counted and left out")
    func noCertificate() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var stranger = Author(3)
        let entry = try stranger.put("dns", "x", [1])
        let before = victim.fingerprint
        victim.actions = []
        victim.receive([6] + framed(entry), from: peer)
        #expect(victim.actions == [.dropped(.noCertificate)])
        #expect(victim.fingerprint == before)
    }

    @Test("A certificate of one node under the name of another is refused")
    func borrowedCertificate() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var thief = Author(3) { _ in ledgerKey(3).publicKey }
        let entry = try thief.put(
            "members", "certificate", ledgerCertificate(ledgerKey(2).publicKey))
        let before = victim.fingerprint
        victim.actions = []
        victim.receive([6] + framed(entry), from: peer)
        #expect(victim.actions == [.dropped(.certificate)])
        #expect(victim.fingerprint == before)
    }

    @Test("Entries of another mesh are refused")
    func otherMesh() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var foreigner = Author(4, meshID: [UInt8](repeating: 8, count: 16))
        let certificate = try foreigner.put(
            "members", "certificate", ledgerCertificate(ledgerKey(4).publicKey))
        let before = victim.fingerprint
        victim.actions = []
        victim.receive([6] + framed(certificate), from: peer)
        #expect(victim.actions == [.dropped(.signature)])
        #expect(victim.fingerprint == before)
    }

    @Test("Whoever is not connected is not listened to")
    func stranger() throws {
        let (victim, rumor) = try Self.victim(peer: ledgerKey(9).publicKey)
        var copy = victim
        let before = copy.fingerprint
        copy.receive(rumor, from: ledgerKey(10).publicKey)
        #expect(copy.actions.last == .dropped(.stranger))
        #expect(copy.fingerprint == before)
    }

    @Test("A poisoned counter hurts nobody but its owner")
    func poisonedCounter() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var poisoner = Author(5)
        for _ in 0..<3 { try poisoner.put("dns", "mine", [9]) }
        victim.receive([6] + framed(poisoner.certificate), from: peer)
        let counter = victim.state.counter
        for entry in poisoner.state.allEntries { victim.receive([6] + framed(entry), from: peer) }
        #expect(victim.state.counter == counter)
        #expect(
            victim.state.entry(bucket: "dns", key: "mine", owner: victim.state.local)?.value
                == [1])
    }

    @Test("An owner that writes too fast is slowed down, and its last word still arrives")
    func rate() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var flooder = Author(6)
        victim.receive([6] + framed(flooder.certificate), from: peer)
        victim.actions = []
        for number in 0..<200 {
            let entry = try flooder.put("dns", "x", [UInt8(number)])
            victim.receive([6] + framed(entry), from: peer)
        }
        let refused = victim.actions.count { $0 == .dropped(.rate) }
        #expect(refused == 200 - 129)
        victim.advance(by: .seconds(2))
        let last = try flooder.put("dns", "x", [255])
        victim.receive([6] + framed(last), from: peer)
        #expect(
            victim.state.entry(bucket: "dns", key: "x", owner: flooder.state.local)?.value
                == [255])
    }

    @Test("What a cheating owner may keep does not depend on the order of arrival")
    func retention() throws {
        // One key, two ledgers: together they sign more than an owner may have.
        var first = Author(7)
        for number in 0..<60 { try first.put("dns", "a\(number)", [1]) }
        for number in 0..<6 { try first.delete("dns", "a\(number)") }
        let latest = first.state.allEntries.filter { $0.version == first.state.counter }
        var second = Author(7, restored: [first.certificate] + latest)
        for number in 0..<40 { try second.put("notes", "b\(number)", [2]) }
        let all = Set(first.state.allEntries + second.state.allEntries)
            .filter { !$0.id.isCertificate }
            .sorted { $0.id < $1.id }

        var digests: Set<Bytes32> = []
        var random = SeededGenerator(seed: 5)
        for _ in 0..<8 {
            let peer = ledgerKey(9).publicKey
            var (victim, _) = try Self.victim(peer: peer)
            victim.receive([6] + framed(first.certificate), from: peer)
            for entry in all.shuffled(using: &random) {
                victim.receive([6] + framed(entry), from: peer)
            }
            digests.insert(victim.state.digest)
            let held = victim.state.allEntries.filter { $0.owner == first.state.local }
            #expect(held.count <= LedgerLimits.entriesPerOwner + 1)
            let later = held.filter { $0.bucket == "notes" }
            #expect(later.count == 40, "later writes rank before earlier ones")
        }
        #expect(digests.count == 1)
    }

    @Test("Two writes with one version, from a machine and its clone, end the same everywhere")
    func twins() throws {
        var original = Author(7)
        var clone = Author(7)
        let twins = [
            try original.put("dns", "host", [1]), try clone.put("dns", "host", [2]),
        ]
        #expect(twins[0].version == twins[1].version)
        var digests: Set<Bytes32> = []
        for order in [twins, twins.reversed(), twins + twins, twins.reversed() + twins] {
            let peer = ledgerKey(9).publicKey
            var (victim, _) = try Self.victim(peer: peer)
            for entry in [original.certificate] + order {
                victim.receive([6] + framed(entry), from: peer)
            }
            digests.insert(victim.state.digest)
        }
        #expect(digests.count == 1)
    }

    @Test("Chunks that do not give the promised hash are thrown away")
    func falseChunks() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        var other = Author(2)
        let large = try other.put("notes", "big", [UInt8](repeating: 5, count: 3_000)).encode()
        var offer = ByteWriter()
        offer.write(UInt8(8))
        offer.write(UInt8(0))
        offer.write(other.state.local)
        offer.write(Bytes32.zero)
        offer.write(UInt16(large.count))
        let before = victim.state.digest
        victim.receive(offer.bytes, from: peer)
        victim.actions = []
        for index in 0..<4 {
            let bytes = large[(index * 1_000)..<min(large.count, index * 1_000 + 1_000)]
            let chunk = [UInt8(10)] + Bytes32.zero.bytes + [UInt8(index)] + bytes
            if index == 2 { victim.receive(chunk, from: ledgerKey(2).publicKey) }
            victim.receive(chunk, from: peer)
        }
        #expect(victim.actions == [.dropped(.stranger), .dropped(.unexpected)])
        #expect(victim.state.digest == before)
    }

    @Test("Offers beyond what is assembled at once are refused")
    func tooManyOffers() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        victim.actions = []
        for number in 0..<40 {
            var offer = ByteWriter()
            offer.write(UInt8(8))
            offer.write(UInt8(0))
            offer.write(ledgerKey(2).publicKey)
            offer.write(Bytes32(word0: UInt64(number), word1: 1, word2: 1, word3: 1))
            offer.write(UInt16(4_000))
            victim.receive(offer.bytes, from: peer)
        }
        #expect(victim.sends.count == 32)
        #expect(victim.actions.count { $0 == .dropped(.busy) } == 8)
        for _ in 0..<10 { victim.advance(by: .milliseconds(500)) }
        victim.actions = []
        victim.advance(by: .milliseconds(500))
        #expect(!victim.sends.contains { $0.first == 9 }, "the peer did not deliver: given up")
    }

    @Test("A member cannot make this node send without limit")
    func amplification() throws {
        let peer = ledgerKey(9).publicKey
        var (victim, _) = try Self.victim(peer: peer)
        for number in 0..<60 {
            try victim.put("dns", "h\(number)", [UInt8](repeating: 1, count: 800))
        }
        victim.actions = []
        var want = ByteWriter()
        want.write(UInt8(3))
        for _ in 0..<148 { want.write(victim.state.local.bytes.prefix64) }
        for _ in 0..<1_000 { victim.receive(want.bytes, from: peer) }
        #expect(victim.sends.count <= 48, "\(victim.sends.count) answers in an instant")
    }
}
