import Cryptography
import DataPlane
import Glibc
import LinuxIO
import NetAddress
import Testing
import WireGuard

/// A tunnel whose path from `a` to `b` carries datagrams of 1,252 bytes: 1,280 with the headers of
/// IPv4 and UDP around it.
private func narrowTunnel(joinsPieces: Bool) throws -> Tunnel {
    let tunnel = try Tunnel()
    var peer = tunnel.peerOfA
    peer.pathLimit = 1252
    peer.joinsPieces = joinsPieces
    tunnel.a.plane.publish(ForwardingSnapshot(peers: [peer]))
    return tunnel
}

@Suite("Packets that a path does not carry whole", .serialized)
struct LargePacketTests {
    @Test("pass in two pieces between nodes that join them", arguments: [false, true])
    func pieces(isIPv6: Bool) throws {
        let tunnel = try narrowTunnel(joinsPieces: true)
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        let headers = (isIPv6 ? 40 : 20) + 8
        for count in [1219, 1220, 1221, 1236, 1419, 1420] {
            var template = PacketTemplate(isIPv6: isIPv6, isTCP: false)
            template.identification = count
            let packet = template.packet(pattern(count - headers))
            let before = tunnel.sessionA.activity.messagesSent
            tunnel.a.submit(packet)
            var received: [UInt8]?
            run(&a, &b) {
                received = tunnel.b.take()?.packet
                return received != nil
            }
            #expect(received == packet)
            let datagrams = tunnel.sessionA.activity.messagesSent - before
            #expect(datagrams == (count > 1220 ? 2 : 1), "\(count) bytes")
        }
        // UDP believes in the device's MTU and is told nothing.
        #expect(tunnel.a.take() == nil)
    }

    @Test("a super-packet for a connection from before passes, and its sender is told")
    func superPacket() throws {
        let tunnel = try narrowTunnel(joinsPieces: true)
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        let template = PacketTemplate()
        let payload = pattern(30 * 1368)
        tunnel.a.submit(template.packet(payload), header: template.superHeader(1368))
        var collected: [UInt8] = []
        run(&a, &b) {
            while let next = tunnel.b.take() { collected += next.packet[template.headerCount...] }
            return collected.count >= payload.count
        }
        #expect(collected == payload)
        let answer = try #require(tunnel.a.take()).packet
        // ICMP 3/4 from the packet's destination to its source, naming 1,220 bytes.
        #expect(answer[9] == 1 && answer[20] == 3 && answer[21] == 4)
        #expect(Array(answer[12..<20]) == [10, 0, 0, 2, 10, 0, 0, 1])
        #expect(Array(answer[26..<28]) == big16(1220))
        #expect(referenceChecksum(Array(answer[0..<20])) == 0)
        #expect(referenceChecksum(Array(answer[20...])) == 0)
        #expect(answer[28] == 0x45 && answer.count == 576)
    }

    @Test("are refused and answered where the peer joins nothing")
    func refused() throws {
        let tunnel = try narrowTunnel(joinsPieces: false)
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        let packet = PacketTemplate(isIPv6: true, isTCP: false).packet(pattern(1300))
        tunnel.a.submit(packet)
        var answer: [UInt8] = []
        run(&a, &b) {
            answer = tunnel.a.take()?.packet ?? []
            return !answer.isEmpty
        }
        #expect(answer[6] == 58 && answer[40] == 2 && answer.count == 1280)
        #expect(Array(answer[44..<48]) == big32(1280))
        #expect(Array(answer[8..<24]) == Array(packet[24..<40]))
        #expect(Array(answer[24..<40]) == Array(packet[8..<24]))
        #expect(transportChecksum(answer) == 0)
        #expect(tunnel.a.plane.drops(.tooLarge) == 1)
        // Nobody may forbid an IPv4 packet without DF to be cut: the network below does it.
        var loose = PacketTemplate(isTCP: false).packet(pattern(1300))
        loose[6] = 0
        loose.replaceSubrange(10..<12, with: [0, 0])
        loose.replaceSubrange(10..<12, with: big16(Int(referenceChecksum(Array(loose[0..<20])))))
        tunnel.a.submit(loose)
        var received: [UInt8] = []
        run(&a, &b) {
            received = tunnel.b.take()?.packet ?? []
            return !received.isEmpty
        }
        #expect(received == loose)
    }

    @Test("an error about an error, a group or a later fragment is never sent")
    func noAnswer() throws {
        let tunnel = try narrowTunnel(joinsPieces: false)
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        var icmp = PacketTemplate(isTCP: false).packet(pattern(1300))
        icmp[9] = 1
        icmp[20] = 3
        var later = PacketTemplate(isTCP: false).packet(pattern(1300))
        later[7] = 9
        for packet in [icmp, later] { tunnel.a.submit(packet) }
        run(&a, &b) { tunnel.a.plane.drops(.tooLarge) == 2 }
        #expect(tunnel.a.take() == nil)
    }

    @Test("new connections agree on segments that fit", arguments: [false, true], [false, true])
    func segmentSize(isIPv6: Bool, isOdd: Bool) throws {
        let tunnel = try narrowTunnel(joinsPieces: true)
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        var template = PacketTemplate(isIPv6: isIPv6)
        template.flags = 0x02
        template.options =
            isOdd
            ? [1, 2, 4] + big16(1380) + [1, 3, 3, 7, 0, 0, 0]
            : [2, 4] + big16(1380) + [4, 2, 1, 1]
        tunnel.a.submit(template.packet([]))
        var received: [UInt8] = []
        run(&a, &b) {
            received = tunnel.b.take()?.packet ?? []
            return !received.isEmpty
        }
        let option = (isIPv6 ? 60 : 40) + (isOdd ? 3 : 2)
        #expect(Array(received[option..<option + 2]) == big16(1220 - (isIPv6 ? 60 : 40)))
        #expect(transportChecksum(received) == 0)
        // What the other side asks for is lowered here as well, and a smaller wish stands.
        for (asked, becomes) in [(1400, 1220 - (isIPv6 ? 60 : 40)), (900, 900)] {
            var answer = PacketTemplate(isIPv6: isIPv6, source: 2, destination: 1)
            answer.flags = 0x12
            answer.options = [2, 4] + big16(asked)
            tunnel.b.submit(answer.packet([]))
            var received: [UInt8] = []
            run(&a, &b) {
                received = tunnel.a.take()?.packet ?? []
                return !received.isEmpty
            }
            let option = (isIPv6 ? 60 : 40) + 2
            #expect(Array(received[option..<option + 2]) == big16(becomes))
            #expect(transportChecksum(received) == 0)
        }
    }

    @Test("pieces may be reordered, lost and malformed; memory stays bounded")
    func disorder() throws {
        let tunnel = try Tunnel()
        var a = tunnel.a.plane.makeWorker()
        var b = tunnel.b.plane.makeWorker()
        let now = SystemClock.boot()
        let packet = PacketTemplate(isTCP: false).packet(pattern(1000))
        func piece(_ second: Bool, _ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
            let header: [UInt8] = [second ? 0xF1 : 0xF0, 0] + big16(bytes.count)
            return try #require(tunnel.sessionA.seal(header + bytes, at: now))
        }
        func deliver(_ datagrams: [[UInt8]]) {
            for datagram in datagrams {
                tunnel.a.plane.send(datagram: datagram, to: tunnel.b.address)
            }
        }
        let first = try piece(false, packet[..<500])
        let second = try piece(true, packet[500...])
        deliver([second, first])
        var received: [UInt8] = []
        run(&a, &b) {
            received = tunnel.b.take()?.packet ?? []
            return !received.isEmpty
        }
        #expect(received == packet)
        // First pieces alone push each other out.
        for _ in 0..<40 { deliver([try piece(false, packet[..<500])]) }
        run(&a, &b) { tunnel.b.plane.drops(.pieceWithoutOther) == 8 }
        // Lengths that lie, a piece of pieces, and more than the device takes.
        deliver([
            try #require(tunnel.sessionA.seal([0xF0, 0, 9, 9, 1, 2], at: now)),
            try #require(tunnel.sessionA.seal([0xF0, 0, 0, 0], at: now)),
            try #require(tunnel.sessionA.seal([0xF2, 0, 0, 1, 1], at: now)),
            try piece(false, [0xF0, 0, 0, 4]), try piece(true, [0x45, 0, 0, 0]),
            try piece(false, pattern(900)[...]), try piece(true, pattern(900)[...]),
        ])
        run(&a, &b) { tunnel.b.plane.drops(.malformedPayload) == 5 }
        #expect(tunnel.b.take() == nil)
    }
}
