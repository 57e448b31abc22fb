import Cryptography
import MeshBase
import NetAddress

/// Everything about the ways to one member.
package struct PeerPath {
    let staticKey: StaticPublicKey
    /// Agreed at the first message, since most members of a large mesh never exchange one.
    var pairKey: SecretBytes?
    var replay = MemberReplayFilter()
    /// The way in use.
    package internal(set) var address: SocketAddress?
    package internal(set) var reason = PathReason.unproven
    /// What the member signed that it does for others; see ``PathCapability``.
    var capabilities: UInt32 = 0
    var ways: [SocketAddress: Way] = [:]
    /// Where it said that it may be, or others did.
    var candidates: [SocketAddress] = []
    /// By how much its NAT counts ports.
    var portStep: Int8 = 0
    /// Until then the ways are looked after.
    var wantedUntil = BootInstant.zero
    /// Until then the member is expected to look after its way to this node.
    var probedUntil = BootInstant.zero
    var nextCheck: BootInstant?
    /// The newest tunnel data in each direction.
    var lastSent: BootInstant?
    var lastReceived: BootInstant?
    var punch: Punch?
    var failedPunches = 0
    var nextPunch = BootInstant.zero
    var nextBirthday = BootInstant.zero
    /// Since the network changed.
    var birthdays = 0
    var door: Door?
    /// Knocking from the usual port failed, or a direct way broke.
    var wishesDoor = false
    var nextRelayRequest = BootInstant.zero
    var lastRelayRequest = BootInstant.zero
    var relayRequests = 0

    /// The body of a member message: the envelope's maximum less header, hint, counters and tag.
    package static let messageLimit = 1_100
    /// The candidates of one call twice, and what others told.
    static let candidateLimit = 40
    static let wayLimit = 48

    init(staticKey: StaticPublicKey) {
        self.staticKey = staticKey
    }

    /// Whether one of the two ends looks after the ways.
    func matters(at now: BootInstant) -> Bool { max(wantedUntil, probedUntil) > now }

    func hasLiveWay(at now: BootInstant) -> Bool { ways.values.contains { $0.isLive(at: now) } }

    /// A relay carries, it may have stopped, and no other one is known to carry.
    func mayLoseOnlyRelay(at now: BootInstant) -> Bool {
        guard let address, address.isRelayed, let present = ways[address], present.missed > 0 else {
            return false
        }
        return !ways.contains { other, way in
            other != address && way.missed == 0 && way.isLive(at: now)
        }
    }

    func hasLiveDirectWay(at now: BootInstant) -> Bool {
        ways.contains { $0.key.isDirect && $0.value.isLive(at: now) }
    }

    /// The direct way that answered last. It leads there again when what broke it is over, while the
    /// NATs of both ends remember it; knocking anew has long pauses.
    var brokenWay: SocketAddress? {
        ways.filter { address, way in
            address.isDirect && way.lastPong != nil && (door != nil || !address.isDoor)
        }.max {
            ($0.value.lastPong ?? .zero, $0.key) < ($1.value.lastPong ?? .zero, $1.key)
        }?.key
    }

    /// Where authenticated packets came from by UDP, sorted.
    var knownAddresses: [SocketAddress] {
        ways.filter { !$0.key.isStandIn && $0.value.wasHeard }.keys.sorted()
    }

    mutating func addCandidates(_ addresses: [SocketAddress]) -> Bool {
        var isNew = false
        for address in addresses where address.isUsableCandidate {
            guard !candidates.contains(address) else { continue }
            candidates.append(address)
            isNew = true
        }
        if candidates.count > Self.candidateLimit {
            candidates.removeFirst(candidates.count - Self.candidateLimit)
        }
        return isNew
    }

    /// Makes room by forgetting a way that leads nowhere.
    mutating func addWay(_ address: SocketAddress, at now: BootInstant) {
        guard ways[address] == nil else { return }
        if ways.count >= Self.wayLimit {
            let idle = ways.filter { !$0.value.isLive(at: now) && $0.key != self.address }
            guard let victim = idle.keys.min() else {
                return
            }
            ways[victim] = nil
        }
        ways[address] = Way()
    }

    /// Data goes out. What idle members say to each other now and then is over after that time.
    func isActive(at now: BootInstant) -> Bool { now - (lastSent ?? .zero) < .seconds(3) }

    /// Data goes out, and nothing comes back.
    func isSilent(at now: BootInstant) -> Bool {
        guard let sent = lastSent, now - sent < .seconds(2) else { return false }
        let present = address.flatMap { ways[$0] }
        let roundTrip: Duration = present?.roundTrip ?? .milliseconds(100)
        return sent > (lastReceived ?? .zero) + .milliseconds(400) + roundTrip * 2
    }

    func views(at now: BootInstant) -> [WayView] {
        ways.map { address, way in
            WayView(
                address, isLive: way.isLive(at: now) && !isDoubtful(address, way, at: now),
                roundTrip: way.roundTrip, lost: way.lost, asked: way.asked,
                wasHeard: way.wasHeard)
        }.sorted { $0.address < $1.address }
    }

    /// Where something else answers, one probe less without an answer is enough, and a single one if
    /// a way of the same kind answered what was sent later: the member moved.
    private func isDoubtful(_ address: SocketAddress, _ way: Way, at now: BootInstant) -> Bool {
        let oldest = way.pending.first?.sentAt
        let isOverdue = oldest.map { now - $0 >= way.usualAnswer } ?? false
        guard way.missed > 0 || isOverdue else { return false }
        return ways.contains { other, rival in
            guard other != address, rival.isLive(at: now), rival.missed == 0,
                let answered = rival.lastPong
            else { return false }
            if way.missed >= way.missLimit - 1 { return true }
            guard other.isDirect == address.isDirect else { return false }
            return answered >= oldest ?? .distantFuture || way.missed > 0
        }
    }
}

/// One way to a member.
struct Way {
    /// Smoothed over about eight answers.
    var roundTrip: Duration?
    var lastPong: BootInstant?
    var lastPing: BootInstant?
    var wasHeard = false
    /// Unanswered in a row.
    var missed = 0
    /// One bit per probe, the newest lowest; set means lost.
    var history: UInt16 = 0
    /// How many probes ``history`` tells of.
    var asked = 0
    /// Oldest first.
    var pending: [(id: UInt64, sentAt: BootInstant)] = []
    /// Counted as lost, oldest first. Their answers may still come.
    var overdue: [(id: UInt64, sentAt: BootInstant)] = []

    static let pendingLimit = 8
    /// Later answers say nothing about now.
    static let overdueLimit = Duration.seconds(10)
    static let historyLimit = UInt16.bitWidth
    /// Between two probes of an idle way, with room for two lost ones.
    static let trust = Duration.seconds(65)

    var lost: Int { history.nonzeroBitCount }

    /// Three lost in a row end a way that loses none otherwise. One that loses many is not gone
    /// because it lost three: where a third of all answers is lost, that happens every minute.
    var missLimit: Int { 3 + (history >> missed).nonzeroBitCount / 2 }

    func isLive(at now: BootInstant) -> Bool {
        guard let lastPong else { return false }
        return missed < missLimit && now - lastPong < Self.trust
    }

    var patience: Duration {
        min(max((roundTrip ?? .milliseconds(300)) * 3, .milliseconds(200)), .seconds(2))
    }

    /// From a lost probe to the next one: quick, but not while half of the answers may be under way.
    var hurry: Duration { max(.milliseconds(150), patience / 2) }

    /// From probe to probe of a way that broke, the rarer the longer that is ago.
    func pauseSinceItBroke(at now: BootInstant) -> Duration {
        min(max((now - (lastPong ?? now)) / 10, .seconds(2)), .seconds(27))
    }

    /// An answer that takes longer is late.
    var usualAnswer: Duration {
        (roundTrip ?? .milliseconds(300)) * 3 / 2 + .milliseconds(50)
    }

    mutating func expire(at now: BootInstant) {
        overdue.removeAll { now - $0.sentAt >= Self.overdueLimit }
        while let first = pending.first, now - first.sentAt >= patience {
            pending.removeFirst()
            if overdue.count == Self.pendingLimit { overdue.removeFirst() }
            overdue.append(first)
            missed += 1
            history = history << 1 | 1
            asked = min(asked + 1, Self.historyLimit)
        }
    }

    /// It answers, now or again. What was lost before it opened, or while it was broken, says
    /// nothing about how much it loses.
    mutating func opened(at now: BootInstant) {
        if !isLive(at: now) {
            history >>= missed
            asked = max(asked - missed, 0)
        }
        missed = 0
        lastPong = now
        wasHeard = true
    }

    /// Takes an answer; false when the id was never sent, or long ago.
    mutating func answered(_ id: UInt64, at now: BootInstant) -> Bool {
        if let index = overdue.firstIndex(where: { $0.id == id }) {
            // The way became slower than it was ever waited for. Whoever did not learn that would
            // take each answer for lost and ask more and more, which makes a busy machine slower.
            let sample = now - overdue[index].sentAt
            guard sample < Self.overdueLimit else { return false }
            roundTrip = max(roundTrip ?? .zero, sample)
            overdue.removeFirst(index + 1)
            // It was not lost, and nor is what was sent after it as yet.
            history &= history &- 1
            opened(at: now)
            return true
        }
        guard let index = pending.firstIndex(where: { $0.id == id }) else { return false }
        let sample = now - pending[index].sentAt
        roundTrip =
            roundTrip.map { usual in
                // After a slow time the estimate comes back quickly: patience is slowness to notice.
                sample * 2 < usual ? (usual + sample * 3) / 4 : (usual * 7 + sample) / 8
            } ?? sample
        pending.removeFirst(index + 1)
        opened(at: now)
        history <<= 1
        asked = min(asked + 1, Self.historyLimit)
        return true
    }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(lastPong)
        hash.mix(lastPing)
        hash.mix(missed)
        hash.mix(UInt64(history))
        hash.mix(asked)
        hash.mix(wasHeard)
        for probe in pending { hash.mix(probe.id) }
        for probe in overdue { hash.mix(probe.id) }
    }
}

/// What a member's signed capability bits mean.
package enum PathCapability {
    /// Carries datagrams between other members.
    package static let relays: UInt32 = 1 << 1
    /// Was told to try many ports where two NATs leave nothing else.
    package static let guessesPorts: UInt32 = 1 << 2
}
