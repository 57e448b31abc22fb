import MeshBase
import NetAddress

// The way back: judging what upstreams say, and telling everybody who waits.

extension Resolver {
    /// Wrong replies on one exchange before it moves to TCP, where they cannot be forged blindly.
    private static let forgeryLimit = 10

    /// Takes bytes that arrived on the socket of `exchange`.
    package mutating func receive(
        reply bytes: [UInt8], exchange: UInt64, from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        if let probe = probes[exchange] {
            return receiveProbe(bytes, probe, from: source, at: now, into: &actions)
        }
        guard let key = exchanges[exchange],
            let attempt = pending[key]?.live.first(where: { $0.exchange == exchange })
        else { return drop(.unknownExchange, into: &actions) }
        guard isCurrent(attempt, source) else { return drop(.wrongSource, into: &actions) }
        let verdict = attempt.judge(bytes, key, isForbidden: forbidden(for: key.question.name))
        switch verdict {
        case .drop(let reason):
            drop(reason, into: &actions)
            noteForgery(attempt, key, at: now, random: &random, into: &actions)
        case .askOverTCP:
            repeatOverTCP(attempt, key, at: now, random: &random, into: &actions)
        case .askWithoutEDNS:
            health[attempt.upstream]?.plainUntil = now + UpstreamHealth.plainPeriod
            withdraw(attempt, of: key, into: &actions)
            send(
                key, to: attempt.upstream, over: attempt.transport, at: now, random: &random,
                into: &actions)
        case .broken:
            withdraw(attempt, of: key, into: &actions)
            goOn(key, at: now, random: &random, into: &actions)
        case .reply(let reply):
            health[attempt.upstream]?.noteReply(after: now - attempt.sentAt)
            if reply.wasFiltered { counters.filteredReplies += 1 }
            guard reply.isFailure, hasOtherHope(key) else {
                return finish(key, with: reply, winner: attempt, at: now, into: &actions)
            }
            pending[key]?.failure = reply
            withdraw(attempt, of: key, into: &actions)
            goOn(key, at: now, random: &random, into: &actions)
        }
    }

    /// The socket of `exchange` failed: refused, unreachable, closed early.
    package mutating func exchangeFailed(
        _ exchange: UInt64, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        if probes.removeValue(forKey: exchange) != nil {
            return actions.append(.closeExchange(exchange))
        }
        guard let key = exchanges[exchange],
            let attempt = pending[key]?.live.first(where: { $0.exchange == exchange })
        else { return }
        health[attempt.upstream]?.noteSilence(at: now)
        withdraw(attempt, of: key, into: &actions)
        goOn(key, at: now, random: &random, into: &actions)
    }

    private mutating func receiveProbe(
        _ bytes: [UInt8], _ probe: Attempt, from source: SocketAddress, at now: BootInstant,
        into actions: inout [ResolverAction]
    ) {
        guard isCurrent(probe, source) else { return drop(.wrongSource, into: &actions) }
        let verdict = probe.judge(bytes, Resolver.probeKey) { _ in false }
        if case .drop(let reason) = verdict { return drop(reason, into: &actions) }
        // Whatever it says, it is there.
        health[probe.upstream]?.noteReply(after: now - probe.sentAt)
        probes[probe.exchange] = nil
        actions.append(.closeExchange(probe.exchange))
    }

    private mutating func drop(_ reason: DNSDropReason, into actions: inout [ResolverAction]) {
        counters.dropped += 1
        actions.append(.dropped(reason))
    }

    /// False for another source, and for an upstream that was replaced meanwhile.
    private func isCurrent(_ attempt: Attempt, _ source: SocketAddress) -> Bool {
        health[attempt.upstream] != nil && attempt.upstream.ip == source.ip
            && attempt.upstream.port == source.port
    }

    /// Another upstream is being asked, or can be.
    private func hasOtherHope(_ key: QuestionKey) -> Bool {
        guard let question = pending[key] else { return false }
        return question.live.count > 1
            || servers(for: key.question.name).contains { !question.asked.contains($0) }
    }

    /// Which addresses an answer for `name` may not have. A route says that its names are local,
    /// an exemption that they may be.
    private func forbidden(for name: DNSName) -> (IPAddress) -> Bool {
        let isExempt =
            route(of: name) != nil || configuration.localSuffixes.contains { name.isWithin($0) }
        guard !isExempt else { return { _ in false } }
        let overlay = table.prefixes
        return { ip in isLocalOnly(ip) || overlay.contains { $0.contains(ip.unmapped) } }
    }

    private mutating func noteForgery(
        _ attempt: Attempt, _ key: QuestionKey, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        guard let place = pending[key]?.live.firstIndex(where: { $0.exchange == attempt.exchange })
        else { return }
        pending[key]?.live[place].forgeries += 1
        guard attempt.forgeries + 1 == Resolver.forgeryLimit else { return }
        repeatOverTCP(attempt, key, at: now, random: &random, into: &actions)
    }

    /// Repeats the question to the same upstream over TCP.
    private mutating func repeatOverTCP(
        _ attempt: Attempt, _ key: QuestionKey, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        withdraw(attempt, of: key, into: &actions)
        guard attempt.transport == .udp else {
            return goOn(key, at: now, random: &random, into: &actions)
        }
        send(key, to: attempt.upstream, over: .tcp, at: now, random: &random, into: &actions)
    }

    /// Tries the next upstream when no try is under way any more.
    private mutating func goOn(
        _ key: QuestionKey, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard pending[key]?.live.isEmpty ?? false else { return }
        tryNext(key, at: now, random: &random, into: &actions)
    }

    // MARK: Ending

    /// Ends the question. Without an answer an old one is better than none (RFC 8767).
    mutating func finish(
        _ key: QuestionKey, with reply: UpstreamReply?, winner: Attempt? = nil,
        at now: BootInstant, into actions: inout [ResolverAction]
    ) {
        guard let question = pending.removeValue(forKey: key) else { return }
        for attempt in question.live {
            // Who was overtaken by a hedge is as good as silent.
            let wait = now - attempt.sentAt
            if attempt.exchange != winner?.exchange, wait >= UpstreamHealth.minimumHedgeDelay {
                health[attempt.upstream]?.noteSilence(at: now)
            }
            exchanges[attempt.exchange] = nil
            actions.append(.closeExchange(attempt.exchange))
        }
        if let reply, !reply.isFailure {
            cache.store(reply, for: key, at: now)
            return respond(question.waiting, reply, age: 0, stale: false, into: &actions)
        }
        cache.noteFailure(key, at: now)
        if let hit = cache.find(key, at: now), !hit.reply.isFailure {
            counters.staleAnswers += UInt64(question.waiting.count)
            return respond(
                question.waiting, hit.reply, age: hit.age, stale: hit.isStale, into: &actions)
        }
        counters.failures += UInt64(question.waiting.count)
        let failure = reply ?? UpstreamReply(failureFor: key.question)
        cache.store(failure, for: key, at: now)
        respond(question.waiting, failure, age: 0, stale: false, into: &actions)
    }

    /// Gives the stale answer to those who wait; the question goes on without them.
    mutating func serveStale(
        _ key: QuestionKey, at now: BootInstant, _ actions: inout [ResolverAction]
    ) {
        pending[key]?.staleAt = nil
        guard let waiting = pending[key]?.waiting, let hit = cache.find(key, at: now),
            !hit.reply.isFailure
        else { return }
        pending[key]?.waiting = []
        counters.staleAnswers += UInt64(waiting.count)
        respond(waiting, hit.reply, age: hit.age, stale: true, into: &actions)
    }

    private mutating func respond(
        _ waiting: [PendingQuestion.Waiting], _ reply: UpstreamReply, age: UInt32, stale: Bool,
        into actions: inout [ResolverAction]
    ) {
        for waiting in waiting {
            let limit = responseLimit(waiting.query, waiting.client)
            let response = reply.render(for: waiting.query, age: age, stale: stale, limit: limit)
            let origin: AnswerOrigin =
                stale ? .stale : reply.isFailure ? .failure : .upstream
            self.reply(response, to: waiting, origin, into: &actions)
        }
    }

    /// Sends a response and tells the log of it, if there is one.
    func reply(
        _ response: [UInt8], to waiting: PendingQuestion.Waiting, _ origin: AnswerOrigin,
        into actions: inout [ResolverAction]
    ) {
        actions.append(.reply(to: waiting.client, response))
        guard configuration.logsQueries else { return }
        let code = DNSFlags(rawValue: loadUInt16(response, at: 2)).code
        actions.append(
            .answered(
                AnsweredQuery(
                    client: waiting.client, question: waiting.query.question, code: code,
                    origin: origin)))
    }
}
