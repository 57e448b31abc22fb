/// Thirty-two bytes with value semantics: keys, hashes, identities.
///
/// Comparison is lexicographic over the bytes, the same on every machine.
public struct Bytes32: Hashable, Comparable, Sendable {
    /// Big-endian words, so that comparing words compares bytes.
    @usableFromInline let word0, word1, word2, word3: UInt64

    package init(word0: UInt64, word1: UInt64, word2: UInt64, word3: UInt64) {
        (self.word0, self.word1, self.word2, self.word3) = (word0, word1, word2, word3)
    }

    package static let zero = Bytes32(word0: 0, word1: 0, word2: 0, word3: 0)

    /// Takes exactly 32 bytes; `nil` for any other count.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        var words = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        var position = 0
        for byte in bytes {
            switch position / 8 {
            case 0: words.0 = words.0 << 8 | UInt64(byte)
            case 1: words.1 = words.1 << 8 | UInt64(byte)
            case 2: words.2 = words.2 << 8 | UInt64(byte)
            default: words.3 = words.3 << 8 | UInt64(byte)
            }
            position += 1
        }
        self.init(word0: words.0, word1: words.1, word2: words.2, word3: words.3)
    }

    /// The 32 bytes, most significant word first.
    package var bytes: [UInt8] {
        var result = [UInt8]()
        result.reserveCapacity(32)
        for word in [word0, word1, word2, word3] {
            for shift in stride(from: 56, through: 0, by: -8) {
                result.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
            }
        }
        return result
    }

    /// The first eight bytes as a big-endian number: a short handle for tables and logs.
    package var prefix64: UInt64 { word0 }

    public static func < (lhs: Bytes32, rhs: Bytes32) -> Bool {
        if lhs.word0 != rhs.word0 { return lhs.word0 < rhs.word0 }
        if lhs.word1 != rhs.word1 { return lhs.word1 < rhs.word1 }
        if lhs.word2 != rhs.word2 { return lhs.word2 < rhs.word2 }
        return lhs.word3 < rhs.word3
    }
}

extension Bytes32: CustomStringConvertible {
    public var description: String { bytes.hex }
}

/// The identity of a machine in the mesh: its Ed25519 public key.
package struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let bytes: Bytes32

    package init(_ bytes: Bytes32) {
        self.bytes = bytes
    }

    package static func < (lhs: NodeID, rhs: NodeID) -> Bool { lhs.bytes < rhs.bytes }

    /// All 64 hexadecimal digits.
    package var description: String { bytes.description }

    /// The first eight hexadecimal digits, for logs and tables.
    package var short: String { bytes.bytes.prefix(4).hex }
}
