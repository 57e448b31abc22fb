import NetAddress

/// One way to a member, as the choice between ways sees it.
package struct WayView: Hashable, Sendable {
    package var address: SocketAddress
    /// The newest answered probe is recent enough to trust, and few since went unanswered.
    package var isLive: Bool
    /// Smoothed; `nil` before the first answer.
    package var roundTrip: Duration?
    /// Of the last ``asked`` probes.
    package var lost: Int
    /// At most sixteen.
    package var asked: Int
    /// Authenticated packets come from there, or a probe was answered once.
    package var wasHeard: Bool

    package init(
        _ address: SocketAddress, isLive: Bool, roundTrip: Duration? = nil, lost: Int = 0,
        asked: Int = 16, wasHeard: Bool = true
    ) {
        self.address = address
        self.isLive = isLive
        self.roundTrip = roundTrip
        self.lost = lost
        self.asked = asked
        self.wasHeard = wasHeard
    }
}

/// Why a way was chosen, for people.
package enum PathReason: String, Hashable, Sendable {
    case onlyLive = "the only one that answers"
    case direct = "direct beats relayed and TCP"
    case faster = "faster"
    case kept = "kept: nothing is clearly better"
    case lossy = "the direct one loses too much"
    case unproven = "nothing has answered yet"
}

/// Chooses among the ways to one member. A pure function: the same ways give the same choice.
///
/// 1. What answers beats what does not.
/// 2. Direct beats relayed and streams, unless it loses more than a fifth and what is relayed at
///    most half as many. A relay loses on two legs what a direct way loses on one.
/// 3. The shorter round trip wins, with 3 ms for a private network and 2 ms for IPv6, but only by
///    5 ms and a tenth over the present way: paths that flap cost more than they gain.
package enum PathSelector {
    package static func choose(_ ways: [WayView], current: SocketAddress?)
        -> (address: SocketAddress, reason: PathReason)?
    {
        let live = ways.filter(\.isLive)
        guard !live.isEmpty else {
            if let current, ways.contains(where: { $0.address == current }) {
                return (current, .unproven)
            }
            let heard = ways.filter(\.wasHeard)
            let pick = (heard.isEmpty ? ways : heard).min { order($0) < order($1) }
            return pick.map { ($0.address, .unproven) }
        }
        let direct = live.filter { $0.address.isDirect }
        let relayed = live.filter { !$0.address.isDirect }
        let sound = direct.filter { way in
            way.lost * 5 <= 16 || !relayed.contains { losesHalf($0, of: way) }
        }
        let pool: [WayView]
        let reason: PathReason
        if sound.isEmpty {
            pool = relayed.isEmpty ? direct : relayed
            reason = direct.isEmpty || relayed.isEmpty ? .onlyLive : .lossy
        } else {
            pool = sound
            reason = live.count == 1 ? .onlyLive : relayed.isEmpty ? .faster : .direct
        }
        guard let best = pool.min(by: { order($0) < order($1) }) else { return nil }
        if let current, let present = pool.first(where: { $0.address == current }),
            present.address != best.address
        {
            let gain = cost(present) - cost(best)
            if gain <= .milliseconds(5) || gain * 10 <= cost(present) { return (current, .kept) }
        }
        return (best.address, reason)
    }

    /// A relay of which little is known is no better.
    private static func losesHalf(_ relay: WayView, of way: WayView) -> Bool {
        relay.asked >= 8 && relay.lost * way.asked * 2 <= way.lost * relay.asked
    }

    /// A round trip with its bonuses; unknown counts as slow.
    private static func cost(_ way: WayView) -> Duration {
        var cost = way.roundTrip ?? .seconds(1)
        if way.address.ip.isPrivate { cost -= .milliseconds(3) }
        if !way.address.ip.isIPv4, !way.address.isRelayed { cost -= .milliseconds(2) }
        return cost
    }

    private static func order(_ way: WayView) -> (Duration, SocketAddress) {
        (cost(way), way.address)
    }
}

extension IPAddress {
    /// What carriers give to their customers' routers (RFC 6598).
    package var isShared: Bool {
        guard case .v4(let bits) = self else { return false }
        return bits >> 22 == 0x6440_0000 >> 22
    }

    /// RFC 1918 and unique local addresses (RFC 4193).
    package var isPrivate: Bool {
        switch self {
        case .v4(let bits):
            bits >> 24 == 10 || bits >> 20 == 0xAC1 || bits >> 16 == 0xC0A8
        case .v6(let high, _):
            high >> 57 == 0xFC >> 1
        }
    }
}
