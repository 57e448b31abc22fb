import MeshBase
import NetAddress

/// When what is done to stay known and to know others.
struct Upkeep: Sendable {
    /// The next walk towards our own name.
    var walkAt: BootInstant
    /// Walks since the tables were empty.
    var attempts = 0
    /// The next look at the node that was asked longest ago.
    var tickAt: BootInstant
    /// When somebody answered last.
    var heardAt: BootInstant

    init(at now: BootInstant) {
        walkAt = now
        tickAt = now + Self.tick
        heardAt = now
    }

    var deadline: BootInstant { min(walkAt, tickAt) }

    /// libtorrent's pace is 5 s; a third of it costs 5 bytes per second and keeps a table of
    /// hundred nodes fresh within the hour that routers keep a mapping alive anyway.
    static let tick = Duration.seconds(15)
    /// BEP 5: nodes are good for 15 minutes after they answered.
    static let freshness = Duration.seconds(15 * 60)
    static let ownWalk = Duration.seconds(10 * 60)

    /// 1 s, doubled up to a minute, while nobody is known. Those who come at the same time find
    /// each other by the first quick walks.
    static func pause(afterAttempt attempt: Int, isKnown: Bool) -> Duration {
        if isKnown { return attempt <= 3 ? .seconds(5 * attempt) : ownWalk }
        return .seconds(min(60, 1 << min(attempt - 1, 6)))
    }
}

extension DHTNode {
    mutating func keepUp(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        tokens.rotate(at: now, random: &random)
        if reachability.advance(at: now) { noteReachability(at: now) }
        if upkeep.walkAt <= now {
            upkeep.attempts += 1
            let pause = Upkeep.pause(afterAttempt: upkeep.attempts, isKnown: nodeCount > 0)
            upkeep.walkAt = now + pause + random.duration(in: .zero...(pause / 4))
            for family in AddressFamily.allCases {
                guard let target = tables[family]?.ownID else { continue }
                _ = walk(
                    Lookup(target: target, kind: .findNode, rules: rules), isUpkeep: true, at: now,
                    random: &random, into: &actions)
            }
            askLost(at: now, random: &random, into: &actions)
        }
        guard upkeep.tickAt <= now else { return }
        upkeep.tickAt = now + Upkeep.tick
        storage.expire(at: now)
        if nodeCount == 0, upkeep.attempts > 3 {
            // The network was away: begin as at the start.
            upkeep.attempts = 0
            upkeep.walkAt = min(upkeep.walkAt, now + .seconds(60))
        }
        for family in AddressFamily.allCases {
            if let stale = tables[family]?.stalest(olderThan: staleAge, at: now) {
                ask(
                    .ping, stale.address, for: .upkeep, at: now, random: &random, into: &actions)
            } else if let bucket = tables[family]?.bucketToRefresh(
                after: Upkeep.freshness, at: now), let ownID = tables[family]?.ownID
            {
                let target = ownID.neighbour(sharing: bucket, random: &random)
                _ = walk(
                    Lookup(target: target, kind: .findNode, rules: rules), isUpkeep: true, at: now,
                    random: &random, into: &actions)
            }
        }
    }

    /// Two halves of a small network that were cut apart find back by the addresses that both knew
    /// at first. The world's network is never cut, and its routers are busy.
    private mutating func askLost(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        guard !rules.startsReadOnly, nodeCount > 0 else { return }
        let lost = bootstrap.filter { tables[$0.family]?.contains($0) == false }
        for address in lost.shuffled(using: &random).prefix(2) {
            ask(.ping, address, for: .upkeep, at: now, random: &random, into: &actions)
        }
    }

    /// Among a handful of our own, who is gone should be known soon.
    private var staleAge: Duration {
        rules.startsReadOnly ? Upkeep.freshness : .seconds(120)
    }

    /// What others see of us decides our name (BEP 42) and whether we may serve (BEP 43).
    mutating func noteReachability(at now: BootInstant) {
        for family in AddressFamily.allCases {
            guard let address = believed[family] else { continue }
            if reachability.local.contains(address.ip) { reachability.isDirect(at: now) }
            if votes.agree(on: address.ip, count: rules.observerQuorum) {
                earnName(for: address.ip, family, at: now)
            }
        }
    }

    /// Takes a name that `ip` may bear, where names must be earned.
    mutating func earnName(for ip: IPAddress, _ family: AddressFamily, at now: BootInstant) {
        guard rules.requiresEarnedNames, let ownID = tables[family]?.ownID,
            !ownID.isEarned(by: ip)
        else { return }
        // The name is derived from nothing but the address and our former name.
        var random = SeededGenerator(
            seed: Bytes32([UInt8](repeating: 0, count: 12) + ownID.bytes) ?? .zero)
        tables[family]?.rename(
            KademliaID(
                for: ip, seed: UInt8(truncatingIfNeeded: random.next()), random: &random), at: now)
        upkeep.attempts = 0
        upkeep.walkAt = now
    }

    // MARK: - Over restarts

    /// Contacts for the next start, at most 4 kB: those that answered.
    package var snapshot: [UInt8] {
        var writer = ByteWriter()
        for family in AddressFamily.allCases {
            let known = (tables[family]?.contacts ?? []).prefix(Self.snapshotLimit)
            writer.write(UInt8(known.count))
            for contact in known { contact.address.encode(into: &writer) }
        }
        return writer.bytes
    }

    private static let snapshotLimit = 150

    /// Takes what an earlier life knew as addresses to ask first; damage ends the list.
    package mutating func restore(_ bytes: [UInt8], at now: BootInstant) {
        var reader = ByteReader(bytes)
        var addresses: [SocketAddress] = []
        while let count = try? reader.readByte() {
            for _ in 0..<count {
                guard let address = try? SocketAddress(from: &reader) else { break }
                addresses.append(address)
            }
        }
        addBootstrap(addresses, areRouters: false, at: now)
    }
}

/// Whether strangers can reach us (BEP 43). A node behind a router must not be entered in tables:
/// queries to it would be lost.
///
/// Read-only nodes ask with `ro` and answer nobody. After a while, or at once when an interface
/// has a public address or the one that others see, we answer on probation; a query from somebody to whom we never
/// sent anything proves us.
struct Reachability: Sendable {
    private var phase: Phase
    private var known: [IPAddress: BootInstant] = [:]
    private(set) var local: Set<IPAddress> = []
    /// Whether an address of our own has had its probation.
    private var hasTriedDirect = false

    private enum Phase: Hashable, Sendable {
        case readOnly(until: BootInstant)
        case probation(until: BootInstant)
        case proven
    }

    /// As other programs: servers after a quarter of an hour.
    private static let patience = Duration.seconds(15 * 60)
    private static let pause = Duration.seconds(3_600)
    /// Addresses to which we sent lately: twice what one walk of each kind asks.
    private static let knownLimit = 1_024
    /// Routers forget a flow well before.
    private static let knownAge = Duration.seconds(15 * 60)

    init(rules: DHTRules, at now: BootInstant) {
        phase = rules.startsReadOnly ? .readOnly(until: now + Self.patience) : .proven
    }

    var serves: Bool {
        if case .readOnly = phase { false } else { true }
    }

    /// Moves on with time; `true` when the phase changed.
    mutating func advance(at now: BootInstant) -> Bool {
        switch phase {
        case .readOnly(let end) where end <= now:
            phase = .probation(until: now + Self.patience)
        case .probation(let end) where end <= now:
            phase = .readOnly(until: now + Self.pause)
        default:
            return false
        }
        return true
    }

    /// No router stands before a machine whose interface has a public address. Homes have those of
    /// IPv6 behind a firewall, so they say something only where there is no IPv4.
    mutating func setLocal(_ addresses: Set<IPAddress>, at now: BootInstant) {
        local = addresses
        hasTriedDirect = false
        let hasIPv4 = addresses.contains(where: \.isIPv4)
        if addresses.contains(where: { $0.isIPv4 == hasIPv4 && $0.isPublic }) {
            isDirect(at: now)
        }
    }

    /// An address of ours is one that the world sees; a firewall may still stand before it, so one
    /// probation is all that follows.
    mutating func isDirect(at now: BootInstant) {
        guard case .readOnly = phase, !hasTriedDirect else { return }
        hasTriedDirect = true
        phase = .probation(until: now + Self.patience)
    }

    mutating func contacted(_ ip: IPAddress, at now: BootInstant) {
        guard phase != .proven else { return }
        if known.count >= Self.knownLimit {
            known = known.filter { now - $0.value < Self.knownAge }
            if known.count >= Self.knownLimit { return }
        }
        known[ip] = now
    }

    mutating func asked(by ip: IPAddress, at now: BootInstant) {
        guard case .probation = phase else { return }
        if known.count < Self.knownLimit, known[ip].map({ now - $0 >= Self.knownAge }) ?? true {
            phase = .proven
            known = [:]
        }
    }
}
