import Cryptography
import MeshBase

extension LedgerState {
    /// The owners with handles in `interval`, as positions in `order`.
    private func positions(in interval: ClosedRange<UInt64>) -> Range<Int> {
        let start = firstPosition { $0.bytes.prefix64 >= interval.lowerBound }
        let end = firstPosition { $0.bytes.prefix64 > interval.upperBound }
        return start..<end
    }

    /// Binary search for the first owner that `matches`; all behind it match too.
    private func firstPosition(where matches: (NodeID) -> Bool) -> Int {
        var low = 0
        var high = order.count
        while low < high {
            let middle = (low + high) / 2
            if matches(order[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The owners of `interval` by handle. Owners that share one (it takes 2^32 keys to make a
    /// pair) count as one, so that a listing stays a function of the handle.
    func groups(in interval: ClosedRange<UInt64>) -> [OwnerDigest] {
        var result: [OwnerDigest] = []
        for owner in order[positions(in: interval)] {
            let handle = owner.bytes.prefix64
            let digest = owners[owner]?.digest.prefix64 ?? 0
            if let last = result.last, last.handle == handle {
                var writer = ByteWriter(capacity: 16)
                writer.write(last.digest)
                writer.write(digest)
                result.removeLast()
                let combined = sha256(writer.bytes).prefix64
                result.append(OwnerDigest(handle: handle, digest: combined))
            } else {
                result.append(OwnerDigest(handle: handle, digest: digest))
            }
        }
        return result
    }

    func ownersSharing(_ handle: UInt64) -> ArraySlice<NodeID> {
        order[positions(in: handle...handle)]
    }

    func fingerprint(of interval: ClosedRange<UInt64>) -> UInt64 {
        var writer = ByteWriter(capacity: 1_024)
        for owner in order[positions(in: interval)] {
            writer.write(owner)
            writer.write(owners[owner]?.digest ?? .zero)
        }
        return sha256(writer.bytes).prefix64
    }

    /// The entries of `owner` in the order in which they are sent: the certificate first, so that
    /// one exchange suffices, then by version.
    func ranked(_ owner: NodeID) -> [StoredEntry] {
        (owners[owner]?.entries.values).map(Array.init).map { entries in
            entries.sorted { first, second in
                if first.entry.id.isCertificate != second.entry.id.isCertificate {
                    return first.entry.id.isCertificate
                }
                return second.supersedes(first)
            }
        } ?? []
    }
}

// MARK: - Output

extension LedgerState {
    /// Sends one message of an answer if the peer's budget allows it.
    @discardableResult
    mutating func reply(
        _ message: LedgerMessage, to node: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) -> Bool {
        guard canAnswer(node, at: now) else { return false }
        peers[node]?.answers.charge(at: now, interval: LedgerLimits.answerInterval)
        actions.append(.send(to: node, message.encode()))
        return true
    }

    func canAnswer(_ node: NodeID, at now: BootInstant) -> Bool {
        peers[node]?.answers.allows(
            at: now, interval: LedgerLimits.answerInterval, burst: LedgerLimits.answerBurst)
            ?? false
    }

    /// Sends entries in order, small ones packed, large ones as offers. What exceeds the budget
    /// of one answer waits for the next digest, which then comes soon.
    mutating func answer(
        _ messages: [LedgerMessage], to node: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        for (index, message) in messages.enumerated() {
            if index == LedgerLimits.answersPerMessage
                || !reply(message, to: node, at: now, into: &actions)
            {
                return hurrySync(with: node, to: now + LedgerTiming.continuation)
            }
        }
    }

    /// Packs all entries of `owners`, looking at no more owners than one answer can hold.
    func pack(entriesOf owners: [NodeID]) -> [LedgerMessage] {
        pack(owners.lazy.flatMap { self.ranked($0) }, isRumor: false)
    }

    /// Packs entries into messages, in order; stops when there are more than one answer may have.
    func pack(_ entries: some Sequence<StoredEntry>, isRumor: Bool) -> [LedgerMessage] {
        var messages: [LedgerMessage] = []
        var batch: [LedgerEntry] = []
        var offered: [LargeEntry] = []
        var size = 1
        func flushBatch() {
            if !batch.isEmpty { messages.append(isRumor ? .rumor(batch) : .answer(batch)) }
            batch = []
            size = 1
        }
        func flushOffers() {
            if !offered.isEmpty { messages.append(.offer(offered, isRumor: isRumor)) }
            offered = []
        }
        for stored in entries {
            let count = stored.entry.encodedCount + 2
            if count + 1 > LedgerLimits.messageBytes {
                offered.append(LargeEntry(stored))
                if offered.count == LedgerMessage.offersPerMessage { flushOffers() }
            } else {
                if size + count > LedgerLimits.messageBytes { flushBatch() }
                batch.append(stored.entry)
                size += count
            }
            if messages.count > LedgerLimits.answersPerMessage { return messages }
        }
        flushBatch()
        flushOffers()
        return messages
    }
}
