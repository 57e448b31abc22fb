import CAllocationCounter
import DNS
import MeshBase
import NetAddress
import Testing

/// What a query costs in heap memory: the name server's thread has nothing else to wait for.
@Suite struct AllocationTests {
    /// From the cache three, the question's name and the response among them; six from the zone,
    /// whose records are put together. Without the optimiser there are many more.
    @Test(arguments: [
        ("www.example.com", optimised: 3, plain: 32),
        ("node-1.mesh.internal", optimised: 6, plain: 52),
    ])
    func aHitTakesFewAllocations(_ name: String, optimised: Int, plain: Int) throws {
        #if DEBUG
            let bound = plain
        #else
            let bound = optimised
        #endif
        try #require(allocation_count_works() == 1, "run this test without a sanitizer")
        var bench = try ResolverBench()
        var message = DNSMessage(id: 1, flags: .recursionDesired)
        message.questions = [DNSQuestion(try #require(DNSName(name)), .a)]
        message.edns = EDNS()
        let query = message.encoded()
        bench.send(query)
        if name.hasSuffix(".com") {
            let asked = try bench.takeUpstreamQuery()
            var reply = DNSMessage(
                id: asked.message.id, flags: [.response, .recursionDesired, .recursionAvailable])
            reply.questions = asked.message.questions
            reply.answers = [
                ResourceRecord(
                    asked.message.questions[0].name, .address(.v4(0xC633_6401)), ttl: 3_600)
            ]
            bench.resolver.receive(
                reply: reply.encoded(), exchange: asked.exchange, from: asked.upstream,
                at: bench.now, random: &bench.random, into: &bench.actions)
        }
        bench.actions.removeAll(keepingCapacity: true)
        let rounds = 1_000
        let before = allocation_count()
        for _ in 0..<rounds {
            bench.send(query)
            bench.actions.removeAll(keepingCapacity: true)
        }
        let each = Int(allocation_count() - before) / rounds
        print("measured: \(each) allocations for a query of \(name)")
        #expect(each <= bound)
        let hits = bench.resolver.counters
        #expect(hits.cacheHits + hits.ownAnswers >= UInt64(rounds))
    }
}
