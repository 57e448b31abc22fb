import Cryptography
import MeshBase

/// A connected node and how the comparison with it stands.
struct LedgerPeer: Sendable {
    /// When it gets the next digest; `nil` when nothing is known to differ.
    var syncAt: BootInstant?
    /// From one digest to the next while the ledgers differ.
    var pause = LedgerTiming.firstRetry
    var unanswered = 0
    /// When it got a complete listing, and of which state.
    var listedAt: BootInstant?
    var listedRoot: UInt64 = 0
    var answers = RateLimit()

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(syncAt)
        fingerprint.mix(UInt64(bitPattern: pause.clampedNanoseconds))
        fingerprint.mix(unanswered)
        fingerprint.mix(listedAt)
        fingerprint.mix(listedRoot)
        answers.fingerprint(into: &fingerprint)
    }
}

// MARK: - Input

extension LedgerState {
    /// A tunnel to `node` is up: both sides send their digest at once.
    package mutating func peerConnected(
        _ node: NodeID, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) {
        guard node != local, peers[node] != nil || peers.count < LedgerLimits.peers else { return }
        peers[node] = LedgerPeer()
        if nextAntiEntropy == nil {
            nextAntiEntropy = now + random.duration(in: .seconds(5)...LedgerTiming.antiEntropy)
        }
        sendDigest(to: node, at: now, into: &actions)
    }

    package mutating func peerDisconnected(_ node: NodeID) {
        peers[node] = nil
        for hash in pulls.filter({ $0.value.source == node }).keys { pulls[hash] = nil }
        if peers.isEmpty {
            nextAntiEntropy = nil
            // Whoever comes back compares digests.
            news = []
        }
    }

    /// A ledger message from an authenticated, connected node.
    package mutating func receive(
        _ bytes: [UInt8], from sender: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        guard peers[sender] != nil else { return actions.append(.dropped(.stranger)) }
        let message: LedgerMessage
        do {
            message = try LedgerMessage(decoding: bytes)
        } catch {
            return actions.append(.dropped(.malformed(error)))
        }
        if message.asksForAnswer, !canAnswer(sender, at: now) {
            // Finding the answer is work, too; the next digest begins again where this one ended.
            return hurrySync(with: sender, to: now + LedgerTiming.continuation)
        }
        switch message {
        case .digest(let root, let items):
            compare(root: root, items: items, with: sender, at: now, into: &actions)
        case .same(let root): agreed(on: root, with: sender)
        case .wantOwners(let handles):
            let owners = Set(handles).sorted().flatMap { ownersSharing($0) }
            answer(pack(entriesOf: owners), to: sender, at: now, into: &actions)
        case .summary(let owner, let hashes):
            compare(hashes, of: owner, with: sender, at: now, into: &actions)
        case .wantEntries(let owner, let hashes):
            let wanted = Set(hashes)
            let entries = ranked(owner).filter { wanted.contains($0.hash.prefix64) }
            answer(pack(entries, isRumor: false), to: sender, at: now, into: &actions)
        case .rumor(let entries):
            take(entries, isRumor: true, from: sender, at: now, random: &random, into: &actions)
        case .answer(let entries):
            take(entries, isRumor: false, from: sender, at: now, random: &random, into: &actions)
        case .offer(let offered, let isRumor):
            beginPulls(offered, isRumor: isRumor, from: sender, at: now, into: &actions)
        case .pull(let owner, let hash, let chunks):
            sendChunks(chunks, of: hash, owner: owner, to: sender, at: now, into: &actions)
        case .chunk(let hash, let index, let bytes):
            takeChunk(
                bytes, index: Int(index), of: hash, from: sender, at: now, random: &random,
                into: &actions)
        }
    }

    /// Takes entries in. Rumors go on to others, and so does what a peer that met us says of itself:
    /// few nodes meet a newcomer. The rest of an exchange is announced by a digest later.
    mutating func take(
        _ entries: [LedgerEntry], isRumor: Bool, from sender: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        var acceptedAny = false
        for entry in entries {
            switch accept(entry, at: now, random: &random, into: &actions) {
            case .stale: break
            case .rejected(let reason): actions.append(.dropped(reason))
            case .accepted:
                acceptedAny = true
                guard let stored = held(entry.id) else { continue }
                if isRumor || isFirstHand(entry, from: sender, at: now) {
                    pushRumor(stored, except: sender, at: now, random: &random, into: &actions)
                }
            }
        }
        guard acceptedAny else { return }
        peers[sender]?.pause = LedgerTiming.firstRetry
        if !isRumor { announceNews(except: sender, at: now, random: &random) }
    }

    /// Certificates go along with what they admit.
    private mutating func isFirstHand(
        _ entry: LedgerEntry, from sender: NodeID, at now: BootInstant
    ) -> Bool {
        guard entry.owner == sender, !entry.id.isCertificate,
            introductions.allows(
                at: now, interval: LedgerLimits.introductionInterval,
                burst: LedgerLimits.introductionBurst)
        else { return false }
        introductions.charge(at: now, interval: LedgerLimits.introductionInterval)
        return true
    }

    /// An exchange may bring hundreds of entries; instead of pushing each, a few peers get a
    /// digest soon and ask for what they lack.
    private mutating func announceNews(
        except sender: NodeID, at now: BootInstant, random: inout SeededGenerator
    ) {
        for node in randomPeers(
            LedgerLimits.rumorFanout, except: [sender], random: &random)
        {
            hurrySync(with: node, to: now + LedgerTiming.newsDelay)
        }
    }

    mutating func hurrySync(with node: NodeID, to instant: BootInstant) {
        guard let peer = peers[node] else { return }
        peers[node]?.syncAt = earlier(peer.syncAt, instant)
    }
}

// MARK: - Time

extension LedgerState {
    /// When ``timeout(at:random:into:)`` wants to be called next.
    package var deadline: BootInstant? {
        var next = nextAntiEntropy
        for peer in peers.values { next = earlier(next, peer.syncAt) }
        for pull in pulls.values { next = earlier(next, pull.retryAt) }
        for item in news { next = earlier(next, item.offerAt) }
        return next
    }

    /// Does everything that is due. Calling early or often does no harm.
    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        retryPulls(at: now, into: &actions)
        offerNews(at: now, random: &random, into: &actions)
        if let due = nextAntiEntropy, due <= now {
            let isIdle = now - lastChange > LedgerTiming.idleAfter
            nextAntiEntropy =
                now + (isIdle ? LedgerTiming.idleAntiEntropy : LedgerTiming.antiEntropy)
            if let node = peers.keys.sorted().randomElement(using: &random) {
                peers[node]?.unanswered = 0
                peers[node]?.syncAt = now
            }
        }
        for node in peers.keys.sorted() {
            guard let due = peers[node]?.syncAt, due <= now else { continue }
            sendDigest(to: node, at: now, into: &actions)
        }
    }

    /// Sends the digest and plans the next one, later each time; an equal answer ends it.
    mutating func sendDigest(
        to node: NodeID, at now: BootInstant, into actions: inout [LedgerAction]
    ) {
        guard var peer = peers[node] else { return }
        peer.unanswered += 1
        peer.syncAt = peer.unanswered < LedgerTiming.unansweredDigests ? now + peer.pause : nil
        peer.pause = min(peer.pause * 2, LedgerTiming.longestRetry)
        let root = currentRoot()
        if order.count <= LedgerLimits.listedOwners {
            peer.listedAt = now
            peer.listedRoot = root
        }
        peers[node] = peer
        let items = describe(0...UInt64.max)
        actions.append(.send(to: node, LedgerMessage.digest(root: root, items: items).encode()))
    }

    private mutating func agreed(on root: UInt64, with node: NodeID) {
        guard root == currentRoot() else { return }
        peers[node]?.unanswered = 0
        peers[node]?.syncAt = nil
        peers[node]?.pause = LedgerTiming.firstRetry
    }

    mutating func currentRoot() -> UInt64 {
        let root = cachedRoot ?? digest
        cachedRoot = root
        return root.prefix64
    }
}

// MARK: - Comparing

extension LedgerState {
    /// Answers a digest: equal ledgers say so; otherwise every interval that differs is split,
    /// listed, or resolved.
    private mutating func compare(
        root: UInt64, items: [DigestItem], with sender: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        let own = currentRoot()
        guard root != own else {
            agreed(on: root, with: sender)
            return actions.append(.send(to: sender, LedgerMessage.same(root: own).encode()))
        }
        peers[sender]?.unanswered = 0
        if let pause = peers[sender]?.pause { hurrySync(with: sender, to: now + pause) }

        var details: [DigestItem] = []
        var difference = Difference()
        var lowest: UInt64 = 0
        for item in items {
            let interval = lowest...item.upperBound
            switch item.content {
            case .skip: break
            case .fingerprint(let hash):
                guard hash != self.fingerprint(of: interval) else { break }
                if lowest > 0, details.last?.upperBound != lowest - 1 {
                    details.append(DigestItem(upperBound: lowest - 1, content: .skip))
                }
                details += describe(interval)
            case .listing(let theirs): compare(theirs, in: interval, into: &difference)
            }
            guard item.upperBound < .max else { break }
            lowest = item.upperBound + 1
        }

        sendDetails(details, root: own, to: sender, at: now, into: &actions)
        for owner in difference.differing {
            let hashes = ranked(owner).map(\.hash.prefix64)
            let summary = LedgerMessage.summary(owner: owner, hashes: hashes)
            guard reply(summary, to: sender, at: now, into: &actions) else { break }
        }
        let wanted = difference.lacking.prefix(LedgerMessage.wantedOwners)
        if !wanted.isEmpty, !knowsWhatWeLack(sender, root: own, at: now) {
            reply(.wantOwners(Array(wanted)), to: sender, at: now, into: &actions)
        }
        answer(pack(entriesOf: difference.surplus), to: sender, at: now, into: &actions)
    }

    /// What a listing says beside the own owners; all sorted.
    private struct Difference {
        /// Both have entries of them, and not the same.
        var differing: [NodeID] = []
        /// Only the sender has them.
        var lacking: [UInt64] = []
        /// Only we have them.
        var surplus: [NodeID] = []
    }

    private func compare(
        _ theirs: [OwnerDigest], in interval: ClosedRange<UInt64>, into difference: inout Difference
    ) {
        let listed = Dictionary(uniqueKeysWithValues: theirs.map { ($0.handle, $0.digest) })
        var known: Set<UInt64> = []
        for group in groups(in: interval) {
            known.insert(group.handle)
            guard let digest = listed[group.handle] else {
                difference.surplus += ownersSharing(group.handle)
                continue
            }
            if digest != group.digest {
                difference.differing += ownersSharing(group.handle)
            }
        }
        difference.lacking += theirs.map(\.handle).filter { !known.contains($0) }
    }

    /// Answers a summary of one owner: what the sender lacks goes out, what we lack is asked for.
    private mutating func compare(
        _ hashes: [UInt64], of owner: NodeID, with sender: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        let theirs = Set(hashes)
        let own = ranked(owner)
        let known = Set(own.map(\.hash.prefix64))
        let lacking = hashes.filter { !known.contains($0) }
        if !lacking.isEmpty {
            let request = LedgerMessage.wantEntries(owner: owner, hashes: lacking)
            reply(request, to: sender, at: now, into: &actions)
        }
        let missed = own.filter { !theirs.contains($0.hash.prefix64) }
        answer(pack(missed, isRumor: false), to: sender, at: now, into: &actions)
    }

    /// Describes an interval as one listing, or, where it holds too many owners, as fingerprints
    /// of parts of equal size.
    private func describe(_ interval: ClosedRange<UInt64>) -> [DigestItem] {
        let groups = groups(in: interval)
        if groups.count <= LedgerLimits.listedOwners {
            return [DigestItem(upperBound: interval.upperBound, content: .listing(groups))]
        }
        var items: [DigestItem] = []
        var lowest = interval.lowerBound
        for part in 1...LedgerLimits.splits {
            let isLast = part == LedgerLimits.splits
            let end = groups.count * part / LedgerLimits.splits
            let upper = isLast ? interval.upperBound : groups[end - 1].handle
            let hash = self.fingerprint(of: lowest...upper)
            items.append(DigestItem(upperBound: upper, content: .fingerprint(hash)))
            if !isLast { lowest = upper + 1 }
        }
        return items
    }

    /// Sends items in as many messages as they need; each begins by skipping what others cover.
    private mutating func sendDetails(
        _ details: [DigestItem], root: UInt64, to node: NodeID, at now: BootInstant,
        into actions: inout [LedgerAction]
    ) {
        var batch: [DigestItem] = []
        var size = LedgerMessage.digestHead
        var covered: UInt64?
        for item in details {
            if size + item.encodedCount > LedgerLimits.messageBytes {
                let message = LedgerMessage.digest(root: root, items: batch)
                guard reply(message, to: node, at: now, into: &actions) else { return }
                batch = []
                size = LedgerMessage.digestHead
                if let covered {
                    batch.append(DigestItem(upperBound: covered, content: .skip))
                    size += 9
                }
            }
            batch.append(item)
            size += item.encodedCount
            covered = item.upperBound
        }
        guard batch.contains(where: { $0.content != .skip }) else { return }
        reply(.digest(root: root, items: batch), to: node, at: now, into: &actions)
    }

    /// Whether `node` got our complete listing a moment ago and so pushes by itself.
    private func knowsWhatWeLack(_ node: NodeID, root: UInt64, at now: BootInstant) -> Bool {
        guard let peer = peers[node], let listedAt = peer.listedAt else { return false }
        return peer.listedRoot == root && now - listedAt < LedgerTiming.listingMemory
    }
}
