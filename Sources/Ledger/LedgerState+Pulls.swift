import Cryptography
import MeshBase

/// A large entry on its way here.
struct Pull: Sendable {
    let entry: LargeEntry
    let source: NodeID
    let isRumor: Bool
    var chunks: [[UInt8]?]
    var retryAt: BootInstant
    var attempts = 1

    var missing: UInt8 {
        chunks.enumerated().reduce(0) { $1.element == nil ? $0 | 1 << UInt8($1.offset) : $0 }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(source)
        fingerprint.mix(UInt64(missing))
        fingerprint.mix(retryAt)
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
            let isHeld = ranked(entry.owner).contains { $0.hash == entry.hash }
            guard !isHeld, pulls[entry.hash] == nil else { continue }
            guard pulls.count < LedgerLimits.pulls else {
                return actions.append(.dropped(.busy))
            }
            let pull = Pull(
                entry: entry, source: sender, isRumor: isRumor,
                chunks: Array(repeating: nil, count: entry.chunkCount),
                retryAt: now + LedgerTiming.pullRetry)
            pulls[entry.hash] = pull
            request(pull, into: &actions)
        }
    }

    mutating func retryPulls(at now: BootInstant, into actions: inout [LedgerAction]) {
        for hash in pulls.keys.sorted() {
            guard var pull = pulls[hash], pull.retryAt <= now else { continue }
            guard pull.attempts < LedgerLimits.pullAttempts else {
                pulls[hash] = nil
                continue
            }
            pull.attempts += 1
            pull.retryAt = now + LedgerTiming.pullRetry
            pulls[hash] = pull
            request(pull, into: &actions)
        }
    }

    private func request(_ pull: Pull, into actions: inout [LedgerAction]) {
        let message = LedgerMessage.pull(
            owner: pull.entry.owner, hash: pull.entry.hash, chunks: pull.missing)
        actions.append(.send(to: pull.source, message.encode()))
    }

    mutating func sendChunks(
        _ wanted: UInt8, of hash: Bytes32, owner: NodeID, to node: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        guard let stored = ranked(owner).first(where: { $0.hash == hash }) else { return }
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
        guard var pull = pulls[hash], pull.source == sender, pull.chunks.indices.contains(index)
        else { return actions.append(.dropped(.unexpected)) }
        let start = index * LedgerLimits.chunkBytes
        guard bytes.count == min(LedgerLimits.chunkBytes, pull.entry.size - start) else {
            return actions.append(.dropped(.unexpected))
        }
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
