import Cryptography
import MeshBase

/// The owner's persisted counter at the time of a write. It grows with every write of that owner,
/// whatever the key, and orders the writes of one owner only; owners are never compared.
package typealias OwnerVersion = UInt64

/// Names one entry. Nobody but `owner` can write it, so writers never meet.
///
/// Compared and hashed by bytes: canonically equivalent spellings stay different keys, on every
/// machine and with every Unicode version.
package struct LedgerKey: Sendable, CustomStringConvertible {
    package let bucket: String
    package let key: String
    package let owner: NodeID

    package init(bucket: String, key: String, owner: NodeID) {
        self.bucket = bucket
        self.key = key
        self.owner = owner
    }

    /// Where the owner's membership certificate lies.
    package static func certificate(of owner: NodeID) -> LedgerKey {
        LedgerKey(bucket: "members", key: "certificate", owner: owner)
    }

    package var isCertificate: Bool { bucket == "members" && key == "certificate" }

    package var description: String { "\(bucket)/\(key)@\(owner.short)" }
}

extension LedgerKey: Hashable, Comparable {
    package static func == (lhs: LedgerKey, rhs: LedgerKey) -> Bool {
        lhs.owner == rhs.owner && lhs.key.utf8.elementsEqual(rhs.key.utf8)
            && lhs.bucket.utf8.elementsEqual(rhs.bucket.utf8)
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(owner)
        for byte in bucket.utf8 { hasher.combine(byte) }
        hasher.combine(UInt8(0))
        for byte in key.utf8 { hasher.combine(byte) }
    }

    package static func < (lhs: LedgerKey, rhs: LedgerKey) -> Bool {
        if !lhs.bucket.utf8.elementsEqual(rhs.bucket.utf8) {
            return lhs.bucket.utf8.lexicographicallyPrecedes(rhs.bucket.utf8)
        }
        if !lhs.key.utf8.elementsEqual(rhs.key.utf8) {
            return lhs.key.utf8.lexicographicallyPrecedes(rhs.key.utf8)
        }
        return lhs.owner < rhs.owner
    }
}

/// One signed write.
///
///     size    field
///     1       layout version, 1
///     1       1 for a tombstone, else 0
///     1 + n   bucket, 1 to 32 bytes of UTF-8 without control characters
///     1 + n   key, 1 to 128 bytes of the same
///     32      owner
///     8       version, at least 1
///     2 + n   value, at most 4,096 bytes; empty in a tombstone
///     64      signature of the owner over the label, the mesh id and everything above
package struct LedgerEntry: Hashable, Sendable {
    package let id: LedgerKey
    package let version: OwnerVersion
    /// The owner took the entry back; the tombstone keeps older copies from returning.
    package let isTombstone: Bool
    package let value: [UInt8]
    package let signature: Signature

    package var bucket: String { id.bucket }
    package var key: String { id.key }
    package var owner: NodeID { id.owner }

    /// Whether it counts against what users may take.
    var isUsers: Bool { BucketPolicy.of(bucket).writer == .user }

    package static let bucketLimit = 32
    package static let keyLimit = 128
    package static let valueLimit = 4_096
    /// The longest encoding.
    package static let encodedLimit = 110 + bucketLimit + keyLimit + valueLimit
    private static let layoutVersion: UInt8 = 1

    package var encodedCount: Int { 110 + bucket.utf8.count + key.utf8.count + value.count }

    init(
        signing id: LedgerKey, version: OwnerVersion, value: [UInt8]?, meshID: [UInt8],
        with signer: SigningKey
    ) {
        let fields = Self.fields(id: id, version: version, value: value)
        self.id = id
        self.version = version
        isTombstone = value == nil
        self.value = value ?? []
        signature = signer.sign(Self.signedBytes(fields: fields, meshID: meshID))
    }

    /// Signs what the mesh's root says, for any node to take in. It accumulates, so that one
    /// version is enough; the key names the content.
    package static func policy(key: String, value: [UInt8], meshID: [UInt8], rootKey: SigningKey)
        -> LedgerEntry
    {
        let id = LedgerKey(bucket: "policy", key: key, owner: rootKey.publicKey)
        return LedgerEntry(signing: id, version: 1, value: value, meshID: meshID, with: rootKey)
    }

    /// The encoding for wire and disk.
    package func encode() -> [UInt8] {
        Self.fields(id: id, version: version, value: isTombstone ? nil : value) + signature.bytes
    }

    /// Reads the encoding and checks every bound; the signature is not verified yet.
    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count <= Self.encodedLimit else { throw .field("entry length") }
        var reader = ByteReader(bytes)
        guard try reader.readByte() == Self.layoutVersion else { throw .field("layout version") }
        let flags = try reader.readByte()
        guard flags <= 1 else { throw .field("flags") }
        let bucket = try reader.readShortText()
        guard Self.isName(bucket, limit: Self.bucketLimit) else { throw .field("bucket") }
        let key = try reader.readShortText()
        guard Self.isName(key, limit: Self.keyLimit) else { throw .field("key") }
        id = LedgerKey(bucket: bucket, key: key, owner: try reader.readNodeID())
        version = try reader.readUInt64()
        guard version > 0 else { throw .field("version") }
        value = try reader.readLongBytes(limit: Self.valueLimit)
        isTombstone = flags == 1
        guard !isTombstone || value.isEmpty else { throw .field("tombstone") }
        guard let signature = Signature(try reader.readBytes(64)) else { throw .truncated }
        self.signature = signature
        try reader.finish()
    }

    package func isSigned(meshID: [UInt8]) -> Bool {
        let fields = Self.fields(id: id, version: version, value: isTombstone ? nil : value)
        return signature.isValid(
            for: Self.signedBytes(fields: fields, meshID: meshID), by: owner)
    }

    static func isName(_ text: String, limit: Int) -> Bool {
        (1...limit).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    private static func fields(id: LedgerKey, version: OwnerVersion, value: [UInt8]?) -> [UInt8] {
        var writer = ByteWriter(capacity: 256 + (value?.count ?? 0))
        writer.write(layoutVersion)
        writer.write(UInt8(value == nil ? 1 : 0))
        writer.write(shortText: id.bucket)
        writer.write(shortText: id.key)
        writer.write(id.owner)
        writer.write(version)
        writer.write(long: value ?? [])
        return writer.bytes
    }

    private static func signedBytes(fields: [UInt8], meshID: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: fields.count + 64)
        writer.write(shortText: "edgevpn-swift ledger entry 1")
        writer.write(raw: meshID)
        writer.write(raw: fields)
        return writer.bytes
    }
}
