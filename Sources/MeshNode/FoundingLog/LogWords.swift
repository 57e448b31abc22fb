import Cryptography
import MeshBase
import NetAddress

/// A line of a founding log that is not one.
package struct LogProblem: Error, Hashable, Sendable {
    package init() {}
}

/// The words of one line: numbers, flags (0 or 1), bytes (`x` and hexadecimal digits), text
/// (in quotes, everything but printable ASCII as `%` and two digits), and `-` for what is absent.
package struct LogWords {
    private var words: ArraySlice<Substring>

    package init(_ line: some StringProtocol) {
        words = Substring(line).split(separator: " " as Character)[...]
    }

    package mutating func word() throws(LogProblem) -> Substring {
        guard let word = words.popFirst() else { throw LogProblem() }
        return word
    }

    package mutating func number<Number: FixedWidthInteger>() throws(LogProblem) -> Number {
        guard let number = Number(try word()) else { throw LogProblem() }
        return number
    }

    mutating func flag() throws(LogProblem) -> Bool {
        switch try word() {
        case "0": false
        case "1": true
        default: throw LogProblem()
        }
    }

    package mutating func instant() throws(LogProblem) -> BootInstant {
        BootInstant(nanoseconds: try number())
    }

    package mutating func bytes() throws(LogProblem) -> [UInt8] {
        let word = try word()
        guard word.first == "x", let bytes = [UInt8](hex: word.dropFirst()) else {
            throw LogProblem()
        }
        return bytes
    }

    /// Bytes at the end of a line that may lack them.
    mutating func lastBytes() throws(LogProblem) -> [UInt8] {
        words.isEmpty ? [] : try bytes()
    }

    /// `nil` for the word `-`.
    mutating func optional<Value>(
        _ read: (inout LogWords) throws(LogProblem) -> Value
    ) throws(LogProblem) -> Value? {
        guard words.first != "-" else {
            words.removeFirst()
            return nil
        }
        return try read(&self)
    }

    mutating func list<Value>(
        _ read: (inout LogWords) throws(LogProblem) -> Value
    ) throws(LogProblem) -> [Value] {
        let count: UInt16 = try number()
        var list: [Value] = []
        for _ in 0..<count { list.append(try read(&self)) }
        return list
    }

    mutating func bytes32() throws(LogProblem) -> Bytes32 {
        guard let bytes = Bytes32(try bytes()) else { throw LogProblem() }
        return bytes
    }

    mutating func node() throws(LogProblem) -> NodeID {
        guard let bytes = [UInt8](hex: try word()).flatMap({ Bytes32($0) }) else {
            throw LogProblem()
        }
        return NodeID(bytes)
    }

    mutating func address() throws(LogProblem) -> IPAddress {
        guard let address = IPAddress(String(try word())) else { throw LogProblem() }
        return address
    }

    mutating func raw<Value: RawRepresentable<String>>(
        _ type: Value.Type
    ) throws(LogProblem) -> Value {
        guard let value = Value(rawValue: String(try word())) else { throw LogProblem() }
        return value
    }

    mutating func code<Value: RawRepresentable<UInt8>>(
        _ type: Value.Type
    ) throws(LogProblem) -> Value {
        guard let value = Value(rawValue: try number()) else { throw LogProblem() }
        return value
    }

    mutating func text() throws(LogProblem) -> String {
        let word = try word()
        guard word.utf8.count >= 2, word.hasPrefix("\""), word.hasSuffix("\"") else {
            throw LogProblem()
        }
        var bytes: [UInt8] = []
        var rest = word.utf8.dropFirst().dropLast()
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                let digits = String(decoding: rest.prefix(2), as: UTF8.self)
                guard let code = [UInt8](hex: digits)?.first else { throw LogProblem() }
                bytes.append(code)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    package func finish() throws(LogProblem) {
        guard words.isEmpty else { throw LogProblem() }
    }
}

// MARK: - Writing

/// Text as one word.
func quoted(_ text: String) -> String {
    var word: [UInt8] = [UInt8(ascii: "\"")]
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "%"), UInt8(ascii: "\""): word += Array("%\([byte].hex)".utf8)
        case 0x21...0x7E: word.append(byte)
        default: word += Array("%\([byte].hex)".utf8)
        }
    }
    return String(decoding: word, as: UTF8.self) + "\""
}

func word(_ bytes: some Collection<UInt8>) -> String { "x" + bytes.hex }
func word(_ bytes: Bytes32) -> String { word(bytes.bytes) }
/// A further word for certified facts, if there are any.
func factsWord(_ facts: [UInt8]) -> String { facts.isEmpty ? "" : " " + word(facts) }
func word(_ flag: Bool) -> String { flag ? "1" : "0" }
func word(_ address: IPAddress?) -> String { address.map { "\($0)" } ?? "-" }

/// A count and the words of each.
func words<Value>(_ list: [Value], _ write: (Value) -> String) -> String {
    ([String(list.count)] + list.map(write)).joined(separator: " ")
}

/// Stands for bytes that are compared and not fed: their count and a hash of them.
func digest(_ bytes: [UInt8]) -> String {
    var fingerprint = Fingerprint()
    fingerprint.mix(bytes)
    return "\(bytes.count) \(String(fingerprint.value, radix: 16))"
}
