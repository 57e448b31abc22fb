import MeshBase

/// One interval of owners in a digest. Handles are the first eight bytes of node ids, so an
/// interval of handles is an interval of the sorted owners.
struct DigestItem: Hashable, Sendable {
    enum Content: Hashable, Sendable {
        /// Nothing is said about this interval.
        case skip
        /// A hash over all owners in it and their digests.
        case fingerprint(UInt64)
        /// Every owner in it.
        case listing([OwnerDigest])
    }

    /// The last handle of the interval; it begins behind the previous item's.
    var upperBound: UInt64
    var content: Content

    var encodedCount: Int {
        switch content {
        case .skip: 9
        case .fingerprint: 17
        case .listing(let owners): 10 + 16 * owners.count
        }
    }
}

struct OwnerDigest: Hashable, Sendable {
    let handle: UInt64
    let digest: UInt64
}

/// What two ledgers say to each other; the channel authenticates the sender. Every message fits
/// 1,200 bytes and means the same whatever came before, so loss and repetition do no harm.
///
///     tag  message        body
///     1    digest         root hash 8, then items: upper bound 8, 0 | 1 hash 8 | 2 n (8 + 8) * n
///     2    same           root hash 8
///     3    want owners    handles 8 * n
///     4    summary        owner 32, entry hashes 8 * n
///     5    want entries   owner 32, entry hashes 8 * n
///     6    rumor          entries behind two-byte lengths
///     7    answer         the same, not to be passed on one by one
///     8    offer          1 for a rumor else 0, then owner 32, hash 32, size 2, each * n
///     9    pull           owner 32, hash 32, one bit per wanted chunk
///     10   chunk          hash 32, index 1, bytes
enum LedgerMessage: Hashable, Sendable {
    case digest(root: UInt64, items: [DigestItem])
    case same(root: UInt64)
    case wantOwners([UInt64])
    case summary(owner: NodeID, hashes: [UInt64])
    case wantEntries(owner: NodeID, hashes: [UInt64])
    case rumor([LedgerEntry])
    case answer([LedgerEntry])
    case offer([LargeEntry], isRumor: Bool)
    case pull(owner: NodeID, hash: Bytes32, chunks: UInt8)
    case chunk(hash: Bytes32, index: UInt8, bytes: [UInt8])

    /// Bytes of a digest before its items.
    static let digestHead = 9
    static let offersPerMessage = (LedgerLimits.messageBytes - 2) / LargeEntry.encodedCount
    /// Owners in one request for owners.
    static let wantedOwners = 148

    var asksForAnswer: Bool {
        switch self {
        case .digest, .wantOwners, .summary, .wantEntries, .pull: true
        case .same, .rumor, .answer, .offer, .chunk: false
        }
    }

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: LedgerLimits.messageBytes)
        switch self {
        case .digest(let root, let items):
            writer.write(UInt8(1))
            writer.write(root)
            for item in items { item.encode(into: &writer) }
        case .same(let root):
            writer.write(UInt8(2))
            writer.write(root)
        case .wantOwners(let handles):
            writer.write(UInt8(3))
            for handle in handles { writer.write(handle) }
        case .summary(let owner, let hashes):
            writer.write(UInt8(4))
            writer.write(owner)
            for hash in hashes { writer.write(hash) }
        case .wantEntries(let owner, let hashes):
            writer.write(UInt8(5))
            writer.write(owner)
            for hash in hashes { writer.write(hash) }
        case .rumor(let entries), .answer(let entries):
            if case .rumor = self { writer.write(UInt8(6)) } else { writer.write(UInt8(7)) }
            for entry in entries { writer.write(long: entry.encode()) }
        case .offer(let offered, let isRumor):
            writer.write(UInt8(8))
            writer.write(UInt8(isRumor ? 1 : 0))
            for entry in offered { entry.encode(into: &writer) }
        case .pull(let owner, let hash, let chunks):
            writer.write(UInt8(9))
            writer.write(owner)
            writer.write(hash)
            writer.write(chunks)
        case .chunk(let hash, let index, let bytes):
            writer.write(UInt8(10))
            writer.write(hash)
            writer.write(index)
            writer.write(raw: bytes)
        }
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count <= LedgerLimits.messageBytes else { throw .field("length") }
        var reader = ByteReader(bytes)
        switch try reader.readByte() {
        case 1:
            self = .digest(root: try reader.readUInt64(), items: try reader.readDigestItems())
        case 2: self = .same(root: try reader.readUInt64())
        case 3: self = .wantOwners(try reader.readHandles())
        case 4: self = .summary(owner: try reader.readNodeID(), hashes: try reader.readHandles())
        case 5:
            self = .wantEntries(owner: try reader.readNodeID(), hashes: try reader.readHandles())
        case 6: self = .rumor(try reader.readEntries())
        case 7: self = .answer(try reader.readEntries())
        case 8:
            let flag = try reader.readByte()
            guard flag <= 1 else { throw .field("flag") }
            var offered: [LargeEntry] = []
            while reader.remaining > 0 { offered.append(try LargeEntry(from: &reader)) }
            self = .offer(offered, isRumor: flag == 1)
        case 9:
            self = .pull(
                owner: try reader.readNodeID(), hash: try reader.readBytes32(),
                chunks: try reader.readByte())
        case 10:
            self = .chunk(
                hash: try reader.readBytes32(), index: try reader.readByte(),
                bytes: reader.readRest())
        default: throw .field("message tag")
        }
        try reader.finish()
    }
}

/// An entry by its hash: too long for one message, or news; its bytes are pulled in chunks.
struct LargeEntry: Hashable, Sendable {
    let owner: NodeID
    let hash: Bytes32
    /// Encoded bytes.
    let size: Int

    static let encodedCount = 66

    init(_ stored: StoredEntry) {
        owner = stored.entry.owner
        hash = stored.hash
        size = stored.entry.encodedCount
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(owner)
        writer.write(hash)
        writer.write(UInt16(size))
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        owner = try reader.readNodeID()
        hash = try reader.readBytes32()
        size = Int(try reader.readUInt16())
        guard (1...LedgerEntry.encodedLimit).contains(size) else { throw .field("size") }
    }

    var chunkCount: Int { (size + LedgerLimits.chunkBytes - 1) / LedgerLimits.chunkBytes }
}

extension DigestItem {
    func encode(into writer: inout ByteWriter) {
        writer.write(upperBound)
        switch content {
        case .skip: writer.write(UInt8(0))
        case .fingerprint(let hash):
            writer.write(UInt8(1))
            writer.write(hash)
        case .listing(let owners):
            writer.write(UInt8(2))
            writer.write(UInt8(owners.count))
            for owner in owners {
                writer.write(owner.handle)
                writer.write(owner.digest)
            }
        }
    }
}

extension ByteReader {
    /// Items in rising order; listed handles rise too and stay inside their interval.
    fileprivate mutating func readDigestItems() throws(DecodingFailure) -> [DigestItem] {
        var items: [DigestItem] = []
        while remaining > 0 {
            let upperBound = try readUInt64()
            let lowest: UInt64
            if let previous = items.last?.upperBound {
                guard previous < upperBound else { throw .field("interval") }
                lowest = previous + 1
            } else {
                lowest = 0
            }
            switch try readByte() {
            case 0: items.append(DigestItem(upperBound: upperBound, content: .skip))
            case 1:
                let hash = try readUInt64()
                items.append(DigestItem(upperBound: upperBound, content: .fingerprint(hash)))
            case 2:
                var owners: [OwnerDigest] = []
                for _ in 0..<(try readByte()) {
                    let handle = try readUInt64()
                    guard (lowest...upperBound).contains(handle),
                        owners.last.map({ $0.handle < handle }) ?? true
                    else { throw .field("handle") }
                    owners.append(OwnerDigest(handle: handle, digest: try readUInt64()))
                }
                items.append(DigestItem(upperBound: upperBound, content: .listing(owners)))
            default: throw .field("item")
            }
        }
        return items
    }

    fileprivate mutating func readHandles() throws(DecodingFailure) -> [UInt64] {
        var handles: [UInt64] = []
        while remaining > 0 { handles.append(try readUInt64()) }
        return handles
    }

    fileprivate mutating func readEntries() throws(DecodingFailure) -> [LedgerEntry] {
        var entries: [LedgerEntry] = []
        while remaining > 0 {
            entries.append(try LedgerEntry(decoding: try readLongBytes()))
        }
        return entries
    }
}
