import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct UpstreamChoiceTests {
    @Test func aSlowUpstreamIsHedged() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.pass(.milliseconds(199))
        #expect(bench.upstreamQueryCount == 0)
        bench.pass(.milliseconds(1))
        let second = try bench.takeUpstreamQuery()
        #expect(second.upstream == ResolverBench.second)
        #expect(second.message.id != first.message.id)
        #expect(bench.resolver.counters.hedges == 1)
        bench.answer(second, try second.positive())
        #expect(try bench.takeReply().answers.count == 1)
        for query in [first, second] {
            #expect(bench.actions.contains(.closeExchange(query.exchange)))
        }
        bench.answer(first, try first.positive())
        #expect(bench.drops == [.unknownExchange])
        #expect(bench.resolver.deadline == nil)
    }

    @Test func theFirstUpstreamMayStillWin() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.pass(.milliseconds(300))
        _ = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive())
        #expect(try bench.takeReply().answers.count == 1)
    }

    @Test func hedgesWaitAsLongAsTheUpstreamUsuallyTakes() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        for number in 0..<10 {
            try bench.query("n\(number).example")
            let query = try bench.takeUpstreamQuery()
            bench.now = bench.now + .milliseconds(400)
            bench.answer(query, try query.positive())
        }
        bench.actions = []
        try bench.query("slow.example")
        _ = try bench.takeUpstreamQuery()
        bench.pass(.milliseconds(399))
        #expect(bench.upstreamQueryCount == 0)
        bench.pass(.milliseconds(1))
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func twoDeadUpstreamsOfThreeLoseNoQuery() throws {
        let third = SocketAddress(ip: .v4(0xC000_0203), port: 53)
        var bench = try ResolverBench(
            upstreams: [ResolverBench.first, ResolverBench.second, third])
        for number in 0..<20 {
            let start = bench.now
            try bench.query("n\(number).example", id: UInt16(number))
            while true {
                let query = try bench.takeUpstreamQuery()
                if query.upstream == third {
                    bench.answer(query, try query.positive())
                    break
                }
                if bench.upstreamQueryCount == 0 {
                    bench.pass(try #require(bench.resolver.deadline) - bench.now)
                }
            }
            #expect(try bench.takeReply().answers.count == 1)
            // At most 200 ms for each dead one, and none once both are known.
            #expect(bench.now - start <= .milliseconds(number < 3 ? 400 : 0), "\(number)")
            bench.actions = []
        }
    }

    @Test func aMuchFasterUpstreamGoesFirst() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        try bench.query("a.example")
        let first = try bench.takeUpstreamQuery()
        bench.now = bench.now + .milliseconds(150)
        bench.answer(first, try first.failure(.serverFailure))
        let second = try bench.takeUpstreamQuery()
        bench.now = bench.now + .milliseconds(5)
        bench.answer(second, try second.positive())
        bench.actions = []
        try bench.query("b.example")
        #expect(try bench.takeUpstreamQuery().upstream == ResolverBench.second)
    }

    @Test func anAvoidedUpstreamReturnsWithItsProbe() throws {
        var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
        for number in 0..<3 {
            try bench.query("n\(number).example")
            bench.pass(.milliseconds(200))
            _ = try bench.takeUpstreamQuery()
            let second = try bench.takeUpstreamQuery()
            bench.answer(second, try second.positive())
        }
        bench.actions = []
        bench.pass(.seconds(31))
        for answersProbe in [false, true] {
            try bench.query("after-\(answersProbe).example")
            let query = try bench.takeUpstreamQuery()
            #expect(query.upstream == ResolverBench.second)
            bench.answer(query, try query.positive())
            let probe = try bench.takeUpstreamQuery()
            #expect(probe.upstream == ResolverBench.first)
            #expect(probe.message.questions.map(\.type) == [.ns])
            if answersProbe { bench.answer(probe, try probe.failure(.refused)) }
            bench.actions = []
            bench.pass(.seconds(31))
            #expect(bench.resolver.deadline == nil)
        }
        try bench.query("last.example")
        #expect(try bench.takeUpstreamQuery().upstream == ResolverBench.first)
        #expect(bench.upstreamQueryCount == 0)
    }

    @Test(arguments: [ResponseCode.formatError, .notImplemented])
    func serversWithoutEDNSAreAskedWithout(_ code: ResponseCode) throws {
        var bench = try ResolverBench()
        try bench.query("example.com", edns: EDNS())
        let first = try bench.takeUpstreamQuery()
        #expect(first.message.edns != nil)
        var bare = try first.failure(code)
        bare.questions = []
        bench.answer(first, bare)
        let second = try bench.takeUpstreamQuery()
        #expect(second.message.edns == nil)
        #expect(second.upstream == first.upstream)
        var reply = try second.positive()
        reply.edns = nil
        bench.answer(second, reply)
        #expect(try bench.takeReply().edns == EDNS())
        try bench.query("next.example")
        #expect(try bench.takeUpstreamQuery().message.edns == nil)
        bench.pass(.seconds(1000))
        bench.actions = []
        try bench.query("later.example")
        #expect(try bench.takeUpstreamQuery().message.edns != nil)
    }

    @Test func suffixesHaveTheirOwnUpstreams() throws {
        var bench = try ResolverBench()
        bench.resolver.setRoutes([
            ResolverRoute(
                suffix: try #require(DNSName("cluster.local")), upstreams: [ResolverBench.second]),
            ResolverRoute(suffix: try #require(DNSName("secret.cluster.local")), upstreams: []),
        ])
        try bench.query("api.Cluster.Local")
        let routed = try bench.takeUpstreamQuery()
        #expect(routed.upstream == ResolverBench.second)
        // Who names a route expects the addresses of that network.
        bench.answer(routed, try routed.positive(address: 0x0A60_0001))
        #expect(try bench.takeReply().answers.count == 1)
        try bench.query("x.secret.cluster.local")
        #expect(try bench.takeReply().code == .refused)
        try bench.query("notcluster.local")
        #expect(try bench.takeUpstreamQuery().upstream == ResolverBench.first)
    }

    @Test func aRouteAloneForwardsOnlyItsNames() throws {
        var bench = try ResolverBench(upstreams: [])
        bench.resolver.setRoutes([
            ResolverRoute(suffix: try #require(DNSName("corp")), upstreams: [ResolverBench.first])
        ])
        try bench.query("a.corp")
        #expect(bench.upstreamQueryCount == 1)
        try bench.query("example.com")
        #expect(try bench.takeReply().code == .refused)
    }
}
