import MeshBase

/// A response of an upstream, kept as bytes so that it costs one copy to serve again: without its
/// OPT record, with the places of its lifetimes noted.
struct UpstreamReply {
    private let bytes: [UInt8]
    private let questionEnd: Int
    private let code: ResponseCode
    /// Where the TTL fields are.
    private let ttlOffsets: [UInt16]
    /// Seconds for which the reply may be kept; 0 when it may not.
    let lifetime: UInt32
    /// No lifetime shown to a client exceeds this; negative answers are cut to their own limit.
    private let ttlLimit: UInt32

    /// A day: longer promises are cut, as resolvers commonly do (RFC 8767 section 4).
    static let maximumLifetime: UInt32 = 86_400
    /// RFC 2308 section 5 suggests one to three hours as upper bound; names of machines that
    /// appear should appear sooner.
    static let maximumNegativeLifetime: UInt32 = 300
    /// SERVFAIL may be kept for at most five minutes (RFC 2308 section 7.1).
    static let failureLifetime: UInt32 = 5
    /// The lifetime shown on stale data (RFC 8767 section 4).
    static let staleLifetime: UInt32 = 30

    var size: Int { bytes.count }
    var responseCode: ResponseCode { code }

    /// Whether another upstream might know better.
    var isFailure: Bool { code != .noError && code != .nameError }

    /// Checks every record of `bytes`, a response to `question`, and throws when one is broken.
    init(_ bytes: [UInt8], question: DNSQuestion) throws(DecodingFailure) {
        var walk = ReplyWalk(question: question)
        try walk.walk(bytes)
        if let end = walk.optionsEnd, end != bytes.count {
            // An OPT record in front of others: rare enough to write the message anew.
            var message = try DNSMessage(decoding: bytes)
            message.edns = nil
            self = try UpstreamReply(message.encoded(), question: question)
            return
        }
        guard walk.extendedCode == 0 else { throw .field("extended response code") }
        var kept = Array(bytes[..<(walk.optionsStart ?? bytes.count)])
        if walk.optionsStart != nil {
            storeUInt16(loadUInt16(kept, at: 10) - 1, into: &kept, at: 10)
        }
        self.bytes = kept
        questionEnd = walk.questionEnd
        code = DNSFlags(rawValue: loadUInt16(bytes, at: 2)).code
        ttlOffsets = walk.ttlOffsets
        (lifetime, ttlLimit) = walk.lifetime(code)
    }

    /// The response for `query`, `age` seconds after the reply arrived.
    func render(for query: ClientQuery, age: UInt32, stale: Bool, limit: Int) -> [UInt8] {
        guard bytes.count + query.trailerSize <= limit, bytes.count <= 65_535 else {
            var writer = query.beginResponse(code)
            writer.setFlags(query.responseFlags(code).union(.truncated))
            query.finish(&writer)
            return writer.bytes
        }
        var response = [UInt8]()
        response.reserveCapacity(bytes.count + query.trailerSize)
        response.append(contentsOf: bytes)
        storeUInt16(query.id, into: &response, at: 0)
        storeUInt16(query.responseFlags(code).rawValue, into: &response, at: 2)
        // The client's spelling of the name: it may use the case as a nonce.
        for index in DNSReader.headerSize..<questionEnd {
            response[index] = query.bytes[index]
        }
        for offset in ttlOffsets {
            let ttl = stale ? UpstreamReply.staleLifetime : remaining(at: Int(offset), age: age)
            storeUInt32(ttl, into: &response, at: Int(offset))
        }
        if let edns = query.edns {
            appendOptions(EDNS(dnssecOK: edns.dnssecOK), to: &response)
        }
        return response
    }

    private func remaining(at offset: Int, age: UInt32) -> UInt32 {
        let ttl = loadUInt32(bytes, at: offset)
        let capped = ttl > 0x7FFF_FFFF ? 0 : min(ttl, ttlLimit)
        return capped > age ? capped - age : 0
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(bytes)
        fingerprint.mix(UInt64(lifetime))
    }
}

private func appendOptions(_ edns: EDNS, to response: inout [UInt8]) {
    response.append(0)
    let ttl: UInt32 = edns.dnssecOK ? 0x8000 : 0
    for value in [RecordType.opt.rawValue, edns.payloadSize] {
        response.append(UInt8(value >> 8))
        response.append(UInt8(truncatingIfNeeded: value))
    }
    response.append(contentsOf: [0, 0, UInt8(truncatingIfNeeded: ttl >> 8), 0, 0, 0])
    storeUInt16(loadUInt16(response, at: 10) + 1, into: &response, at: 10)
}

/// One pass over a reply: finds the lifetimes, the OPT record and what kind of answer it is.
private struct ReplyWalk {
    let question: DNSQuestion
    var questionEnd = 0
    var ttlOffsets: [UInt16] = []
    var optionsStart: Int?
    var optionsEnd: Int?
    var extendedCode: UInt8 = 0
    private var minimumTTL = UInt32.max
    private var negativeTTL: UInt32?
    private var answersQuestion = false

    init(question: DNSQuestion) {
        self.question = question
    }

    mutating func walk(_ bytes: [UInt8]) throws(DecodingFailure) {
        var reader = DNSReader(bytes, at: DNSReader.headerSize)
        _ = try reader.readQuestion()
        questionEnd = reader.offset
        for _ in 0..<loadUInt16(bytes, at: 6) { try walkRecord(&reader, isAnswer: true) }
        for _ in 0..<loadUInt16(bytes, at: 8) { try walkRecord(&reader, isAnswer: false) }
        for _ in 0..<loadUInt16(bytes, at: 10) { try walkRecord(&reader, isAnswer: false) }
        guard reader.offset == bytes.count else { throw .trailingBytes }
    }

    private mutating func walkRecord(
        _ reader: inout DNSReader, isAnswer: Bool
    ) throws(DecodingFailure) {
        let start = reader.offset
        let head = try reader.readRecordHead()
        if head.type == .opt {
            guard optionsStart == nil, head.name.isRoot else { throw .field("OPT record") }
            optionsStart = start
            optionsEnd = head.dataEnd
            extendedCode = head.edns.extendedCode
            reader.offset = head.dataEnd
            return
        }
        guard let offset = UInt16(exactly: head.ttlOffset) else { throw .field("message length") }
        ttlOffsets.append(offset)
        minimumTTL = min(minimumTTL, head.lifetime)
        if isAnswer, head.type == question.type || question.type == .any {
            answersQuestion = true
        }
        let data = try reader.readData(head)
        if !isAnswer, case .soa(let soa) = data {
            negativeTTL = min(head.lifetime, soa.minimum)
        }
    }

    /// How long the reply may be kept, and the most that any TTL in it may say.
    func lifetime(_ code: ResponseCode) -> (kept: UInt32, limit: UInt32) {
        if code == .noError, answersQuestion {
            let kept = min(minimumTTL, UpstreamReply.maximumLifetime)
            return (kept, UpstreamReply.maximumLifetime)
        }
        if code == .noError || code == .nameError {
            // Without an SOA record a negative answer must not be kept (RFC 2308 section 5).
            guard let negativeTTL else { return (0, UpstreamReply.maximumLifetime) }
            let kept = min(min(negativeTTL, minimumTTL), UpstreamReply.maximumNegativeLifetime)
            return (kept, kept)
        }
        return (code == .serverFailure ? UpstreamReply.failureLifetime : 0, 0)
    }
}
