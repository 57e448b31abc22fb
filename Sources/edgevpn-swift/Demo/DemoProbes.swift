import DNS
import Glibc
import LinuxIO
import MeshBase
import NetAddress

// What a user's programs would do on a node, done by this process on a thread in the node's
// namespace: ask for a name, send an echo request, copy bytes over TCP.

/// Why a probe did not come back as it should.
struct ProbeFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }

    static func system(_ operation: String) -> ProbeFailure {
        ProbeFailure("\(operation): \(String(cString: strerror(errno)))")
    }
}

/// Asks `server` for the addresses of `name`, over UDP, and waits a second.
func lookUp(_ name: String, ipv4: Bool, at server: SocketAddress) throws -> [IPAddress] {
    guard let parsed = DNSName(name) else { throw ProbeFailure("\(name) is no name") }
    var query = DNSMessage(id: .random(in: 1 ... .max), flags: .recursionDesired)
    query.questions = [DNSQuestion(parsed, ipv4 ? .a : .aaaa)]
    let socket = try ProbeSocket(server.ip.isIPv4 ? AF_INET : AF_INET6, .datagram)
    try socket.connect(to: server)
    try socket.send(query.encoded())
    let reply = try DNSMessage(decoding: try socket.receive(limit: 4_096))
    guard reply.id == query.id, reply.isResponse, reply.code == .noError else {
        throw ProbeFailure("\(name): answered with code \(reply.code.rawValue)")
    }
    return reply.answers.compactMap { record in
        if case .address(let ip) = record.data { ip } else { nil }
    }
}

/// Sends one ICMP or ICMPv6 echo request (RFC 792, RFC 4443 section 4) and waits a second for its
/// reply.
func echo(_ address: IPAddress) throws {
    let identifier = UInt16.random(in: .min ... .max)
    let isIPv4 = address.isIPv4
    var packet: [UInt8] = [isIPv4 ? 8 : 128, 0, 0, 0]
    packet += [UInt8(identifier >> 8), UInt8(identifier & 255), 0, 1]
    packet += Array("edgevpn-swift demo".utf8)
    if isIPv4 {
        // The kernel computes the ICMPv6 checksum, which covers a pseudo-header (RFC 3542).
        let sum = internetChecksum(packet)
        packet[2] = UInt8(sum >> 8)
        packet[3] = UInt8(sum & 255)
    }
    let socket = try ProbeSocket(isIPv4 ? AF_INET : AF_INET6, .icmp)
    try socket.connect(to: SocketAddress(ip: address, port: 0))
    try socket.send(packet)
    for _ in 0..<64 {
        var reply = try socket.receive(limit: 2_048)[...]
        // A raw IPv4 socket delivers the IP header too (raw(7)).
        if isIPv4, let first = reply.first { reply = reply.dropFirst(Int(first & 15) * 4) }
        let fields = Array(reply.prefix(6))
        if fields.count == 6, fields[0] == (isIPv4 ? 0 : 129), fields[4] == packet[4],
            fields[5] == packet[5]
        {
            return
        }
    }
    throw ProbeFailure("\(address): no reply among many packets")
}

private func internetChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
        let low = index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0
        sum += UInt32(bytes[index]) << 8 | low
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    return ~UInt16(sum)
}

/// A listening TCP socket that counts what one client sends.
final class ByteSink: Sendable {
    private let socket: ProbeSocket

    init(at address: SocketAddress) throws {
        socket = try ProbeSocket(address.ip.isIPv4 ? AF_INET : AF_INET6, .stream)
        try socket.listen(at: address)
    }

    /// Accepts one connection and reads it to its end: bytes and seconds.
    func drain() throws -> (bytes: UInt64, seconds: Double) {
        let connection = try socket.accept()
        let start = SystemClock.boot()
        var total: UInt64 = 0
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = connection.read(&buffer)
            if count <= 0 { break }
            total += UInt64(count)
        }
        return (total, (SystemClock.boot() - start).inSeconds)
    }
}

/// Sends zeros to `address` for `duration`.
func pour(to address: SocketAddress, for duration: Duration) throws {
    let socket = try ProbeSocket(address.ip.isIPv4 ? AF_INET : AF_INET6, .stream)
    try socket.connect(to: address)
    let block = [UInt8](repeating: 0, count: 1 << 17)
    let end = SystemClock.boot() + duration
    while SystemClock.boot() < end { try socket.send(block) }
}

/// A socket with a time limit of a second, closed with its last reference.
final class ProbeSocket: Sendable {
    enum Kind {
        case datagram
        case stream
        case icmp
    }

    private let descriptor: Int32

    init(_ family: Int32, _ kind: Kind) throws {
        let (type, number): (Int32, Int32) =
            switch kind {
            case .datagram: (Int32(SOCK_DGRAM.rawValue), 0)
            case .stream: (Int32(SOCK_STREAM.rawValue), 0)
            case .icmp:
                (
                    Int32(SOCK_RAW.rawValue),
                    Int32(family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6)
                )
            }
        descriptor = socket(family, type | Int32(SOCK_CLOEXEC.rawValue), number)
        guard descriptor >= 0 else { throw ProbeFailure.system("socket") }
        limitTime()
    }

    private init(accepted: Int32) {
        descriptor = accepted
        limitTime()
    }

    deinit {
        close(descriptor)
    }

    private func limitTime() {
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
    }

    func connect(to address: SocketAddress) throws {
        let status = withSystemAddress(address) { Glibc.connect(descriptor, $0, $1) }
        guard status == 0 else { throw ProbeFailure.system("connect to \(address)") }
    }

    func listen(at address: SocketAddress) throws {
        let status = withSystemAddress(address) { bind(descriptor, $0, $1) }
        guard status == 0, Glibc.listen(descriptor, 1) == 0 else {
            throw ProbeFailure.system("listen on \(address)")
        }
    }

    func accept() throws -> ProbeSocket {
        let connection = Glibc.accept(descriptor, nil, nil)
        guard connection >= 0 else { throw ProbeFailure.system("accept") }
        return ProbeSocket(accepted: connection)
    }

    func send(_ bytes: [UInt8]) throws {
        let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        guard count > 0 else { throw ProbeFailure.system("send") }
    }

    func read(_ buffer: inout [UInt8]) -> Int {
        recv(descriptor, &buffer, buffer.count, 0)
    }

    func receive(limit: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: limit)
        let count = recv(descriptor, &buffer, limit, 0)
        guard count > 0 else {
            throw errno == EAGAIN ? ProbeFailure("no answer in a second") : .system("receive")
        }
        return Array(buffer.prefix(count))
    }
}

/// Lends `address` as the system's structure.
private func withSystemAddress<Result>(
    _ address: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    if address.ip.isIPv4 {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = address.port.bigEndian
        withUnsafeMutableBytes(of: &name.sin_addr) { $0.copyBytes(from: address.ip.bytes) }
        return lend(&name, body)
    }
    var name = sockaddr_in6()
    name.sin6_family = sa_family_t(AF_INET6)
    name.sin6_port = address.port.bigEndian
    name.sin6_scope_id = address.scope
    withUnsafeMutableBytes(of: &name.sin6_addr) { $0.copyBytes(from: address.ip.bytes) }
    return lend(&name, body)
}

private func lend<Name, Result>(
    _ name: inout Name, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    withUnsafePointer(to: &name) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<Name>.size))
        }
    }
}
