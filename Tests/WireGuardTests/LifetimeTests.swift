import Cryptography
import MeshBase
import NetAddress
import Testing
import WireGuard

@Suite("Sessions age, move and return")
struct LifetimeTests {
    @Test("under traffic the initiator alone renews the session every 120 s, losing nothing")
    func rekey() {
        let pair = Pair.connected()
        for number in 0..<1190 {
            pair.exchange(number)
            pair.world.run(for: .milliseconds(100))
        }
        #expect(pair.world.count(ofType: 1) == 0)
        for number in 1190..<1230 {
            pair.exchange(number)
            pair.world.run(for: .milliseconds(100))
        }
        #expect(pair.world.count(ofType: 1, from: pair.alice) == 1)
        for number in 1230..<4000 {
            pair.exchange(number)
            pair.world.run(for: .milliseconds(100))
        }
        #expect(pair.world.count(ofType: 1, from: pair.alice) == 3)
        #expect(pair.world.count(ofType: 1, from: pair.bob) == 0)
        #expect(pair.alice.received.count == 4000)
        #expect(pair.bob.received.count == 4000)
        #expect(pair.alice.lostPackets + pair.bob.lostPackets == 0)
    }

    @Test("a receiving initiator renews at 165 s, before the session dies")
    func receivingInitiator() {
        let pair = Pair.connected()
        var number = 0
        // The initiator's keepalives would renew the session at 120 s: they are sending too.
        pair.world.loses = { $0.type == 4 && $0.source == pair.alice.address }
        pair.world.run(for: .seconds(164))
        #expect(pair.world.count(ofType: 1) == 0)
        for _ in 0..<30 {
            pair.bob.send(packet(number), to: pair.alice)
            number += 1
            pair.world.run(for: .milliseconds(100))
        }
        #expect(pair.world.count(ofType: 1, from: pair.alice) == 1)
    }

    @Test("an unused session is gone at 180 s, with its deadline")
    func reject() {
        let pair = Pair.connected()
        pair.world.run(for: .milliseconds(178_800))
        #expect(pair.alice.device.status(of: pair.bob.key)?.hasSession == true)
        pair.world.run(for: .seconds(1))
        #expect(pair.alice.device.status(of: pair.bob.key)?.hasSession == false)
        #expect(pair.alice.installed.isEmpty && pair.bob.installed.isEmpty)
        #expect(pair.alice.device.deadline == nil && pair.bob.device.deadline == nil)
        #expect(pair.world.count(ofType: 1) == 0)
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.received == [packet(1)])
    }

    @Test("the deadline is never more than a second ahead while a session lives")
    func polling() {
        let pair = Pair.connected()
        for _ in 0..<170 {
            let ahead = (pair.alice.device.deadline ?? .distantFuture) - pair.world.now
            #expect(ahead <= .seconds(1))
            pair.world.run(for: .seconds(1))
        }
    }

    @Test("two peers are looked after at the same time, whenever they came")
    func sharedPolling() {
        let world = TunnelWorld()
        let hub = TunnelHost(world, seed: 1, address: "192.0.2.1:51820")
        for number in 2...3 {
            let host = TunnelHost(
                world, seed: UInt64(number), address: "192.0.2.\(number):51820")
            hub.add(host, endpoint: host.address)
            host.add(hub)
            hub.send(packet(number), to: host)
            world.run(for: .milliseconds(1_300))
        }
        for _ in 0..<8 {
            guard let due = hub.device.deadline else { break }
            world.run(for: due - world.now)
            #expect(hub.device.deadline == due + .seconds(1))
        }
    }

    @Test("data without an answer is acknowledged by a keepalive after 10 s, once")
    func passiveKeepalive() {
        let pair = Pair.connected()
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .seconds(9))
        #expect(pair.world.count(ofType: 4, from: pair.bob) == 0)
        pair.world.run(for: .seconds(2))
        #expect(pair.world.count(ofType: 4, from: pair.bob) == 1)
        pair.world.run(for: .seconds(60))
        #expect(pair.world.count(ofType: 4, from: pair.bob) == 1)
        #expect(pair.world.count(ofType: 1) == 0)
    }

    @Test("data into a void leads to a new handshake after 15 s")
    func deadPeer() {
        let pair = Pair.connected()
        pair.world.loses = { $0.destination == pair.bob.address && $0.type == 4 }
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .milliseconds(14_500))
        #expect(pair.world.count(ofType: 1) == 0)
        pair.world.run(for: .milliseconds(1_700))
        #expect(pair.world.count(ofType: 1, from: pair.alice) == 1)
        // One packet asks for one attempt, not for one every 15 seconds.
        pair.world.run(for: .seconds(100))
        #expect(pair.world.count(ofType: 1) == 1)
    }

    @Test("after a restart of the responder the tunnel heals by itself")
    func responderRestarts() {
        let pair = Pair.connected()
        pair.bob.restart()
        pair.bob.add(pair.alice)
        for number in 0..<40 {
            pair.alice.send(packet(number), to: pair.bob)
            pair.world.run(for: .milliseconds(500))
        }
        #expect(pair.bob.received.last == packet(39))
        #expect(pair.world.count(ofType: 1, from: pair.alice) == 1)
    }

    @Test("a restarted initiator is accepted though its clock went back an hour")
    func initiatorRestarts() {
        let pair = Pair.connected()
        let before = pair.alice.reserved
        #expect(before != nil)
        pair.alice.restart()
        pair.alice.add(pair.bob, endpoint: pair.bob.address)
        pair.alice.perform { device, now, random, actions in
            let past = Now(
                boot: now.boot, wall: WallTime(seconds: now.wall.seconds - 3600, nanoseconds: 0))
            device.connect(pair.bob.key, at: past, random: &random, into: &actions)
        }
        pair.world.run(for: .seconds(1))
        #expect(pair.bob.drops.isEmpty)
        #expect(pair.alice.device.status(of: pair.bob.key)?.hasSession == true)
        if let before, let after = pair.alice.reserved { #expect(after > before) }
    }

    @Test("the reservation precedes the first initiation, and one serves many")
    func reservation() {
        let pair = Pair()
        var actions: [TunnelAction] = []
        var device = pair.alice.device
        var random = SeededGenerator(seed: 9)
        device.connect(pair.bob.key, at: pair.world.clock, random: &random, into: &actions)
        guard case .reserveTimestamp(let stamp) = actions.first, actions.count == 2 else {
            Issue.record("expected a reservation and a message, in this order: \(actions)")
            return
        }
        #expect(stamp > TAI64N(pair.world.clock.wall))
        actions = []
        let later = Now(
            boot: pair.world.now + .seconds(6),
            wall: WallTime(seconds: pair.world.clock.wall.seconds + 6))
        device.timeout(at: later, random: &random, into: &actions)
        #expect(actions.count == 1)
    }

    @Test("persistent keepalive: connects by itself, keeps talking, starts again")
    func persistent() {
        let pair = Pair(keepalive: .seconds(25))
        pair.world.run(for: .seconds(1))
        #expect(pair.alice.device.status(of: pair.bob.key)?.hasSession == true)
        pair.world.forgetTraffic()
        pair.world.run(for: .seconds(100))
        #expect((3...4).contains(pair.world.count(ofType: 4, from: pair.alice)))
        pair.world.run(for: .seconds(900))
        #expect((6...9).contains(pair.world.count(ofType: 1)))
        pair.world.loses = { _ in true }
        pair.world.run(for: .seconds(600))
        #expect(pair.alice.unreachable >= 2)
        pair.world.loses = { _ in false }
        pair.world.run(for: .seconds(30))
        #expect(pair.alice.device.status(of: pair.bob.key)?.hasSession == true)
    }

    @Test("an initiator that moved is followed once its new session is proven")
    func roaming() throws {
        let pair = Pair.connected()
        let moved = try #require(SocketAddress("198.51.100.7:7777"))
        pair.alice.address = moved
        pair.alice.send(packet(1), to: pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.device.status(of: pair.alice.key)?.endpoint == moved)
        pair.bob.send(packet(2), to: pair.alice)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.alice.received == [packet(2)])
        // A fresh handshake from elsewhere moves nothing until the initiator has shown its keys.
        let next = try #require(SocketAddress("198.51.100.8:8888"))
        pair.alice.restart()
        pair.alice.add(pair.bob, endpoint: pair.bob.address)
        pair.alice.address = next
        pair.world.loses = { $0.type == 4 }
        pair.alice.connect(pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.device.status(of: pair.alice.key)?.endpoint == moved)
        pair.world.loses = { _ in false }
        #expect(pair.bob.endpointChanges.last != next)
        pair.alice.send(packet(3), to: pair.bob)
        pair.world.run(for: .milliseconds(100))
        #expect(pair.bob.endpointChanges.last == next)
        #expect(pair.bob.device.status(of: pair.alice.key)?.endpoint == next)
    }

    @Test("equal seeds give equal runs")
    func deterministic() {
        func run() -> [[UInt8]] {
            let pair = Pair(keepalive: .seconds(25))
            for number in 0..<300 {
                pair.exchange(number)
                pair.world.run(for: .seconds(1))
            }
            return pair.world.sent.map(\.bytes)
        }
        #expect(run() == run())
    }
}
