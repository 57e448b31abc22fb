import CNetlink
import Glibc

/// What changed in the namespace since the last look.
package struct NetworkChanges: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    package static let links = NetworkChanges(rawValue: 1)
    package static let addresses = NetworkChanges(rawValue: 2)
    package static let routes = NetworkChanges(rawValue: 4)
}

/// The kernel's announcements of changed links, addresses and routes, as a descriptor to poll.
///
/// It says that something changed, never what it is now: the reader asks ``Netlink`` again, so a
/// lost announcement costs nothing.
package final class NetlinkEvents {
    private let socket: OpaquePointer

    package init() throws(NetlinkError) {
        guard let socket = nl_socket_alloc() else {
            throw NetlinkError("subscribe to network changes", -Int32(NLE_NOMEM))
        }
        nl_socket_disable_seq_check(socket)
        var status = nl_connect(socket, NETLINK_ROUTE)
        let groups = [
            RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_ROUTE,
        ]
        for group in groups where status == 0 {
            status = nl_socket_add_membership(socket, Int32(group.rawValue))
        }
        if status == 0 { status = nl_socket_set_nonblocking(socket) }
        guard status == 0 else {
            nl_socket_free(socket)
            throw NetlinkError("subscribe to network changes", status)
        }
        self.socket = socket
    }

    deinit {
        nl_socket_free(socket)
    }

    /// Readable when something changed.
    package var descriptor: Int32 { nl_socket_get_fd(socket) }

    /// Reads what is waiting, without blocking. After an overrun everything counts as changed.
    package func drain() -> NetworkChanges {
        var changes: NetworkChanges = []
        var buffer = [UInt8](repeating: 0, count: 32_768)
        // A bound on the work of one call; what is left keeps the descriptor readable.
        for _ in 0..<64 {
            let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count < 0, errno == ENOBUFS { return [.links, .addresses, .routes] }
            guard count > 0 else { break }
            changes.formUnion(NetlinkEvents.kinds(in: buffer[..<count]))
        }
        return changes
    }

    /// Walks the message headers (length, type) of one datagram, in host byte order.
    private static func kinds(in datagram: ArraySlice<UInt8>) -> NetworkChanges {
        var changes: NetworkChanges = []
        var rest = datagram
        while rest.count >= MemoryLayout<nlmsghdr>.size {
            let header = rest.withUnsafeBytes { $0.loadUnaligned(as: nlmsghdr.self) }
            let length = Int(header.nlmsg_len)
            guard length >= MemoryLayout<nlmsghdr>.size, length <= rest.count else { break }
            switch Int(header.nlmsg_type) {
            case Int(RTM_NEWLINK), Int(RTM_DELLINK): changes.insert(.links)
            case Int(RTM_NEWADDR), Int(RTM_DELADDR): changes.insert(.addresses)
            case Int(RTM_NEWROUTE), Int(RTM_DELROUTE): changes.insert(.routes)
            default: break
            }
            // Messages start at multiples of four (NLMSG_ALIGN).
            rest = rest.dropFirst((length + 3) / 4 * 4)
        }
        return changes
    }
}
