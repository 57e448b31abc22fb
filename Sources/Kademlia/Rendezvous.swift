import Cryptography
import MeshBase
import NetAddress

/// Lets members that share nothing but the token meet on a DHT.
///
/// 1. Every hour has eight slots whose names only holders of the token can compute. A member writes
///    itself into one of them and reads all.
/// 2. Reading: a walk to the slot (``RendezvousAction/look``), its outcome by ``read(_:...)``. Records of
///    others become addresses at which to knock.
/// 3. Writing: what was read, merged with our own record, goes where nothing changed since (`cas`).
///    Whoever wrote first wins; the other reads again. A later look sees whether our record stayed.
/// 4. Alone we read often and ever more rarely; in company the hourly change of slots, and a look
///    every quarter to half hour, keep two halves of a mesh from staying apart.
package struct Rendezvous: Sendable {
    private let node: NodeID
    private let secret: SecretBytes
    private var slots: [RendezvousSlot: Place] = [:]
    private var endpoints: [SocketAddress] = []
    private var isAlone = true
    /// Rounds of reading since we were alone.
    private var rounds = 0
    private var nextRound: BootInstant

    private struct Place: Sendable {
        var keys: RendezvousKeys
        var readAt: BootInstant
        /// Whether a walk or a write is under way; past this it counts as lost.
        var busyUntil: BootInstant?
        /// Writes that met another writer, in a row.
        var conflicts = 0
        var publishedAt: BootInstant?
        var lastSequence: Int64 = 0
    }

    /// A record is renewed when it is older.
    static let renewal: UInt32 = 20 * 60
    /// Records older than their slot's life are of no use; some more for clocks that disagree.
    static let lifetime: Int64 = 2 * 3_600
    static let conflictLimit = 3
    private static let patience = Duration.seconds(60)

    /// - Parameter secret: the token's discovery secret.
    package init(node: NodeID, secret: SecretBytes, at now: BootInstant) {
        self.node = node
        self.secret = secret
        nextRound = now
    }

    private var ownTag: UInt64 { node.bytes.prefix64 }

    // MARK: - What the node knows

    /// Where we may be reached, best first; a change is written soon.
    package mutating func setEndpoints(_ addresses: [SocketAddress], at now: BootInstant) {
        let fitting = RendezvousRecord.fitting(addresses)
        guard fitting != endpoints else { return }
        endpoints = fitting
        for slot in slots.keys where slot == RendezvousSlot(of: node, epoch: slot.epoch) {
            // Several addresses may change within a moment.
            let planned = slots[slot]?.readAt ?? now
            slots[slot]?.readAt = min(planned, now + .seconds(2))
        }
    }

    /// Whether any member is connected.
    package mutating func setAlone(_ alone: Bool, at now: BootInstant) {
        guard alone != isAlone else { return }
        isAlone = alone
        rounds = 0
        nextRound = alone ? now : now + .seconds(60)
    }

    /// The DHT has just become usable.
    package mutating func dhtIsReady(at now: BootInstant) {
        rounds = 0
        nextRound = now
    }

    package var deadline: BootInstant? {
        var result = nextRound
        for place in slots.values {
            result = min(result, place.busyUntil ?? place.readAt)
        }
        return result
    }

    // MARK: - Time

    package mutating func timeout(
        at now: Now, random: inout SeededGenerator, into actions: inout [RendezvousAction]
    ) {
        if nextRound <= now.boot { beginRound(at: now, random: &random) }
        for slot in slots.keys.sorted() {
            guard var place = slots[slot] else { continue }
            if let busy = place.busyUntil {
                guard busy <= now.boot else { continue }
                place.busyUntil = nil
            }
            if place.readAt <= now.boot {
                place.busyUntil = now.boot + Self.patience
                place.readAt = .distantFuture
                actions.append(
                    .look(slot, key: place.keys.signer.publicKey, salt: place.keys.salt))
            }
            slots[slot] = place
        }
    }

    private mutating func beginRound(at now: Now, random: inout SeededGenerator) {
        rounds += 1
        let pause = RendezvousSlot.pause(afterRound: rounds, isAlone: isAlone)
        nextRound = now.boot + pause + random.duration(in: .zero...(pause / 4))
        let active = RendezvousSlot.epochs(at: now.wall)
        var epochs = active
        // A clock that is wrong by an hour is found by looking into the hours beside ours.
        if isAlone, rounds.isMultiple(of: 4), let current = active.first {
            epochs = [current - 1, current, current + 1]
        }
        slots = slots.filter { epochs.contains($0.key.epoch) || $0.value.busyUntil != nil }
        for epoch in epochs {
            for index in 0..<RendezvousSlot.count {
                let slot = RendezvousSlot(epoch: epoch, index: index)
                if slots[slot] == nil {
                    slots[slot] = Place(
                        keys: RendezvousKeys(slot, secret: secret), readAt: .distantFuture)
                }
                if slots[slot]?.busyUntil == nil { slots[slot]?.readAt = now.boot }
            }
        }
    }

    // MARK: - Outcomes

    /// A walk to a slot ended.
    ///
    /// - Parameters:
    ///   - item: what it found, authentic under the slot's key.
    ///   - storers: how many nodes would take a write.
    package mutating func read(
        _ slot: RendezvousSlot, item: MutableItem?, storers: Int, at now: Now,
        random: inout SeededGenerator, into actions: inout [RendezvousAction]
    ) {
        guard var place = slots[slot], place.busyUntil != nil else { return }
        place.busyUntil = nil
        var records: [RendezvousRecord] = []
        if let item {
            place.lastSequence = max(place.lastSequence, item.sequence)
            if let read = freshRecords(item, slot, place, at: now) {
                records = read
            } else {
                actions.append(.dropped)
            }
        }
        slots[slot] = place
        let others = records.filter { $0.tag != ownTag }
        if !others.isEmpty { actions.append(.found(others)) }
        guard slot == RendezvousSlot(of: node, epoch: slot.epoch),
            RendezvousSlot.epochs(at: now.wall).contains(slot.epoch), storers > 0,
            !endpoints.isEmpty
        else { return }
        write(
            slot, own: records.first { $0.tag == ownTag }, others: others, at: now,
            random: &random, into: &actions)
    }

    /// A walk to a slot that is still under way saw `item`, authentic under the slot's key.
    package func glimpse(
        _ slot: RendezvousSlot, item: MutableItem, at now: Now,
        into actions: inout [RendezvousAction]
    ) {
        guard let place = slots[slot] else { return }
        let others = freshRecords(item, slot, place, at: now)?.filter { $0.tag != ownTag } ?? []
        if !others.isEmpty { actions.append(.found(others)) }
    }

    /// `nil` when no member wrote it.
    private func freshRecords(
        _ item: MutableItem, _ slot: RendezvousSlot, _ place: Place, at now: Now
    ) -> [RendezvousRecord]? {
        RendezvousContent.open(item.value, slot: slot, keys: place.keys)?.filter {
            abs(Int64($0.time) - now.wall.seconds) <= Self.lifetime
        }
    }

    private mutating func write(
        _ slot: RendezvousSlot, own: RendezvousRecord?, others: [RendezvousRecord], at now: Now,
        random: inout SeededGenerator, into actions: inout [RendezvousAction]
    ) {
        guard var place = slots[slot] else { return }
        let time = UInt32(clamping: now.wall.seconds)
        if let own, own.endpoints == endpoints, own.time <= time, time - own.time < Self.renewal {
            place.conflicts = 0
            slots[slot] = place
            return
        }
        // A crowded slot serves its purpose without us; half of the rounds leave it alone.
        let crowd = others.count { $0.time <= time && time - $0.time < Self.renewal }
        if own == nil, crowd >= 4, random.next(upperBound: UInt64(2)) == 0 { return }
        let newest = others.sorted { ($0.time, $0.tag) > ($1.time, $1.tag) }
        let record = RendezvousRecord(tag: ownTag, time: time, endpoints: endpoints)
        let milliseconds = now.wall.seconds * 1_000 + Int64(now.wall.nanoseconds / 1_000_000)
        let sequence = max(place.lastSequence &+ 1, milliseconds, 1)
        // A number at its end can never be followed.
        guard sequence > place.lastSequence else { return }
        place.busyUntil = now.boot + Self.patience
        slots[slot] = place
        let content = RendezvousContent.seal(
            [record] + newest, slot: slot, keys: place.keys, random: &random)
        actions.append(
            .write(
                slot,
                MutableItem(
                    signing: content, with: place.keys.signer, salt: place.keys.salt,
                    sequence: sequence)))
    }

    /// A write ended, or could not begin.
    package mutating func wrote(
        _ slot: RendezvousSlot, stored: Int, conflicts: Int, at now: Now,
        random: inout SeededGenerator
    ) {
        guard var place = slots[slot], place.busyUntil != nil else { return }
        place.busyUntil = nil
        if conflicts > 0, place.conflicts < Self.conflictLimit {
            place.conflicts += 1
            place.readAt =
                now.boot + random.duration(in: .milliseconds(50)...(.milliseconds(500)))
        } else if stored > 0 {
            // Somebody may have written at the same moment: look once whether we are still there.
            if place.publishedAt.map({ now.boot - $0 > .seconds(60) }) ?? true {
                place.readAt = now.boot + random.duration(in: .seconds(3)...(.seconds(6)))
            }
            place.publishedAt = now.boot
            place.conflicts = 0
        } else {
            place.conflicts = 0
            place.readAt = now.boot + random.duration(in: .seconds(10)...(.seconds(20)))
        }
        slots[slot] = place
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        for (slot, place) in slots.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(slot.context)
            fingerprint.mix(place.readAt)
            fingerprint.mix(place.busyUntil)
            fingerprint.mix(place.conflicts)
            fingerprint.mix(UInt64(bitPattern: place.lastSequence))
        }
        fingerprint.mix(nextRound)
        fingerprint.mix(isAlone)
        for endpoint in endpoints { fingerprint.mix(endpoint.compact) }
    }
}

/// What a ``Rendezvous`` wants done, in order.
package enum RendezvousAction: Sendable {
    /// Walk to the slot; tell the outcome.
    case look(RendezvousSlot, key: NodeID, salt: [UInt8])
    /// Store the value after the walk to the slot; tell the outcome.
    case write(RendezvousSlot, MutableItem)
    /// Other members were here.
    case found([RendezvousRecord])
    /// A slot held something that no member wrote.
    case dropped
}
