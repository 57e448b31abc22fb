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
            service = try await startService(nodeSettings(config, token: token), logger)
        } catch {
            await server?.abandon()
            throw error
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
        guard config.cluster == .etcd, config.role != .none else { return }
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
    private static func startService(_ settings: NodeSettings, _ logger: Logger) async throws
        -> NodeService
    {
        var hasTold = false
        while true {
            do {
                return try NodeService(settings, logger: logger) { directory, key, report in
                    EtcdExecutor(
                        ClusterExecutor(
                            settings: ClusterExecutor.Settings(
                                directory: "\(directory)/cluster", privateKey: key,
                                clusterToken: "edgevpn-\(settings.token.meshID.hex)"),
                            report: report))
                }
            } catch let problem as ServiceProblem {
                guard problem.isWorthWaiting else { throw CommandFailure(problem) }
                if !hasTold { logger.warning("\(problem); waiting") }
                hasTold = true
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    private static func nodeSettings(_ config: NodeConfig, token: NetworkToken) -> NodeSettings {
        var settings = NodeSettings(token: token, hostname: config.hostname)
        settings.stateDirectory = config.stateDirectory
        settings.interfaceName = config.interfaceName
        settings.fixedIPv4 = config.address?.address
        settings.listenPort = config.listenPort
        settings.peers = config.peers.map { ($0.host, $0.port) }
        settings.usesLocalDiscovery = config.usesMulticastDNS
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
        settings.upstreams = config.dnsUpstreams
        settings.clusterKind =
            switch config.cluster {
            case .none: .none
            case .etcd: .etcd
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
private struct EtcdExecutor: HostExecuting {
    private let executor: ClusterExecutor

    init(_ executor: ClusterExecutor) {
        self.executor = executor
    }

    func execute(_ command: HostCommand) { executor.execute(command) }
    func shutDown() { executor.shutDown() }
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
