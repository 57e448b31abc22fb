import MeshBase

/// What decides whether two questions have the same answer: DO and CD change what an upstream
/// sends (RFC 4035 section 4.7), so they are part of the key.
struct QuestionKey: Hashable, Sendable {
    let question: DNSQuestion
    let dnssecOK: Bool
    let checkingDisabled: Bool
}

/// Replies of upstreams for as long as they are true, and an hour longer for the case that no
/// upstream answers (RFC 8767).
package struct AnswerCache {
    private var slots: [Slot] = []
    private var index: [QuestionKey: Int] = [:]
    /// Where the search for an entry to replace goes on: second chance, so that one sweep of
    /// names asked once does not push out the names asked often.
    private var hand = 0
    private var storedBytes = 0
    private let capacity: Int

    private struct Slot {
        var key: QuestionKey
        var reply: UpstreamReply
        var storedAt: BootInstant
        var wasUsed: Bool
        /// When nobody could say something newer.
        var failedAt: BootInstant?
    }

    struct Hit {
        let reply: UpstreamReply
        /// Whole seconds since the reply arrived.
        let age: UInt32
        let isStale: Bool
        /// Less than a tenth of the lifetime is left of an answer worth fetching anew.
        let endsSoon: Bool
        /// A search for something newer failed a moment ago.
        let failedLately: Bool
    }

    /// Larger replies are rare and would let a few names fill the cache.
    private static let maximumReplySize = 4096
    /// Entries beside this many bytes of replies: a resolver for one machine needs few.
    private static let maximumBytes = 8 << 20
    /// RFC 8767 section 5 allows one to three days; an hour bridges an upstream's restart.
    private static let staleWindow: Duration = .seconds(3600)
    /// Between searches for something newer than a stale answer (RFC 8767 section 5).
    private static let retryInterval: Duration = .seconds(30)
    /// Shorter lifetimes say that the answer is wanted fresh, not early.
    private static let minimumPrefetchLifetime: UInt32 = 10

    package init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    package var count: Int { slots.count }

    /// The reply for `key`, fresh or stale; `nil` when there is none or it is too old for both.
    mutating func find(_ key: QuestionKey, at now: BootInstant) -> Hit? {
        guard let position = index[key] else { return nil }
        let slot = slots[position]
        let expiry = slot.storedAt + .seconds(Int64(slot.reply.lifetime))
        guard now < expiry + AnswerCache.staleWindow else { return nil }
        slots[position].wasUsed = true
        let age = UInt32(clamping: (now - slot.storedAt).components.seconds)
        let lifetime = slot.reply.lifetime
        let endsSoon =
            lifetime >= AnswerCache.minimumPrefetchLifetime && slot.reply.isPositive
            && age >= lifetime - lifetime / 10
        let failedLately = slot.failedAt.map { now < $0 + AnswerCache.retryInterval } ?? false
        return Hit(
            reply: slot.reply, age: age, isStale: now >= expiry, endsSoon: endsSoon,
            failedLately: failedLately)
    }

    /// Remembers that the upstreams had nothing for `key`.
    mutating func noteFailure(_ key: QuestionKey, at now: BootInstant) {
        guard let position = index[key] else { return }
        slots[position].failedAt = now
    }

    /// Keeps `reply` when it may be kept.
    ///
    /// A failure never replaces an answer: the stale answer is worth more.
    mutating func store(_ reply: UpstreamReply, for key: QuestionKey, at now: BootInstant) {
        guard reply.lifetime > 0, reply.size <= AnswerCache.maximumReplySize else { return }
        if let position = index[key] {
            let old = slots[position]
            let isUseful =
                now < old.storedAt + .seconds(Int64(old.reply.lifetime))
                + AnswerCache.staleWindow
            if reply.isFailure, !old.reply.isFailure, isUseful { return }
            storedBytes += reply.size - old.reply.size
            slots[position] = Slot(key: key, reply: reply, storedAt: now, wasUsed: true)
            while storedBytes > AnswerCache.maximumBytes { removeOne() }
        } else {
            while slots.count >= capacity
                || storedBytes + reply.size > AnswerCache.maximumBytes
            {
                removeOne()
            }
            index[key] = slots.count
            storedBytes += reply.size
            slots.append(Slot(key: key, reply: reply, storedAt: now, wasUsed: false))
        }
    }

    package mutating func removeAll() {
        self = AnswerCache(capacity: capacity)
    }

    /// Removes the next entry that was not used since the hand last passed.
    private mutating func removeOne() {
        while true {
            if hand >= slots.count { hand = 0 }
            guard slots[hand].wasUsed else { break }
            slots[hand].wasUsed = false
            hand += 1
        }
        storedBytes -= slots[hand].reply.size
        index[slots[hand].key] = nil
        let last = slots.removeLast()
        // The last entry moves into the gap, unless it is the gap.
        guard hand < slots.count else { return }
        slots[hand] = last
        index[last.key] = hand
        hand += 1
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(slots.count)
        for slot in slots {
            fingerprint.mix(slot.key.question.name.wire)
            fingerprint.mix(slot.storedAt)
            fingerprint.mix(slot.failedAt)
            slot.reply.fingerprint(into: &fingerprint)
        }
    }
}
