import MeshBase

/// How the data of a record type that travels as ``RecordData/opaque(_:_:)`` is built, as far as
/// names in it and its lengths matter: a name may arrive compressed and must not leave so
/// (RFC 3597 section 4), so its bytes mean nothing outside their message until it is expanded.
struct RecordLayout {
    let fields: [Field]
    /// Whether any number of bytes may follow the fields.
    let hasTail: Bool

    enum Field {
        case bytes(Int)
        case name
        /// A length byte and as many bytes.
        case text
    }

    private init(_ fields: Field..., hasTail: Bool = false) {
        self.fields = fields
        self.hasTail = hasTail
    }

    /// The layout of `type`; `nil` for types whose data is not looked at (RFC 3597 section 5).
    static func of(_ type: RecordType) -> RecordLayout? { table[type] }

    private static let table: [RecordType: RecordLayout] = [
        // MD, MF, MB, MG, MR, HINFO, MINFO: RFC 1035 section 3.3.
        RecordType(rawValue: 3): RecordLayout(.name),
        RecordType(rawValue: 4): RecordLayout(.name),
        RecordType(rawValue: 7): RecordLayout(.name),
        RecordType(rawValue: 8): RecordLayout(.name),
        RecordType(rawValue: 9): RecordLayout(.name),
        .hinfo: RecordLayout(.text, .text),
        RecordType(rawValue: 14): RecordLayout(.name, .name),
        // RP, AFSDB, RT: RFC 1183. SIG: RFC 2535. PX: RFC 2163. NXT: RFC 2535.
        RecordType(rawValue: 17): RecordLayout(.name, .name),
        RecordType(rawValue: 18): RecordLayout(.bytes(2), .name),
        RecordType(rawValue: 21): RecordLayout(.bytes(2), .name),
        RecordType(rawValue: 24): RecordLayout(.bytes(18), .name, hasTail: true),
        RecordType(rawValue: 26): RecordLayout(.bytes(2), .name, .name),
        RecordType(rawValue: 30): RecordLayout(.name, hasTail: true),
        // RFC 3403 section 4.1.
        .naptr: RecordLayout(.bytes(4), .text, .text, .text, .name),
        // KX: RFC 2230.
        RecordType(rawValue: 36): RecordLayout(.bytes(2), .name),
        .dname: RecordLayout(.name),
        // DNSSEC: RFC 4034 sections 2 to 5, RFC 5155 sections 3 and 4.
        .ds: RecordLayout(.bytes(4), hasTail: true),
        .rrsig: RecordLayout(.bytes(18), .name, hasTail: true),
        .nsec: RecordLayout(.name, hasTail: true),
        .dnskey: RecordLayout(.bytes(4), hasTail: true),
        .nsec3: RecordLayout(.bytes(4), .text, .text, hasTail: true),
        .nsec3Parameters: RecordLayout(.bytes(4), .text),
        // RFC 6698 section 2.1.
        .tlsa: RecordLayout(.bytes(3), hasTail: true),
        // RFC 9460 section 2.2.
        .svcb: RecordLayout(.bytes(2), .name, hasTail: true),
        .https: RecordLayout(.bytes(2), .name, hasTail: true),
        // RFC 8659 section 4.1.
        .caa: RecordLayout(.bytes(1), .text, hasTail: true),
    ]
}

extension DNSReader {
    /// Reads the data up to `end` with its names expanded.
    mutating func readOpaque(_ type: RecordType, to end: Int) throws(DecodingFailure) -> [UInt8] {
        guard let layout = RecordLayout.of(type) else { return try readBytes(end - offset) }
        var data: [UInt8] = []
        for field in layout.fields {
            switch field {
            case .bytes(let count): data += try readBytes(count)
            case .name: data += try readName().wire
            case .text:
                let count = try readByte()
                data.append(count)
                data += try readBytes(Int(count))
            }
            guard offset <= end else { throw .field("data length") }
        }
        if layout.hasTail { data += try readBytes(end - offset) }
        return data
    }
}
