import Cryptography
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Testing
import WireGuard

@Suite("Ten thousand peers")
struct ManyPeersTests {
    private static func key(_ number: Int) -> StaticPublicKey {
        StaticPublicKey(Bytes32(word0: UInt64(number), word1: 7, word2: 0, word3: 0))
    }

    /// 10,000 peers with two routes each, a thousand of them with a session. Packets for any of
    /// the thousand leave under its session, and those of the others ask for one.
    @Test("each get their own packets")
    func manyPeers() throws {
        let (device, kernel) = try devicePair("many")
        let socket = try UDPSocket(port: 0)
        let sink = try UDPSocket(port: 0)
        let plane = try PacketPlane(
            DataPlaneConfiguration(device: device, socket: socket, peerCapacity: 10_000))
        let target = SocketAddress(ip: .v4(0x7F00_0001), port: sink.port)
        let time = SystemClock.boot()
        var sessions: [TransportSession] = []
        let peers = (0..<10_000).map { number in
            var peer = ForwardingPeer(
                key: ManyPeersTests.key(number), endpoint: target,
                prefixes: [
                    IPPrefix(host: .v4(0x0A00_0000 + UInt32(number))),
                    IPPrefix(host: .v6(0xFD << 56, UInt64(number))),
                ])
            if number % 10 == 3 {
                let (session, _) = sessionPair(at: time, base: UInt32(number) * 8 + 0x10_0000)
                peer.sending = session
                peer.receiving = [session]
                sessions.append(session)
            }
            return peer
        }
        #expect(plane.publish(ForwardingSnapshot(peers: peers)).isEmpty)
        var worker = plane.makeWorker()
        for number in stride(from: 3, to: 10_000, by: 10) {
            for isIPv6 in [false, true] {
                var packet = PacketTemplate(isIPv6: isIPv6, isTCP: false).packet([1])
                let end = isIPv6 ? 40 : 20
                packet.replaceSubrange(end - 2..<end, with: big16(number))
                try #require(submit(packet, to: kernel))
            }
            _ = worker.round()
        }
        #expect(sessions.count == 1000)
        #expect(sessions.allSatisfy { $0.activity.messagesSent == 2 })
        #expect(plane.drops(.noRoute) == 0)
        // A peer without a session: control is asked for this one and no other.
        var packet = PacketTemplate(isTCP: false).packet([1])
        packet.replaceSubrange(18..<20, with: big16(9999))
        try #require(submit(packet, to: kernel))
        _ = worker.round()
        var wanted: [DataPlaneEvent] = []
        plane.drainEvents { wanted.append($0) }
        #expect(wanted == [.sessionWanted(peer: ManyPeersTests.key(9999))])
        // One more than there is room for is named, and nobody else suffers.
        let stranger = ForwardingPeer(key: ManyPeersTests.key(10_000))
        #expect(plane.publish(ForwardingSnapshot(peers: peers + [stranger])) == [stranger.key])
        close(kernel)
    }
}

/// The kernel hands a packet to the device; whether there was room.
private func submit(_ packet: [UInt8], to kernel: Int32) -> Bool {
    let bytes = [UInt8](repeating: 0, count: 10) + packet
    return send(kernel, bytes, bytes.count, 0) == bytes.count
}
