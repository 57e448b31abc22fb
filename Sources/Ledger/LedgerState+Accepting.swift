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
        guard entry.id.isAllowed(valueCount: entry.value.count, root: configuration.root) else {
            return .policy
        }
        if entry.owner == configuration.root {
            // The root's word only accumulates.
            guard !entry.isTombstone, configuration.policyVerifier(entry.value) else {
                return .policy
            }
        } else if entry.id.isCertificate {
            guard !entry.isTombstone, configuration.certificateVerifier(entry.value) == entry.owner
            else { return .certificate }
        } else if held(.certificate(of: entry.owner)) == nil {
            return .noCertificate
        }
        guard hasRoom(for: entry) else { return .ledgerFull }
        return entry.isSigned(meshID: configuration.meshID) ? nil : .signature
    }

    /// Whether the ledger as a whole has room for `entry` in the place of its former write. What
    /// shrinks always has.
    func hasRoom(for entry: LedgerEntry) -> Bool {
        let former = held(entry.id)?.entry
        let growth = entry.encodedCount - (former?.encodedCount ?? 0)
        guard former != nil || entryCount < LedgerLimits.entries else { return false }
        guard growth > 0 else { return true }
        return byteCount + growth <= LedgerLimits.bytes
            && (!entry.isUsers || userByteCount + growth <= LedgerLimits.userBytes)
    }

    /// Counts an entry in, or out with `sign` -1.
    private mutating func count(_ entry: LedgerEntry, _ sign: Int, in record: inout OwnerRecord) {
        let bytes = sign * entry.encodedCount
        record.byteCount += bytes
        byteCount += bytes
        entryCount += sign
        if entry.isUsers { userByteCount += bytes }
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
        if case .some(.some(let value)) = wanted, entry.isTombstone || entry.value != value {
            foreignRewrites = min(foreignRewrites + 1, 1_000)
        }
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
            count(previous.entry, -1, in: &record)
        }
        count(stored.entry, 1, in: &record)
        for evicted in surplus {
            record.entries[evicted.entry.id] = nil
            count(evicted.entry, -1, in: &record)
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
        let isRoot = candidate.entry.owner == configuration.root
        let entryLimit = isRoot ? LedgerLimits.rootEntries : LedgerLimits.entriesPerOwner
        let byteLimit = isRoot ? LedgerLimits.rootBytes : LedgerLimits.bytesPerOwner
        if count - (certificate == nil ? 0 : 1) <= entryLimit, bytes - exempt <= byteLimit {
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
        let kept = ranked.prefix(entryLimit).prefix {
            keptBytes += $0.entry.encodedCount
            return keptBytes <= byteLimit
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
        for owner in order where owner != configuration.root {
            guard certificate(of: owner).map({ verifier($0) == owner }) != true,
                var record = owners.removeValue(forKey: owner)
            else { continue }
            for (id, stored) in record.entries.sorted(by: { $0.key < $1.key }) {
                count(stored.entry, -1, in: &record)
                actions.append(.erase(id))
            }
        }
        order.removeAll { owners[$0] == nil }
        cachedRoot = nil
    }
}
