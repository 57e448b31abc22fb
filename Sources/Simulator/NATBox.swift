import MeshBase
import NetAddress

/// What a NAT does, in the terms of RFC 4787: how it maps, and whom it lets in.
package enum SimulatedNAT: String, Sendable, CaseIterable {
    /// Endpoint-independent mapping and filtering.
    case fullCone
    /// Endpoint-independent mapping, address-dependent filtering.
    case addressRestricted
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    case portRestricted
    /// Address- and port-dependent mapping and filtering.
    case symmetric
}

/// The NAT in front of one machine. The router's own input refuses strangers.
struct NATBox {
    private struct Flow: Hashable {
        var inner: SocketAddress
        /// `nil` where one mapping serves all.
        var remote: SocketAddress?
    }

    let kind: SimulatedNAT
    let address: IPAddress
    private var ports: [Flow: UInt16] = [:]
    private var inners: [UInt16: SocketAddress] = [:]
    /// When a datagram last went from a port to somebody.
    private var spoken: [UInt16: [SocketAddress: BootInstant]] = [:]

    /// What Linux gives a flow that was answered.
    private static let memory = Duration.seconds(120)

    init(_ kind: SimulatedNAT, address: IPAddress) {
        self.kind = kind
        self.address = address
    }

    /// Where a datagram from inside is seen to come from.
    mutating func outgoing(
        from inner: SocketAddress, to remote: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator
    ) -> SocketAddress {
        let flow = Flow(inner: inner, remote: kind == .symmetric ? remote : nil)
        let known = ports[flow].flatMap { isFresh($0, at: now) ? $0 : nil }
        let port = known ?? freePort(for: inner, random: &random)
        ports[flow] = port
        inners[port] = inner
        spoken[port, default: [:]][remote] = now
        return SocketAddress(ip: address, port: port)
    }

    /// Where a datagram from outside goes; `nil` when it is not let in.
    func incoming(
        to port: UInt16, from remote: SocketAddress, at now: BootInstant
    ) -> SocketAddress? {
        guard let inner = inners[port], let contacts = spoken[port] else { return nil }
        let isLetIn = contacts.contains { contact, time in
            guard now - time < Self.memory else { return false }
            return switch kind {
            case .fullCone: true
            case .addressRestricted: contact.ip == remote.ip
            case .portRestricted, .symmetric: contact == remote
            }
        }
        return isLetIn ? inner : nil
    }

    private func isFresh(_ port: UInt16, at now: BootInstant) -> Bool {
        spoken[port]?.values.contains { now - $0 < Self.memory } ?? false
    }

    /// The inner port if it is free and the NAT keeps ports, else one at random.
    private func freePort(for inner: SocketAddress, random: inout SeededGenerator) -> UInt16 {
        if kind != .symmetric, inners[inner.port] == nil { return inner.port }
        var port: UInt16
        repeat {
            port = UInt16(1_024 + random.next(upperBound: 64_000 as UInt64))
        } while inners[port] != nil
        return port
    }
}
