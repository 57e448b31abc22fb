import Cryptography
import Ledger
import MeshBase
import Testing

@Suite("Ledger entries")
struct LedgerEntryTests {
    @Test("An entry survives its encoding, and its size is what it says")
    func roundTrip() throws {
        var author = Author(1)
        for value in [[], [1], [UInt8](repeating: 3, count: 4_096)] {
            let entry = try author.put("dns", "höst", value)
            let bytes = entry.encode()
            #expect(bytes.count == entry.encodedCount)
            let decoded = try LedgerEntry(decoding: bytes)
            #expect(decoded == entry)
            #expect(decoded.isSigned(meshID: LedgerNetwork.meshID))
            #expect(!decoded.isSigned(meshID: LedgerNetwork.meshID.map { $0 ^ 1 }))
        }
    }

    @Test("No flipped bit and no missing byte goes unnoticed")
    func damage() throws {
        var author = Author(1)
        let bytes = try author.put("dns", "host", [1, 2, 3]).encode()
        for index in bytes.indices {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[index] ^= 1 << UInt8(bit)
                let entry = try? LedgerEntry(decoding: flipped)
                #expect(entry?.isSigned(meshID: LedgerNetwork.meshID) != true, "byte \(index)")
            }
            #expect(throws: DecodingFailure.self) {
                try LedgerEntry(decoding: Array(bytes[..<index]))
            }
        }
        #expect(throws: DecodingFailure.trailingBytes) { try LedgerEntry(decoding: bytes + [0]) }
    }

    @Test("Keys are bytes: two spellings of one letter are two keys")
    func canonicalEquivalence() {
        let owner = ledgerKey(1).publicKey
        let composed = LedgerKey(bucket: "dns", key: "\u{E9}", owner: owner)
        let decomposed = LedgerKey(bucket: "dns", key: "e\u{301}", owner: owner)
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed]).count == 2)
    }
}

@Suite("Local writes")
struct LocalWriteTests {
    @Test("A write is persisted before it is sent")
    func order() throws {
        var author = Author(1)
        author.connect(ledgerKey(2).publicKey)
        author.actions = []
        let entry = try author.put("dns", "host", [1])
        let persisted = author.actions.firstIndex(of: .persist(entry))
        let sent = author.actions.firstIndex {
            if case .send = $0 { true } else { false }
        }
        #expect(persisted != nil && sent != nil)
        #expect((persisted ?? .max) < (sent ?? 0))
    }

    @Test("The certificate comes first, and it must be the own one")
    func certificateFirst() {
        var state = LedgerState(configuration: ledgerConfiguration(ledgerKey(1)), at: .zero)
        var random = SeededGenerator(seed: 1)
        var actions: [LedgerAction] = []
        let other = ledgerCertificate(ledgerKey(2).publicKey)
        for (bucket, key, value) in [("dns", "a", [1]), ("members", "certificate", other)] {
            #expect(throws: LedgerProblem.certificate) {
                try state.put(
                    bucket: bucket, key: key, value: value, at: .zero, random: &random,
                    into: &actions)
            }
        }
        #expect(actions.isEmpty)
    }

    @Test("Bounds of bucket, key and value")
    func bounds() throws {
        var author = Author(1)
        let long = String(repeating: "x", count: 129)
        #expect(throws: LedgerProblem.bucket) { try author.put("", "a", []) }
        #expect(throws: LedgerProblem.bucket) { try author.put(String(long.prefix(33)), "a", []) }
        #expect(throws: LedgerProblem.key) { try author.put("dns", long, []) }
        #expect(throws: LedgerProblem.key) { try author.put("dns", "a\u{0}", []) }
        #expect(throws: LedgerProblem.value) {
            try author.put("dns", "a", [UInt8](repeating: 0, count: 4_097))
        }
        try author.put("dns", String(long.prefix(128)), [])
    }

    @Test("Writing the same value again costs nothing")
    func idempotent() throws {
        var author = Author(1)
        let first = try author.put("dns", "host", [1])
        author.actions = []
        #expect(try author.put("dns", "host", [1]) == first)
        #expect(author.actions.isEmpty)
        #expect(try author.put("dns", "host", [2]).version == first.version + 1)
    }

    @Test("Sixty-four entries and no more, but tombstones make room")
    func ownerFull() throws {
        var author = Author(1)
        for number in 0..<64 { try author.put("dns", "h\(number)", [1]) }
        #expect(throws: LedgerProblem.ownerFull) { try author.put("dns", "more", [1]) }
        try author.put("dns", "h5", [2])
        try author.delete("dns", "h7")
        #expect(author.state.entries(bucket: "dns").count == 63)
        author.actions = []
        try author.put("dns", "more", [1])
        let erased = LedgerKey(bucket: "dns", key: "h7", owner: author.state.local)
        #expect(author.actions.contains(.erase(erased)))
        #expect(author.state.entryCount == 65)
    }

    @Test("64 KiB and no more")
    func ownerBytes() throws {
        var author = Author(1)
        let value = [UInt8](repeating: 1, count: 4_000)
        for number in 0..<15 { try author.put("notes", "f\(number)", value) }
        #expect(throws: LedgerProblem.ownerFull) {
            for number in 15..<18 { try author.put("notes", "f\(number)", value) }
        }
        #expect(author.state.entries(bucket: "notes").count == 15)
    }
}
