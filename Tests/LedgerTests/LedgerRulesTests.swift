import Cryptography
import Ledger
import MeshBase
import NetAddress
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
        for number in 0..<15 { try author.put("files", "f\(number)", value) }
        #expect(throws: LedgerProblem.ownerFull) {
            for number in 15..<18 { try author.put("files", "f\(number)", value) }
        }
        #expect(author.state.entries(bucket: "files").count == 15)
    }
}

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
        var second = Author(7, restored: Array(first.state.allEntries.suffix(3)))
        for number in 0..<40 { try second.put("files", "b\(number)", [2]) }
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
        }
        #expect(digests.count == 1)
    }
}

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

@Suite("Address claims")
struct AddressClaimTests {
    @Test("Candidates stay inside the plan and avoid its ends")
    func candidates() throws {
        for text in ["10.1.0.0/16", "192.168.7.0/29", "10.0.0.4/30", "0.0.0.0/1"] {
            let plan = try #require(IPPrefix(text))
            #expect(AddressClaims.isUsable(plan: plan))
            var seen: Set<IPAddress> = []
            for number in 0..<200 {
                let node = NodeID(Bytes32(word0: UInt64(number), word1: 0, word2: 0, word3: 0))
                let address = AddressClaims.candidate(nodeKey: node, index: 3, plan: plan)
                #expect(plan.contains(address))
                guard case .v4(let value) = address else { continue }
                let hostMask = ~UInt32(0) >> UInt32(plan.length)
                #expect(value & hostMask != 0 && value & hostMask != hostMask)
                seen.insert(address)
            }
            let hosts = 1 << min(12, 32 - plan.length)
            #expect(seen.count >= min(hosts - 2, 190))
        }
        for text in ["10.0.0.0/31", "10.0.0.0/32", "0.0.0.0/0", "fd00::/48"] {
            #expect(!AddressClaims.isUsable(plan: try #require(IPPrefix(text))))
        }
    }

    @Test("Each index is another candidate")
    func indices() throws {
        let plan = try #require(IPPrefix("10.0.0.0/8"))
        let node = ledgerKey(1).publicKey
        let all = (0..<50).map { AddressClaims.candidate(nodeKey: node, index: $0, plan: plan) }
        #expect(Set(all).count == 50)
    }

    @Test("The same rival wins in every order, and every address by itself")
    func winners() throws {
        let nodes = (0..<8).map { ledgerKey(UInt64($0)).publicKey }
        let first = IPAddress.v4(0x0A01_0001)
        let second = IPAddress.v4(0x0A01_0002)
        var claims = nodes.map { (node: $0, address: first) }
        claims += nodes.prefix(3).map { (node: $0, address: second) }
        let settled = AddressClaims.resolve(claims)
        #expect(settled.count == 2)
        #expect(settled == AddressClaims.resolve(claims.reversed()))
        let expected = nodes.min {
            ContestedClaim.rank(of: $0, value: first.bytes)
                < ContestedClaim.rank(of: $1, value: first.bytes)
        }
        #expect(settled[first] == expected)
    }
}
