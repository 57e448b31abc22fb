import Cryptography
import MeshBase

/// What a file or a slot holds: four letters that open it.
package struct FileKind: Hashable, Sendable {
    let tag: [UInt8]
    /// The newest format version that this release writes and reads.
    package let version: UInt16

    /// - Parameter tag: exactly four ASCII letters.
    package init(tag: String, version: UInt16) {
        precondition(tag.utf8.count == 4, "a kind has four letters")
        self.tag = Array(tag.utf8)
        self.version = version
    }
}

/// The frame around every stored value, all numbers big-endian:
///
///     offset  size  field
///     0       4     kind, four letters
///     4       2     format version
///     6       2     zero
///     8       8     sequence number
///     16      4     payload length
///     20      32    SHA-256 over the other header fields and the payload
///     52      -     payload
///
/// The checksum finds accidents. It is no defence against somebody who can write the file.
struct Frame {
    static let overhead = 52

    var version: UInt16
    var sequence: UInt64
    var payload: [UInt8]

    static func encode(_ payload: [UInt8], kind: FileKind, sequence: UInt64) -> [UInt8] {
        var head = ByteWriter(capacity: overhead + payload.count)
        head.write(raw: kind.tag)
        head.write(kind.version)
        head.write(UInt16(0))
        head.write(sequence)
        head.write(UInt32(payload.count))
        let checksum = sha256(head.bytes + payload)
        head.write(checksum)
        head.write(raw: payload)
        return head.bytes
    }

    enum Failure: Error, Hashable {
        case damaged(String)
        case newer(UInt16)

        func asStorageError(path: String, kind: FileKind) -> StorageError {
            switch self {
            case .damaged(let detail): .corrupt(path: path, detail: detail)
            case .newer(let version):
                .newerVersion(path: path, found: version, known: kind.version)
            }
        }
    }

    /// Reads a frame at the start of `bytes`; bytes behind it are allowed where a slot is padded.
    static func decode(_ bytes: [UInt8], kind: FileKind, isPadded: Bool) throws(Failure) -> Frame {
        do throws(DecodingFailure) {
            return try parse(bytes, kind: kind, isPadded: isPadded)
        } catch {
            switch error {
            case .truncated: throw .damaged("it is cut short")
            case .trailingBytes: throw .damaged("bytes follow its end")
            case .invalid(let field) where field.description == "version":
                throw .newer(UInt16(bytes[4]) << 8 | UInt16(bytes[5]))
            case .invalid(let field): throw .damaged("its \(field) is wrong")
            }
        }
    }

    private static func parse(_ bytes: [UInt8], kind: FileKind, isPadded: Bool)
        throws(DecodingFailure) -> Frame
    {
        var reader = ByteReader(bytes)
        guard try reader.readBytes(4) == kind.tag else { throw .field("kind") }
        let version = try reader.readUInt16()
        guard try reader.readUInt16() == 0 else { throw .field("header") }
        let sequence = try reader.readUInt64()
        let count = Int(try reader.readUInt32())
        let checksum = try reader.readBytes32()
        let payload = try reader.readBytes(count)
        if !isPadded { try reader.finish() }
        guard sha256(Array(bytes[0..<20]) + payload) == checksum else { throw .field("checksum") }
        // Only an intact frame may claim to be from a newer release.
        guard version <= kind.version else { throw .field("version") }
        return Frame(version: version, sequence: sequence, payload: payload)
    }
}
