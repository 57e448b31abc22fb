import MeshBase
import NetAddress

/// The nodes that answered us, in buckets by how many leading bits their name shares with ours
/// (BEP 5). One table serves one family (BEP 32).
///
/// Only a node that answered a question of ours gets in. One address, and in the open one /24 or
/// /64, has one place in a bucket, so that a crowd in one network cannot fill it.
package struct RoutingTable: Sendable {
    package private(set) var ownID: KademliaID
    let rules: DHTRules
    private var buckets: [Int: Bucket] = [:]
    /// Where an address stands: its bucket.
    private var places: [SocketAddress: Int] = [:]

    /// BEP 5: k = 8. The first four buckets cover 15/16 of all names, and there room costs nothing
    /// and saves a hop (as libtorrent does it).
    package static let bucketSize = 8
    static let wideBuckets = [128, 64, 32, 16]
    /// Nodes that wait for a place, per bucket.
    static let spareLimit = 8
    /// BEP 5: a node that failed twice is bad.
    static let failureLimit = 2

    struct Entry: Sendable {
        var contact: NodeContact
        var answeredAt: BootInstant
        var askedAt: BootInstant
        var failures = 0
    }

    struct Bucket: Sendable {
        var entries: [Entry] = []
        /// Heard of and not asked yet, newest last.
        var spares: [NodeContact] = []
        var refreshedAt: BootInstant
    }

    init(ownID: KademliaID, rules: DHTRules) {
        self.ownID = ownID
        self.rules = rules
    }

    package var count: Int { places.count }
    package var contacts: [NodeContact] { sortedEntries.map(\.contact) }

    private var sortedEntries: [Entry] {
        buckets.keys.sorted().flatMap { buckets[$0]?.entries ?? [] }
    }

    static func capacity(ofBucket index: Int) -> Int {
        index < wideBuckets.count ? wideBuckets[index] : bucketSize
    }

    func contains(_ address: SocketAddress) -> Bool { places[address] != nil }

    /// The `count` nodes nearest to `target` that answered lately or at least did not fail.
    ///
    /// The names in the target's own bucket share one bit more with it than any in a nearer bucket, and
    /// those share more than any farther away: so only few are compared.
    func closest(to target: KademliaID, count: Int = RoutingTable.bucketSize) -> [NodeContact] {
        let home = ownID.sharedBits(with: target)
        var result: [NodeContact] = []
        func take(_ indices: [Int]) {
            guard result.count < count else { return }
            var found: [NodeContact] = []
            for index in indices {
                for entry in buckets[index]?.entries ?? [] where entry.failures == 0 {
                    found.append(entry.contact)
                }
            }
            found.sort { $0.id ^ target < $1.id ^ target }
            result += found.prefix(count - result.count)
        }
        take([home])
        take(buckets.keys.filter { $0 > home })
        for index in buckets.keys.filter({ $0 < home }).sorted(by: >) { take([index]) }
        return result
    }

    // MARK: - Changes

    /// A node answered.
    ///
    /// - Returns: `false` when it changed its name and was put out for that.
    @discardableResult
    mutating func answered(_ contact: NodeContact, at now: BootInstant) -> Bool {
        if let index = places[contact.address] {
            guard let position = position(of: contact.address, in: index) else { return true }
            if buckets[index]?.entries[position].contact.id == contact.id {
                buckets[index]?.entries[position].answeredAt = now
                buckets[index]?.entries[position].failures = 0
                return true
            }
            // A place that changes its name is two nodes, or one that wants to be everywhere.
            remove(contact.address)
            return false
        }
        guard contact.id != ownID, rules.admits(contact) else { return true }
        let index = ownID.sharedBits(with: contact.id)
        var bucket = buckets[index] ?? Bucket(refreshedAt: now)
        bucket.spares.removeAll { $0.address == contact.address }
        let entry = Entry(contact: contact, answeredAt: now, askedAt: now)
        if let rival = bucket.entries.firstIndex(where: {
            $0.contact.id == contact.id || rules.areNeighbours($0.contact.address, contact.address)
        }) {
            // The newcomer takes the place of a neighbour only when that one is bad.
            if bucket.entries[rival].failures > 0 {
                places[bucket.entries[rival].contact.address] = nil
                bucket.entries[rival] = entry
                places[contact.address] = index
            }
        } else if bucket.entries.count < Self.capacity(ofBucket: index) {
            bucket.entries.append(entry)
            places[contact.address] = index
        } else if let bad = bucket.entries.firstIndex(where: { $0.failures > 0 }) {
            places[bucket.entries[bad].contact.address] = nil
            bucket.entries[bad] = entry
            places[contact.address] = index
        } else {
            bucket.addSpare(contact)
        }
        buckets[index] = bucket
        return true
    }

    /// A node was heard of; `true` when asking it could fill a free place.
    mutating func heardOf(_ contact: NodeContact, at now: BootInstant) -> Bool {
        guard contact.id != ownID, rules.admits(contact), places[contact.address] == nil else {
            return false
        }
        let index = ownID.sharedBits(with: contact.id)
        var bucket = buckets[index] ?? Bucket(refreshedAt: now)
        let isCrowded = bucket.entries.contains {
            rules.areNeighbours($0.contact.address, contact.address)
        }
        guard !isCrowded else { return false }
        if bucket.entries.count < Self.capacity(ofBucket: index)
            || bucket.entries.contains(where: { $0.failures > 0 })
        {
            return true
        }
        bucket.addSpare(contact)
        buckets[index] = bucket
        return false
    }

    /// A node did not answer. Returns a spare that may take its place once it answers.
    mutating func failed(_ address: SocketAddress) -> NodeContact? {
        guard let index = places[address], let position = position(of: address, in: index) else {
            return nil
        }
        buckets[index]?.entries[position].failures += 1
        let failures = buckets[index]?.entries[position].failures ?? 0
        let spare = buckets[index]?.spares.popLast()
        // Without a successor a silent node stays some time: our own network may be down.
        if failures >= Self.failureLimit, spare != nil || failures >= 4 * Self.failureLimit {
            remove(address)
        }
        return spare
    }

    mutating func asked(_ address: SocketAddress, at now: BootInstant) {
        guard let index = places[address], let position = position(of: address, in: index) else {
            return
        }
        buckets[index]?.entries[position].askedAt = now
    }

    private mutating func remove(_ address: SocketAddress) {
        guard let index = places.removeValue(forKey: address) else { return }
        buckets[index]?.entries.removeAll { $0.contact.address == address }
    }

    private func position(of address: SocketAddress, in index: Int) -> Int? {
        buckets[index]?.entries.firstIndex { $0.contact.address == address }
    }

    /// Takes another name of our own; the nodes find new places as far as there is room.
    mutating func rename(_ id: KademliaID, at now: BootInstant) {
        let former = sortedEntries
        ownID = id
        buckets = [:]
        places = [:]
        for entry in former { answered(entry.contact, at: entry.answeredAt) }
    }

    // MARK: - Upkeep

    /// The node that was asked longest ago, if that is longer than `age`.
    func stalest(olderThan age: Duration, at now: BootInstant) -> NodeContact? {
        let oldest = sortedEntries.min { $0.askedAt < $1.askedAt }
        guard let oldest, now - oldest.askedAt >= age else { return nil }
        return oldest.contact
    }

    /// A bucket that nobody touched for `age` (BEP 5: 15 minutes), and marks it as refreshed.
    mutating func bucketToRefresh(after age: Duration, at now: BootInstant) -> Int? {
        let due = buckets.filter { now - $0.value.refreshedAt >= age && !$0.value.entries.isEmpty }
            .keys.min()
        if let due { buckets[due]?.refreshedAt = now }
        return due
    }

    mutating func touched(_ target: KademliaID, at now: BootInstant) {
        let index = ownID.sharedBits(with: target)
        if buckets[index] != nil { buckets[index]?.refreshedAt = now }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(ownID.bytes)
        for index in buckets.keys.sorted() {
            guard let bucket = buckets[index] else { continue }
            fingerprint.mix(index)
            fingerprint.mix(bucket.refreshedAt)
            for entry in bucket.entries {
                fingerprint.mix(entry.contact.compact)
                fingerprint.mix(entry.answeredAt)
                fingerprint.mix(entry.askedAt)
                fingerprint.mix(entry.failures)
            }
            for spare in bucket.spares { fingerprint.mix(spare.compact) }
        }
    }
}

extension RoutingTable.Bucket {
    fileprivate mutating func addSpare(_ contact: NodeContact) {
        spares.removeAll { $0.address == contact.address }
        spares.append(contact)
        if spares.count > RoutingTable.spareLimit { spares.removeFirst() }
    }
}
