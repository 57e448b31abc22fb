import LinuxIO
import MeshBase
import NetAddress
import Transport

/// A TCP connection that carries DNS messages behind two bytes of length (RFC 1035 section 4.2.2).
/// Several queries may be under way at once, and replies go back in any order (RFC 7766).
final class NameConnection {
    let socket: StreamSocket
    let peer: SocketAddress
    var token: UInt64 = 0
    var lastActivity: BootInstant
    /// Queries without a reply yet.
    var outstanding = 0
    var watched: ReadinessPoller.Interest = .input
    /// Between the messages and the socket, towards upstreams that are asked so.
    private let tls: TLSSession?
    private var input: [UInt8] = []
    private var output: [UInt8] = []
    private(set) var hasEnded = false
    private(set) var hasFailed = false

    /// RFC 7766 section 6.2.3 leaves the time to the server; a bound without a complete query.
    private static let idleLimit: Duration = .seconds(10)
    /// One message of the largest size and the start of the next.
    private static let inputLimit = 2 + 65_535 + 4096
    /// Replies that a client does not take; then nothing more is read from it.
    private static let outputLimit = 256 << 10
    /// Bytes taken from the socket at a time.
    private static let chunk = 4096

    init(
        _ socket: StreamSocket, peer: SocketAddress, tls: TLSSession? = nil,
        at now: BootInstant
    ) {
        self.tls = tls
        self.socket = socket
        self.peer = peer
        lastActivity = now
    }

    var idleDeadline: BootInstant { lastActivity + NameConnection.idleLimit }

    /// Nothing more can come of it.
    var isFinished: Bool {
        hasFailed || hasEnded && outstanding <= 0 && output.isEmpty
    }

    /// Why the other side is not who it should be.
    var secrecyFailure: String? { tls?.failure }

    var interest: ReadinessPoller.Interest {
        takeSealed()
        var result: ReadinessPoller.Interest = []
        if !hasEnded, output.count < NameConnection.outputLimit { result.insert(.input) }
        if !output.isEmpty { result.insert(.output) }
        return result
    }

    /// Takes what has arrived, up to the bound.
    func fill() {
        guard output.count < NameConnection.outputLimit else { return }
        while input.count < NameConnection.inputLimit {
            switch receiveSome() {
            case .moved(let count) where count == NameConnection.chunk: continue
            case .moved, .wouldBlock: return
            case .ended:
                hasEnded = true
                return
            case .failed:
                hasFailed = true
                return
            }
        }
    }

    private func receiveSome() -> StreamSocket.Outcome {
        guard let tls else {
            return socket.receive(into: &input, limit: NameConnection.chunk)
        }
        var sealed: [UInt8] = []
        let outcome = socket.receive(into: &sealed, limit: NameConnection.chunk)
        tls.receive(sealed, into: &input)
        if tls.failure != nil { hasFailed = true }
        if tls.hasEnded { hasEnded = true }
        return outcome
    }

    /// The next complete message, without its length.
    func nextMessage() -> [UInt8]? {
        guard input.count >= 2 else { return nil }
        let length = Int(input[0]) << 8 | Int(input[1])
        guard input.count >= 2 + length else { return nil }
        let message = Array(input[2..<2 + length])
        input.removeFirst(2 + length)
        return message
    }

    func enqueue(_ message: [UInt8]) {
        if let tls {
            let length = [UInt8(truncatingIfNeeded: message.count >> 8)]
            return tls.send(length + [UInt8(truncatingIfNeeded: message.count)] + message)
        }
        output.append(UInt8(truncatingIfNeeded: message.count >> 8))
        output.append(UInt8(truncatingIfNeeded: message.count))
        output.append(contentsOf: message)
    }

    private func takeSealed() {
        if let tls { output += tls.takeOutput() }
    }

    /// Sends what the kernel takes.
    func flush() {
        takeSealed()
        while !output.isEmpty, !hasFailed {
            switch socket.send(output[...]) {
            case .moved(let count): output.removeFirst(count)
            case .wouldBlock: return
            case .ended, .failed: hasFailed = true
            }
        }
    }
}
