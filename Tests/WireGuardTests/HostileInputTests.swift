import Cryptography
import MeshBase
import NetAddress
import Testing
import WireGuard

@Suite("Hostile and stale handshake messages")
struct HostileInputTests {
    let stranger = SocketAddress("203.0.113.9:9")

    /// Feeds `bytes` to `host`; returns the drop reasons and whether any trace was left.
    func feed(_ bytes: [UInt8], to host: TunnelHost, from source: SocketAddress)
        -> (reasons: [HandshakeDropReason], changed: Bool, sent: Int)
    {
        let before = host.fingerprint()
        let drops = host.drops.count
        let sent = host.world.sent.count
        host.perform { $0.receive(bytes, from: source, at: $1, random: &$2, into: &$3) }
        return (
            Array(host.drops.dropFirst(drops)), host.fingerprint() != before,
            host.world.sent.count - sent
        )
    }

    @Test("random bytes of every length, with every type, change nothing and get no answer")
    func randomBytes() throws {
        let source = try #require(stranger)
        let pair = Pair.connected()
        var random = SeededGenerator(seed: 3)
        for length in 0...200 {
            for type in UInt8(0)...7 {
                var bytes = random.bytes(length)
                for index in 0..<min(4, length) { bytes[index] = index == 0 ? type : 0 }
                let result = feed(bytes, to: pair.bob, from: source)
                #expect(result.reasons.count == 1)
                #expect(!result.changed && result.sent == 0)
            }
        }
    }

    @Test("a flipped bit anywhere in a message makes it worthless", arguments: [UInt8(1), 2])
    func flippedBits(type: UInt8) throws {
        let pair = Pair()
        pair.world.loses = { $0.type == type }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .milliseconds(100))
        let original = try #require(pair.world.sent.first { $0.type == type })
        let target = type == 1 ? pair.bob : pair.alice
        // The last 16 bytes are mac2, which only a loaded receiver looks at.
        for index in 0..<original.bytes.count - 16 {
            var bytes = original.bytes
            bytes[index] ^= 0x10
            let result = feed(bytes, to: target, from: original.source)
            #expect(result.reasons.count == 1, "byte \(index)")
            #expect(!result.changed && result.sent == 0, "byte \(index)")
        }
        let intact = feed(original.bytes, to: target, from: original.source)
        #expect(intact.reasons.isEmpty && intact.changed)
    }

    @Test("flipped bits behind a valid mac1 are refused by the seals")
    func flippedBitsWithMAC1() throws {
        let pair = Pair()
        pair.world.loses = { $0.type == 1 }
        pair.alice.connect(pair.bob)
        let original = try #require(pair.world.sent.first)
        let label = Array("mac1----".utf8)
        let macKey = BLAKE2s.hash(label, pair.bob.key.bytes.bytes)
        for index in 8..<116 {
            var body = Array(original.bytes[0..<116])
            // Bit 255 of an X25519 public key is ignored; every other one counts.
            body[index] ^= 0x01
            let mac = BLAKE2s.hash(body, outputCount: 16, key: macKey)
            let forged = body + mac + [UInt8](repeating: 0, count: 16)
            let result = feed(forged, to: pair.bob, from: original.source)
            #expect(result.reasons == [.notAuthentic], "byte \(index)")
            #expect(!result.changed && result.sent == 0, "byte \(index)")
        }
    }

    @Test("a replayed initiation is refused and does not move the peer")
    func replay() throws {
        let source = try #require(stranger)
        let pair = Pair()
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        let original = try #require(pair.world.sent.first { $0.type == 1 })
        let result = feed(original.bytes, to: pair.bob, from: source)
        #expect(result.reasons == [.replayed])
        #expect(!result.changed && result.sent == 0)
    }

    @Test("an older initiation that arrives late is refused")
    func reordered() throws {
        let pair = Pair()
        pair.world.loses = { _ in true }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(6))
        let initiations = pair.world.sent.filter { $0.type == 1 }
        try #require(initiations.count == 2)
        #expect(feed(initiations[1].bytes, to: pair.bob, from: pair.alice.address).reasons == [])
        let late = feed(initiations[0].bytes, to: pair.bob, from: pair.alice.address)
        #expect(late.reasons == [.replayed] && !late.changed)
    }

    @Test("genuine initiations in a burst are refused after the first")
    func burst() throws {
        let pair = Pair()
        pair.world.loses = { _ in true }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(6))
        let initiations = pair.world.sent.filter { $0.type == 1 }
        _ = feed(initiations[0].bytes, to: pair.bob, from: pair.alice.address)
        let second = feed(initiations[1].bytes, to: pair.bob, from: pair.alice.address)
        #expect(second.reasons == [.tooFrequent] && !second.changed)
    }

    @Test("a stranger that knows the public key gets silence")
    func unknownPeer() {
        let pair = Pair()
        let mallory = TunnelHost(pair.world, seed: 5, address: "203.0.113.5:5")
        mallory.add(pair.bob, endpoint: pair.bob.address)
        mallory.connect(pair.bob)
        let before = pair.bob.fingerprint()
        pair.world.run(for: .milliseconds(500))
        #expect(pair.bob.drops == [.unknownPeer])
        #expect(pair.bob.fingerprint() == before)
        #expect(pair.world.sent.allSatisfy { $0.source != pair.bob.address })
    }

    @Test("a stranger that does not know the public key fails at mac1")
    func wrongMAC1() {
        let pair = Pair()
        let decoy = TunnelHost(pair.world, seed: 6, address: "203.0.113.6:6")
        let mallory = TunnelHost(pair.world, seed: 5, address: "203.0.113.5:5")
        mallory.add(decoy, endpoint: pair.bob.address)
        mallory.connect(decoy)
        pair.world.run(for: .milliseconds(500))
        #expect(pair.bob.drops == [.wrongMAC1])
        #expect(pair.world.sent.allSatisfy { $0.source != pair.bob.address })
    }

    @Test("a second answer to the same initiation is refused")
    func replayedResponse() throws {
        let pair = Pair()
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        let response = try #require(pair.world.sent.first { $0.type == 2 })
        let result = feed(response.bytes, to: pair.alice, from: pair.bob.address)
        #expect(result.reasons == [.unknownIndex] && !result.changed)
    }

    @Test("under load: a cookie first, then the handshake of the repeated message")
    func cookies() throws {
        let pair = Pair(bobThreshold: 0)
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.drops == [.cookieRequired])
        #expect(pair.world.count(ofType: 2) == 0)
        let reply = try #require(pair.world.sent.first { $0.type == 3 })
        #expect(reply.bytes.count == 64)
        pair.world.run(for: .seconds(5))
        #expect(pair.bob.received == [packet(1)])
        #expect(pair.world.count(ofType: 1) == 2)
        let second = try #require(pair.world.sent.last { $0.type == 1 })
        #expect(second.bytes.suffix(16) != [UInt8](repeating: 0, count: 16)[...])
    }

    @Test("a cookie is worth nothing at another address or after 120 s")
    func stolenCookies() throws {
        let source = try #require(stranger)
        let pair = Pair(bobThreshold: 0)
        pair.world.loses = { $0.type == 1 && $0.bytes.last != 0 }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(6))
        let marked = try #require(pair.world.sent.last { $0.type == 1 })
        let moved = feed(marked.bytes, to: pair.bob, from: source)
        #expect(moved.reasons == [.cookieRequired])
        pair.world.run(for: .seconds(121))
        let late = feed(marked.bytes, to: pair.bob, from: pair.alice.address)
        #expect(late.reasons == [.cookieRequired])
    }

    @Test("forged cookie replies change nothing")
    func forgedCookie() throws {
        let pair = Pair(bobThreshold: 0)
        pair.world.loses = { $0.type == 3 }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        let reply = try #require(pair.world.sent.first { $0.type == 3 })
        for index in 4..<64 {
            var bytes = reply.bytes
            bytes[index] ^= 1
            let result = feed(bytes, to: pair.alice, from: reply.source)
            #expect(!result.reasons.isEmpty && !result.changed, "byte \(index)")
        }
        #expect(feed(reply.bytes, to: pair.alice, from: reply.source).reasons == [])
    }

    @Test("under load one source gets five handshakes at once and twenty a second")
    func rateLimit() {
        let pair = Pair(bobThreshold: 0)
        var senders: [TunnelHost] = []
        for number in 0..<40 {
            let sender = TunnelHost(
                pair.world, seed: UInt64(100 + number), address: "198.51.100.1:\(1000 + number)")
            sender.add(pair.bob, endpoint: pair.bob.address)
            pair.bob.add(sender)
            senders.append(sender)
        }
        for sender in senders { sender.connect(pair.bob) }
        pair.world.run(for: .milliseconds(4900))
        #expect(pair.bob.drops.count { $0 == .cookieRequired } == 40)
        pair.world.run(for: .milliseconds(500))
        // Five at once and, over the 334 ms of jitter, at most seven more.
        let admitted = pair.world.count(ofType: 2, from: pair.bob)
        #expect((5...12).contains(admitted))
        #expect(pair.bob.drops.count { $0 == .rateLimited } == 40 - admitted)
    }
}
