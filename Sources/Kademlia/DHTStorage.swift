import MeshBase
import NetAddress

/// What we keep for others: values (BEP 44) and peers of info-hashes (BEP 5).
struct DHTStorage: Sendable {
    private(set) var items: [KademliaID: StoredItem] = [:]
    private(set) var torrents: [KademliaID: [SocketAddress: BootInstant]] = [:]

    /// 500 values of 1,000 bytes and 500 x 100 peers of some 40 bytes: 2.5 MB at the most.
    static let itemLimit = 500
    static let torrentLimit = 500
    static let peersPerTorrent = 100
    /// BEP 44: the owner puts again every hour.
    static let itemLifetime = Duration.seconds(2 * 3_600)
    /// As libtorrent: 1.5 times the announce interval.
    static let peerLifetime = Duration.seconds(45 * 60)
    /// Peers of one answer: 50 x 8 bytes beside the nodes stay below 1,024 (BEP 32).
    static let peersPerAnswer = 50

    struct StoredItem: Sendable {
        var value: StoredValue
        var storedAt: BootInstant
    }

    // MARK: - Values

    /// - Throws: the refusal of BEP 44; nothing changed then.
    mutating func put(
        _ value: StoredValue, comparing: Int64?, ownID: KademliaID, at now: BootInstant
    ) throws(KRPCFailure) {
        let target = value.target
        let known = item(target, at: now)
        if case .mutable(let item) = value {
            // The same again is a repetition, whatever it was compared with.
            if case .mutable(let stored)? = known, item != stored {
                if let comparing, comparing != stored.sequence { throw .compareFailed }
                guard item.sequence > stored.sequence else { throw .staleSequence }
            }
            guard item.isAuthentic else { throw .badSignature }
        }
        if items[target] == nil, items.count >= Self.itemLimit {
            expire(at: now)
            if items.count >= Self.itemLimit, !evictFarthest(from: ownID, than: target) {
                throw KRPCFailure(code: 202, text: "full")
            }
        }
        items[target] = StoredItem(value: value, storedAt: now)
    }

    func item(_ target: KademliaID, at now: BootInstant) -> StoredValue? {
        guard let found = items[target], now - found.storedAt < Self.itemLifetime else {
            return nil
        }
        return found.value
    }

    /// A value nearer to us is more ours to keep.
    private mutating func evictFarthest(from ownID: KademliaID, than target: KademliaID) -> Bool {
        guard let farthest = items.keys.max(by: { $0 ^ ownID < $1 ^ ownID }),
            target ^ ownID < farthest ^ ownID
        else { return false }
        items[farthest] = nil
        return true
    }

    // MARK: - Peers

    mutating func announce(_ peer: SocketAddress, for infoHash: KademliaID, at now: BootInstant) {
        var peers = torrents[infoHash] ?? [:]
        if peers[peer] == nil, peers.count >= Self.peersPerTorrent {
            guard
                let oldest = peers.min(by: {
                    ($0.value, $0.key.compact.hex) < ($1.value, $1.key.compact.hex)
                })
            else { return }
            peers[oldest.key] = nil
        }
        if torrents[infoHash] == nil, torrents.count >= Self.torrentLimit {
            expire(at: now)
            guard torrents.count < Self.torrentLimit else { return }
        }
        peers[peer] = now
        torrents[infoHash] = peers
    }

    /// Peers of one family, a random choice when there are many.
    func peers(
        _ infoHash: KademliaID, family: AddressFamily, at now: BootInstant,
        random: inout SeededGenerator
    ) -> [SocketAddress] {
        let live = (torrents[infoHash] ?? [:]).filter {
            now - $0.value < Self.peerLifetime && $0.key.family == family
        }.keys.sorted { $0.compact.lexicographicallyPrecedes($1.compact) }
        guard live.count > Self.peersPerAnswer else { return live }
        return Array(live.shuffled(using: &random).prefix(Self.peersPerAnswer))
    }

    mutating func expire(at now: BootInstant) {
        items = items.filter { now - $0.value.storedAt < Self.itemLifetime }
        torrents = torrents.compactMapValues { peers in
            let live = peers.filter { now - $0.value < Self.peerLifetime }
            return live.isEmpty ? nil : live
        }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        for target in items.keys.sorted() {
            fingerprint.mix(target.bytes)
            fingerprint.mix(items[target]?.value.value ?? [])
            fingerprint.mix(items[target]?.storedAt)
        }
        for infoHash in torrents.keys.sorted() {
            fingerprint.mix(infoHash.bytes)
            fingerprint.mix(torrents[infoHash]?.count ?? 0)
        }
    }
}
