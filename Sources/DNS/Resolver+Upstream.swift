import MeshBase
import NetAddress

/// A question on its way to an upstream, and everybody who waits for it.
struct PendingQuestion {
    let key: QuestionKey
    var waiting: [Waiting]
    /// The name as we spelled it, with random case: some twenty more bits that a forger must guess
    /// (draft-vixie-dnsext-dns0x20).
    var spelledName: [UInt8]
    var queryID: UInt16
    var upstream: Int
    var transport: DNSTransport
    /// Tries made, the current one included.
    var attempts: Int
    var asked: Set<Int>
    var deadline: BootInstant
    let givenUpAt: BootInstant
    var forgeries = 0
    /// The best reply that was not an answer.
    var failure: UpstreamReply?

    struct Waiting {
        let client: DNSClient
        let query: ClientQuery
    }
}

/// How an upstream behaved lately.
struct UpstreamHealth {
    var failures = 0
    var avoidedUntil: BootInstant?

    /// After this many silent tries in a row another upstream goes first.
    static let failureLimit = 3
    static let avoidance: Duration = .seconds(30)
}

extension Resolver {
    /// Time for the first try, the second and later ones: together less than the five seconds that
    /// a stub resolver waits.
    private static let patience: [Duration] = [
        .milliseconds(1000), .milliseconds(1500), .seconds(2),
    ]
    private static let totalPatience: Duration = .milliseconds(4500)
    private static let maximumAttempts = 4
    /// Wrong replies on one exchange before it moves to TCP, where they cannot be forged blindly.
    private static let forgeryLimit = 10

    // MARK: Asking

    /// Joins a question that is on its way, or sends one.
    mutating func ask(
        _ query: ClientQuery, client: DNSClient, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        let waiting = PendingQuestion.Waiting(client: client, query: query)
        if let exchange = pendingByKey[query.key] {
            // A forwarding loop through another resolver ends here too: the question that comes
            // back waits for itself until both time out.
            if let count = pending[exchange]?.waiting.count, count < Resolver.maximumWaiting {
                pending[exchange]?.waiting.append(waiting)
                return
            }
        } else if pending.count < Resolver.maximumPending {
            let question = PendingQuestion(
                key: query.key, waiting: [waiting], spelledName: [], queryID: 0, upstream: 0,
                transport: .udp, attempts: 0, asked: [], deadline: now,
                givenUpAt: now + Resolver.totalPatience)
            let upstream = chooseUpstream(for: question, at: now)
            send(question, to: upstream, over: .udp, at: now, random: &random, into: &actions)
            return
        }
        counters.failures += 1
        actions.append(.reply(to: client, query.emptyResponse(.serverFailure)))
    }

    /// The first upstream not asked yet, those in good health first; round and round when all were.
    private func chooseUpstream(for question: PendingQuestion, at now: BootInstant) -> Int {
        let fresh = health.indices.filter { !question.asked.contains($0) }
        let healthy = fresh.first { index in
            health[index].avoidedUntil.map { $0 <= now } ?? true
        }
        return healthy ?? fresh.first ?? question.attempts % health.count
    }

    /// Makes one try under a new exchange with a new identifier.
    private mutating func send(
        _ question: PendingQuestion, to upstream: Int, over transport: DNSTransport,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        var question = question
        let exchange = nextExchange
        nextExchange += 1
        question.queryID = UInt16(truncatingIfNeeded: random.next())
        question.spelledName = respelled(question.key.question.name, random: &random)
        question.upstream = upstream
        question.transport = transport
        question.asked.insert(upstream)
        let patience = Resolver.patience[min(question.attempts, Resolver.patience.count - 1)]
        question.attempts += 1
        question.deadline = min(now + patience, question.givenUpAt)
        pendingByKey[question.key] = exchange
        pending[exchange] = question
        earliestDeadline = earlier(earliestDeadline, question.deadline)
        counters.upstreamQueries += 1
        actions.append(
            .queryUpstream(
                exchange: exchange, to: configuration.upstreams[upstream], over: transport,
                question.message()))
    }

    // MARK: Hearing back

    /// Takes bytes that arrived on the socket of `exchange`.
    package mutating func receive(
        reply bytes: [UInt8], exchange: UInt64, from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        guard let question = pending[exchange] else {
            return drop(.unknownExchange, into: &actions)
        }
        guard isCurrent(question, source) else { return drop(.wrongSource, into: &actions) }
        switch question.judge(bytes) {
        case .drop(let reason):
            drop(reason, into: &actions)
            noteForgery(exchange, at: now, random: &random, into: &actions)
        case .askOverTCP:
            move(exchange, over: .tcp, at: now, random: &random, into: &actions)
        case .broken:
            tryNext(exchange, failure: nil, at: now, random: &random, into: &actions)
        case .reply(let reply):
            health[question.upstream] = UpstreamHealth()
            if reply.isFailure, question.asked.count < health.count {
                tryNext(exchange, failure: reply, at: now, random: &random, into: &actions)
            } else {
                finish(exchange, with: reply, at: now, into: &actions)
            }
        }
    }

    /// The socket of `exchange` failed: refused, unreachable, closed early.
    package mutating func exchangeFailed(
        _ exchange: UInt64, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard let question = pending[exchange] else { return }
        noteSilence(of: question, at: now)
        tryNext(exchange, failure: nil, at: now, random: &random, into: &actions)
    }

    /// Gives up on tries whose time is over.
    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        let expired = pending.filter { $0.value.deadline <= now }.keys.sorted()
        for exchange in expired {
            exchangeFailed(exchange, at: now, random: &random, into: &actions)
        }
        earliestDeadline = pending.values.lazy.map(\.deadline).min()
    }

    private mutating func drop(_ reason: DNSDropReason, into actions: inout [ResolverAction]) {
        counters.dropped += 1
        actions.append(.dropped(reason))
    }

    /// False for another source, and for an upstream that was replaced meanwhile.
    private func isCurrent(_ question: PendingQuestion, _ source: SocketAddress) -> Bool {
        let upstreams = configuration.upstreams
        guard upstreams.indices.contains(question.upstream) else { return false }
        let expected = upstreams[question.upstream]
        return expected.ip == source.ip && expected.port == source.port
    }

    private mutating func noteForgery(
        _ exchange: UInt64, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        pending[exchange]?.forgeries += 1
        guard let question = pending[exchange], question.forgeries == Resolver.forgeryLimit else {
            return
        }
        move(exchange, over: .tcp, at: now, random: &random, into: &actions)
    }

    private mutating func noteSilence(of question: PendingQuestion, at now: BootInstant) {
        guard health.indices.contains(question.upstream) else { return }
        health[question.upstream].failures += 1
        if health[question.upstream].failures >= UpstreamHealth.failureLimit {
            health[question.upstream].avoidedUntil = now + UpstreamHealth.avoidance
        }
    }

    /// Repeats the question to the same upstream over another transport.
    private mutating func move(
        _ exchange: UInt64, over transport: DNSTransport, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        guard let question = pending[exchange], question.transport != transport else {
            return tryNext(exchange, failure: nil, at: now, random: &random, into: &actions)
        }
        retire(exchange, into: &actions)
        send(
            question, to: question.upstream, over: transport, at: now, random: &random,
            into: &actions)
    }

    /// Asks the next upstream, or tells everybody who waits that there is no answer.
    private mutating func tryNext(
        _ exchange: UInt64, failure: UpstreamReply?, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        guard var question = pending[exchange] else { return }
        question.failure = failure ?? question.failure
        pending[exchange] = question
        guard question.attempts < Resolver.maximumAttempts, now < question.givenUpAt,
            !health.isEmpty
        else {
            return finish(exchange, with: question.failure, at: now, into: &actions)
        }
        retire(exchange, into: &actions)
        let upstream = chooseUpstream(for: question, at: now)
        send(question, to: upstream, over: .udp, at: now, random: &random, into: &actions)
    }

    /// Ends the question. Without an answer an old one is better than none (RFC 8767).
    private mutating func finish(
        _ exchange: UInt64, with reply: UpstreamReply?, at now: BootInstant,
        into actions: inout [ResolverAction]
    ) {
        guard let question = pending[exchange] else { return }
        retire(exchange, into: &actions)
        if let reply, !reply.isFailure {
            cache.store(reply, for: question.key, at: now)
            return respond(question, reply, age: 0, stale: false, into: &actions)
        }
        if let hit = cache.find(question.key, at: now), !hit.reply.isFailure {
            counters.staleAnswers += UInt64(question.waiting.count)
            return respond(question, hit.reply, age: hit.age, stale: true, into: &actions)
        }
        counters.failures += UInt64(question.waiting.count)
        if let reply {
            cache.store(reply, for: question.key, at: now)
            return respond(question, reply, age: 0, stale: false, into: &actions)
        }
        for waiting in question.waiting {
            actions.append(
                .reply(to: waiting.client, waiting.query.emptyResponse(.serverFailure)))
        }
    }

    private func respond(
        _ question: PendingQuestion, _ reply: UpstreamReply, age: UInt32, stale: Bool,
        into actions: inout [ResolverAction]
    ) {
        for waiting in question.waiting {
            let limit = responseLimit(waiting.query, waiting.client)
            let response = reply.render(for: waiting.query, age: age, stale: stale, limit: limit)
            actions.append(.reply(to: waiting.client, response))
        }
    }

    private mutating func retire(_ exchange: UInt64, into actions: inout [ResolverAction]) {
        guard let question = pending.removeValue(forKey: exchange) else { return }
        pendingByKey[question.key] = nil
        actions.append(.closeExchange(exchange))
    }
}

/// The name with the case of every letter drawn anew.
private func respelled(_ name: DNSName, random: inout SeededGenerator) -> [UInt8] {
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

/// What bytes on an exchange are.
private enum ReplyVerdict {
    case reply(UpstreamReply)
    case askOverTCP
    /// From the upstream, but of no use.
    case broken
    /// Perhaps forged: the exchange goes on.
    case drop(DNSDropReason)
}

extension PendingQuestion {
    /// The query for the upstream: recursion wanted, our EDNS, the client's DO and CD.
    fileprivate func message() -> [UInt8] {
        var flags: DNSFlags = .recursionDesired
        if key.checkingDisabled { flags.insert(.checkingDisabled) }
        var writer = DNSWriter(id: queryID, flags: flags)
        writer.write(
            DNSQuestion(
                DNSName(validWire: spelledName), key.question.type,
                recordClass: key.question.recordClass))
        writer.write(EDNS(dnssecOK: key.dnssecOK))
        return writer.bytes
    }

    fileprivate func judge(_ bytes: [UInt8]) -> ReplyVerdict {
        guard bytes.count >= DNSReader.headerSize else { return .drop(.tooShort) }
        let flags = DNSFlags(rawValue: loadUInt16(bytes, at: 2))
        guard flags.contains(.response), flags.opcode == 0 else { return .drop(.notAResponse) }
        guard loadUInt16(bytes, at: 0) == queryID else { return .drop(.wrongQuestion) }
        // Servers that could not read the question may answer with a header alone.
        if loadUInt16(bytes, at: 4) == 0, flags.code != .noError { return .broken }
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
        guard let reply = try? UpstreamReply(bytes, question: key.question) else { return .broken }
        return .reply(reply)
    }
}
