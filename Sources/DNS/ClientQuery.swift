import MeshBase

/// A query that a client sent, checked and ready to be answered.
struct ClientQuery {
    let bytes: [UInt8]
    let id: UInt16
    let flags: DNSFlags
    let question: DNSQuestion
    /// The offset behind the question; bytes 12..<questionEnd are repeated in the response.
    let questionEnd: Int
    let edns: EDNS?
    /// The COOKIE option of the response; empty when the query had none.
    var cookie: [UInt8] = []
    /// Aliases of our zone that lead to ``target``, which an upstream is asked for.
    var aliases: [ResourceRecord] = []
    var target: DNSName?

    /// The most bytes that a response over UDP may have.
    var payloadLimit: Int {
        guard let edns else { return EDNS.classicPayloadSize }
        let offered = max(Int(edns.payloadSize), EDNS.classicPayloadSize)
        return min(offered, Int(EDNS.ownPayloadSize))
    }

    /// Flags of a response to this query.
    func responseFlags(_ code: ResponseCode) -> DNSFlags {
        let copied = flags.intersection([.recursionDesired, .checkingDisabled])
        return copied.union([.response, .recursionAvailable]).with(code)
    }

    /// A response that repeats the question and holds no records.
    func emptyResponse(_ code: ResponseCode) -> [UInt8] {
        var writer = beginResponse(code)
        finish(&writer, code)
        return writer.bytes
    }

    /// A response that says no more than that the client shall ask over TCP.
    func cutResponse(_ code: ResponseCode = .noError) -> [UInt8] {
        var writer = beginResponse(code)
        writer.setFlags(responseFlags(code).union(.truncated))
        finish(&writer, code)
        return writer.bytes
    }

    func beginResponse(_ code: ResponseCode) -> DNSWriter {
        DNSWriter(
            id: id, flags: responseFlags(code), questionOf: bytes, questionEnd: questionEnd)
    }

    /// Adds the OPT record, which a response has exactly when its query had one.
    func finish(_ writer: inout DNSWriter, _ code: ResponseCode = .noError) {
        guard let options = responseOptions(code) else { return }
        writer.write(options)
    }

    /// What the OPT record of a response says, if it has one.
    func responseOptions(_ code: ResponseCode = .noError) -> EDNS? {
        guard let edns else { return nil }
        var result = EDNS(
            extendedCode: UInt8(code.rawValue >> 4), dnssecOK: edns.dnssecOK)
        result.cookie = cookie
        return result
    }

    /// Bytes of the OPT record that ``finish(_:_:)`` adds.
    var trailerSize: Int { responseOptions()?.size ?? 0 }
}

/// What became of bytes that claim to be a query.
enum QueryVerdict {
    case query(ClientQuery)
    /// Answer with these bytes.
    case refuse([UInt8])
    /// Say nothing.
    case ignore(DNSDropReason)
}

/// Reads a query. Responses are never answered, so two servers cannot play ping-pong.
func examineQuery(_ bytes: [UInt8]) -> QueryVerdict {
    guard bytes.count >= DNSReader.headerSize else { return .ignore(.tooShort) }
    let flags = DNSFlags(rawValue: loadUInt16(bytes, at: 2))
    guard !flags.contains(.response) else { return .ignore(.unexpectedResponse) }
    guard flags.opcode == 0 else { return .refuse(bareResponse(to: bytes, .notImplemented)) }
    guard loadUInt16(bytes, at: 4) == 1, loadUInt16(bytes, at: 6) == 0 else {
        return .refuse(bareResponse(to: bytes, .formatError))
    }
    do {
        let query = try decodeQuery(bytes, flags: flags)
        if let edns = query.edns, edns.version > 0 {
            return .refuse(query.emptyResponse(.badVersion))
        }
        return .query(query)
    } catch {
        return .refuse(bareResponse(to: bytes, .formatError))
    }
}

private func decodeQuery(
    _ bytes: [UInt8], flags: DNSFlags
) throws(DecodingFailure) -> ClientQuery {
    var reader = DNSReader(bytes, at: DNSReader.headerSize)
    let question = try reader.readQuestion()
    let questionEnd = reader.offset
    for _ in 0..<loadUInt16(bytes, at: 8) {
        reader.offset = try reader.readRecordHead().dataEnd
    }
    var edns: EDNS?
    for _ in 0..<loadUInt16(bytes, at: 10) {
        let head = try reader.readRecordHead()
        if head.type == .opt {
            guard edns == nil, head.name.isRoot else { throw .field("OPT record") }
            var options = head.edns
            try options.readOptions(&reader, to: head.dataEnd)
            edns = options
        }
        reader.offset = head.dataEnd
    }
    guard reader.offset == bytes.count else { throw .trailingBytes }
    return ClientQuery(
        bytes: bytes, id: loadUInt16(bytes, at: 0), flags: flags, question: question,
        questionEnd: questionEnd, edns: edns)
}

/// A header alone, for messages whose question cannot be trusted.
private func bareResponse(to bytes: [UInt8], _ code: ResponseCode) -> [UInt8] {
    let opcode = DNSFlags(rawValue: loadUInt16(bytes, at: 2) & 0x7800)
    let copied = DNSFlags(rawValue: loadUInt16(bytes, at: 2)).intersection(.recursionDesired)
    let flags = opcode.union(copied).union(.response).with(code)
    return DNSWriter(id: loadUInt16(bytes, at: 0), flags: flags, capacity: 12).bytes
}
