import Cryptography
import Glibc
import LinuxIO
import MeshBase
import Synchronization
import Testing
import WireGuard

@Suite("A transport session")
struct SessionTests {
    let start = BootInstant(nanoseconds: 1_000_000_000_000)

    @Test("carries packets both ways, padded to 16 bytes", arguments: PacketSuite.allCases)
    func roundTrip(suite: PacketSuite) throws {
        let (initiator, responder) = sessionPair(suite: suite, at: start)
        for count in [1, 15, 16, 17, 1_419, 1_420] {
            let packet = pattern(count)
            let datagram = try #require(initiator.seal(packet, at: start))
            #expect(datagram.count == 32 + (count + 15) / 16 * 16)
            let opened = try #require(responder.open(datagram, at: start))
            #expect(Array(opened.prefix(count)) == packet)
            #expect(opened.dropFirst(count).allSatisfy { $0 == 0 })
            let answer = try #require(responder.seal(packet, at: start))
            #expect(initiator.open(answer, at: start) != nil)
        }
    }

    @Test("writes the header that the protocol asks for")
    func header() throws {
        let (initiator, _) = sessionPair(at: start)
        _ = initiator.seal([1], at: start)
        let datagram = try #require(initiator.seal([1], at: start))
        #expect(Array(datagram[0..<16]) == [4, 0, 0, 0, 2, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test("seals what an independent ChaCha20-Poly1305 opens")
    func independentCipher() throws {
        let (initiator, _) = sessionPair(at: start)
        _ = initiator.seal([], at: start)
        let datagram = try #require(initiator.seal(pattern(32), at: start))
        let key = Bytes32(word0: 0x1000, word1: 1, word2: 1, word3: 1).bytes
        let opened = ChaCha20Poly1305.open(
            Array(datagram[16...]), key: key, counter: 1, associatedData: [])
        #expect(opened == pattern(32))
    }

    @Test("refuses every changed byte and every length, and is none the wiser")
    func tampering() throws {
        let (initiator, responder) = sessionPair(at: start)
        let datagram = try #require(initiator.seal(pattern(40), at: start))
        let before = responder.activity
        for index in datagram.indices {
            var changed = datagram
            changed[index] ^= 1
            #expect(responder.open(changed, at: start) == nil, "byte \(index)")
        }
        for count in 0..<datagram.count {
            #expect(responder.open(Array(datagram.prefix(count)), at: start) == nil)
        }
        #expect(responder.activity == before)
        #expect(responder.open(datagram, at: start) != nil)
        #expect(responder.open(datagram, at: start) == nil, "a repetition")
        #expect(responder.activity.messagesReceived == 1)
    }

    @Test("is refused at 180 seconds, on both sides")
    func age() throws {
        let (initiator, responder) = sessionPair(at: start)
        let last = start + .seconds(180) - .nanoseconds(1)
        let datagram = try #require(initiator.seal([1], at: last))
        #expect(initiator.seal([1], at: start + .seconds(180)) == nil)
        #expect(responder.open(datagram, at: start + .seconds(180)) == nil)
        #expect(responder.open(datagram, at: last) != nil)
    }

    @Test("stops before its counter repeats")
    func exhaustion() {
        let (chacha, _) = sessionPair(at: start)
        let (aes, _) = sessionPair(suite: .aes256GCM, at: start)
        #expect(chacha.handle.reserve(UInt64.max - (1 << 13) - 2) == 0)
        #expect(chacha.seal([1], at: start) != nil)
        #expect(chacha.seal([1], at: start) == nil)
        #expect(chacha.seal([1], at: start) == nil)
        #expect(aes.handle.reserve((1 << 32) - 2) == 0)
        #expect(aes.seal([1], at: start) != nil)
        #expect(aes.seal([1], at: start) == nil)
    }

    @Test("tells data from keepalives")
    func activity() throws {
        let (initiator, responder) = sessionPair(at: start)
        #expect(initiator.activity.lastSent == nil && initiator.activity.lastReceived == nil)
        let keepalive = try #require(initiator.seal([], at: start))
        #expect(keepalive.count == 32)
        #expect(responder.open(keepalive, at: start) == [])
        #expect(initiator.activity.lastSent == start && initiator.activity.lastDataSent == nil)
        #expect(
            responder.activity.lastReceived == start && responder.activity.lastDataReceived == nil)
        let later = start + .seconds(3)
        let data = try #require(initiator.seal([1], at: later))
        _ = responder.open(data, at: later)
        #expect(initiator.activity.lastDataSent == later)
        #expect(responder.activity.lastDataReceived == later)
        #expect(responder.activity.bytesReceived == 32 + 48)
        #expect(initiator.activity.messagesSent == 2)
    }

    @Test("gives several threads different counters, and takes each packet once")
    func threads() throws {
        let (initiator, responder) = sessionPair(at: start)
        let sealed = Mutex<[[UInt8]]>([])
        let accepted = Atomic<Int>(0)
        let time = start
        func each(_ body: @escaping @Sendable () -> Void) throws {
            let first = try WorkerThread(name: "one", body)
            let second = try WorkerThread(name: "two", body)
            let third = try WorkerThread(name: "three", body)
            first.join()
            second.join()
            third.join()
        }
        try each {
            for _ in 0..<1000 {
                guard let datagram = initiator.seal([7], at: time) else { return }
                sealed.withLock { $0.append(datagram) }
            }
        }
        let datagrams = sealed.withLock { $0 }
        #expect(Set(datagrams.map { Array($0[8..<16]) }).count == 3000)
        try each {
            for datagram in datagrams where responder.open(datagram, at: time) != nil {
                accepted.wrappingAdd(1, ordering: .relaxed)
            }
        }
        #expect(accepted.load(ordering: .relaxed) == 3000)
    }
}

@Suite("The replay window")
struct ReplayWindowTests {
    /// What the window must do, in the most literal way.
    struct Model {
        var seen: Set<UInt64> = []
        var greatest: UInt64 = 0

        mutating func accept(_ counter: UInt64) -> Bool {
            if counter < greatest, greatest - counter > ReplayWindow.reach { return false }
            greatest = max(greatest, counter)
            return seen.insert(counter).inserted
        }
    }

    @Test("agrees with a set of all counters ever seen", arguments: 1...8)
    func model(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var window = ReplayWindow()
        var model = Model()
        var center: UInt64 = 0
        for step in 0..<20_000 {
            switch UInt64.random(in: 0..<100, using: &random) {
            case 0: center += UInt64.random(in: 0..<20_000, using: &random)
            case 1: center += 1 << 40
            default: center += 1
            }
            let back = UInt64.random(in: 0..<10_000, using: &random)
            let counter = center - min(center, step % 3 == 0 ? back : back % 64)
            let isNew = window.accept(counter)
            let expected = model.accept(counter)
            #expect(isNew == expected, "\(counter) after \(center)")
        }
    }

    @Test("reaches back 8,128 counters and no further")
    func reach() {
        var window = ReplayWindow()
        var accepted: [UInt64] = []
        let counters: [UInt64] = [
            0, 0, 20_000, 20_000 - 8_128, 20_000 - 8_129, .max, 20_001, .max,
        ]
        for counter in counters where window.accept(counter) { accepted.append(counter) }
        #expect(accepted == [0, 20_000, 20_000 - 8_128, .max])
    }
}

@Suite("Packet ciphers")
struct PacketCipherTests {
    @Test("all implementations agree, at every length", arguments: PacketSuite.allCases)
    func agreement(suite: PacketSuite) throws {
        let secret = SecretBytes(copying: pattern(32))
        let key = PacketKey(secret, suite: suite)
        let portable = PacketEngine.shared
        let fastest = PacketEngine.fastest()
        try #require(suite.isAvailable, "this machine has no AES instructions")
        for count in 0...1500 {
            let packet = pattern(count)
            let counter = UInt64(count) << 33 | 5
            let sealed = portable.seal(packet, suite: suite, key: key, counter: counter)
            #expect(sealed == fastest.seal(packet, suite: suite, key: key, counter: counter))
            #expect(fastest.open(sealed, suite: suite, key: key, counter: counter) == packet)
            var forged = sealed
            forged[count] ^= 0x80
            #expect(fastest.open(forged, suite: suite, key: key, counter: counter) == nil)
            #expect(portable.open(forged, suite: suite, key: key, counter: counter) == nil)
        }
    }

    @Test("on x86-64 the packets go through IPsec-MB where it is installed")
    func choice() {
        #if arch(x86_64)
            let isInstalled = access("/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.1", F_OK) == 0
            #expect((PacketEngine.fastest().implementation == .ipsecMB) == isInstalled)
        #else
            #expect(PacketEngine.fastest().implementation == .sodium)
        #endif
    }
}
