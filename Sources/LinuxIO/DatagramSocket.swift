import Glibc
import NetAddress

/// One datagram as it arrived.
package struct ReceivedDatagram: Sendable {
    package var bytes: [UInt8]
    package var source: SocketAddress
    /// The address it was sent to: the local one, or a multicast group.
    package var destination: IPAddress?
    /// The index of the interface where it arrived; 0 when unknown.
    package var interface: UInt32
}

/// A plain non-blocking UDP socket of one family, which knows where each datagram came in and can
/// say where one shall go out (IP_PKTINFO, RFC 3542 section 6). For names, not for packets: one
/// system call per datagram, unless a ``DatagramBatch`` takes and sends several.
package final class DatagramSocket: Sendable {
    package let descriptor: Int32
    package let localAddress: SocketAddress

    /// - Parameters:
    ///   - address: Where to bind; port 0 lets the kernel draw one at random.
    ///   - sharesPort: SO_REUSEADDR and SO_REUSEPORT, to live beside another multicast responder.
    package init(
        boundTo address: SocketAddress, sharesPort: Bool = false
    ) throws(SystemCallError) {
        let opened = try openBound(
            SOCK_DGRAM, to: address, sharesPort: sharesPort, operation: "bind UDP \(address)")
        if address.ip.isIPv4 {
            _ = setOption(opened, Int32(IPPROTO_IP), SocketOption.packetInfo, 1)
        } else {
            _ = setOption(opened, Int32(IPPROTO_IPV6), SocketOption.v6ReceivePacketInfo, 1)
        }
        descriptor = opened
        localAddress = boundAddress(opened) ?? address
    }

    deinit {
        close(descriptor)
    }

    /// Makes `peer` the only source and destination; the kernel then also reports its refusals.
    package func connect(to peer: SocketAddress) throws(SystemCallError) {
        var target = KernelAddress(peer)
        guard target.withPointer({ Glibc.connect(descriptor, $0, $1.pointee) }) == 0 else {
            throw SystemCallError("connect UDP to \(peer)")
        }
    }

    /// What a receive attempt found.
    package enum Outcome: Sendable {
        case datagram(ReceivedDatagram)
        case nothing
        /// The error number: on a connected socket, that the peer cannot be reached.
        case failed(Int32)
    }

    /// Takes one datagram of at most `limit` bytes without waiting; longer ones are cut.
    package func receive(limit: Int = 4096) -> Outcome {
        var source = KernelAddress()
        var truth = PacketInfo()
        var received = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            received = source.withPointer { name, nameLength in
                truth.withControl { control, controlLength in
                    var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
                    return withUnsafeMutablePointer(to: &vector) { vector in
                        var header = msghdr()
                        header.msg_name = UnsafeMutableRawPointer(name)
                        header.msg_namelen = nameLength.pointee
                        header.msg_iov = vector
                        header.msg_iovlen = 1
                        header.msg_control = control
                        header.msg_controllen = controlLength
                        let result = recvmsg(descriptor, &header, Int32(MSG_DONTWAIT))
                        controlLength = Int(header.msg_controllen)
                        return result < 0 ? -Int(errno) : result
                    }
                }
            }
            count = max(received, 0)
        }
        guard received >= 0 else {
            let code = Int32(-received)
            return code == EAGAIN || code == EINTR ? .nothing : .failed(code)
        }
        guard let from = source.socketAddress else { return .nothing }
        return .datagram(
            ReceivedDatagram(
                bytes: bytes, source: from, destination: truth.destination,
                interface: truth.interface))
    }

    /// Sends one datagram; whether the kernel took it.
    ///
    /// - Parameters:
    ///   - destination: `nil` on a connected socket.
    ///   - source: the local address to send from; `nil` leaves it to the kernel.
    ///   - interface: the index of the interface to send by; 0 leaves it to the routes.
    @discardableResult
    package func send(
        _ bytes: [UInt8], to destination: SocketAddress?, from source: IPAddress? = nil,
        interface: UInt32 = 0
    ) -> Bool {
        var target = destination.map(KernelAddress.init)
        var info: PacketInfo?
        if source != nil || interface != 0 {
            let isIPv4 = localAddress.ip.isIPv4
            info = PacketInfo(source: source, interface: interface, isIPv4: isIPv4)
        }
        return bytes.withUnsafeBytes { buffer in
            var vector = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: buffer.baseAddress),
                iov_len: buffer.count)
            return withUnsafeMutablePointer(to: &vector) { vector in
                var header = msghdr()
                header.msg_iov = vector
                header.msg_iovlen = 1
                return withName(&target, &header) { header in
                    withInfo(&info, &header) { header in
                        sendmsg(descriptor, &header, Int32(MSG_NOSIGNAL))
                    }
                } == buffer.count
            }
        }
    }

    private func withName(
        _ target: inout KernelAddress?, _ header: inout msghdr, _ body: (inout msghdr) -> Int
    ) -> Int {
        guard var address = target else { return body(&header) }
        return address.withPointer { name, length in
            header.msg_name = UnsafeMutableRawPointer(name)
            header.msg_namelen = length.pointee
            return body(&header)
        }
    }

    private func withInfo(
        _ info: inout PacketInfo?, _ header: inout msghdr, _ body: (inout msghdr) -> Int
    ) -> Int {
        guard var packet = info else { return body(&header) }
        return packet.withControl { control, length in
            header.msg_control = control
            header.msg_controllen = length
            return body(&header)
        }
    }
}

/// The control message that carries `in_pktinfo` or `in6_pktinfo`. The layout is the kernel's on
/// 64-bit machines: length, level and type in 16 bytes, then the data.
private struct PacketInfo {
    private static let headerSize = 16
    /// Bytes of `in_pktinfo`: interface, local address, destination of the header.
    private static let v4Size = 12
    /// Bytes of `in6_pktinfo`: address, interface.
    private static let v6Size = 20

    private var storage = InlineArray<6, UInt64>(repeating: 0)
    private var length = 48
    private(set) var destination: IPAddress?
    private(set) var interface: UInt32 = 0

    init() {}

    init(source: IPAddress?, interface: UInt32, isIPv4: Bool) {
        let dataSize = isIPv4 ? PacketInfo.v4Size : PacketInfo.v6Size
        length = isIPv4 ? 32 : 40
        withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.storeBytes(of: UInt(PacketInfo.headerSize + dataSize), as: UInt.self)
            let level = Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6)
            bytes.storeBytes(of: level, toByteOffset: 8, as: Int32.self)
            let type = isIPv4 ? SocketOption.packetInfo : SocketOption.v6PacketInfo
            bytes.storeBytes(of: type, toByteOffset: 12, as: Int32.self)
            switch source {
            case .v4(let value):
                bytes.storeBytes(of: value.bigEndian, toByteOffset: 20, as: UInt32.self)
            case .v6(let high, let low):
                bytes.storeBytes(of: high.bigEndian, toByteOffset: 16, as: UInt64.self)
                bytes.storeBytes(of: low.bigEndian, toByteOffset: 24, as: UInt64.self)
            case nil: break
            }
            bytes.storeBytes(of: interface, toByteOffset: isIPv4 ? 16 : 32, as: UInt32.self)
        }
    }

    /// Lends the message to a system call, and reads what the kernel put there.
    mutating func withControl(
        _ body: (UnsafeMutableRawPointer?, inout Int) -> Int
    ) -> Int {
        var used = length
        let result = withUnsafeMutableBytes(of: &storage) { body($0.baseAddress, &used) }
        read(used)
        return result
    }

    private mutating func read(_ used: Int) {
        guard used >= PacketInfo.headerSize else { return }
        withUnsafeBytes(of: storage) { bytes in
            let level = bytes.loadUnaligned(fromByteOffset: 8, as: Int32.self)
            let type = bytes.loadUnaligned(fromByteOffset: 12, as: Int32.self)
            if level == Int32(IPPROTO_IP), type == SocketOption.packetInfo,
                used >= PacketInfo.headerSize + PacketInfo.v4Size
            {
                interface = bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
                destination = IPAddress(bytes: bytes[24..<28])
            } else if level == Int32(IPPROTO_IPV6), type == SocketOption.v6PacketInfo,
                used >= PacketInfo.headerSize + PacketInfo.v6Size
            {
                interface = bytes.loadUnaligned(fromByteOffset: 32, as: UInt32.self)
                destination = IPAddress(bytes: bytes[16..<32])
            }
        }
    }
}
