import Cryptography
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Synchronization
import Testing
import WireGuard

/// A plane with two packet threads, each with a queue of the device and a socket on the one port.
final class ShardedEndpoint {
    let plane: PacketPlane
    /// The kernel's sides of the two queues.
    let kernels: [Int32]
    let address: SocketAddress

    init() throws {
        var devices: [TunDevice] = []
        var kernels: [Int32] = []
        for index in 0..<2 {
            let (device, kernel) = try devicePair("queue\(index)")
            devices.append(device)
            kernels.append(kernel)
        }
        self.kernels = kernels
        let sockets = try UDPSocket.group(of: 2, port: 0)
        #expect(sockets[0].port == sockets[1].port)
        plane = try PacketPlane(
            DataPlaneConfiguration(
                devices: devices, sockets: sockets, ringCapacity: 256, peerCapacity: 64))
        address = SocketAddress(ip: .v4(0x7F00_0001), port: sockets[0].port)
    }

    deinit {
        plane.stop()
        for kernel in kernels { close(kernel) }
    }
}

@Suite("Several packet threads", .serialized)
struct ShardTests {
    /// Two flows leave through different threads of one node under one session. The counters come
    /// from one sequence, so nothing may be refused as a repetition, and each flow stays in order.
    @Test("send under one session: nothing is lost, repeated or out of order")
    func sending() throws {
        let tunnel = try Tunnel()
        let sender = try ShardedEndpoint()
        let target = try Endpoint()
        var peer = tunnel.peerOfA
        peer.endpoint = target.address
        sender.plane.publish(ForwardingSnapshot(peers: [peer]))
        target.plane.publish(ForwardingSnapshot(peers: [tunnel.peerOfB]))
        try sender.plane.start()
        try target.plane.start()
        let perFlow = 3000
        var received: [[Int]] = [[], []]
        var sent = 0
        while received[0].count + received[1].count < 2 * perFlow {
            // Both threads always have something, and no queue overflows.
            while sent < perFlow, sent - min(received[0].count, received[1].count) < 100 {
                for flow in 0..<2 {
                    var template = PacketTemplate(isTCP: false)
                    template.ports = (1000 + flow, 2000)
                    let packet = template.packet(big16(sent) + pattern(200))
                    let bytes = [UInt8](repeating: 0, count: 10) + packet
                    try #require(
                        send(sender.kernels[flow], bytes, bytes.count, 0) == bytes.count)
                }
                sent += 1
            }
            var entry = pollfd(fd: target.kernel, events: Int16(POLLIN), revents: 0)
            try #require(poll(&entry, 1, 20_000) == 1, "\(received.map(\.count)) came")
            while let (header, packet) = target.take() {
                let flow = Int(packet[20]) << 8 | Int(packet[21]) - 1000
                // Datagrams of one flow that arrived together come as one (virtio type UDP).
                let size = header[1] == 0 ? packet.count - 28 : Int(header[4])
                for start in stride(from: 28, to: packet.count, by: size) {
                    received[flow].append(Int(packet[start]) << 8 | Int(packet[start + 1]))
                }
            }
        }
        #expect(received[0] == Array(0..<perFlow))
        #expect(received[1] == Array(0..<perFlow))
        #expect(target.plane.drops(.replayed) == 0)
        #expect(sender.plane.traffic(with: Tunnel.keyB).sentPackets == UInt64(2 * perFlow))
        #expect(tunnel.sessionA.activity.messagesSent == UInt64(2 * perFlow))
    }

    /// An attacker repeats every datagram from many addresses, so that the copies reach both
    /// threads at once. The window is one: each packet is taken once, whoever sees it first.
    @Test("receive under one session: a datagram counts once, whichever thread gets its copies")
    func replay() throws {
        let tunnel = try Tunnel()
        let target = try ShardedEndpoint()
        target.plane.publish(ForwardingSnapshot(peers: [tunnel.peerOfB]))
        try target.plane.start()
        let sources = try (0..<16).map { _ in try UDPSocket(port: 0) }
        var frames: [[UInt8]] = []
        let rounds = 200
        for round in 0..<rounds {
            let frame = try #require(
                tunnel.sessionA.seal([0x10] + big16(round), at: SystemClock.boot()))
            for source in sources { source.send(frame, to: target.address) }
            let seen = { (round + 1) * sources.count }
            while frames.count + Int(target.plane.drops(.replayed)) < seen() {
                var entry = pollfd(
                    fd: target.plane.doorbell.descriptor, events: Int16(POLLIN), revents: 0)
                _ = poll(&entry, 1, 10)
                target.plane.drainEvents { event in
                    if case .controlFrame(_, let bytes) = event { frames.append(bytes) }
                }
            }
        }
        #expect(Set(frames).count == rounds)
        #expect(frames.count == rounds)
        #expect(target.plane.drops(.replayed) == UInt64(rounds * (sources.count - 1)))
        #expect(tunnel.sessionB.activity.messagesReceived == UInt64(rounds))
    }

    @Test("are as many as the user says, else as the machine can feed")
    func count() {
        #expect(ShardCount.resolve(3) == 3)
        #expect(ShardCount.resolve(0) >= 1)
        let automatic = [1, 2, 3, 4, 6, 8, 64].map { ShardCount.automatic(processors: $0) }
        #expect(automatic == [1, 1, 1, 2, 3, 4, 4])
    }

    @Test("a shared port is refused to everybody else, also to the same user")
    func exclusive() throws {
        let sockets = try UDPSocket.group(of: 2, port: 0)
        #expect(throws: SystemCallError.self) {
            try UDPSocket.group(of: 2, port: sockets[0].port)
        }
    }
}
