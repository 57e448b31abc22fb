import MeshBase

/// A whole DNS message, decoded. The resolver's fast path works on bytes instead; this form serves
/// multicast DNS, tests and tools.
package struct DNSMessage: Hashable, Sendable {
    package var id: UInt16
    package var flags: DNSFlags
    package var questions: [DNSQuestion] = []
    package var answers: [ResourceRecord] = []
    package var authorities: [ResourceRecord] = []
    /// Without the OPT record, which is ``edns``.
    package var additionals: [ResourceRecord] = []
    package var edns: EDNS?

    package init(id: UInt16 = 0, flags: DNSFlags = []) {
        self.id = id
        self.flags = flags
    }

    package var isResponse: Bool { flags.contains(.response) }

    /// The response code with its EDNS bits.
    package var code: ResponseCode {
        ResponseCode(rawValue: UInt16(edns?.extendedCode ?? 0) << 4 | flags.code.rawValue)
    }

    /// Decodes exactly one message. Memory is bounded by the input: counts are never trusted, and
    /// a name of at most 255 bytes takes at least two bytes of input.
    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count >= DNSReader.headerSize else { throw .truncated }
        id = loadUInt16(bytes, at: 0)
        flags = DNSFlags(rawValue: loadUInt16(bytes, at: 2))
        var reader = DNSReader(bytes, at: DNSReader.headerSize)
        for _ in 0..<loadUInt16(bytes, at: 4) {
            questions.append(try reader.readQuestion())
        }
        for _ in 0..<loadUInt16(bytes, at: 6) {
            if let record = try readRecord(&reader) { answers.append(record) }
        }
        for _ in 0..<loadUInt16(bytes, at: 8) {
            if let record = try readRecord(&reader) { authorities.append(record) }
        }
        for _ in 0..<loadUInt16(bytes, at: 10) {
            if let record = try readRecord(&reader) { additionals.append(record) }
        }
        guard reader.offset == bytes.count else { throw .trailingBytes }
    }

    private mutating func readRecord(
        _ reader: inout DNSReader
    ) throws(DecodingFailure) -> ResourceRecord? {
        let head = try reader.readRecordHead()
        guard head.type != .opt else {
            guard edns == nil, head.name.isRoot else { throw .field("OPT record") }
            var options = head.edns
            try options.readOptions(&reader, to: head.dataEnd)
            edns = options
            return nil
        }
        let data = try reader.readData(head)
        return ResourceRecord(
            head.name, data, ttl: head.lifetime, recordClass: head.recordClass)
    }

    /// The message in wire form with compressed names.
    package func encoded() -> [UInt8] {
        var writer = DNSWriter(id: id, flags: flags)
        for question in questions { writer.write(question) }
        for record in answers { writer.write(record, in: .answer) }
        for record in authorities { writer.write(record, in: .authority) }
        for record in additionals { writer.write(record, in: .additional) }
        if let edns { writer.write(edns) }
        return writer.bytes
    }
}
