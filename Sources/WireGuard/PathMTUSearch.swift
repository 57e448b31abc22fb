import MeshBase

/// What a ``PathMTUSearch`` asks for.
package enum PathMTUAction: Hashable, Sendable {
    /// Send a datagram of `size` bytes (the UDP payload) that no router may cut, and report the
    /// peer's answer to `number`.
    case probe(size: Int, number: UInt32)
    /// ``PathMTUSearch/limit`` has this value from now on.
    case limitChanged(Int)
}

/// Finds the largest datagram that the path to one peer carries (RFC 8899, by probes alone: ICMP
/// messages are neither needed nor believed), and notices when the path carries less.
///
///     begin -> probe the full size -> answered: rest
///                                  -> lost: use the base size, halve the interval between the two
///                                     until 16 bytes are left, rest
///     rest  -> traffic for 15 s: probe the size in use -> lost: a black hole, begin at the base
///           -> after 10 minutes below the full size: probe the full size again
package struct PathMTUSearch: Sendable {
    /// The UDP payload of the IPv6 minimum link MTU: every path carries it (RFC 8200 section 5).
    package static let base = 1280 - 40 - 8
    /// A search that is this near costs more to go on with than it could gain.
    static let precision = 16
    /// Losses in a row that mean the path, not chance (MAX_PROBES, RFC 8899 section 5.1.2).
    static let tries = 3
    static let answerTime = Duration.milliseconds(500)
    /// PMTU_RAISE_TIMER, RFC 8899 section 5.1.1.
    static let raiseInterval = Duration.seconds(600)
    static let checkInterval = Duration.seconds(15)
    /// Datagrams of the full size that make a path worth a check; an idle one is left alone.
    static let worthChecking: UInt64 = 4

    /// The largest datagram to send whole, UDP payload bytes. Before anything is known it is the
    /// full size: the network may still cut what it cannot carry.
    package private(set) var limit: Int
    private let full: Int
    private var phase = Phase.waiting
    private var nextNumber: UInt32 = 1
    private var raiseAt: BootInstant?
    private var sentBefore: UInt64 = 0

    private enum Phase: Sendable {
        /// No path is known.
        case waiting
        /// `size` is above `low`, which is carried, and at most `high`; asked from `first` on.
        case probing(size: Int, low: Int, high: Int, first: UInt32, sent: Int, until: BootInstant)
        case resting(checkAt: BootInstant)
    }

    /// - Parameter full: the datagram of a packet of the device's MTU.
    package init(full: Int) {
        self.full = full
        limit = full
    }

    /// There is a path, or another one than before.
    package mutating func begin(at now: BootInstant, into actions: inout [PathMTUAction]) {
        guard full > PathMTUSearch.base else { return }
        raiseAt = nil
        probe(full, low: PathMTUSearch.base, high: full, at: now, into: &actions)
    }

    /// There is no path any more.
    package mutating func end() {
        phase = .waiting
    }

    /// The peer has answered a probe. An answer to anything else changes nothing.
    package mutating func receive(
        answerTo number: UInt32, at now: BootInstant, into actions: inout [PathMTUAction]
    ) {
        guard case .probing(let size, _, let high, let first, _, _) = phase, number >= first,
            number < nextNumber
        else { return }
        use(size, into: &actions)
        narrow(low: size, high: high, at: now, into: &actions)
    }

    /// - Parameter bytesSent: to the peer, ever.
    package mutating func timeout(
        at now: BootInstant, bytesSent: UInt64, into actions: inout [PathMTUAction]
    ) {
        switch phase {
        case .waiting: return
        case .probing(let size, let low, let high, let first, let sent, let until):
            guard until <= now else { return }
            if sent < PathMTUSearch.tries {
                send(
                    .probing(
                        size: size, low: low, high: high, first: first, sent: sent + 1,
                        until: now + PathMTUSearch.answerTime), size, into: &actions)
            } else if size <= limit {
                // What was in use is carried no more, or never was.
                use(min(PathMTUSearch.base, size), into: &actions)
                narrow(low: PathMTUSearch.base, high: size - 1, at: now, into: &actions)
            } else {
                narrow(low: low, high: size - 1, at: now, into: &actions)
            }
        case .resting(let checkAt):
            if let raiseAt, raiseAt <= now {
                self.raiseAt = nil
                probe(full, low: limit, high: full, at: now, into: &actions)
            } else if checkAt <= now {
                let fresh = bytesSent &- sentBefore
                sentBefore = bytesSent
                guard limit > PathMTUSearch.base,
                    fresh > PathMTUSearch.worthChecking * UInt64(full)
                else {
                    phase = .resting(checkAt: now + PathMTUSearch.checkInterval)
                    return
                }
                probe(limit, low: PathMTUSearch.base, high: limit, at: now, into: &actions)
            }
        }
    }

    package var deadline: BootInstant? {
        switch phase {
        case .waiting: nil
        case .probing(_, _, _, _, _, let until): until
        case .resting(let checkAt): min(checkAt, raiseAt ?? checkAt)
        }
    }

    package func fingerprint(into hash: inout Fingerprint) {
        hash.mix(limit)
        hash.mix(UInt64(nextNumber))
        hash.mix(deadline)
        hash.mix(raiseAt)
        hash.mix(sentBefore)
        if case .probing(let size, let low, let high, let first, let sent, _) = phase {
            for number in [size, low, high, Int(first), sent] { hash.mix(number) }
        }
    }

    /// `low` is carried, nothing above `high` is: probes between them, or rests.
    private mutating func narrow(
        low: Int, high: Int, at now: BootInstant, into actions: inout [PathMTUAction]
    ) {
        if high - low >= PathMTUSearch.precision {
            probe(low + (high - low + 1) / 2, low: low, high: high, at: now, into: &actions)
            return
        }
        if limit < full, raiseAt == nil { raiseAt = now + PathMTUSearch.raiseInterval }
        phase = .resting(checkAt: now + PathMTUSearch.checkInterval)
    }

    private mutating func probe(
        _ size: Int, low: Int, high: Int, at now: BootInstant, into actions: inout [PathMTUAction]
    ) {
        send(
            .probing(
                size: size, low: low, high: high, first: nextNumber, sent: 1,
                until: now + PathMTUSearch.answerTime), size, into: &actions)
    }

    private mutating func send(_ next: Phase, _ size: Int, into actions: inout [PathMTUAction]) {
        phase = next
        actions.append(.probe(size: size, number: nextNumber))
        nextNumber &+= 1
    }

    private mutating func use(_ size: Int, into actions: inout [PathMTUAction]) {
        guard size != limit else { return }
        limit = size
        actions.append(.limitChanged(size))
    }
}
