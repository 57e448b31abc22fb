import DNS
import LinuxIO
import MeshBase
import NetAddress
import Transport

/// The one connection to an upstream that is asked over TLS: handshakes cost more than questions,
/// so questions share it while there are any (RFC 7858 section 3.4).
final class SecureUpstream {
    let connection: NameConnection
    let address: SocketAddress
    /// Questions without a reply, with the identifiers of their messages.
    private(set) var waiting: [UInt64: UInt16] = [:]
    private var lastUse: BootInstant

    private static let idleLimit: Duration = .seconds(10)

    init(_ connection: NameConnection, _ address: SocketAddress) {
        self.connection = connection
        self.address = address
        lastUse = connection.lastActivity
    }

    var isUsable: Bool { !connection.hasEnded && !connection.hasFailed }

    var idleDeadline: BootInstant? {
        waiting.isEmpty ? lastUse + SecureUpstream.idleLimit : nil
    }

    func isIdle(at now: BootInstant) -> Bool { idleDeadline.map { $0 <= now } ?? false }

    func ask(_ exchange: UInt64, _ bytes: [UInt8], at now: BootInstant) {
        lastUse = now
        waiting[exchange] = UInt16(bytes[0]) << 8 | UInt16(bytes[1])
        connection.enqueue(bytes)
    }

    /// `nil` when the exchange is not one of these.
    func forget(_ exchange: UInt64) -> UInt16? { waiting.removeValue(forKey: exchange) }

    /// The exchanges that `reply` may belong to: identifiers are random and may meet.
    func exchanges(of reply: [UInt8]) -> [UInt64] {
        guard reply.count >= 2 else { return [] }
        let identifier = UInt16(reply[0]) << 8 | UInt16(reply[1])
        return waiting.filter { $0.value == identifier }.keys.sorted()
    }
}

extension NameServerLoop {
    /// Sends over the one connection to the upstream, which is made when there is none.
    func openSecure(
        _ exchange: UInt64, _ address: SocketAddress, _ bytes: [UInt8]
    ) throws(SystemCallError) {
        let upstream: SecureUpstream
        if let known = secureUpstreams[address], known.isUsable {
            upstream = known
        } else {
            let name = certificateNames[address]
            guard let secureContext,
                let session = TLSSession(
                    secureContext, name: name ?? "\(address.ip)", isAddress: name == nil)
            else { return fail(exchange) }
            let connection = NameConnection(
                try StreamSocket(connectingTo: address), peer: address, tls: session,
                at: SystemClock.boot())
            upstream = SecureUpstream(connection, address)
            connection.watched = [.input, .output]
            guard
                let token = watch(
                    connection.socket.descriptor, .upstreamSecure(upstream), [.input, .output])
            else { return fail(exchange) }
            connection.token = token
            secureUpstreams[address] = upstream
        }
        secureExchanges[exchange] = upstream
        upstream.ask(exchange, bytes, at: SystemClock.boot())
        settle(upstream)
    }

    func converse(_ upstream: SecureUpstream, _ event: ReadinessPoller.Event) {
        if event.canRead || event.hasFailed { upstream.connection.fill() }
        while let reply = upstream.connection.nextMessage() {
            for exchange in upstream.exchanges(of: reply) {
                resolver.receive(
                    reply: reply, exchange: exchange, from: upstream.address,
                    at: SystemClock.boot(), random: &random, into: &actions)
            }
            carryOut()
        }
        settle(upstream)
    }

    /// Writes what is waiting, then decides whether the connection goes on.
    func settle(_ upstream: SecureUpstream) {
        upstream.connection.flush()
        guard upstream.isUsable else { return close(upstream) }
        let interest = upstream.connection.interest
        guard interest != upstream.connection.watched else { return }
        upstream.connection.watched = interest
        try? poller.change(
            upstream.connection.socket.descriptor, to: interest, token: upstream.connection.token)
    }

    /// Ends the connection; its questions go elsewhere, or over a new one.
    func close(_ upstream: SecureUpstream) {
        guard endpoints.removeValue(forKey: upstream.connection.token) != nil else { return }
        if secureUpstreams[upstream.address] === upstream {
            secureUpstreams[upstream.address] = nil
        }
        for exchange in upstream.waiting.keys.sorted() {
            secureExchanges[exchange] = nil
            fail(exchange)
        }
    }
}
