import CLinux
import Glibc
import NetAddress

/// A non-blocking UDP socket for IPv6 and IPv4 at once, that sends and receives runs of equal
/// datagrams in one call (UDP_SEGMENT, UDP_GRO; udp(7)).
package final class UDPSocket: Sendable {
    package let descriptor: Int32
    package let port: UInt16
    /// `AF_INET6`, or `AF_INET` on a machine without IPv6.
    private let family: Int32

    /// - Parameters:
    ///   - port: 0 lets the kernel choose.
    ///   - firewallMark: SO_MARK of every packet; 0 for none. Needs CAP_NET_ADMIN.
    ///   - sharesPort: SO_REUSEPORT, for several sockets that each serve a part of the flows.
    ///   - bufferBytes: Asked for in both directions; the kernel may grant less.
    package init(
        port: UInt16, firewallMark: UInt32 = 0, sharesPort: Bool = false,
        bufferBytes: Int = 4 << 20
    ) throws(SystemCallError) {
        var options = clinux_socket_options()
        options.firewall_mark = firewallMark
        options.reuse_port = sharesPort ? 1 : 0
        options.buffer_bytes = Int32(clamping: bufferBytes)
        var wildcard = clinux_address()
        wildcard.port = port
        var family: Int32 = 0
        let opened = clinux_udp_open(&wildcard, &options, &family)
        guard opened >= 0 else { throw SystemCallError("bind UDP port \(port)", code: opened) }
        let bound = clinux_udp_port(opened)
        guard bound > 0 else {
            close(opened)
            throw SystemCallError("read the bound UDP port", code: bound)
        }
        descriptor = opened
        self.family = family
        self.port = UInt16(truncatingIfNeeded: bound)
    }

    deinit {
        close(descriptor)
    }

    /// Sockets that share one port; the kernel gives each of them a part of the flows.
    ///
    /// The port is taken exclusively before it is shared, so that a port that another process
    /// uses is refused, whoever runs it.
    ///
    /// - Parameter count: At least 1.
    package static func group(
        of count: Int, port: UInt16, firewallMark: UInt32 = 0
    ) throws(SystemCallError) -> [UDPSocket] {
        var sockets = [try UDPSocket(port: port, firewallMark: firewallMark)]
        guard count > 1 else { return sockets }
        let status = clinux_udp_share_port(sockets[0].descriptor)
        guard status == 0 else { throw SystemCallError("share the UDP port", code: status) }
        while sockets.count < count {
            sockets.append(
                try UDPSocket(
                    port: sockets[0].port, firewallMark: firewallMark, sharesPort: true))
        }
        return sockets
    }

    /// Binds the socket to one destination: it receives from there only, and messages without a
    /// port go there, without asking the kernel for the way each time.
    package func connect(to destination: SocketAddress) throws(SystemCallError) {
        var address = clinux_address(destination)
        let status = clinux_udp_connect(descriptor, family, &address)
        guard status == 0 else { throw SystemCallError("connect a UDP socket", code: status) }
    }

    /// Whether routers and this machine may cut what is sent from now on. They may at first.
    package func setFragmentation(isAllowed: Bool) {
        clinux_udp_set_fragmentation(descriptor, family, isAllowed ? 1 : 0)
    }

    /// The link MTU of the route to `destination`, as this machine knows it; `nil` without a route.
    package static func routeMTU(to destination: SocketAddress, firewallMark: UInt32 = 0) -> Int? {
        var address = clinux_address(destination)
        let mtu = clinux_route_mtu(&address, firewallMark)
        return mtu > 0 ? Int(mtu) : nil
    }

    /// For a packet loop, whose owner keeps this object alive.
    package var endpoint: UDPEndpoint { UDPEndpoint(descriptor: descriptor, family: family) }

    /// Sends one datagram; whether the kernel took it. UDP may lose it anyway.
    @discardableResult
    package func send(_ datagram: [UInt8], to destination: SocketAddress) -> Bool {
        datagram.withUnsafeBufferPointer { bytes in
            var message = clinux_outgoing()
            message.bytes = bytes.baseAddress
            message.count = UInt32(truncatingIfNeeded: bytes.count)
            message.to = clinux_address(destination)
            return endpoint.send(&message, count: 1) == 1
        }
    }
}

/// The sending and receiving of a ``UDPSocket``, without a reference count.
package struct UDPEndpoint: Sendable, BitwiseCopyable {
    package let descriptor: Int32
    fileprivate let family: Int32

    /// Sends at most 64 messages; how many the kernel took, or a negative error number that
    /// concerns the first.
    package func send(_ messages: UnsafePointer<clinux_outgoing>, count: Int) -> Int {
        Int(clinux_udp_send(descriptor, family, messages, Int32(truncatingIfNeeded: count)))
    }

    /// Sends one message that dies after so many hops.
    func send(_ message: UnsafePointer<clinux_outgoing>, hops: UInt8) -> Int {
        Int(clinux_udp_send_short(descriptor, family, message, Int32(hops)))
    }

    /// Takes what has arrived, at most 8 messages, without waiting; a negative error number
    /// otherwise.
    package func receive(_ messages: UnsafeMutablePointer<clinux_incoming>, count: Int) -> Int {
        Int(clinux_udp_receive(descriptor, messages, Int32(truncatingIfNeeded: count)))
    }

    /// Waits until the kernel takes datagrams again, or `milliseconds` have passed.
    package func waitUntilWritable(milliseconds: Int32) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&entry, 1, milliseconds)
    }
}

extension clinux_address {
    package init(_ address: SocketAddress) {
        self.init()
        let mapped = address.ip.mappedBytes
        withUnsafeMutableBytes(of: &ip) { $0.copyBytes(from: mapped) }
        port = address.port
        scope = address.scope
    }

    /// IPv4 comes out as IPv4, not as an address mapped into IPv6.
    package var socketAddress: SocketAddress {
        let (high, low) = halves
        let ip = IPAddress.v6(high, low).unmapped
        return SocketAddress(ip: ip, port: port, scope: scope)
    }

    /// The address as two numbers, for comparison without memory traffic.
    package var halves: (high: UInt64, low: UInt64) {
        withUnsafeBytes(of: ip) {
            (
                UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
    }
}
