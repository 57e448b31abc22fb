import ClusterPlan
import Consensus
import DNS
import DataPlane
import Ledger
import LinuxIO
import Logging
import MeshBase
import MeshNode
import NetAddress
import Storage
import WireGuard

/// Interprets a ``Node`` on a real machine: waits, feeds it one input, carries out the actions in
/// order. It holds no protocol rule.
///
///     data plane ring, multicast sockets, netlink, executors, API calls
///          |                                  (ControlThread, one at a time)
///     Node.receive(input) -> actions
///          |
///     UDP socket, state directory, forwarding table, interface, name server, executor
package actor NodeRuntime {
    private nonisolated let thread: ControlThread
    var node: Node
    private let store: NodeStore
    private let dataPlane: PacketPlane
    let interface: OverlayInterface?
    private let multicast: MulticastService?
    let changes: NetworkWatcher
    let nameServer: NameServer?
    private let resolverIntegration: ResolverIntegration?
    private let executor: any HostExecuting
    private let carrier: SideCarrier
    let gatewayTalker: GatewayTalker?
    /// `nil` before the first look.
    private var waysOut: [DefaultRoute]?
    private let logger: Logger
    private var foundingLog: FoundingLogFile
    private var forwardingIsDirty = true
    /// Datagrams that wait for ``publish()``: an answer to one that makes a session must find it.
    private var heldSends: [NodeAction] = []
    private var namesAreDirty = true
    private var watchedRevision: UInt64 = 0
    private var waitingPings: [UInt32: CheckedContinuation<Duration?, Never>] = [:]
    private var pingDeadlines: [UInt32: BootInstant] = [:]
    private var nextPing: UInt32 = 1
    /// Grows with every change of the ledger; where it starts differs from start to start.
    private var ledgerRevision = UInt64(SystemRandom.bytes32().prefix64 >> 16)
    private var ledgerWaiters: [(deadline: BootInstant, done: CheckedContinuation<UInt64, Never>)] =
        []
    private var nextStir = BootInstant.zero
    private var stopAt: BootInstant?
    private var hasFailed: String?

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        thread.asUnownedSerialExecutor()
    }

    init(_ parts: NodeParts) {
        thread = parts.thread
        node = parts.node
        store = parts.store
        dataPlane = parts.plane
        interface = parts.interface
        multicast = parts.multicast
        changes = parts.changes
        nameServer = parts.nameServer
        resolverIntegration = parts.resolverIntegration
        executor = parts.executor
        carrier = parts.carrier
        gatewayTalker = parts.gatewayTalker
        logger = parts.logger
        foundingLog = parts.foundingLog
    }

    // MARK: - The loop

    /// Runs on the control thread until the node has left; returns why it failed, if it did.
    nonisolated func run(_ first: [NodeAction]) -> String? {
        thread.adoptCurrentThread()
        assumeIsolated { runtime in
            runtime.carryOut(first, at: SystemClock.now())
            runtime.refreshInterfaces()
            runtime.publish()
        }
        do throws(SystemCallError) {
            let descriptors = assumeIsolated { $0.descriptors }
            try thread.run(watching: descriptors) { ready in
                assumeIsolated { $0.turn(ready) }
            }
        } catch {
            return error.description
        }
        return assumeIsolated { $0.hasFailed }
    }

    private var descriptors: [Int32] {
        [dataPlane.doorbell.descriptor, changes.descriptor, carrier.reportBell.descriptor]
            + (gatewayTalker?.descriptors ?? []) + (multicast?.descriptors ?? [])
    }

    /// Where in ``descriptors`` those of the gateway end.
    private var gatewayEnd: Int { 3 + (gatewayTalker?.descriptors.count ?? 0) }

    /// One round: everything that is ready, then whatever is due.
    private func turn(_ ready: [Int]) -> BootInstant?? {
        stirIfDue()
        for index in ready {
            switch index {
            case 0: drainDataPlane()
            case 1: networkChanged()
            case 2: takeCarrierReports()
            case 3..<gatewayEnd: hearGateway()
            default: drainMulticast()
            }
        }
        step(.timeout)
        endOverduePings()
        endWatches()
        publish()
        if hasFailed != nil || stopAt.map({ $0 <= SystemClock.boot() }) == true {
            answerEverybody()
            return nil
        }
        var deadline = node.deadline
        deadline = earlier(deadline, pingDeadlines.values.min())
        deadline = earlier(deadline, ledgerWaiters.map(\.deadline).min())
        return .some(earlier(deadline, stopAt))
    }

    private func stirIfDue() {
        let now = SystemClock.boot()
        guard nextStir <= now else { return }
        nextStir = now + .seconds(60)
        node.stir(SystemRandom.bytes32())
    }

    private func drainDataPlane() {
        dataPlane.drainEvents { event in
            switch event {
            case .datagram(let bytes, let source):
                step(.datagram(bytes, from: source))
            case .controlFrame(let peer, let payload):
                step(.controlFrame(payload, from: peer))
            case .sessionWanted(let peer):
                step(.sessionWanted(peer))
            case .sessionConfirmed(_, let index):
                step(.sessionConfirmed(localIndex: index))
            case .endpointMoved(let peer, let address):
                step(.endpointMoved(peer, to: address))
            }
        }
    }

    private func takeCarrierReports() {
        for report in carrier.takeReports() { step(.carrier(report)) }
    }

    private func drainMulticast() {
        for packet in multicast?.receive() ?? [] {
            step(
                .multicast(
                    packet.bytes, from: packet.source, interface: packet.interface,
                    toGroup: packet.toGroup))
        }
    }

    private func networkChanged() {
        let changed = changes.drain()
        guard changed.isDisjoint(with: [.links, .addresses]) else { return refreshInterfaces() }
        guard changed.contains(.routes) else { return }
        refreshGateway()
        refreshWaysOut()
    }

    private func refreshInterfaces() {
        let interfaces = changes.interfaces(except: interface?.name)
        multicast?.join(interfaces)
        step(.interfaces(interfaces))
        refreshGateway()
        refreshWaysOut()
    }

    private func refreshWaysOut() {
        let found = changes.waysOut(except: interface?.name)
        defer { waysOut = found }
        if let waysOut, waysOut != found { step(.waysOutChanged) }
    }

    func step(_ input: NodeInput) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        node.receive(input, at: now, into: &actions)
        carryOut(actions, at: now)
    }

    // MARK: - Actions

    func carryOut(_ actions: [NodeAction], at now: Now) {
        // Entries that arrive together reach the disk together, and before anything that may
        // depend on them leaves.
        var entries: [[UInt8]] = []
        for action in actions {
            if case .persist(.ledgerEntry(let bytes)) = action {
                entries.append(bytes)
                ledgerRevision &+= 1
                continue
            }
            if !entries.isEmpty {
                persist { store throws(StorageError) in try store.append(entries) }
                entries = []
            }
            guard hasFailed == nil else { return }
            switch action {
            case .send, .sendUnfragmented, .sendShort:
                if forwardingIsDirty { heldSends.append(action) } else { transmit(action) }
            case .carrier(let order):
                carrier.order(order)
            case .gateway(let action):
                tellGateway(action)
            case .sendMulticast(let bytes, let target):
                multicast?.send(bytes, to: target)
            case .persist(let record):
                if case .ledgerShrank = record { ledgerRevision &+= 1 }
                persist { store throws(StorageError) in try store.write(record) }
            case .forwardingChanged:
                forwardingIsDirty = true
            case .addressesChanged(let ipv4, let ipv6):
                setAddresses(ipv4: ipv4, ipv6: ipv6)
            case .namesChanged:
                namesAreDirty = true
            case .host(let command):
                executor.execute(command)
            case .pong(let identifier, let roundTrip):
                pingDeadlines[identifier] = nil
                waitingPings.removeValue(forKey: identifier)?.resume(returning: roundTrip)
            case .log(let level, let text):
                logger.log(level: level.loggerLevel, "\(text)")
            case .record(let lines):
                if let end = foundingLog.append(lines) {
                    logger.warning("the founding log ends: \(end)")
                }
            }
        }
        if !entries.isEmpty { persist { store throws(StorageError) in try store.append(entries) } }
    }

    private func transmit(_ action: NodeAction) {
        switch action {
        case .send(let datagram, let target):
            dataPlane.send(datagram: datagram, to: target)
        case .sendUnfragmented(let datagram, let target):
            dataPlane.send(unfragmented: datagram, to: target)
        case .sendShort(let datagram, let target, let hops):
            dataPlane.send(datagram: datagram, to: target, hops: hops)
        default: return
        }
    }

    /// Failing to make something durable ends the daemon: it may not act on what it may forget.
    private func persist(_ write: (NodeStore) throws(StorageError) -> Void) {
        do throws(StorageError) {
            if store.wantsCompaction {
                try store.compactLedger(node.durableLedgerEntries)
            }
            try write(store)
        } catch {
            logger.critical("\(error); \(error.fix)")
            hasFailed = "\(error)"
        }
    }

    private func setAddresses(ipv4: IPAddress?, ipv6: IPAddress) {
        namesAreDirty = true
        do {
            try interface?.setAddresses(ipv4: ipv4, ipv6: ipv6)
        } catch {
            logger.error("\(error)")
        }
        nameServer?.listen(ipv4: ipv4, ipv6: ipv6)
        if let resolverIntegration {
            let servers = [ipv4, ipv6].compactMap { $0 }
            // It talks to other programs and waits for them.
            try? WorkerThread(name: "evpn-resolver") { resolverIntegration.apply(servers) }.detach()
        }
    }

    private func setServedAddress(_ address: IPAddress?) {
        do {
            try interface?.setServedAddress(address)
        } catch {
            logger.error("\(error)")
        }
    }

    func publish() {
        if forwardingIsDirty {
            forwardingIsDirty = false
            setServedAddress(node.servedAddress)
            dataPlane.publish(
                ForwardingSnapshot(
                    node.forwarding, relaying: node.relaying, budget: node.configuration.relay))
            for held in heldSends { transmit(held) }
            heldSends = []
        }
        if namesAreDirty {
            namesAreDirty = false
            nameServer?.publish(node.names)
        }
    }

    // MARK: - For the API

    package func status() -> NodeStatus {
        var status = node.status(at: SystemClock.boot())
        for reason in PacketDropReason.allCases {
            let count = dataPlane.drops(reason)
            if count > 0 { status.drops["packet \(reason)"] = count }
        }
        return status
    }

    /// Feeds what a host command came to.
    package func report(_ report: HostReport) {
        step(.host(report))
        publish()
    }

    /// Feeds addresses where members may be.
    package func addCandidates(_ addresses: [SocketAddress]) {
        step(.candidates(addresses))
        publish()
    }

    /// Feeds addresses where nodes of the DHT may be.
    package func addDHTBootstrap(_ addresses: [SocketAddress]) {
        step(.dhtBootstrap(addresses))
        publish()
    }

    package func member(named text: String) -> NodeID? {
        node.member(named: text)
    }

    /// Probes a member through its tunnel.
    ///
    /// - Returns: the round trip, or `nil` when no answer came in time.
    package func ping(_ target: NodeID, timeout: Duration) async -> Duration? {
        let identifier = nextPing
        nextPing &+= 1
        return await withCheckedContinuation { continuation in
            waitingPings[identifier] = continuation
            pingDeadlines[identifier] = SystemClock.boot() + timeout
            step(.command(.ping(id: identifier, target)))
            publish()
        }
    }

    private func endOverduePings() {
        let now = SystemClock.boot()
        for (identifier, deadline) in pingDeadlines where deadline <= now {
            pingDeadlines[identifier] = nil
            waitingPings.removeValue(forKey: identifier)?.resume(returning: nil)
        }
    }

    package func ledgerEntries(bucket: String?) -> [LedgerEntry] {
        let now = SystemClock.boot()
        return node.ledgerEntries(bucket: bucket).filter { node.counts($0, at: now) }
    }

    /// Waits until the ledger has another revision than `revision`, at most `timeout`, and returns
    /// the present one; at once when too many wait already.
    package func ledgerRevision(after revision: UInt64?, timeout: Duration) async -> UInt64 {
        guard revision == ledgerRevision, stopAt == nil, hasFailed == nil,
            ledgerWaiters.count < NodeRuntime.watchLimit
        else {
            return ledgerRevision
        }
        return await withCheckedContinuation { continuation in
            ledgerWaiters.append((SystemClock.boot() + timeout, continuation))
            watchedRevision = ledgerRevision
        }
    }

    /// As many as the API has connections.
    private static let watchLimit = 64

    /// Nobody may wait for a node that has stopped.
    private func answerEverybody() {
        for waiter in ledgerWaiters { waiter.done.resume(returning: ledgerRevision) }
        ledgerWaiters = []
        for ping in waitingPings.values { ping.resume(returning: nil) }
        waitingPings = [:]
        pingDeadlines = [:]
    }

    private func endWatches() {
        let now = SystemClock.boot()
        let hasChanged = watchedRevision != ledgerRevision
        let ended = ledgerWaiters.filter { hasChanged || $0.deadline <= now }
        ledgerWaiters.removeAll { hasChanged || $0.deadline <= now }
        for waiter in ended { waiter.done.resume(returning: ledgerRevision) }
    }

    /// Takes in an entry that the mesh's root signed; it is durable when this returns.
    ///
    /// - Returns: why it was refused; nothing changed then.
    package func adopt(_ entry: LedgerEntry) -> LedgerDropReason? {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        let problem = node.adopt(entry, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        endWatches()
        return problem
    }

    /// Writes an own entry; it is durable when this returns.
    ///
    /// - Throws: ``LedgerProblem`` when the entry breaks a bound; nothing changed then.
    package func putEntry(bucket: String, key: String, value: [UInt8]) throws(LedgerProblem) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        try node.put(bucket: bucket, key: key, value: value, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        endWatches()
    }

    /// Withdraws an own entry; the withdrawal is durable when this returns.
    package func deleteEntry(bucket: String, key: String) throws(LedgerProblem) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        try node.delete(bucket: bucket, key: key, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        endWatches()
    }

    /// Says goodbye and ends the loop a moment later, so that the goodbyes are on the wire.
    package func leave() {
        guard stopAt == nil else { return }
        step(.command(.leave))
        publish()
        stopAt = SystemClock.boot() + .milliseconds(200)
    }
}
