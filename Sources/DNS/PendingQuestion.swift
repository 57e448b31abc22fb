import MeshBase
import NetAddress

/// A question on its way to upstreams, and everybody who waits for it: nobody, when an answer is
/// fetched ahead of need.
struct PendingQuestion {
    let key: QuestionKey
    /// The order of questions.
    let serial: UInt64
    var waiting: [Waiting]
    /// Tries without an outcome yet; the later ones are hedges.
    var live: [Attempt] = []
    /// Tries made.
    var attempts = 0
    var asked: Set<SocketAddress> = []
    /// When another upstream is asked beside the live ones.
    var hedgeAt: BootInstant?
    /// When those who wait get the stale answer that there is (RFC 8767 section 5).
    var staleAt: BootInstant?
    let givenUpAt: BootInstant
    /// The best reply that was not an answer.
    var failure: UpstreamReply?

    struct Waiting {
        let client: DNSClient
        let query: ClientQuery
    }

    var nextEvent: BootInstant {
        let first = live.reduce(givenUpAt) { min($0, $1.deadline) }
        return min(first, min(hedgeAt ?? first, staleAt ?? first))
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(serial)
        fingerprint.mix(waiting.count)
        fingerprint.mix(hedgeAt)
        fingerprint.mix(staleAt)
        for attempt in live { attempt.fingerprint(into: &fingerprint) }
    }
}

/// One message to one upstream.
struct Attempt {
    let exchange: UInt64
    let upstream: SocketAddress
    let transport: DNSTransport
    let queryID: UInt16
    /// The name as we spelled it, with random case: some twenty more bits that a forger must guess
    /// (draft-vixie-dnsext-dns0x20).
    let spelledName: [UInt8]
    let usesEDNS: Bool
    let sentAt: BootInstant
    let deadline: BootInstant
    var forgeries = 0

    /// The query for the upstream: recursion wanted, our EDNS, the client's DO and CD, and AD to
    /// learn whether the answer was validated (RFC 6840 section 5.7).
    func message(_ key: QuestionKey) -> [UInt8] {
        var flags: DNSFlags = .recursionDesired
        if usesEDNS { flags.insert(.authenticData) }
        if key.checkingDisabled { flags.insert(.checkingDisabled) }
        var writer = DNSWriter(id: queryID, flags: flags)
        writer.write(
            DNSQuestion(
                DNSName(validWire: spelledName), key.question.type,
                recordClass: key.question.recordClass))
        if usesEDNS {
            var options = EDNS(dnssecOK: key.dnssecOK)
            if transport == .tls {
                options.padding = EDNS.padding(behind: writer.count + options.size)
            }
            writer.write(options)
        }
        return writer.bytes
    }

    /// What bytes on the exchange are.
    enum Verdict {
        case reply(UpstreamReply)
        case askOverTCP
        case askWithoutEDNS
        /// From the upstream, but of no use.
        case broken
        /// Perhaps forged: the exchange goes on.
        case drop(DNSDropReason)
    }

    func judge(
        _ bytes: [UInt8], _ key: QuestionKey, isForbidden: (IPAddress) -> Bool
    ) -> Verdict {
        guard bytes.count >= DNSReader.headerSize else { return .drop(.tooShort) }
        let flags = DNSFlags(rawValue: loadUInt16(bytes, at: 2))
        guard flags.contains(.response), flags.opcode == 0 else { return .drop(.notAResponse) }
        guard loadUInt16(bytes, at: 0) == queryID else { return .drop(.wrongQuestion) }
        let dislikesEDNS =
            usesEDNS && (flags.code == .formatError || flags.code == .notImplemented)
        // Servers that could not read the question may answer with a header alone.
        if loadUInt16(bytes, at: 4) == 0, flags.code != .noError {
            return dislikesEDNS ? .askWithoutEDNS : .broken
        }
        var reader = DNSReader(bytes, at: DNSReader.headerSize)
        guard loadUInt16(bytes, at: 4) == 1, let question = try? reader.readQuestion(),
            question == key.question
        else { return .drop(.wrongQuestion) }
        if transport == .udp {
            // A server that does not keep the case is asked over TCP, where it does not matter.
            guard question.name.wire == spelledName, !flags.contains(.truncated) else {
                return .askOverTCP
            }
        }
        if dislikesEDNS { return .askWithoutEDNS }
        guard
            let reply = try? UpstreamReply(bytes, question: key.question, isForbidden: isForbidden)
        else { return .broken }
        return .reply(reply)
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(exchange)
        fingerprint.mix(UInt64(queryID))
        fingerprint.mix(spelledName)
        fingerprint.mix(upstream.ip.mappedBytes)
        fingerprint.mix(UInt64(upstream.port))
        fingerprint.mix(deadline)
    }
}

/// The name with the case of every letter drawn anew.
func respelled(_ name: DNSName, random: inout SeededGenerator) -> [UInt8] {
    var bits = random.next()
    var available = 64
    return name.wire.map { byte in
        let folded = foldCase(byte)
        guard folded &- 97 < 26 else { return byte }
        if available == 0 {
            bits = random.next()
            available = 64
        }
        defer {
            bits >>= 1
            available -= 1
        }
        return bits & 1 == 0 ? folded : folded & 0xDF
    }
}
