import CNetlink
import Glibc
import NetAddress

/// A unicast route of the machine.
package struct LocalRoute: Hashable, Comparable, Sendable {
    package var destination: IPPrefix
    /// The interface that it leads to; 0 when it leads to none or to several.
    package var interface: UInt32
    /// `RT_TABLE_MAIN` is 254.
    package var table: UInt32

    package init(destination: IPPrefix, interface: UInt32, table: UInt32) {
        self.destination = destination
        self.interface = interface
        self.table = table
    }

    package static func < (lhs: LocalRoute, rhs: LocalRoute) -> Bool {
        if lhs.destination != rhs.destination { return lhs.destination < rhs.destination }
        return (lhs.interface, lhs.table) < (rhs.interface, rhs.table)
    }
}

extension Netlink {
    /// Sends `prefix` to the interface (scope link, main table). A route that is there already is
    /// not an error, one of the same prefix to elsewhere is: nobody's route is replaced.
    package func addRoute(_ prefix: IPPrefix, to index: UInt32) throws(NetlinkError) {
        let operation = "add route \(prefix) to interface \(index)"
        try withRoute(prefix, index, operation) { route throws(NetlinkError) in
            let status = rtnl_route_add(socket, route, NLM_F_CREATE | NLM_F_EXCL)
            if status == -Int32(NLE_EXIST),
                try routes().contains(where: { $0.destination == prefix && $0.interface == index })
            {
                return
            }
            guard status >= 0 else { throw NetlinkError(operation, status) }
        }
    }

    /// Takes the route away again. One that is gone already is not an error.
    package func removeRoute(_ prefix: IPPrefix, to index: UInt32) throws(NetlinkError) {
        let operation = "remove route \(prefix) to interface \(index)"
        try withRoute(prefix, index, operation) { route throws(NetlinkError) in
            let status = rtnl_route_delete(socket, route, 0)
            let isGone = status == -Int32(NLE_OBJ_NOTFOUND) || status == -Int32(NLE_NODEV)
            guard status >= 0 || isGone else { throw NetlinkError(operation, status) }
        }
    }

    /// The unicast routes of the main table, both families, sorted.
    package func routes() throws(NetlinkError) -> [LocalRoute] {
        var cache: OpaquePointer?
        let status = rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, &cache)
        guard status == 0, let cache else { throw NetlinkError("list routes", status) }
        defer { nl_cache_free(cache) }
        var found: [LocalRoute] = []
        var object = nl_cache_get_first(cache)
        while let current = object {
            if let route = LocalRoute(nl: current) { found.append(route) }
            object = nl_cache_get_next(current)
        }
        return found.sorted()
    }

    /// The route or connected network of this machine that `plan` would take traffic from, if any.
    ///
    /// A default route is no obstacle: every plan is more specific. Neither is what already leads
    /// to `ownInterface`.
    package func overlap(with plan: IPPrefix, ignoring ownInterface: UInt32? = nil)
        throws(NetlinkError) -> LocalRoute?
    {
        try routes().first { route in
            route.destination.length > 0 && route.interface != ownInterface
                && route.destination.overlaps(plan)
        }
    }

    private func withRoute(
        _ prefix: IPPrefix, _ index: UInt32, _ operation: String,
        _ body: (OpaquePointer) throws(NetlinkError) -> Void
    ) throws(NetlinkError) {
        guard let route = rtnl_route_alloc(), let hop = rtnl_route_nh_alloc(),
            let destination = prefix.address.makeNetlinkAddress()
        else { throw NetlinkError(operation, -Int32(NLE_NOMEM)) }
        defer {
            rtnl_route_put(route)
            nl_addr_put(destination)
        }
        nl_addr_set_prefixlen(destination, Int32(prefix.length))
        rtnl_route_nh_set_ifindex(hop, Int32(bitPattern: index))
        // From here on the route owns the hop.
        rtnl_route_add_nexthop(route, hop)
        rtnl_route_set_scope(route, UInt8(RT_SCOPE_LINK.rawValue))
        rtnl_route_set_table(route, UInt32(RT_TABLE_MAIN.rawValue))
        rtnl_route_set_protocol(route, UInt8(RTPROT_STATIC))
        let status = rtnl_route_set_dst(route, destination)
        guard status == 0 else { throw NetlinkError(operation, status) }
        try body(route)
    }
}

extension LocalRoute {
    init?(nl route: OpaquePointer) {
        guard rtnl_route_get_type(route) == UInt8(RTN_UNICAST),
            rtnl_route_get_table(route) == UInt32(RT_TABLE_MAIN.rawValue),
            let destination = rtnl_route_get_dst(route)
        else { return nil }
        let isIPv4 = Int32(rtnl_route_get_family(route)) == AF_INET
        let address = IPAddress(nl: destination) ?? (isIPv4 ? .v4(0) : .v6(0, 0))
        let length = Int(nl_addr_get_prefixlen(destination))
        guard let prefix = IPPrefix(address, length: length) else { return nil }
        var interface: UInt32 = 0
        if rtnl_route_get_nnexthops(route) == 1, let hop = rtnl_route_nexthop_n(route, 0) {
            interface = UInt32(bitPattern: rtnl_route_nh_get_ifindex(hop))
        }
        self.init(
            destination: prefix, interface: interface, table: rtnl_route_get_table(route))
    }
}
