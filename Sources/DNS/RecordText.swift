import MeshBase
import NetAddress

// Records as people write them: the presentation format of RFC 1035 section 5.1 and of each type's
// own document, and that of RFC 3597 section 5 for all others.

/// What is wrong with the text of a record.
package enum RecordTextProblem: Error, Hashable, Sendable {
    /// No type of this name, or none that people may publish.
    case type(String)
    /// The data does not have the form that follows.
    case form(String)
    /// A name with dots that is neither in the zone nor marked as absolute by a final dot.
    case ambiguousName(String)

    package var message: String {
        switch self {
        case .type(let text): "\(text) is no record type that can be published"
        case .form(let form): "the data is not of the form \(form)"
        case .ambiguousName(let name): "\(name) could be meant in the zone or outside of it"
        }
    }

    package var fix: String {
        switch self {
        case .type: "use A, AAAA, CNAME, PTR, MX, TXT, SRV, NAPTR, CAA, TLSA, SVCB, HTTPS or TYPEn"
        case .form(let form): "write \(form)"
        case .ambiguousName(let name): "write \(name). with a dot at its end for the name as it is"
        }
    }
}

extension RecordType: CustomStringConvertible {
    private static let names: [(String, RecordType)] = [
        ("A", .a), ("NS", .ns), ("CNAME", .cname), ("SOA", .soa), ("PTR", .ptr),
        ("HINFO", .hinfo), ("MX", .mx), ("TXT", .txt), ("AAAA", .aaaa), ("SRV", .srv),
        ("NAPTR", .naptr), ("DNAME", .dname), ("OPT", .opt), ("DS", .ds), ("RRSIG", .rrsig),
        ("NSEC", .nsec), ("DNSKEY", .dnskey), ("NSEC3", .nsec3),
        ("NSEC3PARAM", .nsec3Parameters), ("TLSA", .tlsa), ("SVCB", .svcb), ("HTTPS", .https),
        ("IXFR", .ixfr), ("AXFR", .axfr), ("ANY", .any), ("CAA", .caa),
    ]

    package var description: String {
        RecordType.names.first { $0.1 == self }?.0 ?? "TYPE\(rawValue)"
    }

    package init?(_ text: String) {
        let upper = text.uppercased()
        if let known = RecordType.names.first(where: { $0.0 == upper }) {
            self = known.1
        } else if upper.hasPrefix("TYPE"), let number = UInt16(upper.dropFirst(4)) {
            self.init(rawValue: number)
        } else {
            return nil
        }
    }

    /// Whether people may publish it: not what belongs to the zone itself or to its signatures,
    /// and nothing that is no data (RFC 6895 section 3.1).
    package var isPublishable: Bool {
        switch self {
        case .ns, .soa, .dname, .opt, .ds, .rrsig, .nsec, .dnskey, .nsec3, .nsec3Parameters: false
        default: rawValue != 0 && !(128...255).contains(rawValue)
        }
    }
}

extension RecordData {
    /// Reads the data of a record that people may publish. Names without a final dot are relative
    /// to `zone`, unless they end in it.
    package init(
        _ type: RecordType, text: String, zone: DNSName
    ) throws(RecordTextProblem) {
        guard type.isPublishable else { throw .type("\(type)") }
        guard let words = RecordWord.split(text), !words.isEmpty else {
            throw .form("\(RecordData.form(of: type))")
        }
        var fields = RecordFields(words, zone: zone, form: RecordData.form(of: type))
        if fields.takeMarker() {
            let raw = try fields.rest { $0.hexBytes() }
            self = try RecordData(type, generic: raw, form: RecordData.genericForm)
            return
        }
        switch type {
        case .a, .aaaa:
            let ip = try fields.next { IPAddress($0.text) }
            guard ip.isIPv4 == (type == .a) else { throw fields.problem }
            self = .address(ip)
        case .cname: self = .cname(try fields.name())
        case .ptr: self = .ptr(try fields.name())
        case .mx: self = .mx(preference: try fields.number(), exchange: try fields.name())
        case .txt:
            var texts: [[UInt8]] = []
            repeat {
                let bytes = try fields.next { $0.bytes }
                // A longer text travels as several strings that belong together
                // (RFC 7208 section 3.3).
                for start in stride(from: 0, to: max(1, bytes.count), by: 255) {
                    texts.append(Array(bytes[start..<min(start + 255, bytes.count)]))
                }
            } while !fields.isAtEnd
            self = .txt(texts)
        case .srv:
            self = .srv(
                ServiceLocation(
                    priority: try fields.number(), weight: try fields.number(),
                    port: try fields.number(), target: try fields.name()))
        default: self = .opaque(type, try RecordData.composed(type, &fields))
        }
        guard fields.isAtEnd else { throw fields.problem }
    }

    /// Checks bytes of a record by reading them as if they had come over the wire.
    private init(
        _ type: RecordType, generic raw: [UInt8], form: String
    ) throws(RecordTextProblem) {
        var message = DNSMessage()
        message.answers = [ResourceRecord(.root, .opaque(type, raw), ttl: 0)]
        guard raw.count < 4096, let read = try? DNSMessage(decoding: message.encoded()),
            let record = read.answers.first
        else { throw .form(form) }
        self = record.data
    }

    private static func composed(
        _ type: RecordType, _ fields: inout RecordFields
    ) throws(RecordTextProblem) -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        switch type {
        case .naptr:
            writer.write(try fields.number() as UInt16)
            writer.write(try fields.number() as UInt16)
            for _ in 0..<3 { writer.write(raw: try fields.characterString()) }
            writer.write(raw: try fields.name().wire)
        case .caa:
            writer.write(try fields.number() as UInt8)
            writer.write(raw: try fields.characterString())
            writer.write(raw: try fields.next { $0.bytes })
        case .tlsa:
            for _ in 0..<3 { writer.write(try fields.number() as UInt8) }
            writer.write(raw: try fields.rest { $0.hexBytes() })
        case .svcb, .https:
            writer.write(try fields.number() as UInt16)
            writer.write(raw: try fields.name().wire)
            writer.write(raw: try fields.serviceParameters())
        default: throw fields.problem
        }
        return writer.bytes
    }

    private static let genericForm = "\\# LENGTH HEX (RFC 3597)"

    private static func form(of type: RecordType) -> String {
        switch type {
        case .a: "an IPv4 address"
        case .aaaa: "an IPv6 address"
        case .cname, .ptr: "NAME"
        case .mx: "PREFERENCE NAME"
        case .txt: #""TEXT" ..."#
        case .srv: "PRIORITY WEIGHT PORT NAME"
        case .naptr: #"ORDER PREFERENCE "FLAGS" "SERVICE" "REGEXP" NAME"#
        case .caa: #"FLAGS TAG "VALUE""#
        case .tlsa: "USAGE SELECTOR MATCHING HEX"
        case .svcb, .https: "PRIORITY NAME [alpn=... port=... ipv4hint=... ipv6hint=...]"
        default: genericForm
        }
    }

    /// What ``init(_:text:zone:)`` reads back as the same data.
    package var text: String {
        switch self {
        case .address(let ip): "\(ip)"
        case .ns(let name), .cname(let name), .ptr(let name): name.absoluteText
        case .soa(let soa):
            "\(soa.primary.absoluteText) \(soa.mailbox.absoluteText) \(soa.serial) \(soa.refresh) "
                + "\(soa.retry) \(soa.expire) \(soa.minimum)"
        case .mx(let preference, let exchange): "\(preference) \(exchange.absoluteText)"
        case .txt(let texts): texts.map(quotedText).joined(separator: " ")
        case .srv(let service):
            "\(service.priority) \(service.weight) \(service.port) \(service.target.absoluteText)"
        case .opaque(let type, let raw): opaqueText(type, raw)
        }
    }
}

extension DNSName {
    /// With the final dot.
    package var absoluteText: String { isRoot ? "." : "\(self)." }
}

/// One word of a record's text, with its escapes resolved.
struct RecordWord {
    let bytes: [UInt8]
    /// As it was written, for names, which have escapes of their own.
    let text: String

    /// Splits at blanks outside of quotation marks; `nil` when a quotation or an escape does not
    /// end.
    static func split(_ text: String) -> [RecordWord]? {
        var words: [RecordWord] = []
        let all = Array(text.utf8)
        var rest = all[...]
        while true {
            rest = rest.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            guard !rest.isEmpty else { return words }
            let start = rest.startIndex
            var bytes: [UInt8] = []
            var isQuoted = false
            while let byte = rest.first {
                if !isQuoted, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") { break }
                rest.removeFirst()
                switch byte {
                case UInt8(ascii: "\""): isQuoted.toggle()
                case UInt8(ascii: "\\") where !rest.isEmpty && rest.first != UInt8(ascii: "#"):
                    guard let escaped = unescaped(&rest) else { return nil }
                    bytes.append(escaped)
                case UInt8(ascii: "\n"), UInt8(ascii: "\r"), 0: return nil
                default: bytes.append(byte)
                }
            }
            guard !isQuoted else { return nil }
            let written = all[start..<rest.startIndex]
            words.append(RecordWord(bytes: bytes, text: String(decoding: written, as: UTF8.self)))
        }
    }

    private static func unescaped(_ rest: inout ArraySlice<UInt8>) -> UInt8? {
        guard let first = rest.popFirst() else { return nil }
        guard (48...57).contains(first) else { return first }
        guard let second = rest.popFirst(), let third = rest.popFirst(),
            (48...57).contains(second), (48...57).contains(third)
        else { return nil }
        return UInt8(exactly: Int(first - 48) * 100 + Int(second - 48) * 10 + Int(third - 48))
    }

    func hexBytes() -> [UInt8]? {
        guard bytes.count.isMultiple(of: 2) else { return nil }
        var result: [UInt8] = []
        for index in stride(from: 0, to: bytes.count, by: 2) {
            let pair = String(decoding: bytes[index..<index + 2], as: UTF8.self)
            guard let value = UInt8(pair, radix: 16), !pair.hasPrefix("+") else { return nil }
            result.append(value)
        }
        return result
    }
}

/// The words of one record, taken from the front.
struct RecordFields {
    private var words: ArraySlice<RecordWord>
    private let zone: DNSName
    private let form: String

    init(_ words: [RecordWord], zone: DNSName, form: String) {
        self.words = words[...]
        self.zone = zone
        self.form = form
    }

    var isAtEnd: Bool { words.isEmpty }
    var problem: RecordTextProblem { .form(form) }

    mutating func next<Value>(_ read: (RecordWord) -> Value?) throws(RecordTextProblem) -> Value {
        guard let word = words.popFirst(), let value = read(word) else { throw problem }
        return value
    }

    mutating func number<Number: FixedWidthInteger>() throws(RecordTextProblem) -> Number {
        try next { $0.text.utf8.allSatisfy { (48...57).contains($0) } ? Number($0.text) : nil }
    }

    mutating func characterString() throws(RecordTextProblem) -> [UInt8] {
        try next { $0.bytes.count <= 255 ? [UInt8($0.bytes.count)] + $0.bytes : nil }
    }

    /// All words that are left, each read and joined to the one before.
    mutating func rest(_ read: (RecordWord) -> [UInt8]?) throws(RecordTextProblem) -> [UInt8] {
        var result: [UInt8] = []
        while !isAtEnd { result += try next(read) }
        return result
    }

    /// Takes `\# LENGTH` of RFC 3597, if it is there and the length is that of what follows.
    mutating func takeMarker() -> Bool {
        guard words.first?.text == "\\#", words.count >= 2,
            let length = Int(words[words.startIndex + 1].text)
        else { return false }
        let digits = words.dropFirst(2).reduce(0) { $0 + $1.bytes.count }
        guard digits == length * 2 else { return false }
        words = words.dropFirst(2)
        return true
    }

    mutating func name() throws(RecordTextProblem) -> DNSName {
        let text = try next { $0.text }
        return try DNSName(dataText: text, zone: zone, problem: problem)
    }

    /// `key=value` pairs of a service binding (RFC 9460 section 2.1), in the order of their keys.
    mutating func serviceParameters() throws(RecordTextProblem) -> [UInt8] {
        var parameters: [UInt16: [UInt8]] = [:]
        while !isAtEnd {
            let (key, value) = try next { ServiceParameter.read($0.bytes) }
            guard parameters.updateValue(value, forKey: key) == nil else { throw problem }
        }
        var writer = ByteWriter(capacity: 64)
        for (key, value) in parameters.sorted(by: { $0.key < $1.key }) {
            writer.write(key)
            writer.write(UInt16(value.count))
            writer.write(raw: value)
        }
        return writer.bytes
    }
}

extension DNSName {
    /// A name in a record's data. A name with dots, neither in the zone nor a service's, is most
    /// likely meant as it is, and would be something else by the rules of zone files: it is refused.
    init(dataText text: String, zone: DNSName, problem: RecordTextProblem)
        throws(RecordTextProblem)
    {
        guard !text.isEmpty, let name = DNSName(text) else { throw problem }
        if text.hasSuffix(".") || name.isWithin(zone) {
            self = name
            return
        }
        if text == "@" {
            self = zone
            return
        }
        let last = name.labels.last.map { String(decoding: $0, as: UTF8.self).lowercased() }
        guard name.labels.count == 1 || last == "_tcp" || last == "_udp" else {
            throw .ambiguousName(text)
        }
        guard let absolute = name.appending(zone) else { throw problem }
        self = absolute
    }
}
