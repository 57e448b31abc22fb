import CAllocationCounter
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Testing
import WireGuard

/// Floods, memory, threads and the end of sessions.
extension PlaneTests {
    @Test("outlive a flood: bounded memory, counted drops, traffic as before")
    func flood() throws {
        let tunnel = try Tunnel()
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        var random = SeededGenerator(seed: 3)
        var datagrams = (0..<64).map { _ in random.bytes(Int(random.next() % 200)) }
        // Half of them well enough formed to reach the ring.
        for index in 0..<32 { datagrams[index] = [1, 0, 0, 0] + random.bytes(144) }
        let flooder = try UDPSocket(port: 0)
        for round in 0..<1_000_000 {
            flooder.send(datagrams[round % 64], to: tunnel.b.address)
            if round % 32 == 31 { _ = b.round() }
            if round == 100_000 { try #require(tunnel.b.plane.drops(.controlRingFull) > 0) }
        }
        while b.round() {}
        // The authenticated ring is another one: a control frame comes through a full flood.
        let frame = try #require(tunnel.sessionA.seal([1], at: SystemClock.boot()))
        tunnel.a.plane.send(datagram: frame, to: tunnel.b.address)
        tunnel.a.submit(PacketTemplate().packet([1]))
        run(&a, &b) { tunnel.b.take() != nil }
        let events = tunnel.b.events()
        #expect(events.count <= 256 + 1)
        guard case .controlFrame = events.first else {
            Issue.record("authenticated reports come first")
            return
        }
    }

    @Test("take no memory during traffic")
    func allocations() throws {
        try #require(allocation_count_works() == 1, "run this test without a sanitizer")
        let tunnel = try Tunnel()
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        let template = PacketTemplate()
        let bulk = template.superHeader(1300) + template.packet(pattern(52_000))
        let single = [UInt8](repeating: 0, count: 10) + template.packet(pattern(100))
        var bytes = [UInt8](repeating: 0, count: 70_000)
        var counted: UInt64 = 0
        for round in 0..<3_000 {
            let packet = round % 3 == 0 ? single : bulk
            #expect(send(tunnel.a.kernel, packet, packet.count, 0) == packet.count)
            let before = allocation_count()
            for _ in 0..<3 {
                _ = a.round()
                _ = b.round()
            }
            counted += allocation_count() - before
            while recv(tunnel.b.kernel, &bytes, bytes.count, 0) > 0 {}
        }
        #expect(tunnel.b.plane.traffic(with: Tunnel.keyA).receivedPackets > 80_000)
        #expect(counted == 0)
    }

    @Test("run on their own threads, through publications and a stop")
    func threads() throws {
        let tunnel = try Tunnel()
        try tunnel.a.plane.start()
        try tunnel.b.plane.start()
        var received = 0
        for round in 0..<2000 {
            tunnel.a.submit(PacketTemplate(isTCP: false).packet(pattern(64, seed: round)))
            if round % 10 == 0 { tunnel.publish() }
            var entry = pollfd(fd: tunnel.b.kernel, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, 10_000)
            while tunnel.b.take() != nil { received += 1 }
            _ = tunnel.a.events()
        }
        #expect(received == 2000)
        tunnel.a.plane.stop()
        tunnel.b.plane.stop()
    }

    @Test("share a port and the peers between several workers")
    func shards() throws {
        let tunnel = try Tunnel()
        let first = try UDPSocket(port: 0, sharesPort: true)
        let second = try UDPSocket(port: first.port, sharesPort: true)
        var configuration = DataPlaneConfiguration(device: nil, socket: first, peerCapacity: 64)
        configuration.sockets.append(second)
        let plane = try PacketPlane(configuration)
        plane.publish(ForwardingSnapshot(peers: [tunnel.peerOfB]))
        try plane.start()
        defer { plane.stop() }
        let address = SocketAddress(ip: .v4(0x7F00_0001), port: first.port)
        let sources = try (0..<32).map { _ in try UDPSocket(port: 0) }
        var frames = 0
        for round in 0..<10 {
            for source in sources {
                let frame = try #require(
                    tunnel.sessionA.seal([1, UInt8(round)], at: SystemClock.boot()))
                source.send(frame, to: address)
            }
            // Every frame is authentic and new, whichever worker the kernel chose.
            while frames < (round + 1) * 32 {
                var entry = pollfd(fd: plane.doorbell.descriptor, events: Int16(POLLIN), revents: 0)
                try #require(poll(&entry, 1, 10_000) == 1, "\(frames) frames came")
                plane.drainEvents { event in
                    if case .controlFrame = event { frames += 1 }
                }
            }
        }
        #expect(plane.traffic(with: Tunnel.keyA).receivedPackets == 320)
        #expect(tunnel.sessionB.activity.messagesReceived == 320)
    }

    @Test("let go of sessions that are published no more")
    func release() throws {
        let endpoint = try Endpoint()
        var worker = endpoint.plane.makeWorker()
        weak var watched: TransportSession?
        do {
            let (session, _) = sessionPair(at: SystemClock.boot())
            watched = session
            endpoint.plane.publish(
                ForwardingSnapshot(peers: [
                    ForwardingPeer(key: Tunnel.keyA, sending: session, receiving: [session])
                ]))
        }
        _ = worker.round()
        endpoint.plane.publish(ForwardingSnapshot())
        #expect(watched != nil, "the worker has not seen the newer table")
        _ = worker.round()
        _ = endpoint.events()
        #expect(watched == nil)
    }
}
