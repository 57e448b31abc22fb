import CNetlink
import Glibc
import NetAddress

/// An address of a local interface, with the length of the block that is on its link.
package struct InterfaceAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
    package var ip: IPAddress
    /// 0...32 for IPv4, 0...128 for IPv6.
    package var prefixLength: Int

    /// `nil` when the length does not fit the family.
    package init?(_ ip: IPAddress, prefixLength: Int) {
        guard (0...ip.bitWidth).contains(prefixLength) else { return nil }
        self.ip = ip
        self.prefixLength = prefixLength
    }

    /// The block that the address lies in.
    package var prefix: IPPrefix { IPPrefix(ip, length: prefixLength) ?? IPPrefix(host: ip) }

    package var description: String { "\(ip)/\(prefixLength)" }

    package static func < (lhs: InterfaceAddress, rhs: InterfaceAddress) -> Bool {
        (lhs.ip, lhs.prefixLength) < (rhs.ip, rhs.prefixLength)
    }
}

extension Netlink {
    /// Gives the interface an address; the same address again is not an error. An IPv6 address is
    /// usable at once: no duplicate address detection (RFC 4862 section 5.4), which cannot succeed
    /// on a point-to-point device and would delay every bind by seconds.
    package func addAddress(_ address: InterfaceAddress, to index: UInt32) throws(NetlinkError) {
        let operation = "add address \(address) to interface \(index)"
        try withAddress(address, index, operation) { object throws(NetlinkError) in
            let status = rtnl_addr_add(socket, object, NLM_F_CREATE | NLM_F_REPLACE)
            guard status >= 0 else { throw NetlinkError(operation, status) }
        }
    }

    /// Takes an address from the interface. One that is gone already is not an error.
    package func removeAddress(_ address: InterfaceAddress, from index: UInt32)
        throws(NetlinkError)
    {
        let operation = "remove address \(address) from interface \(index)"
        try withAddress(address, index, operation) { object throws(NetlinkError) in
            let status = rtnl_addr_delete(socket, object, 0)
            guard status >= 0 || status == -Int32(NLE_NOADDR) else {
                throw NetlinkError(operation, status)
            }
        }
    }

    /// Every address of every interface in this namespace, by interface index.
    package func addresses() throws(NetlinkError) -> [UInt32: [InterfaceAddress]] {
        var cache: OpaquePointer?
        let status = rtnl_addr_alloc_cache(socket, &cache)
        guard status == 0, let cache else { throw NetlinkError("list addresses", status) }
        defer { nl_cache_free(cache) }
        var found: [UInt32: [InterfaceAddress]] = [:]
        var object = nl_cache_get_first(cache)
        while let current = object {
            let address = current
            if let local = IPAddress(nl: rtnl_addr_get_local(address)) {
                let length = Int(rtnl_addr_get_prefixlen(address))
                if let entry = InterfaceAddress(local, prefixLength: length) {
                    let index = UInt32(bitPattern: rtnl_addr_get_ifindex(address))
                    found[index, default: []].append(entry)
                }
            }
            object = nl_cache_get_next(current)
        }
        return found.mapValues { $0.sorted() }
    }

    private func withAddress(
        _ address: InterfaceAddress, _ index: UInt32, _ operation: String,
        _ body: (OpaquePointer) throws(NetlinkError) -> Void
    ) throws(NetlinkError) {
        guard let object = rtnl_addr_alloc(), let local = address.ip.makeNetlinkAddress() else {
            throw NetlinkError(operation, -Int32(NLE_NOMEM))
        }
        defer {
            rtnl_addr_put(object)
            nl_addr_put(local)
        }
        nl_addr_set_prefixlen(local, Int32(address.prefixLength))
        rtnl_addr_set_ifindex(object, Int32(bitPattern: index))
        if !address.ip.isIPv4 { rtnl_addr_set_flags(object, UInt32(IFA_F_NODAD)) }
        let status = rtnl_addr_set_local(object, local)
        guard status == 0 else { throw NetlinkError(operation, status) }
        try body(object)
    }
}

extension IPAddress {
    /// A libnl address that the caller puts back with `nl_addr_put`.
    func makeNetlinkAddress() -> OpaquePointer? {
        nl_addr_build(isIPv4 ? AF_INET : AF_INET6, bytes, bytes.count)
    }

    init?(nl address: OpaquePointer?) {
        guard let address, let raw = nl_addr_get_binary_addr(address) else { return nil }
        let family = nl_addr_get_family(address)
        guard family == AF_INET || family == AF_INET6 else { return nil }
        let count = Int(nl_addr_get_len(address))
        let bytes = UnsafeRawBufferPointer(start: raw, count: count)
        // The kernel leaves out the zero bytes of a default route.
        let width = family == AF_INET ? 4 : 16
        guard count <= width else { return nil }
        self.init(bytes: Array(bytes) + [UInt8](repeating: 0, count: width - count))
    }
}
