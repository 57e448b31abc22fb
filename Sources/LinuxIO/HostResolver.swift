import CLinux
import Glibc
import MeshBase
import NetAddress

/// Turns host names into addresses with the machine's own resolver (getaddrinfo(3)).
package enum HostResolver {
    /// Every address of `host`, in the order of preference of the machine; empty when the name
    /// does not resolve now. Literal addresses need no resolver. May block for seconds.
    package static func addresses(of host: String, port: UInt16) -> [SocketAddress] {
        if let literal = IPAddress(host) { return [SocketAddress(ip: literal, port: port)] }
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var result: [SocketAddress] = []
        var next = list
        while let entry = next?.pointee {
            if let found = socketAddress(entry), !result.contains(found) { result.append(found) }
            next = entry.ai_next
        }
        return result
    }

    private static func socketAddress(_ entry: addrinfo) -> SocketAddress? {
        guard let raw = entry.ai_addr else { return nil }
        switch entry.ai_family {
        case AF_INET:
            return raw.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
                SocketAddress(
                    ip: .v4(UInt32(bigEndian: address.pointee.sin_addr.s_addr)),
                    port: UInt16(bigEndian: address.pointee.sin_port))
            }
        case AF_INET6:
            return raw.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
                let bytes = withUnsafeBytes(of: address.pointee.sin6_addr) { Array($0) }
                return IPAddress(bytes: bytes).map {
                    SocketAddress(
                        ip: $0, port: UInt16(bigEndian: address.pointee.sin6_port),
                        scope: address.pointee.sin6_scope_id)
                }
            }
        default:
            return nil
        }
    }
}
