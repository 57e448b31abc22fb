import ClusterPlan
import Cryptography
import DNS
import DataPlane
import LinuxIO
import Logging
import Membership
import MeshBase
import MeshNode
import NetAddress
import ServiceLifecycle
import Storage

/// A node on this machine from start to goodbye.
///
/// Starting takes what may be refused first (device, port, lock) and changes the disk last, so a
/// start that fails leaves no trace.
package final class NodeService: Service {
    package let runtime: NodeRuntime
    private let thread: ControlThread
    private let plane: PacketPlane
    private let integration: ResolverIntegration?
    private let first: FirstActions
    private let executor: any HostExecuting
    private let carrier: SideCarrier
    let settings: NodeSettings
    private let logger: Logger

    /// Makes the executor of datastore commands: from the state directory's path, the key that
    /// opens grants, and where reports go.
    package typealias ExecutorMaker =
        @Sendable (String, StaticPrivateKey, @escaping @Sendable (HostReport) -> Void)
        -> any HostExecuting

    /// Actions of the node's birth, carried out on the control thread.
    private struct FirstActions: Sendable {
        var actions: [NodeAction]
    }

    /// Starts a node's parts; nothing moves before ``run()``.
    ///
    /// - Throws: ``ServiceProblem`` with the fix, and nothing is left behind.
    package init(
        _ settings: NodeSettings, logger: Logger, makeExecutor: ExecutorMaker
    ) throws {
        self.settings = settings
        self.logger = logger
        let (location, directory) = try NodeService.findState(settings)
        let shards = ShardCount.resolve(settings.shards)
        let devices = try NodeService.openDevice(settings, shards)
        let device = devices.first
        let savedPort = try NodeService.savedPort(in: directory)
        let sockets = try NodeService.openSockets(
            shards, configured: settings.listenPort, saved: savedPort, logger)
        let port = sockets[0].port

        let store: NodeStore
        let identity: NodeIdentity
        do throws(StorageError) {
            let opened: StateDirectory
            if let directory { opened = directory } else { opened = try StateDirectory(location) }
            store = try NodeStore(opened)
            identity = try store.identity()
        } catch {
            throw ServiceProblem.storage(error)
        }
        let foundingLog = try wrapSystem { () throws(SystemCallError) in
            try settings.foundingLog.map { path throws(SystemCallError) in
                try FoundingLogFile(path)
            } ?? FoundingLogFile()
        }
        for note in store.notes { logger.error("\(note)") }
        let takesPart =
            settings.clusterKind != .none
            && (settings.clusterRole == .auto || settings.clusterRole == .server)
        let certificate: MembershipCertificate
        do {
            certificate = try store.certificate(
                for: identity, wantsVoter: takesPart, token: settings.token)
            if savedPort != port { try store.savePort(port) }
        } catch let error as StorageError {
            throw ServiceProblem.storage(error)
        }

        var configuration = NodeConfiguration(
            token: settings.token, identity: identity, certificate: certificate,
            hostname: settings.hostname, listenPort: port)
        configuration.fixedIPv4 = settings.fixedIPv4
        configuration.localRoutes = NetworkWatcher.localRoutes(except: device?.name)
        configuration.usesLocalDiscovery = settings.usesLocalDiscovery
        configuration.dht = settings.dht
        if let zone = settings.zone { configuration.zone = zone }
        configuration.clusterKind = settings.clusterKind
        configuration.clusterRole = settings.clusterRole
        configuration.relay = settings.relay
        configuration.hasCarrier = true
        configuration.mapsPorts = settings.mapsPorts
        configuration.guessesPorts = settings.guessesPorts
        configuration.keepsFoundingLog = settings.foundingLog != nil
        configuration.isDurable = store.directory.isDurable
        configuration.isAmnesiac = store.isAmnesiac
        configuration.hasClusterData =
            store.hasClusterData || settings.datastorePaths.contains { store.exists($0) }
        if !store.directory.isDurable {
            logger.warning(
                "\(store.directory.path) does not survive a restart: this node never votes")
        }

        var actions: [NodeAction] = []
        let node = Node(
            configuration: configuration, restored: store.restored, seed: SystemRandom.bytes32(),
            at: SystemClock.now(), into: &actions)
        first = FirstActions(actions: actions)
        thread = try wrapSystem { () throws(SystemCallError) in try ControlThread() }
        let carrier = try wrapSystem { () throws(SystemCallError) in try SideCarrier() }
        self.carrier = carrier
        plane = try wrapSystem { () throws(SystemCallError) in
            try PacketPlane(
                DataPlaneConfiguration(
                    devices: devices, sockets: sockets, mtu: Int(settings.token.mtu),
                    workerName: "evpn-packets", followsSources: false))
        }
        let interface: OverlayInterface?
        let changes: NetworkWatcher
        do throws(NetlinkError) {
            interface = try device.map { device throws(NetlinkError) in
                try OverlayInterface(
                    device, mtu: Int(settings.token.mtu),
                    ipv4Length: settings.token.ipv4Plan.length)
            }
            changes = try NetworkWatcher()
        } catch {
            throw ServiceProblem.netlink(error)
        }
        integration = NodeService.resolverIntegration(
            settings, table: node.names, interface: device?.name, logger)
        let box = RuntimeBox()
        executor =
            takesPart || settings.clusterKind != .none
            ? makeExecutor(store.directory.path, identity.staticKey) { box.report($0) }
            : NoExecutor()
        runtime = NodeRuntime(
            NodeParts(
                thread: thread, node: node, store: store, plane: plane, interface: interface,
                multicast: NodeService.multicast(settings, logger), changes: changes,
                nameServer: NodeService.nameServer(settings, table: node.names, logger),
                resolverIntegration: integration,
                executor: executor, carrier: carrier,
                gatewayTalker: settings.mapsPorts ? try? GatewayTalker() : nil, logger: logger,
                foundingLog: foundingLog))
        box.runtime = runtime
    }

    /// Runs until the task is told to shut down gracefully, or the node cannot go on.
    package func run() async throws {
        let runtime = runtime
        let first = first
        try wrapSystem { () throws(SystemCallError) in
            try plane.start()
            try startCarrier()
        }
        let failure: String? = try await withGracefulShutdownHandler {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { [self] in try await resolvePeers() }
                group.addTask {
                    // By then the first members have usually met.
                    try await Task.sleep(for: .seconds(10))
                    StartupMemory.release()
                }
                group.addTask { [self] in try await resolveDHTBootstrap() }
                let failure: String? = try await withCheckedThrowingContinuation { done in
                    do throws(SystemCallError) {
                        try WorkerThread(name: "evpn-control") {
                            done.resume(returning: runtime.run(first.actions))
                        }.detach()
                    } catch {
                        done.resume(throwing: ServiceProblem.system(error))
                    }
                }
                group.cancelAll()
                return failure
            }
        } onGracefulShutdown: {
            Task { await runtime.leave() }
        }
        integration?.undo()
        carrier.stop()
        plane.stop()
        executor.shutDown()
        if let failure { throw ServiceProblem.failed(failure) }
    }

    private func startCarrier() throws(SystemCallError) {
        let isRelay = settings.relay != .off
        let loop = try SideCarrierLoop(
            carrier,
            SideCarrierSettings(
                port: plane.port, listens: isRelay, listensTLS: isRelay && settings.relaysByTLS),
            logger)
        try WorkerThread(name: "evpn-carrier") { loop.run() }.detach()
    }

    /// Resolves the names of configured peers, again and again: addresses behind names move.
    private func resolvePeers() async throws {
        let hints = settings.token.peerHints.compactMap { splitHostPort($0) }
        let peers = settings.peers + hints.map { ($0.host, $0.port) }
        guard !peers.isEmpty else { return }
        while true {
            var addresses: [SocketAddress] = []
            for peer in peers {
                addresses += HostResolver.addresses(of: peer.host, port: peer.port)
            }
            await runtime.addCandidates(addresses)
            try await Task.sleep(for: .seconds(60))
        }
    }
}

/// Lets the executor report to a runtime that is made after it.
private final class RuntimeBox: @unchecked Sendable {
    /// Written once, before the executor gets its first command.
    var runtime: NodeRuntime?

    func report(_ report: HostReport) {
        guard let runtime else { return }
        Task { await runtime.report(report) }
    }
}

/// What a ``NodeRuntime`` is made of.
struct NodeParts {
    let thread: ControlThread
    let node: Node
    let store: NodeStore
    let plane: PacketPlane
    let interface: OverlayInterface?
    let multicast: MulticastService?
    let changes: NetworkWatcher
    let nameServer: NameServer?
    let resolverIntegration: ResolverIntegration?
    let executor: any HostExecuting
    let carrier: SideCarrier
    let gatewayTalker: GatewayTalker?
    let logger: Logger
    let foundingLog: FoundingLogFile
}

// MARK: - Opening

extension NodeService {
    private static func openDevice(
        _ settings: NodeSettings, _ shards: Int
    ) throws(ServiceProblem) -> [TunDevice] {
        guard let name = settings.interfaceName else { return [] }
        let isTaken: Bool
        do throws(NetlinkError) {
            isTaken = try Netlink().index(of: name) != nil
        } catch {
            throw .netlink(error)
        }
        guard !isTaken else { throw .interfaceTaken(name) }
        do throws(SystemCallError) {
            return try TunDevice.queues(of: name, count: shards)
        } catch {
            if error.isMissing { throw .noTunDevice }
            if error.isForbidden { throw .notRoot }
            if error.isBusy { throw .interfaceTaken(name) }
            throw .system(error)
        }
    }

    private static func openSockets(
        _ shards: Int, configured: UInt16?, saved: UInt16?, _ logger: Logger
    ) throws(ServiceProblem) -> [UDPSocket] {
        do throws(SystemCallError) {
            return try UDPSocket.group(of: shards, port: configured ?? saved ?? 0)
        } catch {
            guard error.isAddressInUse else { throw .system(error) }
            guard configured == nil, let saved else { throw .portTaken(configured ?? 0) }
            logger.warning("UDP port \(saved) of the last start is taken; choosing another one")
        }
        return try wrapSystem { () throws(SystemCallError) in
            try UDPSocket.group(of: shards, port: 0)
        }
    }

    /// Locks the state directory when it exists; making it is left for later.
    private static func findState(_ settings: NodeSettings) throws(ServiceProblem)
        -> (StateLocation, StateDirectory?)
    {
        do throws(StorageError) {
            let location = try StateLocation.find(chosen: settings.stateDirectory)
            return (location, try location.exists() ? try StateDirectory(location) : nil)
        } catch {
            throw .storage(error)
        }
    }

    private static func savedPort(in directory: StateDirectory?) throws(ServiceProblem) -> UInt16? {
        guard let directory else { return nil }
        do throws(StorageError) {
            return try NodeStore.savedPort(in: directory)
        } catch {
            throw .storage(error)
        }
    }
}

/// Runs system calls and wraps their refusal.
func wrapSystem<Result>(_ body: () throws(SystemCallError) -> Result) throws(ServiceProblem)
    -> Result
{
    do {
        return try body()
    } catch {
        throw .system(error)
    }
}
