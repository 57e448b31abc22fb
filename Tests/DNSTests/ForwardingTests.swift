import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct ForwardingTests {
    @Test func anAnswerComesBackUnderTheClientsIdentifierAndSpelling() throws {
        var bench = try ResolverBench()
        try bench.query(
            "ExAmple.com", id: 42, edns: EDNS(dnssecOK: true),
            flags: [
                .recursionDesired, .checkingDisabled,
            ])
        let upstream = try bench.takeUpstreamQuery()
        #expect(upstream.upstream == ResolverBench.first)
        #expect(upstream.transport == .udp)
        #expect(upstream.message.edns == EDNS(dnssecOK: true))
        #expect(
            upstream.message.flags == [.recursionDesired, .checkingDisabled, .authenticData])
        bench.answer(upstream, try upstream.positive())
        #expect(bench.actions.contains(.closeExchange(upstream.exchange)))
        let reply = try bench.takeReply()
        #expect(reply.id == 42)
        #expect(reply.questions.first?.name.wire == DNSName("ExAmple.com")?.wire)
        #expect(reply.answers.map(\.ttl) == [300])
        #expect(!reply.flags.contains(.authoritative))
        #expect(reply.flags.contains(.checkingDisabled))
        #expect(bench.resolver.deadline == nil)
    }

    @Test func lifetimesCountDownAndEnd() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 300))
        _ = try bench.takeReplies()
        bench.pass(.seconds(100))
        try bench.query("EXAMPLE.com", id: 8)
        let reply = try bench.takeReply()
        #expect(reply.answers.map(\.ttl) == [200])
        #expect(reply.questions.first?.name.description == "EXAMPLE.com")
        bench.pass(.seconds(199))
        try bench.query("example.com")
        #expect(try bench.takeReply().answers.map(\.ttl) == [1])
        bench.pass(.seconds(1))
        try bench.query("example.com")
        _ = try bench.takeUpstreamQuery()
    }

    @Test func lifetimeZeroIsNotKept() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 0))
        #expect(try bench.takeReply().answers.count == 1)
        try bench.query("example.com")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func flagsThatChangeTheAnswerArePartOfTheKey() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive())
        try bench.query("example.com", edns: EDNS(dnssecOK: true))
        #expect(bench.upstreamQueryCount == 1)
        _ = try bench.takeUpstreamQuery()
        try bench.query("example.com", flags: [.recursionDesired, .checkingDisabled])
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test(arguments: [
        // SOA lifetime, SOA minimum -> kept for.
        (UInt32(3600), UInt32(60), 60), (30, 3600, 30), (9000, 9000, 300),
    ])
    func negativeAnswersAreKeptAsLongAsTheirZoneSays(
        _ ttl: UInt32, _ minimum: UInt32, _ kept: Int
    ) throws {
        for code in [ResponseCode.nameError, .noError] {
            var bench = try ResolverBench()
            try bench.query("missing.example")
            let first = try bench.takeUpstreamQuery()
            bench.answer(first, try first.negative(code, soa: (ttl, minimum)))
            #expect(try bench.takeReply().authorities.map(\.ttl) == [UInt32(kept)])
            bench.pass(.seconds(kept - 1))
            try bench.query("missing.example")
            let again = try bench.takeReply()
            #expect(again.code == code)
            #expect(again.authorities.map(\.ttl) == [1])
            bench.pass(.seconds(1))
            try bench.query("missing.example")
            #expect(bench.upstreamQueryCount == 1)
        }
    }

    @Test func negativeAnswersWithoutAuthorityAreNotKept() throws {
        var bench = try ResolverBench()
        try bench.query("missing.example")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.negative(.nameError, soa: nil))
        #expect(try bench.takeReply().code == .nameError)
        try bench.query("missing.example")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func identicalQuestionsShareOneExchange() throws {
        var bench = try ResolverBench()
        for number in 1...5 {
            try bench.query(
                "Example.com", id: UInt16(number), from: ResolverBench.client(UInt16(number)))
        }
        #expect(bench.upstreamQueryCount == 1)
        let upstream = try bench.takeUpstreamQuery()
        bench.answer(upstream, try upstream.positive())
        #expect(try bench.takeReplies().map(\.id) == [1, 2, 3, 4, 5])
    }
}
