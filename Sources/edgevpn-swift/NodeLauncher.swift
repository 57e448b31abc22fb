import ClusterHost
import ClusterPlan
import Configuration
import Cryptography
import HTTPAPI
import LinuxIO
import Logging
import MeshBase
import MeshNode
import NetAddress
import Runtime
import ServiceLifecycle
import Storage

/// Starts the parts of `up` in the order in which they may fail, and ends them together.
enum NodeLauncher {
    static func run(_ config: NodeConfig, token: NetworkToken) async throws {
        var logger = Logger(label: "edgevpn") { _ in LineLogHandler() }
        logger.logLevel = config.logLevel.loggerLevel
        try checkDatastore(config)
        let slot = RuntimeSlot()
        let zone = config.dnsZone ?? "\(token.name).internal"
        let server = try await bindAPI(config.api, NodeControl(slot: slot, zone: zone))
        let service: NodeService
        do {
            var settings = nodeSettings(config, token: token)
            let k3s = k3sSettings(config, zone: zone, token: token)
            settings.datastorePaths = k3s.map(\.datastorePaths) ?? []
            service = try await startService(
                settings,
                driven: k3s.map { .k3s($0) }
                    ?? drivenDatastore(config, zone: zone, token: token), logger)
        } catch {
            await server?.abandon()
            throw error
        }
        if let server, case .tcp = server.address {
            let location = try StateLocation.find(chosen: config.stateDirectory)
            server.admit(bearer: try APIToken.ofNode(stateDirectory: location.path))
        }
        slot.fill(service.runtime)
        var services: [any Service] = [service]
        if let server { services.append(APIService(server: server)) }
        let manager = ProcessInput.current.environment["NOTIFY_SOCKET"]
        if let notification = ServiceNotification(socket: manager) {
            services.append(NotificationService(notification: notification))
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services.map {
                    .init(
                        service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .gracefullyShutdownGroup)
                },
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        do {
            try await group.run()
        } catch let problem as ServiceProblem {
            throw CommandFailure(problem)
        }
    }

    /// A node that cannot run the datastore must not win the claim to found it.
    private static func checkDatastore(_ config: NodeConfig) throws(CommandFailure) {
        guard config.cluster != .none, config.role != .none else { return }
        let program: (choice: String, path: String)? =
            switch config.cluster {
            case .k3s: ("k3s", config.k3sBinary ?? "k3s")
            case .k0s: ("k0s", config.k3sBinary ?? "k0s")
            case .program(let path): ("exec", path)
            case .none, .etcd: nil
            }
        if let program {
            guard locateProgram(program.path) == nil else { return }
            throw .operating(
                "--cluster \(program.choice): \(program.path) not found",
                fix: "install it, name it (--k3s-binary, exec:PATH), or say --role none")
        }
        let programs = config.role == .agent ? ["etcdctl"] : ["etcd", "etcdctl"]
        let missing = programs.filter { locateProgram($0) == nil }
        guard missing.isEmpty else {
            throw .operating(
                "--cluster etcd: \(missing.joined(separator: " and ")) not found",
                fix: "install etcd and etcdctl (Debian: etcd-server etcd-client), or say "
                    + "--role none")
        }
    }

    private static func bindAPI(_ address: APIAddress?, _ control: NodeControl) async throws
        -> APIServer?
    {
        guard let address else { return nil }
        do {
            return try await APIServer.bind(to: address, control: control)
        } catch let failure as APIListenFailure {
            throw CommandFailure.operating(failure.message, fix: failure.fix)
        }
    }

    /// A directory on a disk that is not mounted yet is waited for; nothing is made in its place.
    private static func startService(
        _ settings: NodeSettings, driven: DrivenDatastore?, _ logger: Logger
    ) async throws -> NodeService {
        var hasTold = false
        while true {
            do {
                return try NodeService(settings, logger: logger) { directory, key, report in
                    var host = ClusterExecutor.Settings(
                        directory: "\(directory)/cluster", privateKey: key,
                        clusterToken: "edgevpn-\(settings.token.meshID.hex)")
                    host.driven = driven
                    return LocalExecutor(ClusterExecutor(settings: host, report: report))
                }
            } catch let problem as ServiceProblem {
                guard problem.isWorthWaiting else { throw CommandFailure(problem) }
                if !hasTold { logger.warning("\(problem); waiting") }
                hasTold = true
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    private static func k3sSettings(_ config: NodeConfig, zone: String, token: NetworkToken)
        -> K3sSettings?
    {
        guard config.cluster == .k3s, let interface = config.interfaceName else { return nil }
        let keeper: K3sSettings.Keeper =
            switch config.initSystem {
            case .systemd: .systemd
            case .openrc: .openrc
            case .supervise: .supervise
            case .auto:
                systemdKnows(unit: "k3s")
                    ? .systemd : openRCKnows(unit: "k3s") ? .openrc : .supervise
            }
        let places = K3sPlaces(
            dataDirectory: config.k3sDataDirectory, configDirectory: config.k3sConfigDirectory)
        return K3sSettings(
            program: config.k3sBinary ?? "k3s",
            dataDirectory: config.k3sDataDirectory ?? K3sSettings.defaultDataDirectory,
            configDirectory: config.k3sConfigDirectory ?? K3sSettings.defaultConfigDirectory,
            interface: interface,
            apiNames: apiNames(zone: zone, token: token),
            keeper: keeper,
            gate: places.gate(stateDirectory: config.stateDirectory))
    }

    /// Under which the Kubernetes API is reached besides the servers' own names.
    private static func apiNames(zone: String, token: NetworkToken) -> [String] {
        ["\(Node.controlPlaneName).\(zone)"]
            + [Node.serviceAddress(in: token.ipv4Plan)].compactMap { $0.map { "\($0)" } }
    }

    private static func drivenDatastore(_ config: NodeConfig, zone: String, token: NetworkToken)
        -> DrivenDatastore?
    {
        guard let interface = config.interfaceName else { return nil }
        switch config.cluster {
        case .none, .etcd, .k3s: return nil
        case .program(let path): return .program(path: path, interface: interface)
        case .k0s:
            var k0s = K0sSettings()
            if let program = config.k3sBinary { k0s.program = program }
            if let directory = config.k3sDataDirectory { k0s.dataDirectory = directory }
            k0s.apiNames = apiNames(zone: zone, token: token)
            return .k0s(k0s)
        }
    }

    private static func nodeSettings(_ config: NodeConfig, token: NetworkToken) -> NodeSettings {
        var settings = NodeSettings(token: token, hostname: config.hostname)
        settings.stateDirectory = config.stateDirectory
        settings.interfaceName = config.interfaceName
        settings.fixedIPv4 = config.address?.address
        settings.listenPort = config.listenPort
        settings.shards = config.shards
        settings.peers = config.peers.map { ($0.host, $0.port) }
        settings.usesLocalDiscovery = config.usesMulticastDNS
        settings.dht = dhtChoice(config, token: token)
        settings.dhtBootstrap = config.dhtBootstrap.map { ($0.host, $0.port) }
        settings.names =
            switch config.dns {
            case .overlay: .overlay
            case .address(let address): .address(address)
            case .off: .off
            }
        settings.zone = config.dnsZone
        settings.relay =
            switch config.relay {
            case .off: .off
            case .unlimited: .unlimited
            case .bitsPerSecond(let bits): .limited(bytesPerSecond: bits / 8)
            }
        settings.relaysByTLS = config.relaysByTLS
        settings.mapsPorts = config.mapsPorts
        settings.guessesPorts = config.guessesPorts
        settings.foundingLog = config.foundingLog
        settings.upstreams = config.dnsUpstreams
        settings.routes = config.dnsRoutes
        settings.logsQueries = config.logsDNSQueries
        settings.resolverIntegration = config.dnsIntegration
        settings.clusterKind =
            switch config.cluster {
            case .none: .none
            case .etcd: .etcd
            case .k3s: .k3s
            case .k0s: .k0s
            case .program: .program
            }
        settings.clusterRole =
            switch config.role {
            case .auto: .auto
            case .server: .server
            case .agent: .agent
            case .none: .none
            }
        return settings
    }
}

/// The executor of ClusterHost as the runtime wants it.
private struct LocalExecutor: HostExecuting {
    private let executor: ClusterExecutor

    init(_ executor: ClusterExecutor) {
        self.executor = executor
    }

    func execute(_ command: HostCommand) { executor.execute(command) }
    func shutDown() { executor.shutDown() }
}

private func dhtChoice(_ config: NodeConfig, token: NetworkToken) -> DHTChoice {
    let mode: DHTMode =
        switch config.dht {
        case nil: token.dht
        case .off: .off
        case .private: .private
        case .public: .public
        }
    return DHTChoice(
        mode: mode, isPlain: config.isDHTPlain, announces: config.announcesOnDHT)
}

/// The API as a part of the program that ends with the others.
private struct APIService: Service {
    let server: APIServer

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await server.run()
        }
    }
}

/// Tells a service manager when the node works and when it leaves.
private struct NotificationService: Service {
    let notification: ServiceNotification

    func run() async throws {
        notification.ready()
        try await gracefulShutdown()
        notification.stopping()
    }
}

extension APIServer {
    /// Gives the address back without having served anybody.
    fileprivate func abandon() async {
        let serving = Task { try await run() }
        serving.cancel()
        _ = await serving.result
    }
}

extension CommandFailure {
    init(_ problem: ServiceProblem) {
        self =
            problem.isRefusal
            ? .refused("\(problem)", fix: problem.fix) : .operating("\(problem)", fix: problem.fix)
    }
}

extension LogLevelChoice {
    var loggerLevel: Logger.Level {
        switch self {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        case .critical: .critical
        }
    }
}
