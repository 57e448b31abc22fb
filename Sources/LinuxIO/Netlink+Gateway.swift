import CNetlink
import Glibc
import NetAddress

/// Where packets of this machine go when nothing else is said.
package struct DefaultRoute: Hashable, Sendable {
    package var gateway: IPAddress
    package var interface: UInt32
}

extension Netlink {
    /// The IPv4 default route of the main table with the lowest metric; `nil` without one that has
    /// a gateway.
    package func defaultRoute() throws(NetlinkError) -> DefaultRoute? {
        var cache: OpaquePointer?
        let status = rtnl_route_alloc_cache(socket, AF_INET, 0, &cache)
        guard status == 0, let cache else { throw NetlinkError("list routes", status) }
        defer { nl_cache_free(cache) }
        var best: (metric: UInt32, route: DefaultRoute)?
        var object = nl_cache_get_first(cache)
        while let route = object {
            object = nl_cache_get_next(route)
            guard rtnl_route_get_type(route) == UInt8(RTN_UNICAST),
                rtnl_route_get_table(route) == UInt32(RT_TABLE_MAIN.rawValue),
                let destination = rtnl_route_get_dst(route),
                nl_addr_get_prefixlen(destination) == 0,
                rtnl_route_get_nnexthops(route) >= 1, let hop = rtnl_route_nexthop_n(route, 0),
                let address = rtnl_route_nh_get_gateway(hop), let gateway = IPAddress(nl: address)
            else { continue }
            let metric = rtnl_route_get_priority(route)
            guard best.map({ metric < $0.metric }) ?? true else { continue }
            let interface = UInt32(bitPattern: rtnl_route_nh_get_ifindex(hop))
            best = (metric, DefaultRoute(gateway: gateway, interface: interface))
        }
        return best?.route
    }
}
