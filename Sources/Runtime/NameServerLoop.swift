import DNS
import LinuxIO
import MeshBase
import NetAddress
import Transport

/// The thread of the name server: waits for sockets, feeds the ``Resolver``, carries out what it
/// wants. Used by one thread alone.
final class NameServerLoop: @unchecked Sendable {
    var resolver: Resolver
    private let mailbox: NameServerMailbox
    let poller: ReadinessPoller
    private var upstreamFile: UpstreamFile?
    private var ownAddresses: [SocketAddress] = []
    let certificateNames: [SocketAddress: String]
    /// The connection to each upstream that is asked over TLS.
    var secureUpstreams: [SocketAddress: SecureUpstream] = [:]
    var secureExchanges: [UInt64: SecureUpstream] = [:]
    lazy var secureContext = TLSClientContext()
    private let queryLog: (@Sendable (AnsweredQuery) -> Void)?
    var random = SystemRandom.generator()
    var endpoints: [UInt64: Endpoint] = [:]
    private var listenerTokens: [ObjectIdentifier: [UInt64]] = [:]
    /// The token of the socket of each exchange.
    private var exchanges: [UInt64: UInt64] = [:]
    var actions: [ResolverAction] = []
    private var nextToken: UInt64 = 1
    private var connectionCount = 0
    private let batch = DatagramBatch()
    /// The listener whose replies wait in ``batch``.
    private var batched: NameListener?
    /// The query that is being looked at, so that not every one needs memory of its own.
    private var query: [UInt8] = []

    enum Endpoint {
        case datagrams(NameListener)
        case streams(NameListener)
        case client(NameConnection)
        case upstreamDatagrams(DatagramSocket, exchange: UInt64, upstream: SocketAddress)
        case upstreamStream(NameConnection, exchange: UInt64, upstream: SocketAddress)
        case upstreamSecure(SecureUpstream)
    }

    private static let doorbellToken: UInt64 = 0
    /// Queries taken from one socket before the others have their turn.
    private static let burst = 64
    /// Connections of clients at once; the longest idle one makes room.
    private static let maximumConnections = 100

    init(
        resolver: Resolver, mailbox: NameServerMailbox,
        certificateNames: [SocketAddress: String], upstreamFiles: [String],
        queryLog: (@Sendable (AnsweredQuery) -> Void)?
    ) throws(SystemCallError) {
        self.queryLog = queryLog
        self.certificateNames = certificateNames
        upstreamFile = upstreamFiles.isEmpty ? nil : UpstreamFile(upstreamFiles)
        self.resolver = resolver
        self.mailbox = mailbox
        poller = try ReadinessPoller()
        try poller.add(mailbox.doorbell.descriptor, .input, token: NameServerLoop.doorbellToken)
    }

    func run() {
        while true {
            let events = poller.wait(milliseconds: patience())
            lookForUpstreams()
            for event in events {
                if event.token == NameServerLoop.doorbellToken {
                    guard takeOrders() else { return endpoints.removeAll() }
                } else {
                    handle(event)
                }
                carryOut()
            }
            endOverdue()
            carryOut()
            mailbox.report(resolver.counters, resolver.upstreams)
        }
    }

    private func patience() -> Int32 {
        let now = SystemClock.boot()
        var deadline = resolver.deadline
        for upstream in secureUpstreams.values {
            deadline = earlier(deadline, upstream.idleDeadline)
        }
        if connectionCount > 0 {
            for case .client(let connection) in endpoints.values {
                deadline = earlier(deadline, connection.idleDeadline)
            }
        }
        guard let deadline else { return -1 }
        let milliseconds = max(0, (deadline - now).clampedNanoseconds / 1_000_000 + 1)
        return Int32(clamping: min(milliseconds, 60_000))
    }

    private func lookForUpstreams() {
        let own = ownAddresses
        let found = upstreamFile?.look(at: SystemClock.boot()) { isOwn($0, own) }
        if let found { resolver.setUpstreams(found) }
    }

    // MARK: Orders

    /// False when the server shall stop.
    private func takeOrders() -> Bool {
        let orders = mailbox.take()
        if let table = orders.table { resolver.table = table }
        if let forwarding = orders.forwarding {
            if upstreamFile == nil { resolver.setUpstreams(forwarding.upstreams) }
            resolver.setRoutes(forwarding.routes)
        }
        if let listeners = orders.listeners { replaceListeners(listeners) }
        return !orders.isStopping
    }

    private func replaceListeners(_ listeners: [NameListener]) {
        ownAddresses = listeners.map(\.localAddress)
        upstreamFile?.forget()
        lookForUpstreams()
        let wanted = Set(listeners.map(ObjectIdentifier.init))
        for (identity, tokens) in listenerTokens where !wanted.contains(identity) {
            for token in tokens { endpoints[token] = nil }
            listenerTokens[identity] = nil
        }
        for listener in listeners where listenerTokens[ObjectIdentifier(listener)] == nil {
            let tokens = [
                watch(listener.datagrams.descriptor, .datagrams(listener)),
                watch(listener.streams.descriptor, .streams(listener)),
            ]
            listenerTokens[ObjectIdentifier(listener)] = tokens.compactMap { $0 }
        }
    }

    func watch(
        _ descriptor: Int32, _ endpoint: Endpoint, _ interest: ReadinessPoller.Interest = .input
    ) -> UInt64? {
        let token = nextToken
        nextToken += 1
        do throws(SystemCallError) {
            try poller.add(descriptor, interest, token: token)
        } catch {
            return nil
        }
        endpoints[token] = endpoint
        return token
    }

    // MARK: Sockets

    private func handle(_ event: ReadinessPoller.Event) {
        // A socket that an earlier event of the same round closed is no longer here.
        switch endpoints[event.token] {
        case .datagrams(let listener): receiveQueries(listener, token: event.token)
        case .streams(let listener): acceptConnections(listener)
        case .client(let connection): serve(connection, event)
        case .upstreamDatagrams(let socket, let exchange, let upstream):
            receiveReplies(socket, exchange, upstream)
        case .upstreamStream(let connection, let exchange, let upstream):
            converse(connection, event, exchange, upstream)
        case .upstreamSecure(let upstream): converse(upstream, event)
        case nil: break
        }
    }

    private func receiveQueries(_ listener: NameListener, token: UInt64) {
        if listener.localAddress.ip.isUnspecified { return receiveAnywhere(listener, token: token) }
        var taken = 0
        var count = 0
        repeat {
            count = batch.receive(from: listener.datagrams)
            taken += count
            let now = SystemClock.boot()
            batched = listener
            for index in 0..<count {
                batch.copy(index, into: &query)
                let client = DNSClient(
                    address: batch.source(of: index), transport: .udp, channel: token)
                resolver.receive(
                    query: query, from: client, at: now, random: &random, into: &actions)
                carryOut()
            }
            batched = nil
            batch.send(by: listener.datagrams)
        } while count == DatagramBatch.capacity && taken < NameServerLoop.burst
    }

    /// At a socket for all addresses, each reply must name the one that was asked.
    private func receiveAnywhere(_ listener: NameListener, token: UInt64) {
        for _ in 0..<NameServerLoop.burst {
            guard case .datagram(let datagram) = listener.datagrams.receive() else { return }
            let client = DNSClient(
                address: datagram.source, transport: .udp, channel: token,
                local: datagram.destination)
            resolver.receive(
                query: datagram.bytes, from: client, at: SystemClock.boot(), random: &random,
                into: &actions)
            carryOut()
        }
    }

    private func acceptConnections(_ listener: NameListener) {
        while let (socket, peer) = listener.streams.accept() {
            if connectionCount >= NameServerLoop.maximumConnections { closeLongestIdle() }
            let connection = NameConnection(socket, peer: peer, at: SystemClock.boot())
            if let token = watch(socket.descriptor, .client(connection)) {
                connection.token = token
                connectionCount += 1
            }
        }
    }

    private func serve(_ connection: NameConnection, _ event: ReadinessPoller.Event) {
        if event.canRead || event.hasFailed { connection.fill() }
        while let query = connection.nextMessage() {
            let now = SystemClock.boot()
            let client = DNSClient(
                address: connection.peer, transport: .tcp, channel: connection.token)
            connection.outstanding += 1
            let before = actions.count
            resolver.receive(
                query: query, from: client, at: now, random: &random, into: &actions)
            // What is no query does not keep a connection open.
            if case .dropped? = actions.dropFirst(before).first {
                connection.outstanding -= 1
            } else {
                connection.lastActivity = now
            }
            carryOut()
        }
        settle(connection)
    }

    /// Writes what is waiting, then decides whether the connection goes on.
    private func settle(_ connection: NameConnection) {
        connection.flush()
        guard !connection.isFinished else { return close(connection) }
        let interest = connection.interest
        guard interest != connection.watched else { return }
        do throws(SystemCallError) {
            try poller.change(
                connection.socket.descriptor, to: interest, token: connection.token)
            connection.watched = interest
        } catch {
            close(connection)
        }
    }

    private func close(_ connection: NameConnection) {
        guard endpoints.removeValue(forKey: connection.token) != nil else { return }
        connectionCount -= 1
    }

    private func closeLongestIdle() {
        var oldest: NameConnection?
        for case .client(let connection) in endpoints.values
        where connection.lastActivity < oldest?.lastActivity ?? .distantFuture {
            oldest = connection
        }
        if let oldest { close(oldest) }
    }

    private func receiveReplies(
        _ socket: DatagramSocket, _ exchange: UInt64, _ upstream: SocketAddress
    ) {
        for _ in 0..<NameServerLoop.burst {
            // A reply that ends the exchange closes the socket.
            guard exchanges[exchange] != nil else { return }
            switch socket.receive() {
            case .datagram(let datagram):
                resolver.receive(
                    reply: datagram.bytes, exchange: exchange, from: upstream,
                    at: SystemClock.boot(), random: &random, into: &actions)
                carryOut()
            case .failed: return fail(exchange)
            case .nothing: return
            }
        }
    }

    private func converse(
        _ connection: NameConnection, _ event: ReadinessPoller.Event, _ exchange: UInt64,
        _ upstream: SocketAddress
    ) {
        if event.canWrite {
            connection.flush()
            if connection.interest != connection.watched {
                connection.watched = connection.interest
                try? poller.change(
                    connection.socket.descriptor, to: connection.interest, token: event.token)
            }
        }
        if event.canRead || event.hasFailed { connection.fill() }
        while exchanges[exchange] != nil, let reply = connection.nextMessage() {
            resolver.receive(
                reply: reply, exchange: exchange, from: upstream, at: SystemClock.boot(),
                random: &random, into: &actions)
            carryOut()
        }
        if exchanges[exchange] != nil, connection.hasEnded || connection.hasFailed {
            fail(exchange)
        }
    }

    func fail(_ exchange: UInt64) {
        resolver.exchangeFailed(
            exchange, at: SystemClock.boot(), random: &random, into: &actions)
    }

    private func endOverdue() {
        let now = SystemClock.boot()
        if let deadline = resolver.deadline, deadline <= now {
            resolver.timeout(at: now, random: &random, into: &actions)
        }
        for upstream in secureUpstreams.values where upstream.isIdle(at: now) { close(upstream) }
        guard connectionCount > 0 else { return }
        for case .client(let connection) in endpoints.values where connection.idleDeadline <= now {
            close(connection)
        }
    }

    // MARK: Actions

    func carryOut() {
        // Opening a socket may fail and add further actions.
        var next = 0
        while next < actions.count {
            switch actions[next] {
            case .reply(let client, let bytes): reply(bytes, to: client)
            case .queryUpstream(let exchange, let upstream, let transport, let bytes):
                open(exchange, upstream, transport, bytes)
            case .closeExchange(let exchange):
                if secureExchanges.removeValue(forKey: exchange)?.forget(exchange) == nil,
                    let token = exchanges.removeValue(forKey: exchange)
                {
                    endpoints[token] = nil
                }
            case .dropped: break
            case .answered(let line): queryLog?(line)
            }
            next += 1
        }
        actions.removeAll(keepingCapacity: true)
    }

    private func reply(_ bytes: [UInt8], to client: DNSClient) {
        switch endpoints[client.channel] {
        case .datagrams(let listener):
            if listener === batched, batch.append(bytes, to: client.address) { return }
            listener.datagrams.send(bytes, to: client.address, from: client.local)
        case .client(let connection):
            connection.outstanding -= 1
            connection.enqueue(bytes)
            settle(connection)
        case .streams, .upstreamDatagrams, .upstreamStream, .upstreamSecure, nil: break
        }
    }

    /// A socket of its own for every exchange: its random port is part of what a forger must
    /// guess (RFC 5452 section 9.2).
    private func open(
        _ exchange: UInt64, _ upstream: SocketAddress, _ transport: DNSTransport, _ bytes: [UInt8]
    ) {
        do throws(SystemCallError) {
            switch transport {
            case .udp:
                let any: IPAddress = upstream.ip.isIPv4 ? .v4(0) : .v6(0, 0)
                let socket = try DatagramSocket(boundTo: SocketAddress(ip: any, port: 0))
                try socket.connect(to: upstream)
                exchanges[exchange] = watch(
                    socket.descriptor,
                    .upstreamDatagrams(socket, exchange: exchange, upstream: upstream))
                socket.send(bytes, to: nil)
            case .tcp:
                let socket = try StreamSocket(connectingTo: upstream)
                let connection = NameConnection(socket, peer: upstream, at: SystemClock.boot())
                connection.enqueue(bytes)
                connection.watched = [.input, .output]
                exchanges[exchange] = watch(
                    socket.descriptor,
                    .upstreamStream(connection, exchange: exchange, upstream: upstream),
                    [.input, .output])
            case .tls: try openSecure(exchange, upstream, bytes)
            }
        } catch {
            fail(exchange)
        }
    }
}
