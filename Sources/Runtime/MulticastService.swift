import DNS
import LinuxIO
import MeshBase
import NetAddress

/// The sockets of multicast DNS: port 5353 in both families, shared with other responders of the
/// machine. It has no thread; the control loop watches ``descriptors``.
package final class MulticastService {
    private let sockets: [DiscoveryFamily: DatagramSocket]
    private var memberships: Set<Membership> = []
    /// Why a family is missing, for a warning.
    package let problems: [SystemCallError]

    private struct Membership: Hashable {
        let interface: UInt32
        let family: DiscoveryFamily
    }

    /// One datagram at port 5353.
    package struct Packet: Sendable {
        package let bytes: [UInt8]
        package let source: SocketAddress
        package let interface: UInt32
        /// Sent to the multicast group, and not to this machine alone.
        package let toGroup: Bool
    }

    /// Datagrams taken in one go, so that a flood on the LAN leaves time for the tunnels.
    private static let burst = 64
    /// RFC 6762 section 17.
    private static let maximumDatagram = 9000

    /// Opens the sockets of the families that the machine has.
    ///
    /// - Throws: when there is none.
    package init() throws(SystemCallError) {
        var sockets: [DiscoveryFamily: DatagramSocket] = [:]
        var problems: [SystemCallError] = []
        for family in DiscoveryFamily.allCases {
            let any: IPAddress = family == .ipv4 ? .v4(0) : .v6(0, 0)
            do throws(SystemCallError) {
                let address = SocketAddress(ip: any, port: MulticastDNS.port)
                let socket = try DatagramSocket(boundTo: address, sharesPort: true)
                socket.configureForMulticast()
                sockets[family] = socket
            } catch {
                problems.append(error)
            }
        }
        if sockets.isEmpty, let problem = problems.first { throw problem }
        self.sockets = sockets
        self.problems = problems
    }

    /// Readable when ``receive()`` has something.
    package var descriptors: [Int32] {
        DiscoveryFamily.allCases.compactMap { sockets[$0]?.descriptor }
    }

    /// Receives on exactly these interfaces. A group that cannot be joined (the kernel allows
    /// twenty per socket) is tried again next time.
    package func join(_ interfaces: [DiscoveryInterface]) {
        var wanted: Set<Membership> = []
        for interface in interfaces {
            for family in DiscoveryFamily.allCases
            where interface.addresses.contains(where: { $0.isIPv4 == (family == .ipv4) }) {
                wanted.insert(Membership(interface: interface.index, family: family))
            }
        }
        for membership in memberships.subtracting(wanted) {
            sockets[membership.family]?.leave(
                membership.family.group, on: membership.interface)
        }
        memberships.formIntersection(wanted)
        for membership in wanted.subtracting(memberships) {
            guard let socket = sockets[membership.family] else { continue }
            do throws(SystemCallError) {
                try socket.join(membership.family.group, on: membership.interface)
                memberships.insert(membership)
            } catch { continue }
        }
    }

    /// Takes what has arrived, without waiting.
    package func receive() -> [Packet] {
        var packets: [Packet] = []
        for family in DiscoveryFamily.allCases {
            guard let socket = sockets[family] else { continue }
            for _ in 0..<MulticastService.burst {
                let outcome = socket.receive(limit: MulticastService.maximumDatagram)
                guard case .datagram(let datagram) = outcome else { break }
                packets.append(
                    Packet(
                        bytes: datagram.bytes, source: datagram.source,
                        interface: datagram.interface,
                        toGroup: datagram.destination == family.group))
            }
        }
        return packets
    }

    /// Sends from port 5353. What the kernel does not take is lost, as datagrams may be.
    package func send(_ bytes: [UInt8], to destination: DiscoveryDestination) {
        switch destination {
        case .multicast(let interface, let family):
            let scope = family == .ipv6 ? interface : 0
            let group = SocketAddress(ip: family.group, port: MulticastDNS.port, scope: scope)
            sockets[family]?.send(bytes, to: group, interface: interface)
        case .unicast(let peer, let interface):
            sockets[peer.ip.isIPv4 ? .ipv4 : .ipv6]?.send(
                bytes, to: peer, interface: interface)
        }
    }
}
