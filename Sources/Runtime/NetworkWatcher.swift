import LinuxIO
import MeshNode
import NetAddress

/// Notices when links, addresses or routes of the machine change.
final class NetworkWatcher {
    private let events: NetlinkEvents

    init() throws(NetlinkError) {
        events = try NetlinkEvents()
    }

    var descriptor: Int32 { events.descriptor }

    /// What changed since the last call.
    func drain() -> NetworkChanges { events.drain() }

    /// The interfaces on which members may be reached: up, with an address, and not ours.
    func interfaces(except overlay: String?) -> [LocalInterface] {
        guard let netlink = try? Netlink(), let all = try? netlink.interfaces() else { return [] }
        return all.filter { $0.isUp && !$0.isLoopback && $0.name != overlay }.map { interface in
            LocalInterface(
                index: interface.index, name: interface.name,
                addresses: interface.addresses.map(\.ip),
                prefixes: interface.addresses.map(\.prefix),
                isMulticast: interface.canMulticast && !interface.isPointToPoint)
        }
    }

    /// Where packets leave the machine when nothing else is said, at most one route of each family.
    func waysOut(except overlay: String?) -> [DefaultRoute] {
        guard let netlink = try? Netlink() else { return [] }
        let own = overlay.flatMap { netlink.index(of: $0) }
        return (try? netlink.defaultRoutes(except: own)) ?? []
    }

    /// IPv4 blocks that the machine reaches by something else than its default route.
    static func localRoutes(except overlay: String?) -> [IPPrefix] {
        guard let netlink = try? Netlink(), let routes = try? netlink.routes() else { return [] }
        let own = overlay.flatMap { netlink.index(of: $0) }
        return routes.filter { $0.interface != own }.map(\.destination).filter {
            $0.address.isIPv4 && $0.length > 0 && !$0.address.isMulticast && !$0.address.isLoopback
        }
    }
}
