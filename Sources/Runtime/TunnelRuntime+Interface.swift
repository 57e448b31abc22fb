import Configuration
import LinuxIO
import NetAddress

/// The TUN interface of a plain tunnel with its addresses and routes.
///
/// It lives as long as its descriptor, so a process that dies leaves nothing behind.
struct TunnelInterface {
    let queues: [TunDevice]
    private let index: UInt32

    init(
        _ configuration: TunnelConfiguration, name: String, queueCount: Int
    ) throws(TunnelProblem) {
        let allowed = name.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
        }
        guard allowed, (1...15).contains(name.utf8.count) else { throw .badInterfaceName(name) }
        let netlink = try TunnelInterface.wrapping { () throws(NetlinkError) in try Netlink() }
        guard netlink.index(of: name) == nil else { throw .interfaceTaken(name) }
        queues = try TunnelInterface.openTun(name, queueCount)
        index = netlink.index(of: queues[0].name) ?? 0
        let index = index
        try TunnelInterface.wrapping { () throws(NetlinkError) in
            try netlink.setMTU(configuration.mtu, of: index)
            try netlink.setQueueLength(TunDevice.queueLength, of: index)
            for address in configuration.addresses {
                let entry = InterfaceAddress(address.ip, prefixLength: address.prefixLength)
                if let entry { try netlink.addAddress(entry, to: index) }
            }
            try netlink.bringUp(index)
            for prefix in configuration.peers.flatMap(\.allowedIPs) {
                try netlink.addRoute(prefix, to: index)
            }
        }
    }

    /// Removes the interface now, whoever else still holds the descriptor.
    func remove() {
        guard let netlink = try? Netlink() else { return }
        try? netlink.removeLink(index)
    }

    private static func openTun(
        _ name: String, _ count: Int
    ) throws(TunnelProblem) -> [TunDevice] {
        do throws(SystemCallError) {
            return try TunDevice.queues(of: name, count: count)
        } catch {
            if error.isForbidden { throw .notRoot }
            if error.isMissing { throw .noTunDevice }
            if error.isBusy { throw .interfaceTaken(name) }
            throw .system(error)
        }
    }

    private static func wrapping<Result>(_ body: () throws(NetlinkError) -> Result)
        throws(TunnelProblem) -> Result
    {
        do {
            return try body()
        } catch {
            throw .netlink(error)
        }
    }
}
