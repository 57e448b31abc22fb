import MeshBase
import NetAddress

package enum DNSTransport: Hashable, Sendable {
    case udp
    case tcp
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
    /// Asked in this order. Empty: names that are not the mesh's are refused.
    package var upstreams: [SocketAddress]
    /// Who may ask; everybody when empty.
    package var clients: [IPPrefix]
    /// Entries of the answer cache.
    package var cacheCapacity: Int

    package init(
        upstreams: [SocketAddress] = [], clients: [IPPrefix] = [], cacheCapacity: Int = 10_000
    ) {
        self.upstreams = upstreams
        self.clients = clients
        self.cacheCapacity = cacheCapacity
    }
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
}

/// Why bytes were ignored.
package enum DNSDropReason: String, Hashable, Sendable, CaseIterable {
    /// Fewer bytes than a header.
    case tooShort
    /// A response where a query belongs.
    case unexpectedResponse
    /// An upstream's bytes that are not a response.
    case notAResponse
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
    package var ownAnswers: UInt64 = 0
    package var cacheHits: UInt64 = 0
    package var staleAnswers: UInt64 = 0
    package var upstreamQueries: UInt64 = 0
    package var failures: UInt64 = 0
    package var dropped: UInt64 = 0

    package init() {}
}
