import MeshBase
import NetAddress

/// The channels that this node carries for pairs of other members.
package struct RelayTable {
    package struct Channel: Hashable {
        package var first: NodeID
        package var second: NodeID
        /// When one of the ends last asked for it.
        var renewedAt: BootInstant
    }

    package private(set) var channels: [UInt32: Channel] = [:]
    private var byPair: [Pair: UInt32] = [:]

    package init() {}

    struct Pair: Hashable {
        var low: NodeID
        var high: NodeID

        init(_ first: NodeID, _ second: NodeID) {
            (low, high) = first < second ? (first, second) : (second, first)
        }
    }

    /// Ends renew every twenty seconds; four missed renewals end a channel.
    static let lifetime = Duration.seconds(90)
    /// Pairs at once; with the default rate each still gets 10 kbit/s.
    static let limit = 1_024
    /// Of one member, so that nobody takes all.
    package static let limitPerMember = 64

    /// The channel of the pair, new or renewed; `nil` when there is no room.
    package mutating func open(
        _ first: NodeID, _ second: NodeID, at now: BootInstant, random: inout SeededGenerator
    ) -> UInt32? {
        let pair = Pair(first, second)
        if let known = byPair[pair] {
            channels[known]?.renewedAt = now
            return known
        }
        guard channels.count < Self.limit,
            channels.values.count(where: { $0.first == first || $0.second == first })
                < Self.limitPerMember
        else { return nil }
        var channel: UInt32
        repeat {
            channel = UInt32(truncatingIfNeeded: random.next())
        } while channel == 0
            || channels[channel] != nil
        channels[channel] = Channel(first: first, second: second, renewedAt: now)
        byPair[pair] = channel
        return channel
    }

    /// Whether a channel ended.
    package mutating func expire(at now: BootInstant) -> Bool {
        let old = channels.filter { now - $0.value.renewedAt >= Self.lifetime }
        for (channel, ends) in old {
            channels[channel] = nil
            byPair[Pair(ends.first, ends.second)] = nil
        }
        return !old.isEmpty
    }

    var nextExpiry: BootInstant? {
        channels.values.map(\.renewedAt).min().map { $0 + Self.lifetime }
    }

    func fingerprint(into hash: inout Fingerprint) {
        for (channel, ends) in channels.sorted(by: { $0.key < $1.key }) {
            hash.mix(UInt64(channel))
            hash.mix(ends.first)
            hash.mix(ends.second)
            hash.mix(ends.renewedAt)
        }
    }
}

/// A channel that this node carries, by addresses, for whoever forwards datagrams.
package struct CarriedChannel: Hashable, Sendable {
    package let channel: UInt32
    package let first: SocketAddress
    package let second: SocketAddress
}

/// A channel at whose end this node is.
package struct OwnChannel: Hashable, Sendable {
    package let channel: UInt32
    /// Where the relay is.
    package let relay: SocketAddress
    /// What stands for the member at the other end.
    package let address: SocketAddress
}
