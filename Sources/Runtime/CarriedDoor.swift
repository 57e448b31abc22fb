import LinuxIO
import MeshBase
import NetAddress

/// Another UDP port, and for everybody behind it a loopback socket that stands for him towards the
/// packet threads.
final class CarriedDoor {
    /// Somebody who answered through the door.
    final class Guest {
        let remote: SocketAddress
        let bridge: DatagramSocket
        var token: UInt64 = 0
        var lastUse: BootInstant

        init(_ remote: SocketAddress, _ bridge: DatagramSocket, at now: BootInstant) {
            self.remote = remote
            self.bridge = bridge
            lastUse = now
        }
    }

    let id: UInt32
    let socket: UDPSocket
    var token: UInt64 = 0
    private(set) var guests: [SocketAddress: Guest] = [:]
    private var spokenTo: Set<IPAddress> = []

    /// The member at whom we knock and those who say how they see us, with every address of theirs.
    private static let hostLimit = 64
    /// A NAT may show a member at several ports; the longest silent guest makes room.
    private static let guestLimit = 16

    init(_ id: UInt32) throws(SystemCallError) {
        self.id = id
        socket = try UDPSocket(port: 0, bufferBytes: 1 << 20)
        // What is too large shall not arrive in pieces, so that the path's MTU is found.
        socket.setFragmentation(isAllowed: false)
    }

    func send(_ datagram: [UInt8], to remote: SocketAddress, hops: UInt8?) {
        guard spokenTo.contains(remote.ip) || spokenTo.count < Self.hostLimit else { return }
        spokenTo.insert(remote.ip)
        if let hops {
            socket.send(datagram, to: remote, hops: hops)
        } else {
            socket.send(datagram, to: remote)
        }
    }

    /// Whether datagrams from there are taken: only what was knocked at may answer.
    func admits(_ remote: SocketAddress) -> Bool { spokenTo.contains(remote.ip) }

    /// - Returns: the guest who had to go.
    func add(_ guest: Guest) -> Guest? {
        var victim: Guest?
        if guests.count >= Self.guestLimit {
            victim = guests.values.min { $0.lastUse < $1.lastUse }
            if let victim { guests[victim.remote] = nil }
        }
        guests[guest.remote] = guest
        return victim
    }

    /// Node to network.
    func collect(from guest: Guest, at now: BootInstant) {
        guest.lastUse = now
        for _ in 0..<64 {
            guard case .datagram(let datagram) = guest.bridge.receive(limit: 9_216) else { return }
            socket.send(datagram.bytes, to: guest.remote)
        }
    }
}
