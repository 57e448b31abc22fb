import MeshBase
import NetAddress

/// What another member sees of this one.
struct Observation: Hashable {
    var by: NodeID
    /// Where the observer is: NATs map by that.
    var observer: SocketAddress
    var address: SocketAddress
    var at: BootInstant
}

// Looking after the ways to a member that is wanted:
//   1. every second, and ten times a second while an answer is awaited: expire probes
//   2. choose the way (PathSelector)
//   3. probe what is due
//   4. without a live way ask for a relay, without a live direct one punch
extension PathFinder {
    /// Says that the ways to `node` matter for a while, and names addresses where it may be.
    package mutating func want(
        _ node: NodeID, candidates: [SocketAddress], for span: Duration = .seconds(60),
        at now: BootInstant
    ) {
        guard var path = peers[node] else { return }
        path.wantedUntil = max(path.wantedUntil, now + span)
        if path.addCandidates(candidates), !path.hasLiveDirectWay(at: now) {
            path.failedPunches = 0
            path.nextPunch = min(path.nextPunch, now)
        }
        if path.nextCheck == nil { path.nextCheck = now }
        peers[node] = path
    }

    /// Another member looks after its way to this node, which proves nothing here. On one link the
    /// own end is proven again when it is no longer, which takes one exchange in a minute. Elsewhere a
    /// NAT or firewall of either end may forget, and then nobody but those who were kept could carry a
    /// call: both ends keep such a way.
    private mutating func lookAfter(
        _ node: NodeID, at address: SocketAddress, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        peers[node]?.probedUntil = now + Self.borrowedInterest
        if !isOnLink(address) { want(node, candidates: [], for: Self.borrowedInterest, at: now) }
        let way = peers[node]?.ways[address]
        guard way?.isLive(at: now) != true, now - (way?.lastPing ?? .zero) > .milliseconds(90)
        else {
            return
        }
        want(node, candidates: [], for: Self.briefInterest, at: now)
        probe(node, at: address, now: now, random: &random, into: &actions)
    }

    /// Whether an address is of a network that this machine is part of, as far as addresses tell:
    /// link-local, or of the same IPv4 /24 or IPv6 /64.
    private func isOnLink(_ address: SocketAddress) -> Bool {
        if address.ip.isLinkLocal { return true }
        return localAddresses.contains { local in
            switch (local.ip, address.ip) {
            case (.v4(let own), .v4(let other)): own >> 8 == other >> 8
            case (.v6(let own, _), .v6(let other, _)): own == other
            default: false
            }
        }
    }

    /// The members about which ``timeout(at:random:into:)`` would decide now.
    package func membersDue(at now: BootInstant) -> [NodeID] { peers.due(at: now) }

    /// When tunnel data last went to and came from a member; it decides how eagerly to probe.
    package mutating func noteActivity(
        _ node: NodeID, sent: BootInstant?, received: BootInstant?
    ) {
        peers.noteActivity(node, sent: sent, received: received)
    }

    /// An authenticated packet of the member came from `address`.
    package mutating func heard(
        _ node: NodeID, from address: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard var path = peers[node] else { return }
        path.addWay(address, at: now)
        path.ways[address]?.wasHeard = true
        let present = path.address
        peers[node] = path
        guard let present else {
            select(address, .unproven, for: node, into: &actions)
            return
        }
        guard present != address else {
            // It is back, for example from sleep.
            if let way = path.ways[address], way.lastPong != nil, !way.isLive(at: now),
                now - (way.lastPing ?? .zero) > .milliseconds(200)
            {
                probe(node, at: address, now: now, random: &random, into: &actions)
            }
            return
        }
        if agrees(with: node, on: address, at: now) {
            select(address, .kept, for: node, into: &actions)
            return
        }
        // Both work, and neither is in doubt: the difference costs nothing.
        if let new = path.ways[address], let old = path.ways[present], new.isLive(at: now),
            old.isLive(at: now), new.missed == 0, old.missed == 0,
            now - (old.lastPing ?? .zero)
                < (path.isActive(at: now) ? .milliseconds(300) : Self.idleDoubt)
        {
            return
        }
        // It may have moved. What answers decides, so both are asked.
        if path.ways[address]?.isLive(at: now) != true || address.isDirect {
            if now - (path.ways[address]?.lastPing ?? .zero) > .milliseconds(200) {
                probe(node, at: address, now: now, random: &random, into: &actions)
            }
            if now - (path.ways[present]?.lastPing ?? .zero) > .milliseconds(300) {
                probe(node, at: present, now: now, random: &random, into: &actions)
            }
        }
        want(node, candidates: [], for: Self.borrowedInterest, at: now)
        let due = earlier(peers[node]?.nextCheck, now + Self.eagerCheck)
        peers[node]?.nextCheck = due
    }

    /// The addresses of this machine's own networks changed: every way is in doubt.
    package mutating func networkChanged(
        local: [SocketAddress], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard local != localAddresses else { return }
        localAddresses = local
        waysOutChanged(at: now, random: &random, into: &actions)
    }

    /// Packets leave this machine elsewhere: every way is in doubt, and others see it elsewhere.
    package mutating func waysOutChanged(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        observations = []
        doubtEverything(at: now, random: &random, into: &actions)
    }

    /// Much later than the timers wanted to run, this machine was asleep.
    mutating func noticeSuspension(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        defer { lastTimeout = now }
        guard let lastTimeout, now - lastTimeout > .seconds(8), let due = deadline,
            now - due > .seconds(5)
        else { return }
        doubtEverything(at: now, random: &random, into: &actions)
    }

    private mutating func doubtEverything(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        endBirthday(at: now, into: &actions)
        nextBirthday = now
        for node in peers.keys.sorted() {
            peers[node]?.nextBirthday = now
            peers[node]?.birthdays = 0
            guard var path = peers[node], path.matters(at: now) else { continue }
            path.wantedUntil = max(path.wantedUntil, now + Self.borrowedInterest)
            path.failedPunches = 0
            path.nextPunch = now
            path.punch = nil
            path.nextCheck = now + Self.eagerCheck
            path.nextRelayRequest = min(path.nextRelayRequest, now)
            peers[node] = path
            for address in path.ways.keys.sorted()
            where path.ways[address]?.isLive(at: now) == true {
                probe(node, at: address, now: now, random: &random, into: &actions)
            }
        }
        for address in contacts.keys { contacts[address]?.nextAttempt = now }
        if !contacts.isEmpty { streamsMayBeNeeded(at: now) }
    }

    /// Between two questions to a member that is idle and uses another way than we do.
    private static let idleDoubt = Duration.seconds(10)
    /// More than from one probe of an idle way to the next (27 s): as long as the other end asks.
    private static let borrowedInterest = Duration.seconds(30)
    /// For a way to prove itself or break. Two ends that kept each other interested for longer would
    /// never come to rest.
    private static let briefInterest = Duration.seconds(5)
    static let eagerCheck = Duration.milliseconds(100)
    static let calmCheck = Duration.seconds(1)

    mutating func runChecks(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        for node in peers.due(at: now) {
            if let due = peers[node]?.nextCheck, due <= now {
                check(node, at: now, random: &random, into: &actions)
            }
            if let due = peers[node]?.punch?.nextSend, due <= now {
                continuePunch(node, at: now, random: &random, into: &actions)
            }
        }
    }

    private mutating func check(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard var path = peers[node] else { return }
        guard path.wantedUntil > now else {
            path.nextCheck = nil
            path.punch = nil
            peers[node] = path
            return
        }
        for address in path.ways.keys {
            let wasSound = path.ways[address]?.isSound == true
            path.ways[address]?.expire(at: now)
            // In doubt a relay may carry already.
            guard wasSound, path.ways[address]?.isSound != true, address.isDirect,
                address == path.address || path.address?.isDirect == false
            else { continue }
            // A way that worked broke: one of the ends moved, or a router forgot.
            path.wishesDoor = true
            path.failedPunches = 0
            path.nextPunch = now
            path.nextRelayRequest = min(path.nextRelayRequest, now)
            // It may have started anew and not remember us.
            if !address.isStandIn { knockAgain(at: address, at: now) }
        }
        peers[node] = path
        if !path.hasLiveWay(at: now) { streamsMayBeNeeded(at: now) }
        closeIdleDoor(of: node, at: now, into: &actions)
        choose(for: node, at: now, into: &actions)
        for address in peers[node]?.dueProbes(at: now, isOnLink: isOnLink) ?? [] {
            probe(node, at: address, now: now, random: &random, into: &actions)
        }
        if peers[node]?.asksForgottenWay(at: now) != true {
            requestRelays(for: node, at: now, random: &random, into: &actions)
            beginBirthday(node, at: now)
            beginPunch(node, at: now, random: &random, into: &actions)
        }
        let isAwaiting = peers[node]?.ways.values.contains { !$0.pending.isEmpty } ?? false
        let isBusy = now - (peers[node]?.lastSent ?? .zero) < .seconds(3)
        let due =
            isAwaiting || isBusy
            ? now + Self.eagerCheck * (isAwaiting ? 1 : 2) : now.nextMultiple(of: Self.calmCheck)
        // Something of this check may want the next one sooner.
        let wish = peers[node]?.nextCheck.flatMap { $0 > now ? $0 : nil }
        peers[node]?.nextCheck = earlier(wish, due)
    }

    /// Sends one probe; an answer makes the way live.
    mutating func probe(
        _ node: NodeID, at address: SocketAddress, hops: UInt8? = nil, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        peers[node]?.addWay(address, at: now)
        guard var way = peers[node]?.ways[address] else { return }
        let id = random.next()
        if way.pending.count == Way.pendingLimit { way.pending.removeFirst() }
        way.pending.append((id, now))
        way.lastPing = now
        peers[node]?.ways[address] = way
        seal(
            ProbeMessage.ping(id: id).encode(), to: node, at: address, hops: hops,
            random: &random, into: &actions)
    }

    mutating func receive(
        _ message: ProbeMessage, from node: NodeID, at source: SocketAddress, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        switch message {
        case .ping(let id):
            seal(
                ProbeMessage.pong(id: id, observed: source).encode(), to: node, at: source,
                random: &random, into: &actions)
            guard admits(node, from: source) else { return }
            lookAfter(node, at: source, now: now, random: &random, into: &actions)
        case .pong(let id, let seen):
            guard
                peers[node]?.ways[source]?.answered(id, at: now) == true
                    || doorAnswered(
                        id, by: node, at: source, seen: seen, now: now, random: &random,
                        into: &actions)
                    || birthdayAnswered(
                        id, by: node, at: source, now: now, random: &random, into: &actions)
            else {
                actions.append(.dropped(.unexpected))
                return
            }
            guard admits(node, from: source) else { return }
            observed(seen, by: node, from: source, at: now, into: &actions)
            if source.isDirect {
                peers[node]?.failedPunches = 0
                peers[node]?.wishesDoor = false
                peers[node]?.punch = nil
                birthdaySucceeded(with: node, through: source, at: now, into: &actions)
            }
            choose(for: node, at: now, into: &actions)
        case .callMe(let call):
            called(call, by: node, over: source, at: now, random: &random, into: &actions)
        case .openRelay(let other):
            openRelay(from: node, at: source, to: other, now: now, random: &random, into: &actions)
        case .relayOpened(let other, let channel):
            relayOpened(
                by: node, to: other, channel, at: now, random: &random, into: &actions)
        case .relayRefused:
            // The next ones have their turn soon anyway.
            break
        case .birthday(let step, let address):
            receiveBirthday(
                step, address, from: node, at: now, random: &random, into: &actions)
        }
    }

    /// A welcome proved an address.
    mutating func proved(
        _ node: NodeID, at address: SocketAddress, roundTrip: Duration?, now: BootInstant,
        into actions: inout [PathAction]
    ) {
        guard var path = peers[node] else { return }
        path.addWay(address, at: now)
        path.ways[address]?.opened(at: now)
        if let roundTrip, path.ways[address]?.roundTrip == nil {
            path.ways[address]?.roundTrip = roundTrip
        }
        peers[node] = path
        choose(for: node, at: now, into: &actions)
    }

    mutating func choose(
        for node: NodeID, at now: BootInstant, into actions: inout [PathAction]
    ) {
        guard let path = peers[node],
            let choice = PathSelector.choose(path.views(at: now), current: path.address)
        else { return }
        select(choice.address, choice.reason, for: node, into: &actions)
    }

    private mutating func select(
        _ address: SocketAddress, _ reason: PathReason, for node: NodeID,
        into actions: inout [PathAction]
    ) {
        let former = peers[node]?.address
        if former != address || reason != .kept { peers[node]?.reason = reason }
        guard former != address else { return }
        peers[node]?.address = address
        actions.append(.selected(node, address))
        if carries(node) || ownChannels.values.contains(where: { $0.relay == node }) {
            actions.append(.channelsChanged)
        }
    }

    // MARK: - What others see of us

    /// As many observers as tell the kinds of NAT apart, with some to spare.
    private static let observationLimit = 16

    mutating func observed(
        _ address: SocketAddress, by node: NodeID, from observer: SocketAddress,
        at now: BootInstant, into actions: inout [PathAction]
    ) {
        guard !observer.isStandIn, address.isUsableCandidate, !observer.ip.isPrivate else { return }
        let isElsewhere = !observations.contains { $0.address == address }
        observations.removeAll { $0.by == node && $0.observer.ip == observer.ip }
        observations.append(
            Observation(by: node, observer: observer, address: address, at: now))
        if observations.count > Self.observationLimit { observations.removeFirst() }
        if isElsewhere { callAgain(at: now, into: &actions) }
    }

    /// This node is seen elsewhere: whoever has no direct way to it opens for the wrong address. What
    /// was knocked for real meanwhile has spoiled the door, too.
    private mutating func callAgain(at now: BootInstant, into actions: inout [PathAction]) {
        for node in peers.keys.sorted() {
            guard let path = peers[node], path.wantedUntil > now else { continue }
            if let punch = path.punch {
                if punch.step > 0 { closeDoor(of: node, into: &actions) }
                peers[node]?.punch = nil
            }
            peers[node]?.nextPunch = min(path.nextPunch, now)
            peers[node]?.nextCheck = earlier(path.nextCheck, now)
        }
    }

    /// A gateway sends what comes there to this machine from now on; `nil`: none does.
    package mutating func setMapped(
        _ address: SocketAddress?, at now: BootInstant, into actions: inout [PathAction]
    ) {
        guard address != mappedAddress else { return }
        mappedAddress = address
        if address != nil { callAgain(at: now, into: &actions) }
    }

    /// Addresses for a call, likeliest first.
    var callCandidates: [SocketAddress] {
        var result: [SocketAddress] = []
        let seen = observations.reversed().map(\.address)
        for address in [mappedAddress].compactMap({ $0 }) + seen + localAddresses
        where address.isUsableCandidate && !result.contains(address) {
            result.append(address)
        }
        return Array(result.prefix(ProbeMessage.CallMe.limit))
    }

    /// How the NAT in front of this machine behaves, from what others see.
    package var natBehaviour: NATBehaviour {
        let seen = observations.filter { $0.address.ip.isIPv4 }
        guard let newest = seen.last else { return .unknown }
        if localAddresses.contains(newest.address) { return .none }
        let others = Set(seen.map(\.observer.ip))
        guard others.count >= 2 else { return .unknown }
        return Set(seen.map(\.address)).count == 1
            ? .endpointIndependent : portStep == 0 ? .symmetric : .sequential
    }

    /// The difference of the newest two ports on one address, if it is small and not zero.
    var portStep: Int8 {
        let seen = observations.filter { $0.address.ip.isIPv4 }.suffix(2)
        guard let first = seen.first?.address, let second = seen.last?.address,
            first.ip == second.ip
        else { return 0 }
        let step = Int(second.port) - Int(first.port)
        return (1...16).contains(abs(step)) ? Int8(step) : 0
    }
}

/// How a NAT maps, in the terms of RFC 4787.
package enum NATBehaviour: String, Hashable, Sendable {
    case unknown
    case none
    case endpointIndependent = "endpoint-independent"
    case symmetric
    case sequential = "symmetric, sequential ports"
}
