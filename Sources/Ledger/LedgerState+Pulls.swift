import Cryptography
import MeshBase

/// An offered entry on its way here.
struct Pull: Sendable {
    let entry: LargeEntry
    /// Whom it is asked of, and who counts it among its pulls.
    var source: NodeID
    let isRumor: Bool
    var chunks: [[UInt8]?]
    var askedAt: BootInstant
    var attempts = 1

    var retryAt: BootInstant { askedAt + LedgerTiming.pullRetry }

    var missing: UInt8 {
        chunks.enumerated().reduce(0) { $1.element == nil ? $0 | 1 << UInt8($1.offset) : $0 }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(source)
        fingerprint.mix(UInt64(missing))
        fingerprint.mix(askedAt)
        fingerprint.mix(attempts)
    }
}

extension LedgerState {
    /// Asks for all chunks of every offered entry that is not here.
    mutating func beginPulls(
        _ offered: [LargeEntry], isRumor: Bool, from sender: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        for entry in offered {
            noteHolder(sender, of: entry.hash)
            guard !holds(entry) else { continue }
            if pulls[entry.hash] != nil {
                askAlso(sender, for: entry.hash, at: now, into: &actions)
                continue
            }
            guard pulls.count < LedgerLimits.pulls,
                pulls.values.count(where: { $0.source == sender }) < LedgerLimits.pullsPerPeer
            else { return actions.append(.dropped(.busy)) }
            let pull = Pull(
                entry: entry, source: sender, isRumor: isRumor,
                chunks: Array(repeating: nil, count: entry.chunkCount), askedAt: now)
            pulls[entry.hash] = pull
            request(pull, from: sender, into: &actions)
        }
    }

    private func holds(_ entry: LargeEntry) -> Bool {
        owners[entry.owner]?.entries.values.contains { $0.hash == entry.hash } ?? false
    }

    /// Another peer has what we wait for. One chunk proves itself by its hash, so it may come from
    /// anybody; several come from one source, and a new one begins again.
    private mutating func askAlso(
        _ node: NodeID, for hash: Bytes32, at now: BootInstant, into actions: inout [LedgerAction]
    ) {
        guard var pull = pulls[hash], pull.source != node,
            now - pull.askedAt >= LedgerTiming.pullPatience
        else { return }
        if pull.entry.chunkCount > 1 {
            guard pull.attempts > 1 else { return }
            pull.source = node
            pull.chunks = pull.chunks.map { _ in nil }
        }
        pull.askedAt = now
        pulls[hash] = pull
        request(pull, from: node, into: &actions)
    }

    mutating func retryPulls(at now: BootInstant, into actions: inout [LedgerAction]) {
        for hash in pulls.keys.sorted() {
            guard var pull = pulls[hash], pull.retryAt <= now else { continue }
            guard pull.attempts < LedgerLimits.pullAttempts else {
                pulls[hash] = nil
                continue
            }
            pull.attempts += 1
            pull.askedAt = now
            pulls[hash] = pull
            request(pull, from: pull.source, into: &actions)
        }
    }

    private func request(
        _ pull: Pull, from node: NodeID, into actions: inout [LedgerAction]
    ) {
        let message = LedgerMessage.pull(
            owner: pull.entry.owner, hash: pull.entry.hash, chunks: pull.missing)
        actions.append(.send(to: node, message.encode()))
    }

    mutating func sendChunks(
        _ wanted: UInt8, of hash: Bytes32, owner: NodeID, to node: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        guard let stored = owners[owner]?.entries.values.first(where: { $0.hash == hash }) else {
            return
        }
        let bytes = stored.entry.encode()
        for index in 0..<LargeEntry(stored).chunkCount where wanted & 1 << UInt8(index) != 0 {
            let start = index * LedgerLimits.chunkBytes
            let end = min(start + LedgerLimits.chunkBytes, bytes.count)
            let chunk = LedgerMessage.chunk(
                hash: hash, index: UInt8(index), bytes: Array(bytes[start..<end]))
            guard reply(chunk, to: node, at: now, into: &actions) else { return }
        }
    }

    mutating func takeChunk(
        _ bytes: [UInt8], index: Int, of hash: Bytes32, from sender: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        guard var pull = pulls[hash], pull.chunks.indices.contains(index),
            pull.source == sender || pull.chunks.count == 1
        else { return actions.append(.dropped(.unexpected)) }
        let start = index * LedgerLimits.chunkBytes
        guard bytes.count == min(LedgerLimits.chunkBytes, pull.entry.size - start),
            pull.chunks.count > 1 || sha256(bytes) == hash
        else { return actions.append(.dropped(.unexpected)) }
        pull.chunks[index] = bytes
        guard pull.missing == 0 else {
            pulls[hash] = pull
            return
        }
        // Complete: whatever it turns out to be, this attempt is over.
        pulls[hash] = nil
        let whole = pull.chunks.flatMap { $0 ?? [] }
        guard sha256(whole) == hash else { return actions.append(.dropped(.unexpected)) }
        do {
            let entry = try LedgerEntry(decoding: whole)
            take(
                [entry], isRumor: pull.isRumor, from: sender, at: now, random: &random,
                into: &actions)
        } catch {
            actions.append(.dropped(.malformed(error)))
        }
    }
}
