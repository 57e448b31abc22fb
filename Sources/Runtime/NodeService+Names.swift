import DNS
import LinuxIO
import Logging
import Membership
import MeshBase
import NetAddress

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
        var configuration = NameServerConfiguration(
            fixedAddresses: fixed, upstreams: (settings.upstreams ?? []).map(\.address),
            clients: clients)
        if settings.upstreams == nil { configuration.upstreamFiles = UpstreamFile.usualPaths }
        let routes = Dictionary(grouping: settings.routes, by: \.suffix)
        configuration.routes = routes.sorted { $0.key < $1.key }.compactMap { suffix, routes in
            DNSName(suffix).map {
                ResolverRoute(suffix: $0, upstreams: routes.map(\.upstream.address))
            }
        }
        for upstream in (settings.upstreams ?? []) + settings.routes.map(\.upstream) {
            if let name = upstream.tlsName {
                configuration.secureUpstreams[upstream.address] = name
            }
        }
        if settings.logsQueries {
            configuration.queryLog = { line in
                logger.info(
                    """
                    dns \(line.client.address) \(line.question.name) \(line.question.type) \
                    code \(line.code.rawValue) \(line.origin.rawValue)
                    """)
            }
        }
        do throws(SystemCallError) {
            return try NameServer(configuration, table: table) { logger.warning("names: \($0)") }
        } catch {
            logger.warning("names are not answered: \(error)")
            return nil
        }
    }

    /// What points the machine's programs here; `nil` when nobody asked for it.
    static func resolverIntegration(
        _ settings: NodeSettings, table: NameTable, interface: String?, _ logger: Logger
    ) -> ResolverIntegration? {
        guard settings.resolverIntegration != .off, settings.names != .off else { return nil }
        return ResolverIntegration(
            settings.resolverIntegration, interface: interface ?? "",
            zone: table.zone.description, reverseZones: table.reverseApexes.map(\.description)
        ) { text, isProblem in
            logger.log(level: isProblem ? .warning : .notice, "names: \(text)")
        }
    }
}
