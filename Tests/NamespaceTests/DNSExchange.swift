import Glibc
import LinuxIO
import NetAddress

/// Messages to a name server with sockets that wait, for tests.
enum DNSExchange {
    /// The next datagram that comes back; `nil` when none does within `patience` milliseconds.
    static func udp(
        _ bytes: [UInt8], to server: SocketAddress, patience: Int32 = 3_000
    ) throws -> [UInt8]? {
        let own = SocketAddress(ip: server.ip.isIPv4 ? .v4(0) : .v6(0, 0), port: 0)
        let socket = try DatagramSocket(boundTo: own)
        try socket.connect(to: server)
        socket.send(bytes, to: nil)
        var entry = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, patience) > 0, case .datagram(let reply) = socket.receive() else {
            return nil
        }
        return reply.bytes
    }

    /// The next message on a connection of its own; `nil` when it ends or takes too long.
    static func tcp(
        _ bytes: [UInt8], to server: SocketAddress, patience: Int32 = 3_000
    ) throws -> [UInt8]? {
        let framed = [UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes
        let socket = try StreamSocket(connectingTo: server)
        var rest = framed[...]
        var input: [UInt8] = []
        while true {
            let wanted = Int16(rest.isEmpty ? POLLIN : POLLIN | POLLOUT)
            var entry = pollfd(fd: socket.descriptor, events: wanted, revents: 0)
            guard poll(&entry, 1, patience) > 0 else { return nil }
            if entry.revents & Int16(POLLOUT) != 0, !rest.isEmpty,
                case .moved(let count) = socket.send(rest)
            {
                rest = rest.dropFirst(count)
            }
            guard entry.revents & Int16(POLLIN) != 0 else { continue }
            guard case .moved = socket.receive(into: &input, limit: 65_537) else { return nil }
            if input.count >= 2, input.count >= 2 + Int(input[0]) * 256 + Int(input[1]) {
                return Array(input.dropFirst(2).prefix(Int(input[0]) * 256 + Int(input[1])))
            }
        }
    }
}
