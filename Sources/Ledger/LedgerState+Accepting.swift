import Cryptography
import MeshBase

/// What became of an entry that came from outside.
enum Acceptance: Hashable {
    case accepted
    /// Known already, or older than what is held.
    case stale
    case rejected(LedgerDropReason)
}

extension LedgerState {
    /// Checks an entry, the cheap checks first, and takes it in. Nothing changes unless the
    /// answer is `.accepted`.
    mutating func accept(
        _ entry: LedgerEntry, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) -> Acceptance {
        let stored = StoredEntry(entry)
        if let current = held(entry.id), !stored.supersedes(current) { return .stale }
        let writes = owners[entry.owner]?.writes ?? RateLimit()
        guard
            writes.allows(
                at: now, interval: LedgerLimits.writeInterval, burst: LedgerLimits.writeBurst)
        else { return .rejected(.rate) }
        if let reason = objection(to: stored) { return .rejected(reason) }
        if entry.owner == local {
            return acceptOwn(stored, at: now, random: &random, into: &actions)
        }
        let surplus = surplus(with: stored)
        guard !surplus.contains(where: { $0.hash == stored.hash }) else {
            return .rejected(.ownerFull)
        }
        apply(stored, evicting: surplus, at: now, into: &actions)
        owners[entry.owner]?.writes.charge(at: now, interval: LedgerLimits.writeInterval)
        return .accepted
    }

    /// Takes an entry from the own disk, without a rate and without telling anybody.
    mutating func restore(_ entry: LedgerEntry) -> Acceptance {
        let stored = StoredEntry(entry)
        if let current = held(entry.id), !stored.supersedes(current) { return .stale }
        if let reason = objection(to: stored) { return .rejected(reason) }
        let surplus = surplus(with: stored)
        guard !surplus.contains(where: { $0.hash == stored.hash }) else {
            return .rejected(.ownerFull)
        }
        var unused: [LedgerAction] = []
        apply(stored, evicting: surplus, at: lastChange, into: &unused)
        return .accepted
    }

    private func objection(to stored: StoredEntry) -> LedgerDropReason? {
        let entry = stored.entry
        if entry.id.isCertificate {
            guard !entry.isTombstone, configuration.certificateVerifier(entry.value) == entry.owner
            else { return .certificate }
        } else if held(.certificate(of: entry.owner)) == nil {
            return .noCertificate
        }
        guard held(entry.id) != nil || entryCount < LedgerLimits.entries else {
            return .ledgerFull
        }
        return entry.isSigned(meshID: configuration.meshID) ? nil : .signature
    }

    /// An entry of an earlier life of this node, newer than what this life knows: the counter
    /// learns from it. What this life wrote is written again above it; the rest is adopted.
    private mutating func acceptOwn(
        _ stored: StoredEntry, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) -> Acceptance {
        let entry = stored.entry
        var wanted: [UInt8]??
        if writtenHere.contains(entry.id) {
            wanted = .some(held(entry.id).flatMap { $0.entry.isTombstone ? nil : $0.entry.value })
        } else if held(entry.id) == nil, entry.version <= prunedVersion {
            wanted = .some(nil)
        }
        let surplus = surplus(with: stored)
        guard surplus.allSatisfy({ $0.entry.isTombstone && $0.hash != stored.hash }) else {
            return .rejected(.ownerFull)
        }
        counter = max(counter, entry.version)
        // A clone of this machine would answer every write with its own: the rate ends that.
        owners[local]?.writes.charge(at: now, interval: LedgerLimits.writeInterval)
        if let wanted {
            do throws(LedgerProblem) {
                try write(entry.id, value: wanted, at: now, random: &random, into: &actions)
                return .accepted
            } catch {
                return .stale
            }
        }
        apply(stored, evicting: surplus, at: now, into: &actions)
        return .accepted
    }

    /// Puts the entry in place. Persisting comes first: nobody may learn what a crash can undo.
    mutating func apply(
        _ stored: StoredEntry, evicting surplus: [StoredEntry], at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        let owner = stored.entry.owner
        if owners[owner] == nil {
            let index = order.firstIndex { owner < $0 } ?? order.count
            order.insert(owner, at: index)
        }
        var record = owners.removeValue(forKey: owner) ?? OwnerRecord()
        actions.append(.persist(stored.entry))
        if let previous = record.entries.updateValue(stored, forKey: stored.entry.id) {
            record.byteCount -= previous.entry.encodedCount
            entryCount -= 1
        }
        record.byteCount += stored.entry.encodedCount
        entryCount += 1
        for evicted in surplus {
            record.entries[evicted.entry.id] = nil
            record.byteCount -= evicted.entry.encodedCount
            entryCount -= 1
            actions.append(.erase(evicted.entry.id))
        }
        record.refreshDigest()
        owners[owner] = record
        if owner == local { counter = max(counter, stored.entry.version) }
        cachedRoot = nil
        lastChange = now
        actions.append(.changed(stored.entry))
    }

    /// What the owner has too much once `candidate` is in place.
    ///
    /// The certificate always stays; then live entries rank before tombstones and later versions
    /// before earlier ones. The rank does not depend on the order of arrival, so nodes that saw
    /// the same writes keep the same entries.
    func surplus(with candidate: StoredEntry) -> [StoredEntry] {
        guard !candidate.entry.id.isCertificate else { return [] }
        let record = owners[candidate.entry.owner] ?? OwnerRecord()
        let replaced = record.entries[candidate.entry.id]?.entry
        let certificate = record.entries[.certificate(of: candidate.entry.owner)]?.entry
        let count = record.entries.count - (replaced == nil ? 0 : 1) + 1
        let bytes =
            record.byteCount - (replaced?.encodedCount ?? 0) + candidate.entry.encodedCount
        let exempt = certificate?.encodedCount ?? 0
        if count - (certificate == nil ? 0 : 1) <= LedgerLimits.entriesPerOwner,
            bytes - exempt <= LedgerLimits.bytesPerOwner
        {
            return []
        }
        var ranked = record.entries.values.filter {
            $0.entry.id != candidate.entry.id && !$0.entry.id.isCertificate
        }
        ranked.append(candidate)
        ranked.sort { first, second in
            if first.entry.isTombstone != second.entry.isTombstone {
                return second.entry.isTombstone
            }
            return first.supersedes(second)
        }
        var keptBytes = 0
        let kept = ranked.prefix(LedgerLimits.entriesPerOwner).prefix {
            keptBytes += $0.entry.encodedCount
            return keptBytes <= LedgerLimits.bytesPerOwner
        }
        return Array(ranked.dropFirst(kept.count))
    }

    /// Takes a new verifier, for example after a revocation, and forgets every owner whose
    /// certificate it refuses. Each forgotten entry is an `.erase`.
    package mutating func reverify(
        with verifier: @escaping @Sendable ([UInt8]) -> NodeID?,
        into actions: inout [LedgerAction]
    ) {
        configuration.certificateVerifier = verifier
        for owner in order where certificate(of: owner).map({ verifier($0) == owner }) != true {
            guard let record = owners.removeValue(forKey: owner) else { continue }
            entryCount -= record.entries.count
            for id in record.entries.keys.sorted() { actions.append(.erase(id)) }
        }
        order.removeAll { owners[$0] == nil }
        cachedRoot = nil
    }
}
