import DNS
import MeshBase
import NetAddress
import Testing

/// A resolver, a virtual clock and the other ends of its sockets.
struct ResolverBench {
    var resolver: Resolver
    var random = SeededGenerator(seed: 1)
    var now = BootInstant(nanoseconds: 1_000_000_000_000)
    var actions: [ResolverAction] = []

    static let first = SocketAddress(ip: .v4(0xC000_0201), port: 53)
    static let second = SocketAddress(ip: .v4(0xC000_0202), port: 53)

    init(upstreams: [SocketAddress] = [ResolverBench.first], capacity: Int = 100) throws {
        resolver = Resolver(
            table: try sampleTable(),
            configuration: ResolverConfiguration(
                upstreams: upstreams, cacheCapacity: capacity, queriesPerSecond: 0))
    }

    static func client(_ number: UInt16, _ transport: DNSTransport = .udp) -> DNSClient {
        DNSClient(
            address: SocketAddress(ip: .v4(0x0A01_0001), port: number), transport: transport,
            channel: 0)
    }

    mutating func query(
        _ name: String, _ type: RecordType = .a, id: UInt16 = 7, edns: EDNS? = nil,
        flags: DNSFlags = .recursionDesired, from client: DNSClient = ResolverBench.client(1000)
    ) throws {
        var message = DNSMessage(id: id, flags: flags)
        message.questions = [DNSQuestion(try #require(DNSName(name)), type)]
        message.edns = edns
        send(message.encoded(), from: client)
    }

    mutating func send(_ bytes: [UInt8], from client: DNSClient = ResolverBench.client(1000)) {
        resolver.receive(
            query: bytes, from: client, at: now, random: &random, into: &actions)
    }

    mutating func pass(_ duration: Duration) {
        now = now + duration
        resolver.timeout(at: now, random: &random, into: &actions)
    }

    /// Takes the one upstream query that is waiting in the actions.
    mutating func takeUpstreamQuery() throws -> UpstreamQuery {
        let index = try #require(
            actions.firstIndex { if case .queryUpstream = $0 { true } else { false } })
        guard
            case .queryUpstream(let exchange, let upstream, let transport, let bytes) =
                actions.remove(at: index)
        else { throw DecodingFailure.truncated }
        return UpstreamQuery(
            exchange: exchange, upstream: upstream, transport: transport,
            message: try DNSMessage(decoding: bytes))
    }

    mutating func answer(_ query: UpstreamQuery, _ message: DNSMessage) {
        deliver(query, message.encoded())
    }

    mutating func deliver(_ query: UpstreamQuery, _ bytes: [UInt8], from: SocketAddress? = nil) {
        resolver.receive(
            reply: bytes, exchange: query.exchange, from: from ?? query.upstream, at: now,
            random: &random, into: &actions)
    }

    /// All replies so far, which must be the only actions beside closed exchanges.
    mutating func takeReplies() throws -> [DNSMessage] {
        let replies = actions.compactMap { action -> [UInt8]? in
            if case .reply(_, let bytes) = action { bytes } else { nil }
        }
        actions.removeAll { if case .reply = $0 { true } else { false } }
        return try replies.map { try DNSMessage(decoding: $0) }
    }

    mutating func takeReply() throws -> DNSMessage {
        let replies = try takeReplies()
        #expect(replies.count == 1)
        return try #require(replies.first)
    }

    var upstreamQueryCount: Int {
        actions.count { if case .queryUpstream = $0 { true } else { false } }
    }

    var drops: [DNSDropReason] {
        actions.compactMap { if case .dropped(let reason) = $0 { reason } else { nil } }
    }

    var fingerprint: UInt64 {
        var result = Fingerprint()
        resolver.fingerprint(into: &result)
        return result.value
    }
}

struct UpstreamQuery {
    let exchange: UInt64
    let upstream: SocketAddress
    let transport: DNSTransport
    let message: DNSMessage

    /// The response with one address record.
    func positive(ttl: UInt32 = 300, address: UInt32 = 0x0808_0808) throws -> DNSMessage {
        var response = DNSMessage(
            id: message.id, flags: [.response, .recursionDesired, .recursionAvailable])
        response.questions = message.questions
        let name = try #require(message.questions.first).name
        response.answers = [ResourceRecord(name, .address(.v4(address)), ttl: ttl)]
        response.edns = EDNS()
        return response
    }

    func negative(_ code: ResponseCode, soa: (ttl: UInt32, minimum: UInt32)?) throws -> DNSMessage {
        var response = DNSMessage(id: message.id, flags: DNSFlags.response.with(code))
        response.questions = message.questions
        if let soa {
            let zone = try #require(DNSName("example"))
            response.authorities = [
                ResourceRecord(
                    zone,
                    .soa(
                        StartOfAuthority(
                            primary: zone, mailbox: zone, serial: 1, refresh: 1, retry: 1,
                            expire: 1, minimum: soa.minimum)), ttl: soa.ttl)
            ]
        }
        return response
    }

    func failure(_ code: ResponseCode) throws -> DNSMessage {
        try negative(code, soa: nil)
    }
}
