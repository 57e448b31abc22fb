import MeshBase
import NetAddress

/// A channel that a relay carries for this node.
struct ChannelEnds: Hashable {
    var relay: NodeID
    var peer: NodeID
    var channel: UInt32
    var openedAt: BootInstant
}

// Through a relay, from end A over relay R to end B:
//   1. A asks R for a channel to B; R checks that it reaches B directly
//   2. R tells both ends the channel, a random number
//   3. A and B treat it as one more way (SocketAddress(relay:channel:)) and probe it
//   4. R forwards what comes on the channel from one end's address to the other's
extension PathFinder {
    private static let ownChannelLimit = 1_024
    private static let renewal = Duration.seconds(20)
    /// Between two requests while the only relay in use may have stopped.
    private static let doubtfulPause = Duration.seconds(1)
    /// 64 relays; where the nearest of them do not lead there, hardly any other will.
    private static let earlyRequests = 32

    /// Members that carry datagrams and that this node reaches directly, the nearest first.
    package func availableRelays(at now: BootInstant) -> [NodeID] {
        peers.compactMap { node, path -> (Duration, NodeID)? in
            guard path.capabilities & PathCapability.relays != 0 else { return nil }
            // A stream reaches its member directly, too.
            let trips = path.ways.filter { !$0.key.isRelayed && $0.value.isLive(at: now) }
                .map { $0.value.roundTrip ?? .seconds(1) }
            return trips.min().map { ($0, node) }
        }.sorted { $0.0 == $1.0 ? $0.1 < $1.1 : $0.0 < $1.0 }.map(\.1)
    }

    /// Asks two relays while nothing answers directly, the nearest first, and renews what is in use.
    mutating func requestRelays(
        for node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard let path = peers[node] else { return }
        let isLate = now - path.lastRelayRequest >= Self.doubtfulPause
        guard path.nextRelayRequest <= now || isLate && path.mayLoseOnlyRelay(at: now) else {
            return
        }
        let isUsed = path.address?.isRelayed == true
        let present = path.address.flatMap { path.ways[$0] }
        let isInDoubt =
            path.isSilent(at: now)
            || present.map { $0.missed > 0 || !$0.isLive(at: now) } ?? true
        guard
            isUsed || isInDoubt
                || !path.ways.contains(where: { address, way in
                    !address.isRelayed && way.isLive(at: now)
                })
        else { return }
        let hasLiveRelay = path.ways.contains { $0.key.isRelayed && $0.value.isLive(at: now) }
        let relays = relaysToAsk(for: node, at: now)
        guard !relays.isEmpty else { return }
        // Each has its turn before the pauses become long.
        let turns = (availableRelays(at: now).count + 1) / 2
        let isEarly = path.relayRequests < min(max(5, turns), Self.earlyRequests)
        peers[node]?.relayRequests = hasLiveRelay ? 0 : path.relayRequests + 1
        peers[node]?.lastRelayRequest = now
        peers[node]?.nextRelayRequest =
            now
            + (hasLiveRelay
                ? Self.renewal : isEarly ? .milliseconds(400) : .seconds(5))
        for relay in relays {
            send(
                ProbeMessage.openRelay(to: node).encode(), to: relay, random: &random,
                into: &actions)
        }
    }

    /// Those whose channels work, then the nearest. While none works, two others each time: not every
    /// relay reaches every member.
    private func relaysToAsk(for node: NodeID, at now: BootInstant) -> [NodeID] {
        let nearest = availableRelays(at: now).filter { $0 != node }
        let used = Set(
            peers[node]?.ways.compactMap { address, way in
                way.isLive(at: now) ? ownChannels[address]?.relay : nil
            } ?? [])
        if used.isEmpty, nearest.count > 2 {
            let first = (peers[node]?.relayRequests ?? 0) * 2
            return (first..<(first + 2)).map { nearest[$0 % nearest.count] }
        }
        return Array(
            (nearest.filter(used.contains) + nearest.filter { !used.contains($0) }).prefix(2))
    }

    /// Answers a member that wants a channel.
    mutating func openRelay(
        from node: NodeID, at near: SocketAddress, to other: NodeID, now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard configuration.capabilities & PathCapability.relays != 0, node != other,
            !near.isRelayed, directAddress(of: node) != nil, let far = directAddress(of: other),
            let channel = relays.open(node, other, at: now, random: &random)
        else {
            send(
                ProbeMessage.relayRefused(to: other).encode(), to: node, random: &random,
                into: &actions)
            return
        }
        actions.append(.channelsChanged)
        // The far end first: it should know the channel before anything comes on it.
        seal(
            ProbeMessage.relayOpened(to: node, channel: channel).encode(), to: other, at: far,
            random: &random, into: &actions)
        seal(
            ProbeMessage.relayOpened(to: other, channel: channel).encode(), to: node, at: near,
            random: &random, into: &actions)
    }

    mutating func relayOpened(
        by relay: NodeID, to node: NodeID, _ channel: UInt32, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard peers[node] != nil, node != relay else { return }
        let address = SocketAddress(relay: relay, channel: channel)
        let isNew = ownChannels[address] == nil
        guard !isNew || ownChannels.count < Self.ownChannelLimit else { return }
        ownChannels[address] = ChannelEnds(
            relay: relay, peer: node, channel: channel, openedAt: now)
        // A channel that the relay has replaced leads nowhere.
        for (old, ends) in ownChannels
        where old != address && ends.relay == relay && ends.peer == node {
            ownChannels[old] = nil
            peers[node]?.ways[old] = nil
        }
        peers[node]?.addWay(address, at: now)
        want(node, candidates: [], at: now)
        guard isNew || peers[node]?.ways[address]?.isLive(at: now) != true else { return }
        if isNew { actions.append(.channelsChanged) }
        // The other end may not know us yet: introduce ourselves, and probe.
        let isAcquainted = peers[node]?.ways.values.contains { way in
            way.lastPong.map { now - $0 < Way.trust } ?? false
        }
        if isAcquainted != true { addContact(address, source: .member, at: now) }
        probe(node, at: address, now: now, random: &random, into: &actions)
        peers[node]?.nextCheck = now + Self.eagerCheck
    }

    /// Where a member is reached without a relay.
    private func directAddress(of node: NodeID) -> SocketAddress? {
        guard let address = peers[node]?.address, !address.isRelayed else { return nil }
        return address
    }

    func carries(_ node: NodeID) -> Bool {
        relays.channels.values.contains { $0.first == node || $0.second == node }
    }

    // MARK: - For whoever moves datagrams

    /// The channels that this node carries, sorted.
    package var carriedChannels: [CarriedChannel] {
        relays.channels.sorted { $0.key < $1.key }.compactMap { channel, ends in
            guard let first = directAddress(of: ends.first),
                let second = directAddress(of: ends.second)
            else { return nil }
            return CarriedChannel(channel: channel, first: first, second: second)
        }
    }

    /// The channels at whose end this node is, sorted.
    package var endedChannels: [OwnChannel] {
        ownChannels.sorted { $0.value.channel < $1.value.channel }.compactMap { address, ends in
            directAddress(of: ends.relay).map {
                OwnChannel(channel: ends.channel, relay: $0, address: address)
            }
        }
    }

    /// Where a relayed datagram has to go first, and as what.
    package func route(_ datagram: [UInt8], to address: SocketAddress)
        -> (datagram: [UInt8], address: SocketAddress)?
    {
        guard address.isRelayed else { return (datagram, address) }
        guard let ends = ownChannels[address], let relay = directAddress(of: ends.relay) else {
            return nil
        }
        return (RelayFrame.wrap(datagram, channel: ends.channel), relay)
    }

    /// What a relayed datagram from `source` means here.
    package func relayed(_ datagram: [UInt8], from source: SocketAddress) -> RelayedDatagram? {
        guard let channel = RelayFrame.channel(of: datagram) else { return nil }
        if let ends = relays.channels[channel] {
            guard let first = directAddress(of: ends.first),
                let second = directAddress(of: ends.second)
            else { return nil }
            if source == first { return .forward(to: second) }
            if source == second { return .forward(to: first) }
        }
        for (address, ends) in ownChannels where ends.channel == channel {
            guard peers[ends.relay]?.ways[source] != nil else { continue }
            return .arrived(Array(datagram[RelayFrame.headerCount...]), from: address)
        }
        return nil
    }
}

package enum RelayedDatagram: Hashable, Sendable {
    case forward(to: SocketAddress)
    case arrived([UInt8], from: SocketAddress)
}

extension PathFinder {
    /// How a member is reached, for people.
    package func report(of node: NodeID, at now: BootInstant) -> PathReport? {
        guard let path = peers[node] else { return nil }
        let relay = path.address.flatMap { ownChannels[$0]?.relay }
        var ways = path.views(at: now)
        for index in ways.indices { ways[index].address = remote(of: ways[index].address) }
        var stream: StreamKind?
        if let address = path.address, address.isStream {
            stream = .plain
            if case .dialled(let kind)? = sideWays[address]?.kind { stream = kind }
        }
        return PathReport(
            address: path.address.map { remote(of: $0) }, relay: relay, stream: stream,
            reason: path.reason, ways: ways,
            candidates: path.candidates.filter { path.ways[$0]?.isLive(at: now) != true },
            isPunching: path.punch != nil,
            isGuessing: birthday?.peer == node,
            nextPunch: path.punch == nil && path.nextPunch > now ? path.nextPunch - now : nil)
    }

    /// Where others see this node.
    package var observedAddresses: [SocketAddress] {
        var result: [SocketAddress] = []
        for seen in observations.reversed() where !result.contains(seen.address) {
            result.append(seen.address)
        }
        return result
    }
}

package struct PathReport: Hashable, Sendable {
    /// Where the other end is, or what stands for the way through a relay.
    package let address: SocketAddress?
    package let relay: NodeID?
    /// Set when packets go by TCP.
    package let stream: StreamKind?
    package let reason: PathReason
    package let ways: [WayView]
    /// Where the member may be, as others and itself say, and does not answer.
    package let candidates: [SocketAddress]
    package let isPunching: Bool
    /// Whether many ports are tried now.
    package let isGuessing: Bool
    package let nextPunch: Duration?
}
