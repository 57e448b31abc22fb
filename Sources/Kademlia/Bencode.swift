/// A bencoded value (BEP 3): the four kinds, with dictionary keys in order.
///
/// The decoder takes canonical encodings only (numbers without leading zeros, keys sorted and
/// unique, nothing behind the value), so encoding a decoded value gives the same bytes. Signatures
/// over received values rest on that.
package enum Bencode: Hashable, Sendable {
    case integer(Int64)
    case bytes([UInt8])
    case list([Bencode])
    case dictionary([BencodeEntry])
}

/// One key of a dictionary with its value.
package struct BencodeEntry: Hashable, Sendable {
    package var key: [UInt8]
    package var value: Bencode
}

/// Why bytes are not one canonical bencoded value.
package enum BencodeFailure: Error, Hashable, Sendable {
    case truncated, trailingBytes, tooDeep, tooManyValues
    case badNumber, badLength, unsortedKeys, unknownKind
}

package enum BencodeLimits {
    /// KRPC nests four levels; values of strangers may nest some more.
    static let depth = 16
    /// More than fit a datagram in any sensible message; bounds what a hostile one costs.
    static let values = 1_024
}

// MARK: - Building and reading

extension Bencode {
    /// A dictionary; keys are sorted here, `nil` values left out.
    package static func dictionary(_ pairs: [(String, Bencode?)]) -> Bencode {
        let entries = pairs.compactMap { key, value in
            value.map { BencodeEntry(key: Array(key.utf8), value: $0) }
        }
        return .dictionary(entries.sorted { $0.key.lexicographicallyPrecedes($1.key) })
    }

    package static func text(_ text: String) -> Bencode { .bytes(Array(text.utf8)) }

    package subscript(key: String) -> Bencode? {
        guard case .dictionary(let entries) = self else { return nil }
        return entries.first { $0.key.elementsEqual(key.utf8) }?.value
    }

    package var bytesValue: [UInt8]? {
        if case .bytes(let bytes) = self { bytes } else { nil }
    }

    package var integerValue: Int64? {
        if case .integer(let number) = self { number } else { nil }
    }

    package var listValue: [Bencode]? {
        if case .list(let values) = self { values } else { nil }
    }
}

// MARK: - Encoding

extension Bencode {
    package var encoded: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(256)
        encode(into: &output)
        return output
    }

    private func encode(into output: inout [UInt8]) {
        switch self {
        case .integer(let number):
            output.append(UInt8(ascii: "i"))
            output += "\(number)".utf8
            output.append(UInt8(ascii: "e"))
        case .bytes(let bytes):
            Bencode.encode(bytes, into: &output)
        case .list(let values):
            output.append(UInt8(ascii: "l"))
            for value in values { value.encode(into: &output) }
            output.append(UInt8(ascii: "e"))
        case .dictionary(let entries):
            output.append(UInt8(ascii: "d"))
            for entry in entries {
                Bencode.encode(entry.key, into: &output)
                entry.value.encode(into: &output)
            }
            output.append(UInt8(ascii: "e"))
        }
    }

    private static func encode(_ bytes: [UInt8], into output: inout [UInt8]) {
        output += "\(bytes.count):".utf8
        output += bytes
    }
}

// MARK: - Decoding

extension Bencode {
    /// Takes exactly one canonical value.
    package init(decoding bytes: [UInt8]) throws(BencodeFailure) {
        var parser = BencodeParser(bytes: bytes)
        self = try parser.value(depth: 0)
        guard parser.position == bytes.count else { throw .trailingBytes }
    }
}

private struct BencodeParser {
    let bytes: [UInt8]
    var position = 0
    var count = 0

    mutating func value(depth: Int) throws(BencodeFailure) -> Bencode {
        guard depth < BencodeLimits.depth else { throw .tooDeep }
        count += 1
        guard count <= BencodeLimits.values else { throw .tooManyValues }
        switch try peek() {
        case UInt8(ascii: "i"):
            position += 1
            return .integer(try number(endingWith: UInt8(ascii: "e")))
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            return .bytes(try byteString())
        case UInt8(ascii: "l"):
            position += 1
            var values: [Bencode] = []
            while try peek() != UInt8(ascii: "e") { values.append(try value(depth: depth + 1)) }
            position += 1
            return .list(values)
        case UInt8(ascii: "d"):
            position += 1
            return .dictionary(try entries(depth: depth))
        default:
            throw .unknownKind
        }
    }

    private mutating func entries(depth: Int) throws(BencodeFailure) -> [BencodeEntry] {
        var entries: [BencodeEntry] = []
        while try peek() != UInt8(ascii: "e") {
            let key = try byteString()
            if let last = entries.last, !last.key.lexicographicallyPrecedes(key) {
                throw .unsortedKeys
            }
            entries.append(BencodeEntry(key: key, value: try value(depth: depth + 1)))
        }
        position += 1
        return entries
    }

    private func peek() throws(BencodeFailure) -> UInt8 {
        guard position < bytes.count else { throw .truncated }
        return bytes[position]
    }

    private mutating func byteString() throws(BencodeFailure) -> [UInt8] {
        let length = try number(endingWith: UInt8(ascii: ":"))
        guard length >= 0 else { throw .badLength }
        guard length <= Int64(bytes.count - position) else { throw .truncated }
        defer { position += Int(length) }
        return Array(bytes[position..<position + Int(length)])
    }

    /// Digits with an optional minus: no leading zeros, no minus zero, nothing beyond 64 bits.
    private mutating func number(endingWith end: UInt8) throws(BencodeFailure) -> Int64 {
        let isNegative = try peek() == UInt8(ascii: "-")
        if isNegative { position += 1 }
        let start = position
        var value: Int64 = 0
        while try peek() != end {
            let digit = try peek()
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { throw .badNumber }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let step = Int64(digit - UInt8(ascii: "0"))
            let (sum, sumOverflow) =
                isNegative
                ? product.subtractingReportingOverflow(step)
                : product.addingReportingOverflow(step)
            guard !overflow, !sumOverflow else { throw .badNumber }
            value = sum
            position += 1
        }
        let count = position - start
        guard count > 0, count == 1 || bytes[start] != UInt8(ascii: "0"),
            !(isNegative && value == 0)
        else { throw .badNumber }
        position += 1
        return value
    }
}
