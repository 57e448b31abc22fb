import CNetlink
import Glibc
import NetAddress

/// The kernel refused a change to, or a question about, the machine's network.
package struct NetlinkError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried, with the address, route or interface it was tried on.
    package let operation: String
    /// libnl's error number, positive (`NLE_*`).
    package let code: Int32
    /// The reason in words.
    package let reason: String

    init(_ operation: String, _ code: Int32) {
        self.operation = operation
        self.code = abs(code)
        reason = String(cString: nl_geterror(code))
    }

    package init(operation: String, code: Int32, reason: String) {
        self.operation = operation
        self.code = code
        self.reason = reason
    }

    package var description: String { "cannot \(operation): \(reason)" }
}

/// A conversation with the kernel about links, addresses and routes (rtnetlink(7), by libnl-3)
/// in the network namespace of the thread that opened it.
///
/// One owner at a time; every call is synchronous.
package final class Netlink {
    let socket: OpaquePointer

    package init() throws(NetlinkError) {
        guard let socket = nl_socket_alloc() else {
            throw NetlinkError("open netlink", -Int32(NLE_NOMEM))
        }
        let status = nl_connect(socket, NETLINK_ROUTE)
        guard status == 0 else {
            nl_socket_free(socket)
            throw NetlinkError("open netlink", status)
        }
        self.socket = socket
    }

    deinit {
        nl_socket_free(socket)
    }
}

// MARK: - Links

extension Netlink {
    /// The interface's index; `nil` if there is none of that name.
    package func index(of name: String) -> UInt32? {
        let index = if_nametoindex(name)
        return index == 0 ? nil : index
    }

    /// The interface's name; `nil` if there is none with that index.
    package func name(of index: UInt32) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard if_indextoname(index, &buffer) != nil else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)
    }

    /// Takes the interface up.
    package func bringUp(_ index: UInt32) throws(NetlinkError) {
        try changeLink(index, "take interface \(index) up") { change in
            rtnl_link_set_flags(change, UInt32(IFF_UP))
        }
    }

    /// Sets the interface's largest packet, in bytes.
    package func setMTU(_ mtu: Int, of index: UInt32) throws(NetlinkError) {
        try changeLink(index, "set the MTU of interface \(index) to \(mtu)") { change in
            rtnl_link_set_mtu(change, UInt32(clamping: mtu))
        }
    }

    /// Sets how many packets may wait for the interface's reader.
    package func setQueueLength(_ length: Int, of index: UInt32) throws(NetlinkError) {
        try changeLink(index, "set the queue length of interface \(index)") { change in
            rtnl_link_set_txqlen(change, UInt32(clamping: length))
        }
    }

    /// Removes an interface that software made.
    package func removeLink(_ index: UInt32) throws(NetlinkError) {
        let operation = "remove interface \(index)"
        guard let link = rtnl_link_alloc() else {
            throw NetlinkError(operation, -Int32(NLE_NOMEM))
        }
        defer { rtnl_link_put(link) }
        rtnl_link_set_ifindex(link, Int32(bitPattern: index))
        let status = rtnl_link_delete(socket, link)
        guard status >= 0 else { throw NetlinkError(operation, status) }
    }

    private func changeLink(
        _ index: UInt32, _ operation: String, _ edit: (OpaquePointer) -> Void
    ) throws(NetlinkError) {
        guard let target = rtnl_link_alloc(), let change = rtnl_link_alloc() else {
            throw NetlinkError(operation, -Int32(NLE_NOMEM))
        }
        defer {
            rtnl_link_put(target)
            rtnl_link_put(change)
        }
        rtnl_link_set_ifindex(target, Int32(bitPattern: index))
        edit(change)
        let status = rtnl_link_change(socket, target, change, 0)
        guard status >= 0 else { throw NetlinkError(operation, status) }
    }
}
