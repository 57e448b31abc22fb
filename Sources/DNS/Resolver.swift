import MeshBase
import NetAddress

/// The embedded resolver: answers the mesh's own names from a ``NameTable`` and forwards the rest.
///
/// A query goes: check the bytes, refuse what nobody may ask, the table, the cache, a question of
/// the same kind already on its way, and at last an upstream. `Resolver+Upstream.swift` holds the
/// way back.
package struct Resolver {
    /// The names of the mesh; replaced as a whole.
    package var table: NameTable
    package internal(set) var counters = ResolverCounters()
    var configuration: ResolverConfiguration
    var cache: AnswerCache
    var pending: [UInt64: PendingQuestion] = [:]
    var pendingByKey: [QuestionKey: UInt64] = [:]
    var health: [UpstreamHealth]
    var nextExchange: UInt64 = 1
    /// Never later than the earliest deadline in ``pending``.
    var earliestDeadline: BootInstant?

    /// Questions on their way at once: each holds one socket of the shell, and a process often may
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
        health = configuration.upstreams.map { _ in UpstreamHealth() }
    }

    /// Replaces the upstreams. Questions on their way to an old one end with it.
    package mutating func setUpstreams(_ upstreams: [SocketAddress]) {
        guard upstreams != configuration.upstreams else { return }
        configuration.upstreams = upstreams
        health = upstreams.map { _ in UpstreamHealth() }
        cache.removeAll()
    }

    /// When ``timeout(at:random:into:)`` wants to be called; it may find nothing to do.
    package var deadline: BootInstant? { pending.isEmpty ? nil : earliestDeadline }

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
            counters.queries += 1
            actions.append(.reply(to: client, response))
        case .query(let query):
            counters.queries += 1
            if let response = answerAtOnce(query, client: client, at: now) {
                actions.append(.reply(to: client, response))
            } else {
                ask(query, client: client, at: now, random: &random, into: &actions)
            }
        }
    }

    /// The response, when no upstream is needed for it.
    private mutating func answerAtOnce(
        _ query: ClientQuery, client: DNSClient, at now: BootInstant
    ) -> [UInt8]? {
        guard isAllowed(client), query.question.recordClass == .internet else {
            return query.emptyResponse(.refused)
        }
        let limit = responseLimit(query, client)
        if let answer = table.answer(query.question) {
            counters.ownAnswers += 1
            return query.response(with: answer, limit: limit)
        }
        // A cache must not be read by clients that did not ask for recursion, and a zone transfer
        // is between the servers of a zone.
        let type = query.question.type
        guard !configuration.upstreams.isEmpty, query.flags.contains(.recursionDesired),
            type != .axfr, type != .ixfr
        else { return query.emptyResponse(.refused) }
        guard let hit = cache.find(query.key, at: now), !hit.isStale else { return nil }
        counters.cacheHits += 1
        return hit.reply.render(for: query, age: hit.age, stale: false, limit: limit)
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
        fingerprint.mix(nextExchange)
        for (exchange, question) in pending.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(exchange)
            fingerprint.mix(UInt64(question.queryID))
            fingerprint.mix(question.spelledName)
            fingerprint.mix(question.upstream)
            fingerprint.mix(question.deadline)
            fingerprint.mix(question.waiting.count)
        }
        for upstream in health {
            fingerprint.mix(upstream.failures)
            fingerprint.mix(upstream.avoidedUntil)
        }
    }
}

extension ClientQuery {
    var key: QuestionKey {
        QuestionKey(
            question: question, dnssecOK: edns?.dnssecOK ?? false,
            checkingDisabled: flags.contains(.checkingDisabled))
    }

    /// The response with the records of `answer`: additional records are left out first when they
    /// do not fit, then everything (RFC 2181 section 9).
    func response(with answer: NameAnswer, limit: Int) -> [UInt8] {
        guard answer.code != .refused else { return emptyResponse(.refused) }
        var writer = beginResponse(answer.code)
        let flags = responseFlags(answer.code).union(.authoritative)
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
