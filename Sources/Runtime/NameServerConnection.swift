import LinuxIO
import MeshBase
import NetAddress

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

    init(_ socket: StreamSocket, peer: SocketAddress, at now: BootInstant) {
        self.socket = socket
        self.peer = peer
        lastActivity = now
    }

    var idleDeadline: BootInstant { lastActivity + NameConnection.idleLimit }

    /// Nothing more can come of it.
    var isFinished: Bool {
        hasFailed || hasEnded && outstanding <= 0 && output.isEmpty
    }

    var interest: ReadinessPoller.Interest {
        var result: ReadinessPoller.Interest = []
        if !hasEnded, output.count < NameConnection.outputLimit { result.insert(.input) }
        if !output.isEmpty { result.insert(.output) }
        return result
    }

    /// Takes what has arrived, up to the bound.
    func fill() {
        guard output.count < NameConnection.outputLimit else { return }
        while input.count < NameConnection.inputLimit {
            switch socket.receive(into: &input, limit: 4096) {
            case .moved(let count) where count == 4096: continue
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
        output.append(UInt8(truncatingIfNeeded: message.count >> 8))
        output.append(UInt8(truncatingIfNeeded: message.count))
        output.append(contentsOf: message)
    }

    /// Sends what the kernel takes.
    func flush() {
        while !output.isEmpty, !hasFailed {
            switch socket.send(output[...]) {
            case .moved(let count): output.removeFirst(count)
            case .wouldBlock: return
            case .ended, .failed: hasFailed = true
            }
        }
    }
}
