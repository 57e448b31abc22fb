import MeshBase
import NetAddress

/// One parameter of a service binding in its text form (RFC 9460 section 2.1 and appendix A).
enum ServiceParameter {
    static let names: [(String, UInt16)] = [
        ("mandatory", 0), ("alpn", 1), ("no-default-alpn", 2), ("port", 3), ("ipv4hint", 4),
        ("ech", 5), ("ipv6hint", 6),
    ]

    /// Reads `key=value`; the forms of `mandatory` and `ech` are left to `keyN=`.
    static func read(_ bytes: [UInt8]) -> (key: UInt16, value: [UInt8])? {
        let parts = bytes.split(
            separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(decoding: parts[0], as: UTF8.self).lowercased()
        let value = parts.count == 2 ? String(decoding: parts[1], as: UTF8.self) : nil
        let items = (value ?? "").split(separator: ",", omittingEmptySubsequences: false)
        switch name {
        case "alpn":
            guard value != nil, items.allSatisfy({ (1...255).contains($0.utf8.count) }) else {
                return nil
            }
            return (1, items.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) })
        case "no-default-alpn": return value == nil ? (2, []) : nil
        case "port": return UInt16(value ?? "").map { (3, [UInt8($0 >> 8), UInt8($0 & 255)]) }
        case "ipv4hint", "ipv6hint":
            let isIPv4 = name == "ipv4hint"
            let addresses = items.compactMap { IPAddress(String($0)) }
            guard addresses.count == items.count, addresses.allSatisfy({ $0.isIPv4 == isIPv4 })
            else { return nil }
            return (isIPv4 ? 4 : 6, addresses.flatMap(\.bytes))
        default:
            guard name.hasPrefix("key"), let key = UInt16(name.dropFirst(3)) else { return nil }
            return (key, Array(parts.count == 2 ? Array(parts[1]) : []))
        }
    }

    static func text(_ key: UInt16, _ value: ArraySlice<UInt8>) -> String {
        switch key {
        case 1:
            var items: [String] = []
            var rest = value
            while let length = rest.popFirst(), rest.count >= length {
                items.append(String(decoding: rest.prefix(Int(length)), as: UTF8.self))
                rest = rest.dropFirst(Int(length))
            }
            return "alpn=\(items.joined(separator: ","))"
        case 2 where value.isEmpty: return "no-default-alpn"
        case 3 where value.count == 2:
            return
                "port=\(UInt16(value[value.startIndex]) << 8 | UInt16(value[value.startIndex + 1]))"
        case 4, 6:
            let step = key == 4 ? 4 : 16
            let hints = stride(from: value.startIndex, to: value.endIndex, by: step).compactMap {
                IPAddress(bytes: value[$0..<min($0 + step, value.endIndex)]).map { "\($0)" }
            }
            return "ipv\(key)hint=\(hints.joined(separator: ","))"
        default: return "key\(key)=\(quotedText(Array(value)))"
        }
    }
}

/// The text of data without a case of its own; the generic form when it is not what its type says.
func opaqueText(_ type: RecordType, _ raw: [UInt8]) -> String {
    var reader = DNSReader(raw)
    if let text = try? composedText(type, &reader, raw), reader.offset == raw.count { return text }
    let digits = raw.map { hexPair($0) }.joined()
    return raw.isEmpty ? "\\# 0" : "\\# \(raw.count) \(digits)"
}

private func composedText(
    _ type: RecordType, _ reader: inout DNSReader, _ raw: [UInt8]
) throws(DecodingFailure) -> String? {
    func characterString() throws(DecodingFailure) -> String {
        let count = Int(try reader.readByte())
        return quotedText(try reader.readBytes(count))
    }
    switch type {
    case .naptr:
        let numbers = "\(try reader.readUInt16()) \(try reader.readUInt16())"
        let texts = [try characterString(), try characterString(), try characterString()]
        let name = try reader.readName().absoluteText
        return "\(numbers) \(texts.joined(separator: " ")) \(name)"
    case .caa:
        let flags = try reader.readByte()
        let tag = try characterString()
        return "\(flags) \(tag) \(quotedText(try reader.readBytes(raw.count - reader.offset)))"
    case .tlsa:
        let head = "\(try reader.readByte()) \(try reader.readByte()) \(try reader.readByte())"
        let hash = try reader.readBytes(raw.count - reader.offset).map { hexPair($0) }
        return "\(head) \(hash.joined())"
    case .svcb, .https:
        var words = ["\(try reader.readUInt16())", try reader.readName().absoluteText]
        while reader.offset < raw.count {
            let key = try reader.readUInt16()
            let count = Int(try reader.readUInt16())
            words.append(ServiceParameter.text(key, try reader.readBytes(count)[...]))
        }
        return words.joined(separator: " ")
    default: return nil
    }
}

private func hexPair(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0\(digits)" : digits
}

/// In quotation marks, with escapes for what is not visible ASCII.
func quotedText(_ bytes: [UInt8]) -> String {
    bytes.reduce(into: "\"") { text, byte in
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): text += "\\" + String(UnicodeScalar(byte))
        case 0x20...0x7E: text.unicodeScalars.append(UnicodeScalar(byte))
        default:
            let digits = String(byte)
            text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
        }
    } + "\""
}
