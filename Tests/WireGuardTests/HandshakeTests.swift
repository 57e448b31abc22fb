import Cryptography
import MeshBase
import NetAddress
import Testing
import WireGuard

@Suite("Two devices shake hands")
struct HandshakeTests {
    @Test("a packet waits for the handshake, then flows both ways")
    func firstPacket() {
        let pair = Pair()
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.received == [packet(1)])
        pair.bob.send(packet(2), to: pair.alice)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.alice.received == [packet(2)])
        #expect(pair.world.count(ofType: 1) == 1)
        #expect(pair.world.count(ofType: 2) == 1)
        #expect(pair.world.sent.first?.bytes.count == 148)
        #expect(pair.world.sent.dropFirst().first?.bytes.count == 92)
        #expect(pair.bob.endpointChanges == [pair.alice.address])
    }

    @Test("the responder does not send before the initiator has proven its keys")
    func keyConfirmation() {
        let pair = Pair()
        pair.world.loses = { $0.type == 4 }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.installed.count == 1)
        #expect(pair.bob.sending.isEmpty)
        #expect(pair.bob.device.status(of: pair.alice.key)?.hasSession == false)
        pair.world.loses = { _ in false }
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.device.status(of: pair.alice.key)?.hasSession == true)
    }

    @Test("a lost message is repeated within REKEY_TIMEOUT and jitter", arguments: [UInt8(1), 2])
    func loss(of type: UInt8) {
        let pair = Pair()
        var losses = 0
        pair.world.loses = { datagram in
            defer { losses += datagram.type == type ? 1 : 0 }
            return datagram.type == type && losses == 0
        }
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(4))
        #expect(pair.bob.received.isEmpty)
        pair.world.run(for: .seconds(2))
        #expect(pair.bob.received == [packet(1)])
        #expect(pair.world.count(ofType: 1) == 2)
    }

    @Test("simultaneous initiations end in a working tunnel without another handshake")
    func simultaneous() {
        let pair = Pair()
        pair.bob.device.setEndpoint(pair.alice.key, pair.alice.address)
        pair.exchange(1)
        pair.world.run(for: .seconds(1))
        for number in 2...20 {
            pair.exchange(number)
            pair.world.run(for: .seconds(1))
        }
        #expect(pair.alice.received == (1...20).map(packet))
        #expect(pair.bob.received == (1...20).map(packet))
        #expect(pair.world.count(ofType: 1) == 2)
    }

    @Test("simultaneous rekeying under traffic loses nothing")
    func simultaneousRekey() {
        let pair = Pair()
        pair.bob.device.setEndpoint(pair.alice.key, pair.alice.address)
        for number in 0..<2000 {
            pair.exchange(number)
            pair.world.run(for: .milliseconds(200))
        }
        pair.world.run(for: .seconds(1))
        #expect(pair.alice.received.count == 2000)
        #expect(pair.bob.received.count == 2000)
        #expect(pair.world.count(ofType: 1) <= 8)
    }

    @Test("connecting again while an attempt runs sends nothing")
    func idempotent() {
        let pair = Pair()
        pair.alice.connect(pair.bob)
        let before = pair.alice.fingerprint()
        pair.alice.connect(pair.bob)
        #expect(pair.alice.fingerprint() == before)
        pair.world.run(for: .seconds(1))
        pair.alice.connect(pair.bob)
        #expect(pair.world.count(ofType: 1) == 1)
    }

    @Test("without an answer an attempt ends after 90 s, and a new one may begin")
    func givingUp() {
        let pair = Pair()
        pair.world.loses = { _ in true }
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .milliseconds(89_900))
        #expect(pair.alice.unreachable == 0)
        #expect((17...18).contains(pair.world.count(ofType: 1)))
        pair.world.run(for: .milliseconds(200))
        #expect(pair.alice.unreachable == 1)
        #expect(pair.alice.device.deadline == nil)
        pair.world.run(for: .seconds(100))
        #expect((17...18).contains(pair.world.count(ofType: 1)))
        pair.world.loses = { _ in false }
        pair.alice.send(packet(2), to: pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.received == [packet(2)])
    }

    @Test("two initiations to one peer are never closer than REKEY_TIMEOUT")
    func spacing() {
        let pair = Pair()
        pair.world.loses = { _ in true }
        for _ in 0..<400 {
            // Traffic that never stops asking, over several attempts.
            pair.alice.connect(pair.bob)
            pair.world.run(for: .seconds(1))
        }
        #expect(pair.alice.unreachable >= 4)
        let times = pair.world.sent.filter { $0.type == 1 }.map(\.arrival)
        #expect(times.count > 60)
        for (first, second) in zip(times, times.dropFirst()) {
            #expect(second - first >= .seconds(5))
        }
    }

    @Test("an attempt without an endpoint waits for one")
    func lateEndpoint() {
        let pair = Pair()
        pair.bob.send(packet(1), to: pair.alice)
        pair.world.run(for: .seconds(3))
        #expect(pair.world.sent.isEmpty)
        pair.bob.device.setEndpoint(pair.alice.key, pair.alice.address)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.alice.received == [packet(1)])
    }

    @Test("the peer's other address does not make an answer void that is on its way")
    func moveWhileAwaited() throws {
        let pair = Pair()
        pair.alice.connect(pair.bob)
        pair.alice.device.setEndpoint(
            pair.bob.key, try #require(SocketAddress("[fe80::2]:51820")))
        pair.world.run(for: .milliseconds(90))
        #expect(pair.alice.sending[pair.bob.key] != nil)
        pair.world.run(for: .seconds(3))
        #expect(pair.world.count(ofType: 1) == 1)
    }

    @Test("what was lost at the peer's former address is soon repeated at the other one")
    func moveAfterLoss() throws {
        let pair = Pair()
        let elsewhere = try #require(SocketAddress("[fe80::2]:51820"))
        pair.alice.device.setEndpoint(pair.bob.key, elsewhere)
        pair.alice.connect(pair.bob)
        pair.alice.device.setEndpoint(pair.bob.key, pair.bob.address)
        pair.world.run(for: .milliseconds(150))
        #expect(pair.alice.sending[pair.bob.key] != nil)
        #expect(pair.world.count(ofType: 1) == 2)
    }

    @Test("with different preshared keys nothing is installed for sending")
    func wrongPSK() {
        let pair = Pair(
            psk: SecretBytes(copying: [UInt8](repeating: 1, count: 32)),
            bobPSK: SecretBytes(copying: [UInt8](repeating: 2, count: 32)))
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(100))
        #expect(pair.alice.sending.isEmpty && pair.bob.sending.isEmpty)
        #expect(Set(pair.alice.drops) == [.notAuthentic])
        #expect(pair.alice.unreachable == 1)
    }

    @Test("equal preshared keys connect")
    func rightPSK() {
        let pair = Pair(psk: SecretBytes(copying: [UInt8](repeating: 1, count: 32)))
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.received == [packet(1)])
    }

    @Test("the AES suite uses types 5 and 6, and the suites never mix")
    func suites() {
        let pair = Pair(suite: .aes256GCM)
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.world.count(ofType: 5) == 1 && pair.world.count(ofType: 6) == 1)
        #expect(pair.alice.sending[pair.bob.key]?.suite == .aes256GCM)
        let mixed = Pair(suite: .aes256GCM, bobSuite: .chaCha20Poly1305)
        mixed.alice.connect(mixed.bob)
        mixed.world.run(for: .seconds(1))
        #expect(mixed.bob.drops == [.wrongSuite])
        #expect(mixed.world.count(ofType: 6) == 0)
    }

    @Test("own keys and low-order points are no peers")
    func badPeers() {
        let pair = Pair()
        var device = pair.alice.device
        let own = device.setPeer(TunnelPeerConfiguration(publicKey: pair.alice.key))
        let zero = StaticPublicKey(Bytes32.zero)
        let lowOrder = device.setPeer(TunnelPeerConfiguration(publicKey: zero))
        #expect(!own && !lowOrder)
        #expect(device.contains(peer: pair.bob.key))
        #expect(!device.contains(peer: pair.alice.key))
    }

    @Test("a removed peer takes its sessions with it and is a stranger again")
    func removal() {
        let pair = Pair.connected()
        pair.bob.perform { device, _, _, actions in
            device.removePeer(pair.alice.key, into: &actions)
        }
        #expect(pair.bob.installed.isEmpty && pair.bob.sending.isEmpty)
        #expect(pair.bob.device.deadline == nil)
        pair.alice.restart()
        pair.alice.add(pair.bob, endpoint: pair.bob.address)
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.drops == [.unknownPeer])
        #expect(pair.world.count(ofType: 2) == 0)
    }
}
