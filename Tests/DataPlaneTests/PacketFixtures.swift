import Cryptography
import DataPlane
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Testing
import WireGuard

/// One end of a tunnel without a kernel device: a socket pair stands for it, and the test plays
/// the kernel.
final class Endpoint {
    let plane: PacketPlane
    /// The kernel's side of the device.
    let kernel: Int32
    let address: SocketAddress

    init(mtu: Int = 1420, hasDevice: Bool = true) throws {
        let (device, kernel) = try devicePair("pair")
        self.kernel = kernel
        let socket = try UDPSocket(port: 0)
        plane = try PacketPlane(
            DataPlaneConfiguration(
                device: hasDevice ? device : nil, socket: socket, mtu: mtu, ringCapacity: 256,
                peerCapacity: 64))
        address = SocketAddress(ip: .v4(0x7F00_0001), port: socket.port)
    }

    deinit {
        plane.stop()
        close(kernel)
    }

    /// The kernel hands a packet to the device.
    func submit(_ packet: [UInt8], header: [UInt8] = [UInt8](repeating: 0, count: 10)) {
        let bytes = header + packet
        #expect(send(kernel, bytes, bytes.count, 0) == bytes.count)
    }

    /// What the device handed to the kernel next; `nil` when there is nothing yet.
    func take() -> (header: [UInt8], packet: [UInt8])? {
        var bytes = [UInt8](repeating: 0, count: 70_000)
        let count = recv(kernel, &bytes, bytes.count, 0)
        guard count >= 10 else { return nil }
        return (Array(bytes[0..<10]), Array(bytes[10..<count]))
    }

    func events() -> [DataPlaneEvent] {
        var events: [DataPlaneEvent] = []
        plane.drainEvents { events.append($0) }
        return events
    }
}

/// A queue of a device that is a socket pair, and the kernel's side of it.
func devicePair(_ name: String) throws -> (TunDevice, Int32) {
    var pair: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0, &pair) == 0)
    var size: Int32 = 4 << 20
    for side in pair {
        setsockopt(side, SOL_SOCKET, SO_SNDBUF, &size, 4)
        _ = fcntl(side, F_SETFL, O_NONBLOCK)
    }
    return (TunDevice(adopting: pair[0], name: name, offloadsUDP: true), pair[1])
}

/// Two ends, `a` 10.0.0.1 and `b` 10.0.0.2, with a session between them.
struct Tunnel {
    let a: Endpoint
    let b: Endpoint
    let sessionA: TransportSession
    let sessionB: TransportSession
    static let keyA = StaticPublicKey(Bytes32(word0: 0xA, word1: 0, word2: 0, word3: 0))
    static let keyB = StaticPublicKey(Bytes32(word0: 0xB, word1: 0, word2: 0, word3: 0))

    init(suite: PacketSuite = .chaCha20Poly1305, mtu: Int = 1420) throws {
        a = try Endpoint(mtu: mtu)
        b = try Endpoint(mtu: mtu)
        (sessionA, sessionB) = sessionPair(suite: suite, at: SystemClock.boot())
        publish()
    }

    func publish() {
        a.plane.publish(ForwardingSnapshot(peers: [peerOfA]))
        b.plane.publish(ForwardingSnapshot(peers: [peerOfB]))
    }

    var peerOfA: ForwardingPeer {
        ForwardingPeer(
            key: Tunnel.keyB, endpoint: b.address, prefixes: prefixes("10.0.0.2/32", "fd00::2/128"),
            sending: sessionA, receiving: [sessionA])
    }

    var peerOfB: ForwardingPeer {
        ForwardingPeer(
            key: Tunnel.keyA, endpoint: a.address, prefixes: prefixes("10.0.0.1/32", "fd00::1/128"),
            sending: sessionB, receiving: [sessionB])
    }
}

func prefixes(_ texts: String...) -> [IPPrefix] {
    texts.compactMap { IPPrefix($0) }
}

/// Both ends of one session: the initiator's and the responder's.
func sessionPair(
    suite: PacketSuite = .chaCha20Poly1305, at time: BootInstant, base: UInt32 = 0x1000
) -> (TransportSession, TransportSession) {
    let one = SecretBytes(Bytes32(word0: UInt64(base), word1: 1, word2: 1, word3: 1))
    let two = SecretBytes(Bytes32(word0: UInt64(base), word1: 2, word2: 2, word3: 2))
    return (
        TransportSession(
            localIndex: base + 1, remoteIndex: base + 2, suite: suite, sendKey: one,
            receiveKey: two, isInitiator: true, createdAt: time),
        TransportSession(
            localIndex: base + 2, remoteIndex: base + 1, suite: suite, sendKey: two,
            receiveKey: one, isInitiator: false, createdAt: time)
    )
}

/// Runs rounds of both workers until `condition` holds; fails the test if it does not within 20 s.
/// The kernel may hand a datagram over later than it took it.
func run(
    _ first: inout PacketWorker, _ second: inout PacketWorker,
    until condition: () -> Bool
) {
    let limit = SystemClock.bootNanoseconds() + 20_000_000_000
    while SystemClock.bootNanoseconds() < limit {
        _ = first.round()
        _ = second.round()
        if condition() { return }
    }
    Issue.record("nothing happened in 20 s")
}

// MARK: - Packets, built the slow and obvious way

/// RFC 1071 word by word.
func referenceChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    var index = 0
    while index < bytes.count {
        let low = index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0
        sum += UInt32(bytes[index]) << 8 | low
        sum = (sum & 0xFFFF) + sum >> 16
        index += 2
    }
    return ~UInt16(truncatingIfNeeded: sum)
}

func big16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }

func big32(_ value: UInt32) -> [UInt8] { big16(Int(value >> 16)) + big16(Int(value & 0xFFFF)) }

/// The checksum of the transport part of a packet, over its pseudo header; 0 when it is right.
func transportChecksum(_ packet: [UInt8]) -> UInt16 {
    let isIPv6 = packet[0] >> 4 == 6
    let start = isIPv6 ? 40 : Int(packet[0] & 15) * 4
    let addresses = isIPv6 ? Array(packet[8..<40]) : Array(packet[12..<20])
    let kind = isIPv6 ? packet[6] : packet[9]
    let body = Array(packet[start...])
    return referenceChecksum(addresses + [0, kind] + big32(UInt32(body.count)) + body)
}

struct PacketTemplate {
    var isIPv6 = false
    var isTCP = true
    var source: UInt8 = 1
    var destination: UInt8 = 2
    var ports: (Int, Int) = (1000, 2000)
    var sequence: UInt32 = 0xFFFF_FF00
    var flags: UInt8 = 0x10
    var identification = 0xFFFE
    /// 12 bytes, as the timestamp option takes with its padding.
    var options: [UInt8] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]

    /// A whole packet with right checksums.
    func packet(_ payload: [UInt8]) -> [UInt8] {
        var transport = big16(ports.0) + big16(ports.1)
        if isTCP {
            let offset = UInt8((20 + options.count) / 4) << 4
            transport += big32(sequence) + big32(77) + [offset, flags] + big16(500)
            transport += [0, 0, 0, 0] + options
        } else {
            transport += big16(8 + payload.count) + [0, 0]
        }
        let body = transport + payload
        var packet: [UInt8]
        if isIPv6 {
            let from: [UInt8] = [0xFD] + [UInt8](repeating: 0, count: 14) + [source]
            let to: [UInt8] = [0xFD] + [UInt8](repeating: 0, count: 14) + [destination]
            packet = [0x60, 0, 0, 0] + big16(body.count) + [isTCP ? 6 : 17, 64] + from + to
        } else {
            packet = [0x45, 0] + big16(20 + body.count) + big16(identification) + [0x40, 0, 64]
            packet += [isTCP ? 6 : 17, 0, 0, 10, 0, 0, source, 10, 0, 0, destination]
            packet.replaceSubrange(10..<12, with: big16(Int(referenceChecksum(packet))))
        }
        packet += body
        let field = (isIPv6 ? 40 : 20) + (isTCP ? 16 : 6)
        packet.replaceSubrange(field..<field + 2, with: big16(Int(transportChecksum(packet))))
        return packet
    }

    var headerCount: Int { (isIPv6 ? 40 : 20) + (isTCP ? 20 + options.count : 8) }

    /// The virtio header of a super-packet that is to be cut into `size` bytes of payload.
    func superHeader(_ size: Int) -> [UInt8] {
        let type: UInt8 = isTCP ? (isIPv6 ? 4 : 1) : 5
        let start = UInt8(isIPv6 ? 40 : 20)
        let little = { (value: Int) in [UInt8(value & 255), UInt8(value >> 8)] }
        return [1, type] + little(headerCount) + little(size) + [start, 0, isTCP ? 16 : 6, 0]
    }
}

func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &+ seed) &* 31 &+ ($0 >> 8)) }
}
