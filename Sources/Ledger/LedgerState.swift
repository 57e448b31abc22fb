import Cryptography
import MeshBase

/// The replicated map: every node can always write its own entries, and all nodes that can reach
/// each other end with the same map.
///
/// 1. A local `put` or `delete` signs the next version, persists it, and pushes it as a rumor.
/// 2. `receive` takes rumors and answers; what is valid and newer replaces what is held.
/// 3. Whoever connects, and one random peer every 10 s, gets a digest; differences are found by
///    comparing hashes of ranges of owners, then of owners, then of entries.
///
/// An owner's entries are accepted only while its certificate, itself the first of its entries,
/// is held and valid. No clock takes part in any of this.
package struct LedgerState: Sendable {
    package let local: NodeID
    var configuration: LedgerConfiguration

    var owners: [NodeID: OwnerRecord] = [:]
    /// The keys of `owners`, sorted.
    var order: [NodeID] = []
    package internal(set) var entryCount = 0
    /// Encoded bytes of all entries, and of those in users' buckets.
    package internal(set) var byteCount = 0
    package internal(set) var userByteCount = 0
    /// The highest version that this node ever used, as far as it knows.
    package internal(set) var counter: OwnerVersion = 0
    /// Own tombstones up to this version made room for others.
    var prunedVersion: OwnerVersion = 0
    /// Own entries written since the start: they outrank what an earlier life wrote.
    var writtenHere: Set<LedgerKey> = []
    /// How often somebody else signed, with this node's key, over what this life wrote.
    package internal(set) var foreignRewrites = 0
    /// An earlier life of this node can do it once, when its last writes were lost from the disk.
    /// More often only another machine can that runs with a copy of the identity.
    package var isCloned: Bool { foreignRewrites >= 3 }

    var peers: [NodeID: LedgerPeer] = [:]
    var pulls: [Bytes32: Pull] = [:]
    /// Rumors that are still to be offered to those who did not get them, oldest first.
    var news: [News] = []
    /// How many entries of peers that meet us may become rumors.
    var introductions = RateLimit()
    var nextAntiEntropy: BootInstant?
    var lastChange: BootInstant
    var cachedRoot: Bytes32?

    /// Entries on disk that did not verify and were left out.
    package private(set) var discardedAtRestore = 0

    /// - Parameter restored: what the disk holds, in any order; it is checked like a peer's word.
    package init(
        configuration: LedgerConfiguration, restored: [LedgerEntry] = [], at now: BootInstant
    ) {
        self.configuration = configuration
        local = configuration.signer.publicKey
        lastChange = now
        let certificates = restored.filter(\.id.isCertificate)
        for entry in certificates + restored.filter({ !$0.id.isCertificate }) {
            if case .rejected = restore(entry) { discardedAtRestore += 1 }
        }
    }
}

extension LedgerState {
    /// The ledger of another node that holds the same entries. Simulations of large meshes begin
    /// with one state whose signatures were checked once.
    package init(
        copying other: LedgerState, as configuration: LedgerConfiguration, at now: BootInstant
    ) {
        self.init(configuration: configuration, at: now)
        (owners, order, entryCount) = (other.owners, other.order, other.entryCount)
        (byteCount, userByteCount) = (other.byteCount, other.userByteCount)
        counter = owners[local]?.entries.values.map(\.entry.version).max() ?? 0
    }
}

/// All that the ledger holds of one owner.
struct OwnerRecord: Sendable {
    var entries: [LedgerKey: StoredEntry] = [:]
    /// Encoded bytes of the entries.
    var byteCount = 0
    /// Over the sorted hashes of the entries.
    var digest = Bytes32.zero
    var writes = RateLimit()

    mutating func refreshDigest() {
        digest = sha256(entries.values.map(\.hash).sorted().flatMap(\.bytes))
    }
}

struct StoredEntry: Sendable {
    let entry: LedgerEntry
    /// SHA-256 of the encoding.
    let hash: Bytes32

    init(_ entry: LedgerEntry) {
        self.entry = entry
        hash = sha256(entry.encode())
    }

    /// Whether this write replaces `other`. Two writes with one version exist only when a machine
    /// was cloned; the hash then picks the same one everywhere.
    func supersedes(_ other: StoredEntry) -> Bool {
        (entry.version, hash) > (other.entry.version, other.hash)
    }
}

// MARK: - Reading

extension LedgerState {
    /// The live entries of `bucket`, sorted by key, then by owner.
    package func entries(bucket: String) -> [LedgerEntry] {
        var found: [LedgerEntry] = []
        for record in owners.values {
            for stored in record.entries.values
            where stored.entry.bucket == bucket && !stored.entry.isTombstone {
                found.append(stored.entry)
            }
        }
        return found.sorted { $0.id < $1.id }
    }

    /// The live entry with this id.
    package func entry(bucket: String, key: String, owner: NodeID) -> LedgerEntry? {
        let id = LedgerKey(bucket: bucket, key: key, owner: owner)
        guard let entry = held(id)?.entry, !entry.isTombstone else { return nil }
        return entry
    }

    /// The certificate bytes of `owner`; every owner with entries has them, the root aside.
    package func certificate(of owner: NodeID) -> [UInt8]? {
        held(.certificate(of: owner))?.entry.value
    }

    /// Every entry, tombstones included, sorted; for the compaction of the disk file.
    package var allEntries: [LedgerEntry] {
        order.flatMap { owner in
            (owners[owner]?.entries.values.map(\.entry) ?? []).sorted { $0.id < $1.id }
        }
    }

    /// Sorted.
    package var knownOwners: [NodeID] { order }

    /// Equal on two nodes exactly when they hold the same entries.
    package var digest: Bytes32 {
        var writer = ByteWriter(capacity: order.count * 64)
        for owner in order {
            writer.write(owner)
            writer.write(owners[owner]?.digest ?? .zero)
        }
        return sha256(writer.bytes)
    }

    func held(_ id: LedgerKey) -> StoredEntry? {
        owners[id.owner]?.entries[id]
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(digest.bytes)
        fingerprint.mix(entryCount)
        fingerprint.mix(counter)
        fingerprint.mix(prunedVersion)
        fingerprint.mix(foreignRewrites)
        fingerprint.mix(byteCount)
        fingerprint.mix(userByteCount)
        for owner in order { owners[owner]?.writes.fingerprint(into: &fingerprint) }
        for id in writtenHere.sorted() {
            fingerprint.mix(id.bucket)
            fingerprint.mix(id.key)
        }
        for node in peers.keys.sorted() {
            fingerprint.mix(node)
            peers[node]?.fingerprint(into: &fingerprint)
        }
        for hash in pulls.keys.sorted() {
            fingerprint.mix(hash.bytes)
            pulls[hash]?.fingerprint(into: &fingerprint)
        }
        for item in news { item.fingerprint(into: &fingerprint) }
        introductions.fingerprint(into: &fingerprint)
        fingerprint.mix(nextAntiEntropy)
        fingerprint.mix(lastChange)
    }
}

// MARK: - Writing

extension LedgerState {
    /// Writes an own entry; a value that is there already costs nothing.
    @discardableResult
    package mutating func put(
        bucket: String, key: String, value: [UInt8], at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) throws(LedgerProblem) -> LedgerEntry {
        guard LedgerEntry.isName(bucket, limit: LedgerEntry.bucketLimit) else { throw .bucket }
        guard LedgerEntry.isName(key, limit: LedgerEntry.keyLimit) else { throw .key }
        guard value.count <= LedgerEntry.valueLimit else { throw .value }
        let id = LedgerKey(bucket: bucket, key: key, owner: local)
        guard id.isAllowed(valueCount: value.count, root: configuration.root) else {
            throw .policy
        }
        if id.isCertificate {
            guard configuration.certificateVerifier(value) == local else { throw .certificate }
        } else {
            guard held(.certificate(of: local)) != nil else { throw .certificate }
        }
        if let current = held(id)?.entry, !current.isTombstone, current.value == value {
            writtenHere.insert(id)
            return current
        }
        return try write(id, value: value, at: now, random: &random, into: &actions)
    }

    /// Leaves a tombstone where the own entry was. Nothing happens when there is none; a
    /// certificate cannot be deleted.
    package mutating func delete(
        bucket: String, key: String, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) throws(LedgerProblem) {
        let id = LedgerKey(bucket: bucket, key: key, owner: local)
        guard !id.isCertificate else { throw .certificate }
        guard let current = held(id)?.entry, !current.isTombstone else { return }
        try write(id, value: nil, at: now, random: &random, into: &actions)
    }

    @discardableResult
    mutating func write(
        _ id: LedgerKey, value: [UInt8]?, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) throws(LedgerProblem) -> LedgerEntry {
        guard counter < .max else { throw .versionsExhausted }
        let stored = StoredEntry(
            LedgerEntry(
                signing: id, version: counter + 1, value: value, meshID: configuration.meshID,
                with: configuration.signer))
        guard hasRoom(for: stored.entry) else { throw .ledgerFull }
        let surplus = surplus(with: stored)
        guard surplus.allSatisfy(\.entry.isTombstone),
            !surplus.contains(where: { $0.hash == stored.hash })
        else { throw .ownerFull }
        writtenHere.insert(id)
        for tombstone in surplus {
            prunedVersion = max(prunedVersion, tombstone.entry.version)
        }
        apply(stored, evicting: surplus, at: now, into: &actions)
        pushRumor(stored, except: nil, at: now, random: &random, into: &actions)
        return stored.entry
    }
}
