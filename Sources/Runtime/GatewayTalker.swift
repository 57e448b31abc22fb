import LinuxIO
import MeshBase
import MeshNode
import NetAddress
import PathDiscovery

/// The sockets by which the node speaks to its gateway.
final class GatewayTalker {
    private let socket: DatagramSocket
    /// Gateways announce themselves there when they start (RFC 6886 section 3.2.1, RFC 6887 section
    /// 14.1); another program of this machine may have taken the port for itself.
    private let announcements: DatagramSocket?
    private var interface: UInt32 = 0

    private static let group = IPAddress.v4(0xE000_0001)
    private static let announcementPort: UInt16 = 5_350

    init() throws(SystemCallError) {
        socket = try DatagramSocket(boundTo: SocketAddress(ip: .v4(0), port: 0))
        announcements = try? DatagramSocket(
            boundTo: SocketAddress(ip: .v4(0), port: Self.announcementPort), sharesPort: true)
    }

    var descriptors: [Int32] {
        [socket.descriptor] + [announcements?.descriptor].compactMap { $0 }
    }

    func use(_ gateway: GatewayLink?) {
        guard let gateway, gateway.interface != interface else { return }
        if interface != 0 { announcements?.leave(Self.group, on: interface) }
        interface = gateway.interface
        try? announcements?.join(Self.group, on: interface)
    }

    func send(_ datagram: [UInt8], to target: SocketAddress) {
        socket.send(datagram, to: target, interface: target.ip.isMulticast ? interface : 0)
    }

    /// What has arrived, at most so much that nobody can hold the control thread here.
    func receive() -> [(bytes: [UInt8], source: SocketAddress)] {
        var found: [(bytes: [UInt8], source: SocketAddress)] = []
        for socket in [socket, announcements].compactMap({ $0 }) {
            for _ in 0..<32 {
                guard case .datagram(let datagram) = socket.receive() else { break }
                found.append((datagram.bytes, datagram.source))
            }
        }
        return found
    }

    /// One TCP connection: sends `request` and reads to the end; `nil` when nothing came. Waits, so
    /// it belongs on a thread of its own.
    static func exchange(_ request: [UInt8], with address: SocketAddress) -> [UInt8]? {
        guard let stream = try? StreamSocket(connectingTo: address),
            let poller = try? ReadinessPoller(),
            (try? poller.add(stream.descriptor, [.input, .output], token: 0)) != nil
        else { return nil }
        let end = SystemClock.boot() + .seconds(8)
        var rest = request[...]
        var answer: [UInt8] = []
        while SystemClock.boot() < end, answer.count < exchangeLimit {
            guard let event = poller.wait(milliseconds: 1_000).first else { continue }
            if event.canWrite, !rest.isEmpty {
                guard case .moved(let count) = stream.send(rest) else { return nil }
                rest = rest.dropFirst(count)
                if rest.isEmpty {
                    guard (try? poller.change(stream.descriptor, to: .input, token: 0)) != nil
                    else { return nil }
                }
            }
            guard event.canRead || event.hasFailed else { continue }
            switch stream.receive(into: &answer, limit: 16_384) {
            case .moved, .wouldBlock: continue
            case .ended: return answer
            case .failed: return answer.isEmpty ? nil : answer
            }
        }
        return answer.isEmpty ? nil : answer
    }

    /// More than any gateway has to say.
    private static let exchangeLimit = 65_536
}

extension NetworkWatcher {
    /// The gateway that may map ports: of the IPv4 default route, if this machine has a private
    /// address on its link.
    func gateway(except overlay: String?) -> GatewayLink? {
        let route = waysOut(except: overlay).first { $0.isIPv4 }
        guard let route, let gateway = route.gateway else { return nil }
        let link = interfaces(except: overlay).first { $0.index == route.interface }
        let own = link?.prefixes.firstIndex { $0.contains(gateway) }
        guard let link, let own else { return nil }
        return GatewayLink(gateway: gateway, client: link.addresses[own], interface: link.index)
    }
}
