import MeshBase
import NetAddress

/// What a NAT does, in the terms of RFC 4787: how it maps, and whom it lets in.
package enum SimulatedNAT: String, Sendable, CaseIterable {
    /// No mapping, address- and port-dependent filtering.
    case firewall
    /// Endpoint-independent mapping and filtering.
    case fullCone
    /// Endpoint-independent mapping, address-dependent filtering.
    case addressRestricted
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    case portRestricted
    /// Address- and port-dependent mapping and filtering.
    case symmetric
    /// The same, with ports that count up.
    case symmetricSequential
    /// Two of the kind ``portRestricted``: one's own and the provider's.
    case doubleNAT

    var isSymmetric: Bool { self == .symmetric || self == .symmetricSequential }
}

/// One router in front of one machine.
struct NATBox {
    private struct Flow: Hashable {
        var inner: SocketAddress
        /// `nil` where one mapping serves all.
        var remote: SocketAddress?
    }

    private struct Contact {
        var spokenAt: BootInstant
        var isAnswered = false
    }

    let kind: SimulatedNAT
    private(set) var address: IPAddress
    /// The router takes what comes to itself, as Linux does without rules: an entry of its table
    /// then belongs to the router, and a flow from inside that would need the same gets another port.
    let acceptsInput: Bool
    private var ports: [Flow: UInt16] = [:]
    private var inners: [UInt16: SocketAddress] = [:]
    /// When a datagram last went from a port to somebody.
    private var spoken: [UInt16: [SocketAddress: Contact]] = [:]
    /// When somebody last sent to the router itself, by the port at which he knocked.
    private var knocks: [Flow: BootInstant] = [:]

    /// What Linux gives a flow that was answered, and one that was not.
    private static let memory = Duration.seconds(120)
    private static let shortMemory = Duration.seconds(30)
    /// The port that the next flow gets where they count up.
    private var nextPort: UInt16 = 40_000

    init(_ kind: SimulatedNAT, address: IPAddress, acceptsInput: Bool = false) {
        self.kind = kind
        self.address = address
        // What a firewall refuses was never for itself.
        self.acceptsInput = acceptsInput && kind != .firewall
    }

    /// Where a datagram from inside is seen to come from.
    mutating func outgoing(
        from inner: SocketAddress, to remote: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator
    ) -> SocketAddress {
        // Linux maps every flow for itself, and to the same port if it can.
        let isPerFlow = kind.isSymmetric || acceptsInput
        let flow = Flow(inner: inner, remote: isPerFlow ? remote : nil)
        let known = ports[flow].flatMap { isFresh($0, to: flow.remote, at: now) ? $0 : nil }
        let port = known ?? freePort(for: inner, to: remote, at: now, random: &random)
        ports[flow] = port
        inners[port] = inner
        let isAnswered = known != nil && spoken[port]?[remote]?.isAnswered == true
        spoken[port, default: [:]][remote] = Contact(spokenAt: now, isAnswered: isAnswered)
        return SocketAddress(ip: address, port: port)
    }

    /// Where a datagram from outside goes; `nil` when it is not let in.
    mutating func incoming(
        to port: UInt16, from remote: SocketAddress, at now: BootInstant
    ) -> SocketAddress? {
        if let inner = inners[port], let contacts = spoken[port] {
            let isLetIn = contacts.contains { contact, entry in
                guard isFresh(entry, at: now) else { return false }
                return switch kind {
                case .fullCone: true
                case .addressRestricted: contact.ip == remote.ip
                case .firewall, .portRestricted, .symmetric, .symmetricSequential, .doubleNAT:
                    contact == remote
                }
            }
            if isLetIn {
                if contacts[remote] != nil { spoken[port]?[remote]?.isAnswered = true }
                return inner
            }
        }
        if acceptsInput { knocks[knock(port, remote)] = now }
        return nil
    }

    /// The provider gives the router another address, or its flows are gone with a power cut.
    mutating func reboot(address: IPAddress) {
        self.address = address
        ports = [:]
        inners = [:]
        spoken = [:]
        knocks = [:]
    }

    private func knock(_ port: UInt16, _ remote: SocketAddress) -> Flow {
        Flow(inner: SocketAddress(ip: address, port: port), remote: remote)
    }

    private func isFresh(_ contact: Contact, at now: BootInstant) -> Bool {
        let memory = acceptsInput && !contact.isAnswered ? Self.shortMemory : Self.memory
        return now - contact.spokenAt < memory
    }

    private func isFresh(_ port: UInt16, to remote: SocketAddress?, at now: BootInstant) -> Bool {
        guard let contacts = spoken[port] else { return false }
        if let remote { return contacts[remote].map { isFresh($0, at: now) } ?? false }
        return contacts.values.contains { isFresh($0, at: now) }
    }

    /// The inner port if it is free and the NAT keeps ports, else one at random.
    private mutating func freePort(
        for inner: SocketAddress, to remote: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator
    ) -> UInt16 {
        if kind == .firewall { return inner.port }
        let owner = inners[inner.port]
        let isTaken = knocks[knock(inner.port, remote)].map { now - $0 < Self.shortMemory } ?? false
        if !kind.isSymmetric, owner == nil || acceptsInput && owner == inner, !isTaken {
            return inner.port
        }
        var port: UInt16
        repeat {
            if kind == .symmetricSequential {
                port = nextPort
                nextPort = nextPort == .max ? 1_024 : nextPort + 1
            } else {
                port = UInt16(1_024 + random.next(upperBound: 64_000 as UInt64))
            }
        } while inners[port] != nil
        return port
    }
}
