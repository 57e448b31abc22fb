import LinuxIO
import MeshBase
import NetAddress

/// The TUN interface of a mesh node: its addresses and MTU.
///
/// The kernel routes the mesh's two blocks to it because the addresses carry the blocks' lengths.
/// It disappears with the daemon, so nothing has to be cleaned up.
struct OverlayInterface {
    let name: String
    private let index: UInt32
    private let ipv4Length: Int
    private let current: CurrentAddresses

    private final class CurrentAddresses {
        var ipv4: InterfaceAddress?
        var ipv6: InterfaceAddress?
        /// Of a service that this machine answers for.
        var served: InterfaceAddress?
    }

    /// - Parameters:
    ///   - tun: the device, already open.
    ///   - mtu: bytes; the token's.
    init(_ tun: TunDevice, mtu: Int, ipv4Length: Int) throws(NetlinkError) {
        name = tun.name
        self.ipv4Length = ipv4Length
        let netlink = try Netlink()
        guard let index = netlink.index(of: tun.name) else {
            throw NetlinkError(
                operation: "find interface \(tun.name)", code: 19, reason: "no such device")
        }
        self.index = index
        current = CurrentAddresses()
        try netlink.setMTU(mtu, of: index)
        try netlink.setQueueLength(TunDevice.queueLength, of: index)
        try netlink.bringUp(index)
    }

    /// Replaces the addresses that are not these.
    func setAddresses(ipv4: IPAddress?, ipv6: IPAddress) throws(NetlinkError) {
        let netlink = try Netlink()
        let wanted4 = ipv4.flatMap { InterfaceAddress($0, prefixLength: ipv4Length) }
        let wanted6 = InterfaceAddress(ipv6, prefixLength: 48)
        try replace(&current.ipv4, by: wanted4, netlink)
        try replace(&current.ipv6, by: wanted6, netlink)
    }

    /// The address of a service that this machine answers for; `nil` for none.
    func setServedAddress(_ address: IPAddress?) throws(NetlinkError) {
        let wanted = address.flatMap { InterfaceAddress($0, prefixLength: 32) }
        guard wanted != current.served else { return }
        try replace(&current.served, by: wanted, try Netlink())
    }

    private func replace(
        _ known: inout InterfaceAddress?, by wanted: InterfaceAddress?,
        _ netlink: borrowing Netlink
    ) throws(NetlinkError) {
        guard known != wanted else { return }
        if let known { try netlink.removeAddress(known, from: index) }
        known = nil
        if let wanted { try netlink.addAddress(wanted, to: index) }
        known = wanted
    }
}
