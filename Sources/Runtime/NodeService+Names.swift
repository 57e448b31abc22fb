import DNS
import LinuxIO
import Logging
import Membership
import MeshBase
import NetAddress
import Storage

/// The parts of a node that find and name machines.
extension NodeService {
    /// The sockets of multicast DNS; without them the LAN is not searched, which is worth a warning
    /// and no more.
    static func multicast(_ settings: NodeSettings, _ logger: Logger) -> MulticastService? {
        guard settings.usesLocalDiscovery else { return nil }
        do throws(SystemCallError) {
            let service = try MulticastService()
            for problem in service.problems { logger.warning("multicast DNS: \(problem)") }
            return service
        } catch {
            logger.warning("multicast DNS: \(error); members on the LAN are not found")
            return nil
        }
    }

    /// The name server; a node without one works, and says so.
    static func nameServer(_ settings: NodeSettings, table: NameTable, _ logger: Logger)
        -> NameServer?
    {
        var fixed: [SocketAddress] = []
        switch settings.names {
        case .off: return nil
        case .overlay: break
        case .address(let address): fixed = [address]
        }
        let loopback = [IPPrefix(.v4(0x7F00_0000), length: 8), IPPrefix(.v6(0, 1), length: 128)]
        let clients =
            loopback.compactMap { $0 }
            + [
                settings.token.ipv4Plan, MeshAddressing.prefix(meshID: settings.token.meshID),
            ]
        let configuration = NameServerConfiguration(
            fixedAddresses: fixed, upstreams: settings.upstreams ?? systemUpstreams(),
            clients: clients)
        do throws(SystemCallError) {
            return try NameServer(configuration, table: table) { logger.warning("names: \($0)") }
        } catch {
            logger.warning("names are not answered: \(error)")
            return nil
        }
    }

    /// The name servers of /etc/resolv.conf (resolv.conf(5)), loops excluded later.
    private static func systemUpstreams() -> [SocketAddress] {
        let files = LinuxFileSystem()
        guard let file = try? files.open("/etc/resolv.conf", .read) else { return [] }
        defer { files.close(file) }
        guard let bytes = try? files.read(file, at: 0, count: 65_536) else { return [] }
        return nameServers(inResolvConf: String(decoding: bytes, as: UTF8.self))
    }
}

/// The addresses of the `nameserver` lines, in their order.
package func nameServers(inResolvConf text: String) -> [SocketAddress] {
    text.split(whereSeparator: \.isNewline).compactMap { line in
        let words = line.split(whereSeparator: \.isWhitespace)
        guard words.count >= 2, words[0] == "nameserver",
            let address = words[1].split(separator: "%").first.flatMap({ IPAddress(String($0)) })
        else { return nil }
        return SocketAddress(ip: address, port: 53)
    }
}
