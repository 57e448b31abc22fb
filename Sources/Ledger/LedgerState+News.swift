import Cryptography
import MeshBase

/// A write that is still to be offered to peers, by its hash.
///
/// Rumors go to three peers at once and reach most of the mesh within a few hops. The offers catch
/// those whom the rumor missed: they cost 66 bytes where the rumor costs the entry, and whoever
/// offered the write to us needs none.
struct News: Sendable {
    let id: LedgerKey
    let hash: Bytes32
    var offerAt: BootInstant
    var pause: Duration
    var offersLeft = LedgerTiming.offers
    /// Peers that showed that they have it.
    var knownBy: Set<NodeID>

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(hash.bytes)
        fingerprint.mix(offerAt)
        fingerprint.mix(offersLeft)
        for node in knownBy.sorted() { fingerprint.mix(node) }
    }
}

extension LedgerState {
    /// Tells a few connected peers about one new entry, and plans its offers to the others. The
    /// certificate of its owner goes first, in case they have not met it.
    mutating func pushRumor(
        _ stored: StoredEntry, except sender: NodeID?, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        var entries = [stored]
        if !stored.entry.id.isCertificate,
            let certificate = held(.certificate(of: stored.entry.owner))
        {
            entries.insert(certificate, at: 0)
        }
        var excluded: Set<NodeID> = [stored.entry.owner]
        if let sender { excluded.insert(sender) }
        let targets = randomPeers(LedgerLimits.rumorFanout, except: excluded, random: &random)
        let messages = pack(entries, isRumor: true)
        for target in targets {
            for message in messages { actions.append(.send(to: target, message.encode())) }
        }
        // Whoever connects later compares digests.
        guard !peers.isEmpty else { return }
        if news.count == LedgerLimits.news { news.removeFirst() }
        // Drawn, so that of two peers one offers and the other one is spared.
        let pause = random.duration(
            in: LedgerTiming.offerDelay...(LedgerTiming.offerDelay * 2))
        news.append(
            News(
                id: stored.entry.id, hash: stored.hash, offerAt: now + pause, pause: pause,
                knownBy: excluded))
    }

    /// Offers what is due to peers that did not show that they have it.
    mutating func offerNews(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LedgerAction]
    ) {
        guard news.contains(where: { $0.offerAt <= now }) else { return }
        let targets = randomPeers(LedgerLimits.offerFanout, except: [], random: &random)
        var offers: [NodeID: [LargeEntry]] = [:]
        for index in news.indices where news[index].offerAt <= now {
            news[index].offersLeft -= 1
            news[index].pause = news[index].pause * 2
            news[index].offerAt = now + news[index].pause
            // A newer write of the same entry has its own offer.
            guard let stored = held(news[index].id), stored.hash == news[index].hash else {
                news[index].offersLeft = 0
                continue
            }
            let uninformed = targets.filter { !news[index].knownBy.contains($0) }
            if uninformed.isEmpty { news[index].offersLeft = 0 }
            for target in uninformed { offers[target, default: []].append(LargeEntry(stored)) }
        }
        news.removeAll { $0.offersLeft <= 0 }
        for target in targets {
            var rest = (offers[target] ?? [])[...]
            while !rest.isEmpty {
                let part = rest.prefix(LedgerMessage.offersPerMessage)
                rest = rest.dropFirst(part.count)
                let message = LedgerMessage.offer(Array(part), isRumor: true)
                actions.append(.send(to: target, message.encode()))
            }
        }
    }

    /// Remembers that `node` has what it offered.
    mutating func noteHolder(_ node: NodeID, of hash: Bytes32) {
        guard let index = news.firstIndex(where: { $0.hash == hash }) else { return }
        news[index].knownBy.insert(node)
    }

    mutating func randomPeers(
        _ count: Int, except excluded: Set<NodeID>, random: inout SeededGenerator
    ) -> [NodeID] {
        var candidates = peers.keys.filter { !excluded.contains($0) }.sorted()
        candidates.shuffle(using: &random)
        return Array(candidates.prefix(count))
    }

    /// Takes an entry that somebody gave to this node by hand, such as the root's word, and spreads
    /// it.
    ///
    /// - Returns: why it was refused; nothing changed then.
    package mutating func adopt(
        _ entry: LedgerEntry, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LedgerAction]
    ) -> LedgerDropReason? {
        switch accept(entry, at: now, random: &random, into: &actions) {
        case .stale: return nil
        case .rejected(let reason): return reason
        case .accepted:
            if let stored = held(entry.id) {
                pushRumor(stored, except: nil, at: now, random: &random, into: &actions)
            }
            return nil
        }
    }
}
