import DNS
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Testing

/// A socket in each machine's namespace, connected to the machine's own name server: to look at all
/// of them every few milliseconds costs next to nothing, so that what is measured is the mesh.
struct NameWatch: Sendable {
    private let servers: [(machine: String, socket: DatagramSocket)]

    init(_ machines: [MeshMachine]) async throws {
        var servers: [(machine: String, socket: DatagramSocket)] = []
        for machine in machines {
            let server = try #require(try await machine.status().node.ipv6)
            let place = try #require(SocketAddress("[\(server)]:53"))
            let socket = try inNamespace(machine.host.namespace) {
                let socket = try DatagramSocket(boundTo: SocketAddress(ip: .v6(0, 0), port: 0))
                try socket.connect(to: place)
                return socket
            }
            servers.append((machine.name, socket))
        }
        self.servers = servers
    }

    /// Waits until every server has an address for `name`, or every one says that there is none.
    func all(answer name: String, _ isThere: Bool, within limit: Duration) async throws {
        var query = DNSMessage(id: UInt16.random(in: 1 ... .max), flags: .recursionDesired)
        query.questions = [DNSQuestion(try #require(DNSName("\(name).lab.internal")), .aaaa)]
        let bytes = query.encoded()
        var open = servers
        try await eventually(
            "\(isThere ? "" : "not ")\(name)", within: limit, every: .milliseconds(20)
        ) {
            open.removeAll { server in
                while case .datagram(let datagram) = server.socket.receive() {
                    guard let reply = try? DNSMessage(decoding: datagram.bytes),
                        reply.id == query.id
                    else { continue }
                    if isThere ? !reply.answers.isEmpty : reply.code == .nameError { return true }
                }
                server.socket.send(bytes, to: nil)
                return false
            }
            return open.isEmpty
        }
    }
}
