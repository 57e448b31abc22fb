import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct ResolverBoundsTests {
    @Test func hostileQueriesNeverTrapAndNeverGetMoreThanOneReply() throws {
        var random = SeededGenerator(seed: 21)
        var valid = DNSMessage(id: 1, flags: .recursionDesired)
        valid.questions = [DNSQuestion(try #require(DNSName("a.example")), .a)]
        valid.edns = EDNS(dnssecOK: true)
        let template = valid.encoded()
        var answered = 0
        for round in 0..<3_000 {
            var bench = try ResolverBench(upstreams: [])
            var bytes = round.isMultiple(of: 3) ? random.bytes(round % 80) : template
            for _ in 0..<(bytes.isEmpty ? 0 : 3) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            bench.send(bytes)
            let count = bench.actions.count
            #expect(count == 1, "\(bytes.hex)")
            // An answer never outgrows its question much: no use for amplification.
            if case .reply(_, let reply) = bench.actions[0] {
                answered += 1
                #expect(reply.count <= bytes.count + 11)
            }
        }
        #expect(answered > 500)
    }

    @Test func theCacheIsBounded() throws {
        var bench = try ResolverBench(capacity: 10)
        for number in 0..<50 {
            try bench.query("n\(number).example")
            let query = try bench.takeUpstreamQuery()
            bench.answer(query, try query.positive())
            // One name is asked all the time and stays.
            try bench.query("n0.example")
            if bench.upstreamQueryCount > 0 { Issue.record("n0 was pushed out at \(number)") }
        }
        bench.actions = []
        try bench.query("n49.example")
        #expect(bench.upstreamQueryCount == 0)
        try bench.query("n20.example")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func questionsOnTheirWayAreBounded() throws {
        var bench = try ResolverBench()
        for number in 0..<600 { try bench.query("n\(number).example") }
        #expect(bench.upstreamQueryCount == Resolver.maximumPending)
        let refused = try bench.takeReplies()
        #expect(refused.count == 600 - Resolver.maximumPending)
        #expect(refused.allSatisfy { $0.code == .serverFailure })
    }

    @Test func hostileRepliesNeverTrap() throws {
        var random = SeededGenerator(seed: 3)
        var answered = 0
        for round in 0..<2_000 {
            var bench = try ResolverBench()
            try bench.query("n\(round).example", edns: EDNS())
            let query = try bench.takeUpstreamQuery()
            var bytes = try query.positive().encoded()
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                let place = Int.random(in: 2..<bytes.count, using: &random)
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            bench.deliver(query, bytes)
            answered += try bench.takeReplies().count
        }
        #expect(answered > 100)
    }

    @Test func sameSeedSameRun() throws {
        var traces: [[ResolverAction]] = []
        for _ in 0..<2 {
            var bench = try ResolverBench(upstreams: [ResolverBench.first, ResolverBench.second])
            for number in 0..<20 { try bench.query("n\(number).example") }
            for _ in 0..<6 { bench.pass(.seconds(1)) }
            traces.append(bench.actions)
        }
        #expect(traces[0] == traces[1])
    }
}
