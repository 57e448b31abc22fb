import MeshBase
import NetAddress

// When which way is asked next. Idle ways are asked every 27 s: the shortest time in which NATs are
// seen to forget flows is 30 s. What idle members say to each other now and then is over after 3 s,
// so that it makes no way active.
extension PeerPath {
    /// The ways to probe now, sorted.
    ///
    /// - Parameter isOnLink: whether an address is of a network that this machine is part of.
    func dueProbes(at now: BootInstant, isOnLink: (SocketAddress) -> Bool) -> [SocketAddress] {
        let state = ProbingState(of: self, at: now)
        return ways.filter { address, way in
            if isSpare(way, at: address, state), isOnLink(address) { return false }
            guard let interval = interval(of: way, at: address, state, now) else { return false }
            return now - (way.lastPing ?? .zero) >= interval
        }.keys.sorted()
    }

    /// What the ways to one member have in common when it is decided which to ask.
    private struct ProbingState {
        let isActive: Bool
        let isSilent: Bool
        /// Data goes out, and the way in use did not answer its last probe.
        let isInDoubt: Bool
        let isDirectAndWell: Bool
        let isDetour: Bool
        let broken: SocketAddress?

        init(of path: PeerPath, at now: BootInstant) {
            let present = path.address.flatMap { path.ways[$0] }
            isActive = path.isActive(at: now)
            isSilent = path.isSilent(at: now)
            isInDoubt = isActive && (present?.missed ?? 0) > 0
            isDetour = path.address?.isDirect == false
            isDirectAndWell =
                path.address?.isDirect == true && present?.isLive(at: now) == true
                && present?.missed == 0
            broken = isDetour ? path.brokenWay : nil
        }
    }

    /// Whether the way may rest until the one in use is in doubt or data goes out. Only where nothing
    /// between the ends forgets it.
    private func isSpare(_ way: Way, at address: SocketAddress, _ state: ProbingState) -> Bool {
        address != self.address && address.isDirect && way.isSound && way.missed == 0
            && state.isDirectAndWell && !state.isActive
    }

    /// From its last probe to the next one of a way; `nil` for one that is left alone.
    private func interval(
        of way: Way, at address: SocketAddress, _ state: ProbingState, _ now: BootInstant
    ) -> Duration? {
        let isInUse = address == self.address
        if way.isForgotten(at: now), isInUse || address.isDirect {
            return way.missed > 0 ? way.hurry : way.pending.isEmpty ? .zero : nil
        }
        if isInUse {
            if !way.isLive(at: now) { return way.pauseSinceItBroke(at: now) }
            if way.missed > 0 { return way.hurry }
            return state.isSilent ? .seconds(1) : state.isActive ? .seconds(3) : .seconds(27)
        }
        if way.isLive(at: now) {
            // Relays cost an idle mesh more than its direct ways; the next doubt asks for new ones.
            if address.isRelayed, !state.isActive, state.isDirectAndWell { return nil }
            // What is needed in a moment is asked, too, and what is better than the way in use as
            // soon as it loses less.
            let isLeft = state.isDetour && address.isDirect
            if state.isInDoubt || isLeft && way.missed > 0 { return way.hurry }
            return way.missed > 0 ? .seconds(1) : isLeft ? .seconds(3) : .seconds(27)
        }
        guard state.isDetour, address == state.broken else { return nil }
        return now - (way.lastPong ?? .zero) < Self.outage ? .seconds(3) : .seconds(6)
    }

    /// Most are over by then, and NATs remember what was answered for longer than between two
    /// probes.
    private static let outage = Duration.seconds(600)

    /// Whether a way that nobody looked after has just been asked and may answer: so long relays
    /// would only cost.
    func asksForgottenWay(at now: BootInstant) -> Bool {
        ways.contains { address, way in
            guard address.isDirect, way.isForgotten(at: now), way.missed == 0,
                let asked = way.pending.first
            else { return false }
            return now - asked.sentAt < way.usualAnswer
        }
    }
}

extension Way {
    /// It answered, and has not failed since; perhaps because it was not asked.
    var isSound: Bool { lastPong != nil && missed < missLimit }

    /// It answered what it was asked last, but that is long ago.
    func isForgotten(at now: BootInstant) -> Bool { isSound && !isLive(at: now) }
}
