import MeshBase
import NetAddress

package enum DNSTransport: Hashable, Sendable {
    case udp
    case tcp
    /// Only towards upstreams (RFC 7858).
    case tls
}

/// Who asked, in terms that the I/O shell can send to.
package struct DNSClient: Hashable, Sendable {
    package var address: SocketAddress
    package var transport: DNSTransport
    /// The shell's number of the listener (UDP) or connection (TCP).
    package var channel: UInt64
    /// The address that was asked, from which the response must come; `nil` when the channel has
    /// one address.
    package var local: IPAddress?

    package init(
        address: SocketAddress, transport: DNSTransport, channel: UInt64, local: IPAddress? = nil
    ) {
        self.local = local
        self.address = address
        self.transport = transport
        self.channel = channel
    }
}

package struct ResolverConfiguration: Sendable {
    /// Asked in this order, unless a later one is much faster. Empty: names that are not the mesh's
    /// are refused, unless a route covers them.
    package var upstreams: [SocketAddress]
    /// Those of the upstreams, also of routes, that are asked over TLS and never otherwise.
    package var secureUpstreams: Set<SocketAddress> = []
    /// Upstreams of single suffixes ("split DNS"); the longest suffix decides.
    package var routes: [ResolverRoute]
    /// Suffixes whose names may have private addresses, beside those with a route.
    package var localSuffixes: [DNSName]
    /// Who may ask; everybody when empty.
    package var clients: [IPPrefix]
    /// Entries of the answer cache.
    package var cacheCapacity: Int
    /// Queries of one source that are answered per second; 0 for all. Loopback is not limited.
    package var queriesPerSecond: Int
    /// Whether ``ResolverAction/answered(_:)`` tells who asked for what. Off by default: it is what
    /// people do all day.
    package var logsQueries: Bool

    package init(
        upstreams: [SocketAddress] = [], routes: [ResolverRoute] = [],
        localSuffixes: [DNSName] = [], clients: [IPPrefix] = [], cacheCapacity: Int = 10_000,
        queriesPerSecond: Int = 200, logsQueries: Bool = false
    ) {
        self.queriesPerSecond = queriesPerSecond
        self.routes = routes
        self.localSuffixes = localSuffixes
        self.logsQueries = logsQueries
        self.upstreams = upstreams
        self.clients = clients
        self.cacheCapacity = cacheCapacity
    }
}

/// Upstreams that know the names under a suffix. Without upstreams such names are refused.
package struct ResolverRoute: Hashable, Sendable {
    package var suffix: DNSName
    package var upstreams: [SocketAddress]

    package init(suffix: DNSName, upstreams: [SocketAddress]) {
        self.suffix = suffix
        self.upstreams = upstreams
    }
}

/// A line of the query log.
package struct AnsweredQuery: Hashable, Sendable {
    package var client: DNSClient
    package var question: DNSQuestion
    /// Without its EDNS bits.
    package var code: ResponseCode
    package var origin: AnswerOrigin
}

/// Where an answer came from.
package enum AnswerOrigin: String, Hashable, Sendable {
    case zone
    case cache
    case upstream
    /// From the cache, after its time (RFC 8767).
    case stale
    case failure
    case refusal
}

/// What the shell shall do, in this order.
package enum ResolverAction: Hashable, Sendable {
    /// Send a response; over TCP the shell adds the length.
    case reply(to: DNSClient, [UInt8])
    /// Open a socket with a fresh random port for `exchange`, connect it to the upstream and send.
    case queryUpstream(exchange: UInt64, to: SocketAddress, over: DNSTransport, [UInt8])
    /// Close the socket of `exchange`; nothing that arrives there matters any more.
    case closeExchange(UInt64)
    case dropped(DNSDropReason)
    /// Only when ``ResolverConfiguration/logsQueries`` is set; follows the reply.
    case answered(AnsweredQuery)
}

/// Why bytes were ignored.
package enum DNSDropReason: String, Hashable, Sendable, CaseIterable {
    /// Fewer bytes than a header.
    case tooShort
    /// A response where a query belongs.
    case unexpectedResponse
    /// An upstream's bytes that are not a response.
    case notAResponse
    /// More queries of one source than it may send.
    case rateLimited
    /// The exchange is over or never was.
    case unknownExchange
    /// From another address than the upstream's.
    case wrongSource
    /// The identifier or the question is not the one we sent.
    case wrongQuestion
    /// A multicast DNS message that cannot be decoded.
    case malformed
    /// A multicast DNS message from beyond the link (RFC 6762 section 11).
    case offLink
    /// A multicast DNS message on an interface that we do not serve.
    case unknownInterface
}

/// What the resolver counted since it was made.
package struct ResolverCounters: Hashable, Sendable {
    package var queries: UInt64 = 0
    /// Of the queries, those over TCP.
    package var streamQueries: UInt64 = 0
    /// Queries that were malformed or asked for something else than a name.
    package var rejected: UInt64 = 0
    /// Queries beyond the bound of their source.
    package var rateLimited: UInt64 = 0
    package var ownAnswers: UInt64 = 0
    package var cacheHits: UInt64 = 0
    package var staleAnswers: UInt64 = 0
    package var upstreamQueries: UInt64 = 0
    /// Second and third upstreams asked because the first took long.
    package var hedges: UInt64 = 0
    /// Answers fetched anew before they ended.
    package var prefetches: UInt64 = 0
    /// Replies from which private addresses were taken out.
    package var filteredReplies: UInt64 = 0
    package var failures: UInt64 = 0
    package var dropped: UInt64 = 0

    package init() {}
}
