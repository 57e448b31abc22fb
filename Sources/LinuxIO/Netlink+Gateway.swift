import CNetlink
import Glibc
import NetAddress

/// Where packets of this machine go when nothing else is said.
package struct DefaultRoute: Hashable, Sendable {
    package var isIPv4: Bool
    /// `nil` on links that need none.
    package var gateway: IPAddress?
    package var interface: UInt32

    package init(isIPv4: Bool, gateway: IPAddress?, interface: UInt32) {
        self.isIPv4 = isIPv4
        self.gateway = gateway
        self.interface = interface
    }
}

extension Netlink {
    /// The default route of the main table with the lowest metric, IPv4 before IPv6, of each family
    /// that has one.
    ///
    /// - Parameter excluded: an interface whose routes do not count.
    package func defaultRoutes(except excluded: UInt32? = nil) throws(NetlinkError)
        -> [DefaultRoute]
    {
        var cache: OpaquePointer?
        let status = rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, &cache)
        guard status == 0, let cache else { throw NetlinkError("list routes", status) }
        defer { nl_cache_free(cache) }
        var best: [Bool: (metric: UInt32, route: DefaultRoute)] = [:]
        var object = nl_cache_get_first(cache)
        while let current = object {
            object = nl_cache_get_next(current)
            guard let route = DefaultRoute(nl: current), route.interface != excluded else {
                continue
            }
            let metric = rtnl_route_get_priority(current)
            guard best[route.isIPv4].map({ metric < $0.metric }) ?? true else { continue }
            best[route.isIPv4] = (metric, route)
        }
        return [best[true], best[false]].compactMap { $0?.route }
    }
}

extension DefaultRoute {
    fileprivate init?(nl route: OpaquePointer) {
        guard rtnl_route_get_type(route) == UInt8(RTN_UNICAST),
            rtnl_route_get_table(route) == UInt32(RT_TABLE_MAIN.rawValue),
            let destination = rtnl_route_get_dst(route), nl_addr_get_prefixlen(destination) == 0,
            rtnl_route_get_nnexthops(route) >= 1, let hop = rtnl_route_nexthop_n(route, 0)
        else { return nil }
        isIPv4 = Int32(rtnl_route_get_family(route)) == AF_INET
        gateway = rtnl_route_nh_get_gateway(hop).flatMap { IPAddress(nl: $0) }
        interface = UInt32(bitPattern: rtnl_route_nh_get_ifindex(hop))
    }
}
