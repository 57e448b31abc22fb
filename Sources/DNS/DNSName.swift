import MeshBase

/// A domain name in wire form: length-prefixed labels and the closing zero, at most 255 bytes
/// (RFC 1035 section 3.1). The case is kept; comparison and hashing ignore it (RFC 4343).
package struct DNSName: Sendable {
    /// Labels of 1...63 bytes, each behind its length, then a zero byte.
    package let wire: [UInt8]

    /// Bytes of a name on the wire, the closing zero included (RFC 1035 section 2.3.4).
    package static let maximumLength = 255
    /// Bytes of one label (RFC 1035 section 2.3.4).
    package static let maximumLabelLength = 63

    package static let root = DNSName(validWire: [0])

    /// Takes bytes that are known to be a name, as readers and writers of this module produce.
    init(validWire wire: [UInt8]) {
        self.wire = wire
    }

    /// Joins `labels`, most specific first; `nil` when a label or the name is out of bounds.
    package init?(labels: some Sequence<[UInt8]>) {
        var wire: [UInt8] = []
        for label in labels {
            guard (1...DNSName.maximumLabelLength).contains(label.count) else { return nil }
            wire.append(UInt8(label.count))
            wire += label
        }
        wire.append(0)
        guard wire.count <= DNSName.maximumLength else { return nil }
        self.wire = wire
    }

    /// The labels as text, most specific first, without the root.
    package var labels: [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var offset = 0
        while wire[offset] != 0 {
            let end = offset + 1 + Int(wire[offset])
            result.append(wire[(offset + 1)..<end])
            offset = end
        }
        return result
    }

    package var isRoot: Bool { wire.count == 1 }

    /// The name without its first label; `nil` for the root.
    package var parent: DNSName? {
        isRoot ? nil : DNSName(validWire: Array(wire[(1 + Int(wire[0]))...]))
    }

    /// `label.self`; `nil` when that would be out of bounds.
    package func prepending(_ label: [UInt8]) -> DNSName? {
        guard (1...DNSName.maximumLabelLength).contains(label.count),
            label.count + 1 + wire.count <= DNSName.maximumLength
        else { return nil }
        return DNSName(validWire: [UInt8(label.count)] + label + wire)
    }

    /// `self.zone`, for names relative to a zone; `nil` when that would be out of bounds.
    package func appending(_ zone: DNSName) -> DNSName? {
        guard wire.count - 1 + zone.wire.count <= DNSName.maximumLength else { return nil }
        return DNSName(validWire: wire.dropLast() + zone.wire)
    }

    /// The offset in ``wire`` where `ancestor` begins, when it is `self` or above it.
    func offset(ofAncestor ancestor: DNSName) -> Int? {
        let start = wire.count - ancestor.wire.count
        guard start >= 0 else { return nil }
        var offset = 0
        while offset < start { offset += 1 + Int(wire[offset]) }
        guard offset == start else { return nil }
        for index in 0..<ancestor.wire.count
        where foldCase(wire[start + index]) != foldCase(ancestor.wire[index]) {
            return nil
        }
        return start
    }

    /// Whether `self` is `ancestor` or below it.
    package func isWithin(_ ancestor: DNSName) -> Bool {
        offset(ofAncestor: ancestor) != nil
    }
}

extension DNSName: Hashable, Comparable {
    package static func == (lhs: DNSName, rhs: DNSName) -> Bool {
        guard lhs.wire.count == rhs.wire.count else { return false }
        for index in 0..<lhs.wire.count
        where lhs.wire[index] != rhs.wire[index]
            && foldCase(lhs.wire[index]) != foldCase(rhs.wire[index])
        {
            return false
        }
        return true
    }

    /// Eight bytes at a time: one call of the hasher per byte costs more than the rest of a lookup.
    package func hash(into hasher: inout Hasher) {
        var word: UInt64 = 0
        var filled = 0
        for byte in wire {
            word = word << 8 | UInt64(foldCase(byte))
            filled += 1
            if filled == 8 {
                hasher.combine(word)
                word = 0
                filled = 0
            }
        }
        hasher.combine(word)
    }

    /// A stable order for deterministic iteration; not the canonical order of DNSSEC.
    package static func < (lhs: DNSName, rhs: DNSName) -> Bool {
        for index in 0..<min(lhs.wire.count, rhs.wire.count) {
            let (left, right) = (foldCase(lhs.wire[index]), foldCase(rhs.wire[index]))
            if left != right { return left < right }
        }
        return lhs.wire.count < rhs.wire.count
    }
}

/// Lower case for ASCII letters. Lengths are at most 63 and letters start at 65, so whole wire
/// names can be folded byte by byte.
@inline(__always)
func foldCase(_ byte: UInt8) -> UInt8 {
    byte &- 65 < 26 ? byte | 0x20 : byte
}

// MARK: - Presentation format (RFC 1035 section 5.1)

extension DNSName: CustomStringConvertible, LosslessStringConvertible {
    /// Parses dotted text with an optional final dot; `\.` and `\DDD` escape a byte.
    package init?(_ text: String) {
        if text == "." || text.isEmpty {
            self = .root
            return
        }
        var labels: [[UInt8]] = []
        var label: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: ".") {
                labels.append(label)
                label = []
            } else if byte == UInt8(ascii: "\\") {
                guard let escaped = DNSName.unescape(&rest) else { return nil }
                label.append(escaped)
            } else {
                label.append(byte)
            }
        }
        if !label.isEmpty { labels.append(label) }
        self.init(labels: labels)
    }

    private static func unescape(_ rest: inout Substring.UTF8View) -> UInt8? {
        guard let first = rest.popFirst() else { return nil }
        guard (48...57).contains(first) else { return first }
        guard let second = rest.popFirst(), let third = rest.popFirst(),
            (48...57).contains(second), (48...57).contains(third)
        else { return nil }
        let hundreds = Int(first - 48) * 100
        return UInt8(exactly: hundreds + Int(second - 48) * 10 + Int(third - 48))
    }

    /// Dotted text without the final dot; bytes other than visible ASCII are escaped.
    package var description: String {
        if isRoot { return "." }
        return labels.map { label in
            label.reduce(into: "") { text, byte in
                switch byte {
                case UInt8(ascii: "."), UInt8(ascii: "\\"):
                    text += "\\" + String(UnicodeScalar(byte))
                case 0x21...0x7E: text.unicodeScalars.append(UnicodeScalar(byte))
                default:
                    let digits = String(byte)
                    text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
                }
            }
        }.joined(separator: ".")
    }
}
