import CNetlink
import Glibc
import NetAddress

/// A network interface as the kernel describes it.
package struct NetworkInterface: Hashable, Sendable {
    package var index: UInt32
    package var name: String
    /// Bytes; 0 if the kernel names none.
    package var mtu: Int
    package var isUp: Bool
    package var isLoopback: Bool
    package var canMulticast: Bool
    package var isPointToPoint: Bool
    /// Sorted.
    package var addresses: [InterfaceAddress]
}

extension Netlink {
    /// Every interface of the namespace with its addresses, by index.
    package func interfaces() throws(NetlinkError) -> [NetworkInterface] {
        let addresses = try addresses()
        var cache: OpaquePointer?
        let status = rtnl_link_alloc_cache(socket, AF_UNSPEC, &cache)
        guard status == 0, let cache else { throw NetlinkError("list interfaces", status) }
        defer { nl_cache_free(cache) }
        var found: [NetworkInterface] = []
        var object = nl_cache_get_first(cache)
        while let current = object {
            let link = current
            let flags = Int(rtnl_link_get_flags(link))
            let index = UInt32(bitPattern: rtnl_link_get_ifindex(link))
            let has = { (flag: Int) in flags & flag != 0 }
            found.append(
                NetworkInterface(
                    index: index,
                    name: rtnl_link_get_name(link).map { String(cString: $0) } ?? "",
                    mtu: Int(rtnl_link_get_mtu(link)),
                    isUp: has(Int(IFF_UP)),
                    isLoopback: has(Int(IFF_LOOPBACK)),
                    canMulticast: has(Int(IFF_MULTICAST)),
                    isPointToPoint: has(Int(IFF_POINTOPOINT)),
                    addresses: addresses[index] ?? []))
            object = nl_cache_get_next(current)
        }
        return found.sorted { $0.index < $1.index }
    }

    /// The interfaces on which multicast DNS makes sense: up, not loopback, not a point-to-point
    /// device such as a tunnel, with multicast and an address (RFC 6762 section 14).
    package func multicastInterfaces() throws(NetlinkError) -> [NetworkInterface] {
        try interfaces().filter { link in
            link.isUp && !link.isLoopback && !link.isPointToPoint && link.canMulticast
                && !link.addresses.isEmpty
        }
    }
}
