import Glibc
import NetAddress

extension DatagramSocket {
    /// Prepares the socket for a link-local group: hop limit 255 in all it sends (RFC 6762 section
    /// 11), a copy for other programs of this machine, and no groups that others joined.
    package func configureForMulticast() {
        let (ip, ip6) = (Int32(IPPROTO_IP), Int32(IPPROTO_IPV6))
        if localAddress.ip.isIPv4 {
            _ = setOption(descriptor, ip, SocketOption.timeToLive, 255)
            _ = setOption(descriptor, ip, SocketOption.multicastTTL, 255)
            _ = setOption(descriptor, ip, SocketOption.multicastLoop, 1)
            _ = setOption(descriptor, ip, SocketOption.multicastAll, 0)
        } else {
            _ = setOption(descriptor, ip6, SocketOption.v6Hops, 255)
            _ = setOption(descriptor, ip6, SocketOption.v6MulticastHops, 255)
            _ = setOption(descriptor, ip6, SocketOption.v6MulticastLoop, 1)
            _ = setOption(descriptor, ip6, SocketOption.v6MulticastAll, 0)
        }
    }

    /// Receives what is sent to `group` on `interface`. A membership that exists is no error.
    package func join(_ group: IPAddress, on interface: UInt32) throws(SystemCallError) {
        let name =
            group.isIPv4 ? SocketOption.addMembership : SocketOption.v6AddMembership
        guard change(name, group, interface) || errno == EADDRINUSE else {
            throw SystemCallError("join \(group) on interface \(interface)")
        }
    }

    /// The reverse of ``join(_:on:)``; nothing happens when the interface is gone.
    package func leave(_ group: IPAddress, on interface: UInt32) {
        let name =
            group.isIPv4 ? SocketOption.dropMembership : SocketOption.v6DropMembership
        _ = change(name, group, interface)
    }

    /// `ip_mreqn` is group, local address, interface; `ipv6_mreq` is group, interface.
    private func change(_ name: Int32, _ group: IPAddress, _ interface: UInt32) -> Bool {
        var request = group.bytes
        if group.isIPv4 { request += [0, 0, 0, 0] }
        withUnsafeBytes(of: interface) { request += $0 }
        let level = Int32(group.isIPv4 ? IPPROTO_IP : IPPROTO_IPV6)
        return setsockopt(descriptor, level, name, request, socklen_t(request.count)) == 0
    }
}
