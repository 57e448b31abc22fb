import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct UpstreamTroubleTests {
    @Test func silenceMovesToTheNextUpstreamAndEndsInFailure() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        try bench.query("example.com")
        var asked = [try bench.takeUpstreamQuery().upstream]
        while try bench.takeReplies().isEmpty {
            let deadline = try #require(bench.resolver.deadline)
            bench.pass(deadline - bench.now)
            while bench.upstreamQueryCount > 0 {
                asked.append(try bench.takeUpstreamQuery().upstream)
            }
            if bench.resolver.deadline == nil { break }
        }
        #expect(asked.prefix(2) == [ResolverBench.first, ResolverBench.second])
        #expect(asked.count >= 3)
        #expect(bench.resolver.counters.failures == 1)
        #expect(bench.now - BootInstant(nanoseconds: 1_000_000_000_000) < .seconds(5))
    }

    @Test func theLastWordIsServerFailure() throws {
        var bench = try ResolverBench()
        try bench.query("example.com", id: 77)
        for _ in 0..<10 { bench.pass(.seconds(1)) }
        let reply = try bench.takeReply()
        #expect(reply.code == .serverFailure)
        #expect(reply.id == 77)
        #expect(bench.resolver.deadline == nil)
    }

    @Test func aFailingUpstreamIsPassedOver() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.failure(.serverFailure))
        #expect(try bench.takeReplies().isEmpty)
        let second = try bench.takeUpstreamQuery()
        #expect(second.upstream == ResolverBench.second)
        bench.answer(second, try second.positive())
        #expect(try bench.takeReply().answers.count == 1)
    }

    @Test func aSilentUpstreamIsAvoidedForAWhile() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        for number in 0..<3 {
            try bench.query("n\(number).example")
            #expect(try bench.takeUpstreamQuery().upstream == ResolverBench.first)
            bench.pass(.seconds(1))
            let second = try bench.takeUpstreamQuery()
            bench.answer(second, try second.positive())
        }
        try bench.query("n3.example")
        #expect(try bench.takeUpstreamQuery().upstream == ResolverBench.second)
        bench.pass(.seconds(40))
        try bench.query("n4.example")
        let queries = bench.actions.compactMap { action -> SocketAddress? in
            if case .queryUpstream(_, let upstream, _, _) = action { upstream } else { nil }
        }
        #expect(queries.last == ResolverBench.first)
    }

    @Test func truncatedRepliesAreFetchedOverTCP() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        var cut = try first.positive()
        cut.flags.insert(.truncated)
        cut.answers = []
        bench.answer(first, cut)
        let second = try bench.takeUpstreamQuery()
        #expect(second.transport == .tcp)
        #expect(second.exchange != first.exchange)
        bench.answer(second, try second.positive())
        #expect(try bench.takeReply().answers.count == 1)
    }

    @Test func serversThatLoseTheCaseAreAskedOverTCP() throws {
        var bench = try ResolverBench()
        try bench.query("abcdefghijklmnopqrstuvwxyz.example")
        let first = try bench.takeUpstreamQuery()
        var reply = try first.positive()
        reply.questions = [
            DNSQuestion(try #require(DNSName("abcdefghijklmnopqrstuvwxyz.example")), .a)
        ]
        #expect(reply.questions.first?.name.wire != first.message.questions.first?.name.wire)
        bench.answer(first, reply)
        let second = try bench.takeUpstreamQuery()
        #expect(second.transport == .tcp)
        reply.id = second.message.id
        bench.answer(second, reply)
        #expect(try bench.takeReply().answers.count == 1)
    }

    @Test func forgeriesLeaveNoTrace() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let query = try bench.takeUpstreamQuery()
        let before = bench.fingerprint
        var wrongID = try query.positive(address: 0x0666_0666)
        wrongID.id ^= 1
        bench.answer(query, wrongID)
        var wrongQuestion = try query.positive()
        wrongQuestion.questions = [DNSQuestion(try #require(DNSName("evil.com")), .a)]
        bench.answer(query, wrongQuestion)
        bench.deliver(query, try query.positive().encoded(), from: ResolverBench.second)
        var noResponse = try query.positive()
        noResponse.flags = .recursionDesired
        bench.answer(query, noResponse)
        bench.deliver(query, [])
        #expect(
            bench.drops == [
                .wrongQuestion, .wrongQuestion, .wrongSource, .notAResponse, .tooShort,
            ])
        #expect(bench.fingerprint == before)
        #expect(try bench.takeReplies().isEmpty)
        bench.answer(query, try query.positive())
        #expect(try bench.takeReply().answers.map(\.data) == [.address(.v4(0x0808_0808))])
        bench.answer(query, try query.positive())
        #expect(bench.drops.last == .unknownExchange)
    }

    @Test func aFloodOfForgeriesMovesTheQuestionToTCP() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let query = try bench.takeUpstreamQuery()
        var forged = try query.positive()
        for _ in 0..<10 {
            forged.id &+= 1
            bench.answer(query, forged)
        }
        #expect(try bench.takeUpstreamQuery().transport == .tcp)
    }

    @Test func staleAnswersServeWhenNobodyAnswers() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 60))
        _ = try bench.takeReplies()
        bench.pass(.seconds(600))
        try bench.query("example.com")
        for _ in 0..<10 { bench.pass(.seconds(1)) }
        let stale = try bench.takeReply()
        #expect(stale.answers.map(\.ttl) == [30])
        bench.actions = []
        bench.pass(.seconds(3600))
        try bench.query("example.com")
        for _ in 0..<10 { bench.pass(.seconds(1)) }
        #expect(try bench.takeReply().code == .serverFailure)
    }

    @Test func anOptionsRecordInTheMiddleIsTakenOut() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let query = try bench.takeUpstreamQuery()
        let name = try #require(query.message.questions.first).name
        var reply = try query.positive()
        reply.edns = nil
        reply.additionals = [
            ResourceRecord(
                .root, .opaque(.opt, []), ttl: 0, recordClass: RecordClass(rawValue: 1232)),
            ResourceRecord(name, .txt([Array("x".utf8)]), ttl: 9),
        ]
        bench.answer(query, reply)
        let response = try bench.takeReply()
        #expect(response.edns == nil)
        #expect(response.additionals.map(\.type) == [.txt])
        #expect(response.answers.count == 1)
    }
}
