import LinuxIO
import MeshBase
import NetAddress
import PathDiscovery
import Transport

/// A TCP connection that carries datagrams, and the loopback socket that stands for its other end
/// towards the packet threads.
final class CarriedStream {
    let socket: StreamSocket
    let bridge: DatagramSocket
    let remote: SocketAddress
    /// `nil` for a connection that the other end opened.
    let dialled: StreamKind?
    var tokens: (socket: UInt64, bridge: UInt64) = (0, 0)
    var watched: ReadinessPoller.Interest
    private let tls: TLSSession?
    private var framing: StreamFraming
    private var output: [UInt8] = []
    private(set) var isConnected: Bool
    /// Whether the node has answered: it does not answer strangers.
    private(set) var isProven: Bool
    private(set) var hasFailed = false
    private let openedAt: BootInstant
    /// Since when the node's datagrams bring nothing back.
    private var unansweredSince: BootInstant?
    private var lastUse: BootInstant

    /// What a slow network has not taken is dropped beyond it, as a router would.
    private static let outputLimit = 256 << 10
    private static let chunk = 65_536
    /// Within it a connection has to be made, and its opener to show itself.
    static let introduction = Duration.seconds(5)
    /// Probes go every few seconds at most when nothing comes back.
    private static let silence = Duration.seconds(6)
    /// Idle ways are probed every 25 s.
    private static let idle = Duration.seconds(120)

    init(
        _ socket: StreamSocket, bridge: DatagramSocket, remote: SocketAddress,
        dialled: StreamKind?, tls: TLSSession?, at now: BootInstant
    ) {
        self.socket = socket
        self.bridge = bridge
        self.remote = remote
        self.dialled = dialled
        self.tls = tls
        isConnected = dialled == nil
        isProven = dialled != nil
        framing = StreamFraming(
            limit: dialled == nil ? StreamFraming.strangerLimit : StreamFraming.memberLimit)
        watched = dialled == nil ? .input : [.input, .output]
        openedAt = now
        lastUse = now
    }

    var standIn: SocketAddress { bridge.localAddress }

    var interest: ReadinessPoller.Interest {
        takeSealed()
        return output.isEmpty && isConnected ? .input : [.input, .output]
    }

    /// Nothing more will come of it.
    func isOver(at now: BootInstant) -> Bool {
        if hasFailed || tls?.failure != nil || tls?.hasEnded == true { return true }
        if !isConnected || !isProven { return now - openedAt >= Self.introduction }
        if let since = unansweredSince, now - since >= Self.silence { return true }
        return now - lastUse >= Self.idle
    }

    /// The socket became writable: it is connected, or the attempt failed.
    func connected(at now: BootInstant) {
        guard !isConnected else { return }
        guard socket.pendingError == 0 else {
            hasFailed = true
            return
        }
        isConnected = true
        lastUse = now
    }

    /// Network to node.
    func fill(at now: BootInstant) {
        var plain: [UInt8] = []
        var wire: [UInt8] = []
        switch socket.receive(into: &wire, limit: Self.chunk) {
        case .moved: break
        case .wouldBlock: return
        case .ended, .failed: hasFailed = true
        }
        if let tls {
            tls.receive(wire, into: &plain)
        } else {
            plain = wire
        }
        guard !plain.isEmpty else { return }
        unansweredSince = nil
        framing.append(plain)
        while !hasFailed {
            switch framing.next() {
            case .incomplete: return
            case .broken: hasFailed = true
            case .datagram(let datagram):
                // Before the node has answered nothing but first contact has a place here.
                guard isProven || datagram.starts(with: EnvelopeFormat.magic) else {
                    hasFailed = true
                    return
                }
                bridge.send(datagram, to: nil)
            }
        }
    }

    /// Node to network.
    func collect(at now: BootInstant) {
        for _ in 0..<64 {
            guard case .datagram(let datagram) = bridge.receive(limit: 9_216) else { return }
            lastUse = now
            if !isProven {
                isProven = true
                framing.limit = StreamFraming.memberLimit
            }
            if unansweredSince == nil { unansweredSince = now }
            guard output.count < Self.outputLimit else { continue }
            let frame = StreamFraming.frame(datagram.bytes)
            if let tls {
                tls.send(frame)
                takeSealed()
            } else {
                output += frame
            }
        }
    }

    private func takeSealed() {
        if let tls { output += tls.takeOutput() }
    }

    func flush() {
        guard isConnected else { return }
        takeSealed()
        var sent = 0
        defer { output.removeFirst(sent) }
        while sent < output.count, !hasFailed {
            switch socket.send(output[sent...]) {
            case .moved(let count): sent += count
            case .wouldBlock: return
            case .ended, .failed: hasFailed = true
            }
        }
    }
}
