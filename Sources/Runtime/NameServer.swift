import DNS
import LinuxIO
import MeshBase
import NetAddress
import Synchronization

/// What the name server of a node is told once.
package struct NameServerConfiguration: Sendable {
    /// Addresses to listen on at any time, beside those given to ``NameServer/listen(on:)``.
    package var fixedAddresses: [SocketAddress]
    /// The port on overlay addresses.
    package var port: UInt16
    package var upstreams: [SocketAddress]
    /// Files in the form of resolv.conf that name the upstreams, instead of ``upstreams``; the first
    /// that names others than this server counts, and changes are noticed.
    package var upstreamFiles: [String] = []
    /// The upstreams, of routes too, that are asked over TLS, each with the name that its
    /// certificate must be for; an empty one stands for the address.
    package var secureUpstreams: [SocketAddress: String] = [:]
    /// Who may ask; everybody who reaches the addresses when empty.
    package var clients: [IPPrefix]
    package var cacheCapacity: Int
    /// Upstreams of single suffixes.
    package var routes: [ResolverRoute]
    /// Suffixes whose names may have private addresses, beside those with a route.
    package var localSuffixes: [DNSName]
    /// Queries of one source that are answered per second; 0 for all.
    package var queriesPerSecond: Int
    /// Called on the server's thread for every answer; nobody by default, for it tells what people
    /// do all day.
    package var queryLog: (@Sendable (AnsweredQuery) -> Void)?

    package init(
        fixedAddresses: [SocketAddress] = [], port: UInt16 = 53, upstreams: [SocketAddress] = [],
        clients: [IPPrefix] = [], cacheCapacity: Int = 10_000, routes: [ResolverRoute] = [],
        localSuffixes: [DNSName] = [], queriesPerSecond: Int = 200,
        queryLog: (@Sendable (AnsweredQuery) -> Void)? = nil
    ) {
        self.routes = routes
        self.localSuffixes = localSuffixes
        self.queriesPerSecond = queriesPerSecond
        self.queryLog = queryLog
        self.fixedAddresses = fixedAddresses
        self.port = port
        self.upstreams = upstreams
        self.clients = clients
        self.cacheCapacity = cacheCapacity
    }
}

/// Answers DNS queries over UDP and TCP on a thread of its own.
///
/// Others hand it tables, addresses and upstreams through a mailbox and a doorbell; they never
/// wait for a query, and a query never waits for them.
package final class NameServer: Sendable {
    private let configuration: NameServerConfiguration
    private let mailbox: NameServerMailbox
    private let warn: @Sendable (String) -> Void
    private let state: Mutex<State>

    private struct State: ~Copyable {
        var thread: WorkerThread?
        var listeners: [SocketAddress: NameListener] = [:]
        var upstreams: [SocketAddress]
    }

    /// Starts the thread; nothing listens before ``listen(on:)`` except the fixed addresses.
    ///
    /// - Parameter warn: Called with one sentence when an address cannot be bound, on the thread
    ///   that asked for it.
    package init(
        _ configuration: NameServerConfiguration, table: NameTable,
        warn: @escaping @Sendable (String) -> Void
    ) throws(SystemCallError) {
        self.configuration = configuration
        self.warn = warn
        mailbox = try NameServerMailbox()
        state = Mutex(State(thread: nil, upstreams: configuration.upstreams))
        var settings = ResolverConfiguration(
            localSuffixes: configuration.localSuffixes, clients: configuration.clients,
            cacheCapacity: configuration.cacheCapacity,
            queriesPerSecond: configuration.queriesPerSecond,
            logsQueries: configuration.queryLog != nil)
        settings.secureUpstreams = Set(configuration.secureUpstreams.keys)
        let resolver = Resolver(table: table, configuration: settings)
        let loop = try NameServerLoop(
            resolver: resolver, mailbox: mailbox,
            certificateNames: configuration.secureUpstreams.filter { !$0.value.isEmpty },
            upstreamFiles: configuration.upstreamFiles,
            queryLog: configuration.queryLog)
        let thread = try WorkerThread(name: "evpn-names") { loop.run() }
        start(thread)
        listen(on: [])
    }

    private func start(_ thread: consuming WorkerThread) {
        var slot: WorkerThread? = consume thread
        state.withLock { $0.thread = slot.take() }
    }

    deinit {
        stop()
    }

    /// Replaces the names, from the next query on.
    package func publish(_ table: NameTable) {
        mailbox.post { $0.table = table }
    }

    /// Listens on exactly `addresses` and the fixed ones, UDP and TCP; those that stay are not
    /// interrupted. An address that cannot be bound is a warning, and tried again next time.
    package func listen(on addresses: [SocketAddress]) {
        let wanted = Set(addresses + configuration.fixedAddresses)
        let effective = state.withLock { state -> (listeners: [NameListener], Forwarding) in
            for address in state.listeners.keys where !wanted.contains(address) {
                state.listeners[address] = nil
            }
            for address in wanted where state.listeners[address] == nil {
                do throws(SystemCallError) {
                    state.listeners[address] = try NameListener(address)
                } catch {
                    warn("DNS does not listen on \(address): \(error)")
                }
            }
            return (Array(state.listeners.values), forwarding(state))
        }
        mailbox.post {
            $0.listeners = effective.listeners
            $0.forwarding = effective.1
        }
    }

    /// Listens on a node's overlay addresses at the configured port.
    package func listen(ipv4: IPAddress?, ipv6: IPAddress) {
        let addresses = [ipv4, ipv6].compactMap { $0 }
        listen(on: addresses.map { SocketAddress(ip: $0, port: configuration.port) })
    }

    /// Replaces the upstreams for names that are not the mesh's.
    package func setUpstreams(_ upstreams: [SocketAddress]) {
        let effective = state.withLock { state in
            state.upstreams = upstreams
            return forwarding(state)
        }
        mailbox.post { $0.forwarding = effective }
    }

    private func forwarding(_ state: borrowing State) -> Forwarding {
        let own = state.listeners.values.map(\.localAddress)
        return Forwarding(
            upstreams: others(state.upstreams, than: own),
            routes: configuration.routes.map {
                ResolverRoute(suffix: $0.suffix, upstreams: others($0.upstreams, than: own))
            })
    }

    /// The upstreams that are not this server itself: asking those would be a loop.
    private func others(
        _ upstreams: [SocketAddress], than own: [SocketAddress]
    ) -> [SocketAddress] {
        upstreams.filter { !isOwn($0, own) }
    }

    /// Where the server listens now, with the ports that the kernel drew.
    package var addresses: [SocketAddress] {
        state.withLock { $0.listeners.values.map(\.localAddress) }
            .sorted { ($0.ip, $0.port) < ($1.ip, $1.port) }
    }

    package var counters: ResolverCounters { mailbox.counters }

    /// Who is asked for names that are not the mesh's.
    package var upstreams: [SocketAddress] { mailbox.upstreams }

    /// Ends the thread and closes all sockets; further calls do nothing.
    package func stop() {
        mailbox.post { $0.isStopping = true }
        let thread = state.withLock { state in
            state.listeners = [:]
            return state.thread.take()
        }
        if let thread { thread.join() }
    }
}

/// Whether a server that listens on `own` would ask itself at `upstream`.
func isOwn(_ upstream: SocketAddress, _ own: [SocketAddress]) -> Bool {
    own.contains { listener in
        listener.port == upstream.port
            && (listener.ip == upstream.ip || listener.ip.isUnspecified && upstream.ip.isLoopback)
    }
}

/// The two sockets of one address.
final class NameListener: Sendable {
    let datagrams: DatagramSocket
    let streams: StreamListener

    init(_ address: SocketAddress) throws(SystemCallError) {
        datagrams = try DatagramSocket(boundTo: address)
        // With port 0 TCP takes the port that UDP got.
        streams = try StreamListener(boundTo: datagrams.localAddress)
    }

    var localAddress: SocketAddress { datagrams.localAddress }
}

/// Where names that are not the mesh's are asked.
struct Forwarding {
    let upstreams: [SocketAddress]
    let routes: [ResolverRoute]
}

/// What others want from the server's thread, the latest word on each subject.
final class NameServerMailbox: Sendable {
    struct Orders {
        var table: NameTable?
        var listeners: [NameListener]?
        var forwarding: Forwarding?
        var isStopping = false
    }

    private let orders = Mutex(Orders())
    private let latest = Mutex((counters: ResolverCounters(), upstreams: [SocketAddress]()))
    let doorbell: Doorbell

    init() throws(SystemCallError) {
        doorbell = try Doorbell()
    }

    func post(_ change: (inout Orders) -> Void) {
        orders.withLock { change(&$0) }
        doorbell.ring()
    }

    func take() -> Orders {
        doorbell.answer()
        return orders.withLock { orders in
            let taken = orders
            orders = Orders(isStopping: taken.isStopping)
            return taken
        }
    }

    var counters: ResolverCounters { latest.withLock { $0.counters } }
    var upstreams: [SocketAddress] { latest.withLock { $0.upstreams } }

    func report(_ counters: ResolverCounters, _ upstreams: [SocketAddress]) {
        latest.withLock { $0 = (counters, upstreams) }
    }
}
