import MeshBase
import NetAddress

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
    /// The upstream validated it (RFC 4035 section 3.2.3).
    private let isAuthentic: Bool
    /// Records with addresses that are not for this name were taken out.
    private(set) var wasFiltered = false

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

    /// It has the records that were asked for.
    var isPositive: Bool { code == .noError && ttlLimit == UpstreamReply.maximumLifetime }

    /// Whether another upstream might know better.
    var isFailure: Bool { code != .noError && code != .nameError }

    /// Checks every record of `bytes`, a response to `question`, and throws when one is broken.
    /// Records that lead to an address that `isForbidden` are left out.
    init(
        _ bytes: [UInt8], question: DNSQuestion, isForbidden: (IPAddress) -> Bool = { _ in false }
    ) throws(DecodingFailure) {
        var walk = ReplyWalk(question: question)
        try walk.walk(bytes, isForbidden)
        if walk.foundForbidden || walk.optionsEnd ?? bytes.count != bytes.count {
            // Or an OPT record in front of others: rare enough to write the message anew.
            var message = try DNSMessage(decoding: bytes)
            guard walk.extendedCode == 0 else { throw .field("extended response code") }
            message.edns = nil
            if walk.foundForbidden {
                message.flags.remove(.authenticData)
                message.remove { $0.reachableAddresses.contains(where: isForbidden) }
            }
            self = try UpstreamReply(message.encoded(), question: question)
            wasFiltered = walk.foundForbidden
            return
        }
        guard walk.extendedCode == 0 else { throw .field("extended response code") }
        var kept = Array(bytes[..<(walk.optionsStart ?? bytes.count)])
        if walk.optionsStart != nil {
            storeUInt16(loadUInt16(kept, at: 10) - 1, into: &kept, at: 10)
        }
        self.bytes = kept
        questionEnd = walk.questionEnd
        let flags = DNSFlags(rawValue: loadUInt16(bytes, at: 2))
        code = flags.code
        isAuthentic = flags.contains(.authenticData)
        ttlOffsets = walk.ttlOffsets
        (lifetime, ttlLimit) = walk.lifetime(code)
    }

    /// A failure of which no upstream told, to be kept like one that was told (RFC 9520).
    init(failureFor question: DNSQuestion) {
        var writer = DNSWriter(id: 0, flags: DNSFlags.response.with(.serverFailure))
        writer.write(question)
        bytes = writer.bytes
        questionEnd = writer.count
        code = .serverFailure
        ttlOffsets = []
        lifetime = UpstreamReply.failureLifetime
        ttlLimit = 0
        isAuthentic = false
    }

    /// The response for `query`, `age` seconds after the reply arrived.
    func render(for query: ClientQuery, age: UInt32, stale: Bool, limit: Int) -> [UInt8] {
        var options = query.responseOptions()
        if stale { options?.extendedError = EDNS.staleAnswer }
        let trailerSize = options?.size ?? 0
        let wantsAuthentic =
            query.flags.contains(.authenticData) || query.edns?.dnssecOK ?? false
        guard query.aliases.isEmpty else {
            return renderAliased(query, age: age, stale: stale, limit: limit)
        }
        guard bytes.count + trailerSize <= limit else { return query.cutResponse(code) }
        var response = [UInt8]()
        response.reserveCapacity(bytes.count + trailerSize)
        response.append(contentsOf: bytes)
        storeUInt16(query.id, into: &response, at: 0)
        var flags = query.responseFlags(code)
        if isAuthentic, wantsAuthentic, !stale { flags.insert(.authenticData) }
        storeUInt16(flags.rawValue, into: &response, at: 2)
        // The client's spelling of the name: it may use the case as a nonce.
        for index in DNSReader.headerSize..<questionEnd {
            response[index] = query.bytes[index]
        }
        for offset in ttlOffsets {
            let ttl = stale ? UpstreamReply.staleLifetime : remaining(at: Int(offset), age: age)
            storeUInt32(ttl, into: &response, at: Int(offset))
        }
        options?.append(to: &response)
        return response
    }

    /// The response when our own aliases come first. The first owner's name is ours, so the answer
    /// is authoritative (RFC 1035 section 4.1.1); the code is the target's (RFC 6604 section 3).
    private func renderAliased(
        _ query: ClientQuery, age: UInt32, stale: Bool, limit: Int
    ) -> [UInt8] {
        var aged = bytes
        for offset in ttlOffsets {
            let ttl = stale ? UpstreamReply.staleLifetime : remaining(at: Int(offset), age: age)
            storeUInt32(ttl, into: &aged, at: Int(offset))
        }
        // The bytes were read when they arrived.
        guard let message = try? DNSMessage(decoding: aged), !isFailure else {
            return query.emptyResponse(.serverFailure)
        }
        var writer = query.beginResponse(code)
        writer.setFlags(query.responseFlags(code).union(.authoritative))
        for record in query.aliases + message.answers { writer.write(record, in: .answer) }
        for record in message.authorities { writer.write(record, in: .authority) }
        var options = query.responseOptions()
        if stale { options?.extendedError = EDNS.staleAnswer }
        guard writer.count + (options?.size ?? 0) <= limit else { return query.cutResponse(code) }
        if let options { writer.write(options) }
        return writer.bytes
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

extension DNSMessage {
    fileprivate mutating func remove(where shouldGo: (ResourceRecord) -> Bool) {
        answers.removeAll(where: shouldGo)
        authorities.removeAll(where: shouldGo)
        additionals.removeAll(where: shouldGo)
    }
}

/// One pass over a reply: finds the lifetimes, the OPT record and what kind of answer it is.
private struct ReplyWalk {
    let question: DNSQuestion
    var questionEnd = 0
    var ttlOffsets: [UInt16] = []
    var optionsStart: Int?
    var optionsEnd: Int?
    var extendedCode: UInt8 = 0
    var foundForbidden = false
    private var minimumTTL = UInt32.max
    private var negativeTTL: UInt32?
    private var answersQuestion = false

    init(question: DNSQuestion) {
        self.question = question
    }

    mutating func walk(
        _ bytes: [UInt8], _ isForbidden: (IPAddress) -> Bool
    ) throws(DecodingFailure) {
        var reader = DNSReader(bytes, at: DNSReader.headerSize)
        _ = try reader.readQuestion()
        questionEnd = reader.offset
        for _ in 0..<loadUInt16(bytes, at: 6) {
            try walkRecord(&reader, isAnswer: true, isForbidden)
        }
        for _ in 0..<loadUInt16(bytes, at: 8) {
            try walkRecord(&reader, isAnswer: false, isForbidden)
        }
        for _ in 0..<loadUInt16(bytes, at: 10) {
            try walkRecord(&reader, isAnswer: false, isForbidden)
        }
        guard reader.offset == bytes.count else { throw .trailingBytes }
    }

    private mutating func walkRecord(
        _ reader: inout DNSReader, isAnswer: Bool, _ isForbidden: (IPAddress) -> Bool
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
        let record = ResourceRecord(head.name, data, ttl: 0)
        if record.reachableAddresses.contains(where: isForbidden) { foundForbidden = true }
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
