import MeshBase
import NetAddress

/// Ways that do not leave by the node's own UDP port have addresses that stand for them, as relayed
/// ones do (``isRelayed``), so that every protocol above can hold them. They are loopback addresses
/// (RFC 6890) at which a carrier of this machine hands datagrams over: no network carries them.
extension SocketAddress {
    /// Whether it stands for a TCP or TLS stream to a member.
    package var isStream: Bool { ip == IPAddress.streamHost }
    /// Whether it stands for a way through another local UDP port.
    package var isDoor: Bool { ip == IPAddress.doorHost }
    /// Whether it means something on this machine only.
    package var isStandIn: Bool { isRelayed || isStream || isDoor }
    /// Whether packets go straight to the member by UDP.
    var isDirect: Bool { !isRelayed && !isStream }
}

extension IPAddress {
    /// 127.86.80.1: the letters "VP" in the middle.
    package static let streamHost = IPAddress.v4(0x7F56_5001)
    /// 127.86.80.2
    package static let doorHost = IPAddress.v4(0x7F56_5002)
}

/// What carries datagrams in a stream.
package enum StreamKind: UInt8, Hashable, Sendable {
    case plain
    /// TLS on port 443, for networks that let nothing else out.
    case tls
}

/// What the node asks of whoever carries datagrams by other means than its UDP port.
package enum CarrierOrder: Hashable, Sendable {
    /// Answered by ``CarrierReport/connected(_:to:_:)`` or ``CarrierReport/failed(_:_:)``.
    case connect(SocketAddress, StreamKind)
    /// Ends the stream for which the address stands.
    case disconnect(SocketAddress)
    /// Opens another UDP port; answered by ``CarrierReport/doorOpened(_:port:)``.
    case openDoor(UInt32)
    case closeDoor(UInt32)
    /// Sends from the other port. What comes back gets an address that stands for it.
    case send([UInt8], door: UInt32, to: SocketAddress, hops: UInt8?)
}

/// What happened to what the node ordered, and streams that others opened.
package enum CarrierReport: Hashable, Sendable {
    /// The first address stands for the stream from now on.
    case connected(SocketAddress, to: SocketAddress, StreamKind)
    case failed(SocketAddress, StreamKind)
    case accepted(SocketAddress, from: SocketAddress)
    case doorOpened(UInt32, port: UInt16)
    /// The first address stands for the way through the door to the second.
    case doorUsed(SocketAddress, door: UInt32, remote: SocketAddress)
    /// What the address stood for is gone.
    case ended(SocketAddress)
}

/// What an address stands for.
struct SideWay: Hashable {
    enum Kind: Hashable {
        case dialled(StreamKind)
        case accepted
        case door(UInt32)
    }

    var kind: Kind
    /// Where the other end is.
    var remote: SocketAddress

    /// The carrier has its own bounds, well below.
    static let limit = 1_024

    var isDialled: Bool {
        if case .dialled = kind { true } else { false }
    }
}

extension PathFinder {
    /// Takes what the carrier has to say.
    package mutating func carrierReported(
        _ report: CarrierReport, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        switch report {
        case .connected(let standIn, let remote, let kind):
            search.dialling[Dial(address: remote, kind: kind)] = nil
            guard standIn.isStream, remember(standIn, .dialled(kind), remote) else { return }
            // Whoever is there has to show a certificate like everybody else.
            addContact(standIn, source: .lan, at: now)
            search.look(at: now + StreamSearch.patience)
        case .failed(let remote, let kind):
            // The next round is due by itself: whoever refuses at once is not asked at once.
            search.dialling[Dial(address: remote, kind: kind)] = nil
        case .accepted(let standIn, let remote):
            if standIn.isStream { _ = remember(standIn, .accepted, remote) }
        case .doorOpened(let door, let port):
            doorOpened(door, port: port, at: now, random: &random, into: &actions)
        case .doorUsed(let standIn, let door, let remote):
            if standIn.isDoor, doors[door] != nil { _ = remember(standIn, .door(door), remote) }
        case .ended(let standIn):
            forget(standIn, at: now, into: &actions)
        }
    }

    private mutating func remember(
        _ standIn: SocketAddress, _ kind: SideWay.Kind, _ remote: SocketAddress
    ) -> Bool {
        guard sideWays.count < SideWay.limit else { return false }
        sideWays[standIn] = SideWay(kind: kind, remote: remote)
        return true
    }

    private mutating func forget(
        _ standIn: SocketAddress, at now: BootInstant, into actions: inout [PathAction]
    ) {
        guard sideWays.removeValue(forKey: standIn) != nil else { return }
        contacts[standIn] = nil
        for node in peers.keys.sorted() where peers[node]?.ways[standIn] != nil {
            guard var path = peers[node] else { continue }
            // A stream that led to a member: others are looked for without the pauses of before.
            search.rounds = 0
            path.ways[standIn] = nil
            path.nextRelayRequest = min(path.nextRelayRequest, now)
            if path.wantedUntil > now { path.nextCheck = now }
            peers[node] = path
            choose(for: node, at: now, into: &actions)
        }
        search.look(at: now + StreamSearch.patience)
    }

    /// Where the other end of a way is, for people: stand-ins mean nothing to them.
    package func remote(of address: SocketAddress) -> SocketAddress {
        sideWays[address]?.remote ?? address
    }
}

extension PathFinder {
    /// Says, before anything else, whether somebody carries out ``CarrierOrder``.
    package mutating func setCarrier(_ isThere: Bool) {
        configuration.hasCarrier = isThere
    }
}
