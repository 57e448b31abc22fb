import MeshBase
import NetAddress

/// The embedded resolver: answers the mesh's own names from a ``NameTable`` and forwards the rest.
///
/// A query goes: check the bytes, refuse what nobody may ask, the table, the cache, a question of
/// the same kind already on its way, and at last an upstream. `Resolver+Upstream.swift` holds
/// the way out, `Resolver+Replies.swift` the way back.
package struct Resolver {
    /// The names of the mesh; replaced as a whole.
    package var table: NameTable
    package internal(set) var counters = ResolverCounters()
    var configuration: ResolverConfiguration
    var cache: AnswerCache
    var pending: [QuestionKey: PendingQuestion] = [:]
    /// The question of every try under way.
    var exchanges: [UInt64: QuestionKey] = [:]
    /// Tries that find out whether an upstream is back.
    var probes: [UInt64: Attempt] = [:]
    /// An entry for every configured upstream.
    var health: [SocketAddress: UpstreamHealth] = [:]
    var nextExchange: UInt64 = 1
    var limiter: SourceLimiter
    /// Drawn when the first client sends a cookie.
    var cookieSecrets: CookieSecrets?
    /// Never later than the earliest event of ``pending`` and ``probes``.
    var earliestDeadline: BootInstant?

    /// Tries under way at once: each holds one socket of the shell, and a process often may
    /// have no more than 1,024 descriptors.
    package static let maximumPending = 256
    /// Clients that wait for one question; more are told to try later.
    static let maximumWaiting = 128
    /// The largest message over TCP (RFC 1035 section 4.2.2).
    static let maximumStreamMessage = 65_535

    package init(table: NameTable, configuration: ResolverConfiguration) {
        self.table = table
        self.configuration = configuration
        cache = AnswerCache(capacity: configuration.cacheCapacity)
        limiter = SourceLimiter(rate: configuration.queriesPerSecond)
        adoptUpstreams()
    }

    package var upstreams: [SocketAddress] { configuration.upstreams }

    /// Replaces the upstreams. Questions on their way to an old one end with it.
    package mutating func setUpstreams(_ upstreams: [SocketAddress]) {
        guard upstreams != configuration.upstreams else { return }
        configuration.upstreams = upstreams
        adoptUpstreams()
        cache.removeAll()
    }

    /// Replaces the upstreams of single suffixes.
    package mutating func setRoutes(_ routes: [ResolverRoute]) {
        guard routes != configuration.routes else { return }
        configuration.routes = routes
        adoptUpstreams()
        cache.removeAll()
    }

    private mutating func adoptUpstreams() {
        var adopted: [SocketAddress: UpstreamHealth] = [:]
        for upstream in configuration.upstreams + configuration.routes.flatMap(\.upstreams) {
            adopted[upstream] = health[upstream] ?? UpstreamHealth()
        }
        health = adopted
    }

    /// Sources of queries that are remembered for their rate.
    package var knownSources: Int { limiter.count }

    /// When ``timeout(at:random:into:)`` wants to be called; it may find nothing to do.
    package var deadline: BootInstant? {
        pending.isEmpty && probes.isEmpty ? nil : earliestDeadline
    }

    /// Takes a query of a client.
    package mutating func receive(
        query bytes: [UInt8], from client: DNSClient, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        switch examineQuery(bytes) {
        case .ignore(let reason):
            counters.dropped += 1
            actions.append(.dropped(reason))
        case .refuse(let response):
            guard admit(client, isVerified: false, at: now) else {
                return actions.append(.dropped(.rateLimited))
            }
            counters.rejected += 1
            actions.append(.reply(to: client, response))
        case .query(var query):
            let isVerified = checkCookie(of: &query, client, at: now, random: &random)
            if admit(client, isVerified: isVerified, at: now) {
                answer(query, client: client, at: now, random: &random, into: &actions)
            } else {
                limit(query, client, into: &actions)
            }
        }
    }

    /// What a source gets beyond its share: REFUSED over TCP; over UDP silence, and every second
    /// time a response that is cut. A client that receives it comes back over TCP, where a forger
    /// of its address cannot spend its share.
    private func limit(
        _ query: ClientQuery, _ client: DNSClient, into actions: inout [ResolverAction]
    ) {
        if client.transport == .tcp {
            actions.append(.reply(to: client, query.emptyResponse(.refused)))
        } else if counters.rateLimited % 2 == 1 {
            actions.append(.reply(to: client, query.cutResponse()))
        } else {
            actions.append(.dropped(.rateLimited))
        }
    }

    /// Counts the query, and whether its source may have an answer.
    private mutating func admit(
        _ client: DNSClient, isVerified: Bool, at now: BootInstant
    ) -> Bool {
        counters.queries += 1
        if client.transport == .tcp { counters.streamQueries += 1 }
        // A connection proves its address.
        let isProven = isVerified || client.transport == .tcp
        let isAdmitted = limiter.admit(client.address.ip, isVerified: isProven, at: now)
        if !isAdmitted { counters.rateLimited += 1 }
        return isAdmitted
    }

    /// Prepares the cookie of the response; whether the query's shows that the client receives
    /// what goes to its address. A wrong one is as good as none (RFC 7873 section 5.2.4).
    private mutating func checkCookie(
        of query: inout ClientQuery, _ client: DNSClient, at now: BootInstant,
        random: inout SeededGenerator
    ) -> Bool {
        guard let cookie = query.edns?.cookie, !cookie.isEmpty else { return false }
        var secrets = cookieSecrets ?? CookieSecrets(at: now, random: &random)
        let (option, isValid) = secrets.answer(
            cookie, of: client.address.ip.unmapped, at: now, random: &random)
        cookieSecrets = secrets
        query.cookie = option
        return isValid
    }

    private mutating func answer(
        _ query: ClientQuery, client: DNSClient, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        var query = query
        switch answerAtOnce(&query, client: client, at: now) {
        case .response(let response, let origin):
            let waiting = PendingQuestion.Waiting(client: client, query: query)
            reply(response, to: waiting, origin, into: &actions)
        case .expiring(let response):
            let waiting = PendingQuestion.Waiting(client: client, query: query)
            reply(response, to: waiting, .cache, into: &actions)
            prefetch(query.key, at: now, random: &random, into: &actions)
        case .unknown: ask(query, client: client, at: now, random: &random, into: &actions)
        }
    }

    private enum Immediate {
        case response([UInt8], AnswerOrigin)
        /// From the cache, where it will end soon.
        case expiring([UInt8])
        case unknown
    }

    /// The response, when no upstream is needed for it.
    private mutating func answerAtOnce(
        _ query: inout ClientQuery, client: DNSClient, at now: BootInstant
    ) -> Immediate {
        guard isAllowed(client), query.question.recordClass == .internet else {
            return .response(query.emptyResponse(.refused), .refusal)
        }
        let limit = responseLimit(query, client)
        // A cache must not be read by clients that did not ask for recursion.
        let mayRecurse = query.flags.contains(.recursionDesired)
        if let answer = table.answer(query.question) {
            guard let target = answer.foreignTarget, mayRecurse,
                !servers(for: target).isEmpty
            else {
                counters.ownAnswers += 1
                return .response(query.response(with: answer, limit: limit), .zone)
            }
            query.aliases = answer.answers
            query.target = target
        }
        // A zone transfer is between the servers of a zone.
        let type = query.question.type
        guard mayRecurse, type != .axfr, type != .ixfr,
            !servers(for: query.target ?? query.question.name).isEmpty
        else { return .response(query.emptyResponse(.refused), .refusal) }
        guard type != .any else {
            return .response(query.response(with: .anyRefusal(query), limit: limit), .refusal)
        }
        guard let hit = cache.find(query.key, at: now), !hit.isStale || hit.failedLately else {
            return .unknown
        }
        if hit.isStale { counters.staleAnswers += 1 } else { counters.cacheHits += 1 }
        let response = hit.reply.render(
            for: query, age: hit.age, stale: hit.isStale, limit: limit)
        if hit.isStale { return .response(response, .stale) }
        return hit.endsSoon ? .expiring(response) : .response(response, .cache)
    }

    private func isAllowed(_ client: DNSClient) -> Bool {
        configuration.clients.isEmpty
            || configuration.clients.contains { $0.contains(client.address.ip.unmapped) }
    }

    func responseLimit(_ query: ClientQuery, _ client: DNSClient) -> Int {
        client.transport == .tcp ? Resolver.maximumStreamMessage : query.payloadLimit
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        table.fingerprint(into: &fingerprint)
        cache.fingerprint(into: &fingerprint)
        limiter.fingerprint(into: &fingerprint)
        fingerprint.mix(cookieSecrets != nil)
        fingerprint.mix(nextExchange)
        for question in pending.values.sorted(by: { $0.serial < $1.serial }) {
            question.fingerprint(into: &fingerprint)
        }
        for (_, attempt) in probes.sorted(by: { $0.key < $1.key }) {
            attempt.fingerprint(into: &fingerprint)
        }
        let upstreams = health.sorted { ($0.key.ip, $0.key.port) < ($1.key.ip, $1.key.port) }
        for (_, state) in upstreams { state.fingerprint(into: &fingerprint) }
    }
}

extension ClientQuery {
    var key: QuestionKey {
        var asked = question
        if let target { asked.name = target }
        return QuestionKey(
            question: asked, dnssecOK: edns?.dnssecOK ?? false,
            checkingDisabled: flags.contains(.checkingDisabled))
    }

    /// The response with the records of `answer`: additional records are left out first when they
    /// do not fit, then everything (RFC 2181 section 9).
    func response(with answer: NameAnswer, limit: Int) -> [UInt8] {
        guard answer.code != .refused else { return emptyResponse(.refused) }
        var writer = beginResponse(answer.code)
        let flags = responseFlags(answer.code).union(answer.isForeign ? [] : .authoritative)
        writer.setFlags(flags)
        let empty = writer.count
        // Clients take the first address: each gets another one.
        let start = answer.answers.count > 1 ? Int(id) % answer.answers.count : 0
        let rotates = start > 0 && answer.answers.allSatisfy { $0.type == question.type }
        let records = answer.answers
        for record in rotates ? records[start...] + records[..<start] : records[...] {
            writer.write(record, in: .answer)
        }
        for record in answer.authorities { writer.write(record, in: .authority) }
        if writer.count + trailerSize > limit {
            writer.truncate(to: empty)
            for section in [DNSWriter.Section.answer, .authority] { writer.setCount(section, 0) }
            writer.setFlags(flags.union(.truncated))
        } else {
            for record in answer.additionals {
                let before = writer.count
                writer.write(record, in: .additional)
                guard writer.count + trailerSize > limit else { continue }
                writer.truncate(to: before)
                writer.decrementAdditional()
                break
            }
        }
        finish(&writer, answer.code)
        return writer.bytes
    }
}

extension NameAnswer {
    /// Instead of everything that the world has for a name (RFC 8482 section 4.2).
    static func anyRefusal(_ query: ClientQuery) -> NameAnswer {
        var answer = NameAnswer()
        let text = Array("RFC8482".utf8)
        answer.answers = [
            ResourceRecord(
                query.question.name, .opaque(.hinfo, [UInt8(text.count)] + text + [0]), ttl: 3600)
        ]
        answer.isForeign = true
        return answer
    }
}
