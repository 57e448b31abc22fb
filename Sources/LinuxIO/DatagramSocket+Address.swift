import Glibc
import NetAddress

/// A socket address in the kernel's form.
struct KernelAddress {
    private(set) var storage = sockaddr_storage()
    private(set) var length: socklen_t

    init(_ address: SocketAddress) {
        switch address.ip {
        case .v4(let value):
            var v4 = sockaddr_in()
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = address.port.bigEndian
            v4.sin_addr.s_addr = value.bigEndian
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v4, as: sockaddr_in.self) }
        case .v6(let high, let low):
            var v6 = sockaddr_in6()
            v6.sin6_family = sa_family_t(AF_INET6)
            v6.sin6_port = address.port.bigEndian
            v6.sin6_scope_id = address.scope
            withUnsafeMutableBytes(of: &v6.sin6_addr) { bytes in
                bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
                bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v6, as: sockaddr_in6.self) }
        }
    }

    /// Room for an address that the kernel fills in.
    init() {
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    }

    /// `nil` for another family than IPv4 and IPv6.
    var socketAddress: SocketAddress? {
        withUnsafeBytes(of: storage) { bytes in
            switch Int32(bytes.loadUnaligned(as: sa_family_t.self)) {
            case AF_INET:
                let v4 = bytes.loadUnaligned(as: sockaddr_in.self)
                return SocketAddress(
                    ip: .v4(UInt32(bigEndian: v4.sin_addr.s_addr)),
                    port: UInt16(bigEndian: v4.sin_port))
            case AF_INET6:
                let v6 = bytes.loadUnaligned(as: sockaddr_in6.self)
                guard let ip = withUnsafeBytes(of: v6.sin6_addr, { IPAddress(bytes: $0) }) else {
                    return nil
                }
                return SocketAddress(
                    ip: ip, port: UInt16(bigEndian: v6.sin6_port),
                    scope: ip.isLinkLocal ? v6.sin6_scope_id : 0)
            default: return nil
            }
        }
    }

    mutating func withPointer<Result>(
        _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &length) }
        }
    }
}

extension SocketAddress {
    var family: Int32 { ip.isIPv4 ? AF_INET : AF_INET6 }
}

/// Sets an option whose value is an `int`.
func setOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) -> Bool {
    var value = value
    return setsockopt(
        descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size)) == 0
}

/// Where a socket is bound.
func boundAddress(_ descriptor: Int32) -> SocketAddress? {
    var address = KernelAddress()
    guard address.withPointer({ getsockname(descriptor, $0, $1) }) == 0 else { return nil }
    return address.socketAddress
}

/// Opens a non-blocking socket and binds it to `address`.
///
/// IPv6 sockets take IPv6 alone, so that one service can have both families on one port. The
/// address need not be there yet (IP_FREEBIND): an interface that is made later, or anew, serves.
func openBound(
    _ kind: __socket_type, to address: SocketAddress, sharesPort: Bool, operation: String
) throws(SystemCallError) -> Int32 {
    let flags = Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(address.family, Int32(kind.rawValue) | flags, 0)
    guard descriptor >= 0 else { throw SystemCallError(operation) }
    var target = KernelAddress(address)
    if kind == SOCK_STREAM || sharesPort { _ = setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) }
    if sharesPort { _ = setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
    if address.ip.isIPv4 {
        _ = setOption(descriptor, Int32(IPPROTO_IP), SocketOption.freebind, 1)
    } else {
        _ = setOption(descriptor, Int32(IPPROTO_IPV6), SocketOption.v6Only, 1)
        _ = setOption(descriptor, Int32(IPPROTO_IPV6), SocketOption.v6Freebind, 1)
    }
    guard target.withPointer({ bind(descriptor, $0, $1.pointee) }) == 0 else {
        let failure = SystemCallError(operation)
        close(descriptor)
        throw failure
    }
    return descriptor
}

/// Options of <linux/in.h> and <linux/in6.h>, some of which the C library hides behind macros.
enum SocketOption {
    static let timeToLive: Int32 = 2
    static let packetInfo: Int32 = 8
    static let freebind: Int32 = 15
    static let multicastTTL: Int32 = 33
    static let multicastLoop: Int32 = 34
    static let addMembership: Int32 = 35
    static let dropMembership: Int32 = 36
    static let multicastAll: Int32 = 49

    static let v6Hops: Int32 = 16
    static let v6MulticastHops: Int32 = 18
    static let v6MulticastLoop: Int32 = 19
    static let v6AddMembership: Int32 = 20
    static let v6DropMembership: Int32 = 21
    static let v6Only: Int32 = 26
    static let v6MulticastAll: Int32 = 29
    static let v6ReceivePacketInfo: Int32 = 49
    static let v6PacketInfo: Int32 = 50
    static let v6Freebind: Int32 = 78
}
