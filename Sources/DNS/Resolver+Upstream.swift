import MeshBase
import NetAddress

// The way out: joining a question under way, choosing upstreams, hedging, giving up.
// `Resolver+Replies.swift` holds the way back.

extension Resolver {
    /// Time for the first try, the second and later ones: together less than the five seconds that
    /// a stub resolver waits.
    private static let patience: [Duration] = [
        .milliseconds(1000), .milliseconds(1500), .seconds(2),
    ]
    private static let totalPatience: Duration = .milliseconds(4500)
    /// After which a stale answer is served while the search goes on (RFC 8767 section 5).
    private static let stalePatience: Duration = .milliseconds(1800)
    private static let maximumAttempts = 4
    /// Tries of one question at a time.
    private static let maximumLive = 3
    /// One question of so many goes to the second choice, to learn how fast that is.
    private static let explorationInterval: UInt64 = 64

    /// The upstreams for `name`: those of the longest route that covers it, else the general ones.
    func servers(for name: DNSName) -> [SocketAddress] {
        route(of: name)?.upstreams ?? configuration.upstreams
    }

    func route(of name: DNSName) -> ResolverRoute? {
        configuration.routes.filter { name.isWithin($0.suffix) }
            .max { $0.suffix.wire.count < $1.suffix.wire.count }
    }

    // MARK: Asking

    /// Joins a question that is on its way, or sends one.
    mutating func ask(
        _ query: ClientQuery, client: DNSClient, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        let key = query.key
        let waiting = PendingQuestion.Waiting(client: client, query: query)
        if let count = pending[key]?.waiting.count {
            // A forwarding loop through another resolver ends here too: the question that comes
            // back waits for itself until both time out.
            if count < Resolver.maximumWaiting {
                pending[key]?.waiting.append(waiting)
                return
            }
        } else if exchanges.count < Resolver.maximumPending {
            start(key, for: [waiting], at: now, random: &random, into: &actions)
            return
        }
        counters.failures += 1
        reply(query.emptyResponse(.serverFailure), to: waiting, .failure, into: &actions)
    }

    /// Fetches the answer for `key` anew before it ends, so that nobody has to wait for it.
    mutating func prefetch(
        _ key: QuestionKey, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard pending[key] == nil, exchanges.count < Resolver.maximumPending else { return }
        counters.prefetches += 1
        start(key, for: [], at: now, random: &random, into: &actions)
    }

    private mutating func start(
        _ key: QuestionKey, for waiting: [PendingQuestion.Waiting], at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        var question = PendingQuestion(
            key: key, serial: nextExchange, waiting: waiting,
            givenUpAt: now + Resolver.totalPatience)
        if let hit = cache.find(key, at: now), hit.isStale, !hit.reply.isFailure {
            question.staleAt = now + Resolver.stalePatience
        }
        pending[key] = question
        tryNext(key, at: now, random: &random, into: &actions)
        probe(servers(for: key.question.name), at: now, random: &random, into: &actions)
    }

    /// Asks another upstream, or ends the question when its tries are used up.
    mutating func tryNext(
        _ key: QuestionKey, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard let question = pending[key] else { return }
        let servers = servers(for: key.question.name)
        guard question.attempts < Resolver.maximumAttempts, now < question.givenUpAt,
            !servers.isEmpty
        else {
            return finish(key, with: question.failure, at: now, into: &actions)
        }
        let upstream = choose(from: servers, for: question, at: now)
        send(
            key, to: upstream, over: transport(to: upstream), at: now, random: &random,
            into: &actions)
    }

    private func transport(to upstream: SocketAddress) -> DNSTransport {
        configuration.secureUpstreams.contains(upstream) ? .tls : .udp
    }

    /// The first upstream in good health that was not asked yet, unless a later one is much
    /// faster; round and round when all were asked.
    private func choose(
        from servers: [SocketAddress], for question: PendingQuestion, at now: BootInstant
    ) -> SocketAddress {
        let fresh = servers.filter { !question.asked.contains($0) }
        let healthy = fresh.filter { !isAvoided($0, at: now) }
        guard var best = healthy.first else {
            return fresh.first ?? servers[question.attempts % servers.count]
        }
        for other in healthy.dropFirst() {
            guard let known = health[best], let candidate = health[other] else { continue }
            if known.isMuchSlower(than: candidate) { best = other }
        }
        let explores = nextExchange.isMultiple(of: Resolver.explorationInterval)
        if explores, question.attempts == 0, let other = healthy.first(where: { $0 != best }) {
            return other
        }
        return best
    }

    /// Avoided, or waiting for the outcome of a probe.
    private func isAvoided(_ upstream: SocketAddress, at now: BootInstant) -> Bool {
        health[upstream].map { $0.isUnderSuspicion || $0.isAvoided(at: now) } ?? false
    }

    /// Makes one try under a new exchange with a new identifier.
    mutating func send(
        _ key: QuestionKey, to upstream: SocketAddress, over transport: DNSTransport,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        guard var question = pending[key] else { return }
        let patience = Resolver.patience[min(question.attempts, Resolver.patience.count - 1)]
        let attempt = makeAttempt(
            key, to: upstream, over: transport, until: min(now + patience, question.givenUpAt),
            at: now, random: &random, into: &actions)
        question.live.append(attempt)
        question.asked.insert(upstream)
        question.attempts += 1
        let others = servers(for: key.question.name).contains { !question.asked.contains($0) }
        let delay = health[upstream]?.hedgeDelay ?? UpstreamHealth.minimumHedgeDelay
        question.hedgeAt = others ? now + delay : nil
        pending[key] = question
        exchanges[attempt.exchange] = key
        earliestDeadline = earlier(earliestDeadline, question.nextEvent)
    }

    private mutating func makeAttempt(
        _ key: QuestionKey, to upstream: SocketAddress, over transport: DNSTransport,
        until deadline: BootInstant, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) -> Attempt {
        let isPlain = health[upstream]?.plainUntil.map { now < $0 } ?? false
        let attempt = Attempt(
            exchange: nextExchange, upstream: upstream, transport: transport,
            queryID: UInt16(truncatingIfNeeded: random.next()),
            spelledName: respelled(key.question.name, random: &random), usesEDNS: !isPlain,
            sentAt: now, deadline: deadline)
        nextExchange += 1
        counters.upstreamQueries += 1
        actions.append(
            .queryUpstream(
                exchange: attempt.exchange, to: upstream, over: transport, attempt.message(key)))
        return attempt
    }

    // MARK: Probes

    /// What a probe asks: every resolver knows who serves the root.
    static let probeKey = QuestionKey(
        question: DNSQuestion(.root, .ns), dnssecOK: false, checkingDisabled: false)

    /// Looks whether upstreams whose time of avoidance is over are back, without making a client
    /// wait for it.
    private mutating func probe(
        _ servers: [SocketAddress], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard servers.count > 1 else { return }
        for upstream in servers {
            guard let state = health[upstream], state.isUnderSuspicion, !state.isAvoided(at: now)
            else { continue }
            health[upstream]?.noteProbe(at: now)
            let deadline = now + Resolver.patience[0]
            let attempt = makeAttempt(
                Resolver.probeKey, to: upstream, over: transport(to: upstream), until: deadline,
                at: now, random: &random, into: &actions)
            probes[attempt.exchange] = attempt
            earliestDeadline = earlier(earliestDeadline, deadline)
        }
    }

    // MARK: Time

    /// Gives up on tries whose time is over, hedges those that take long.
    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [ResolverAction]
    ) {
        for exchange in probes.filter({ $0.value.deadline <= now }).keys.sorted() {
            probes[exchange] = nil
            actions.append(.closeExchange(exchange))
        }
        let due = pending.values.filter { $0.nextEvent <= now }.sorted { $0.serial < $1.serial }
        for question in due {
            advance(question.key, at: now, random: &random, into: &actions)
        }
        earliestDeadline = pending.values.lazy.map(\.nextEvent).min()
        for attempt in probes.values {
            earliestDeadline = earlier(earliestDeadline, attempt.deadline)
        }
    }

    private mutating func advance(
        _ key: QuestionKey, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [ResolverAction]
    ) {
        guard let question = pending[key] else { return }
        if let staleAt = question.staleAt, staleAt <= now { serveStale(key, at: now, &actions) }
        for attempt in question.live where attempt.deadline <= now {
            health[attempt.upstream]?.noteSilence(at: now)
            withdraw(attempt, of: key, into: &actions)
        }
        guard let rest = pending[key] else { return }
        if rest.live.isEmpty {
            return tryNext(key, at: now, random: &random, into: &actions)
        }
        guard let hedgeAt = rest.hedgeAt, hedgeAt <= now else { return }
        pending[key]?.hedgeAt = nil
        guard rest.live.count < Resolver.maximumLive, rest.attempts < Resolver.maximumAttempts,
            exchanges.count < Resolver.maximumPending
        else { return }
        counters.hedges += 1
        tryNext(key, at: now, random: &random, into: &actions)
    }

    /// Ends one try; the question goes on.
    mutating func withdraw(
        _ attempt: Attempt, of key: QuestionKey, into actions: inout [ResolverAction]
    ) {
        pending[key]?.live.removeAll { $0.exchange == attempt.exchange }
        exchanges[attempt.exchange] = nil
        actions.append(.closeExchange(attempt.exchange))
    }
}
