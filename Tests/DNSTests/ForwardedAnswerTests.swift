import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct ForwardedAnswerTests {
    @Test func privateAddressesOfPublicNamesAreTakenOut() throws {
        for text in [
            "10.0.0.1", "172.31.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "0.0.0.0",
            "100.64.0.1", "::1", "fd00::1", "fe80::1", "::ffff:192.168.0.1", "64:ff9b::a00:1",
        ] {
            var bench = try ResolverBench()
            try bench.query("evil.example", .aaaa)
            let query = try bench.takeUpstreamQuery()
            var reply = try query.positive()
            let name = try #require(query.message.questions.first).name
            let address = RecordData.address(try #require(IPAddress(text)))
            reply.answers.append(ResourceRecord(name, address, ttl: 5))
            reply.additionals.append(ResourceRecord(name, address, ttl: 5))
            bench.answer(query, reply)
            let response = try bench.takeReply()
            #expect(response.answers.map(\.data) == [.address(.v4(0x0808_0808))], "\(text)")
            #expect(response.additionals.isEmpty)
            #expect(bench.resolver.counters.filteredReplies == 1)
        }
    }

    @Test func publicAddressesStay() throws {
        for text in ["172.32.0.1", "100.128.0.1", "2001:db8::1", "11.0.0.1", "64:ff9b::808:808"] {
            #expect(!isLocalOnly(try #require(IPAddress(text))), "\(text)")
        }
    }

    @Test func addressHintsAreFilteredToo() throws {
        var bench = try ResolverBench()
        try bench.query("evil.example", .https)
        let query = try bench.takeUpstreamQuery()
        let name = try #require(query.message.questions.first).name
        var reply = try query.positive()
        reply.answers = [[8, 8, 8, 8], [10, 0, 0, 1]].map { hint in
            ResourceRecord(
                name,
                .opaque(.https, [0, 1, 0, 0, 1, 0, 3, 2] + [104, 50] + [0, 4, 0, 4] + hint),
                ttl: 60)
        }
        bench.answer(query, reply)
        #expect(try bench.takeReply().answers == [reply.answers[0]])
    }

    @Test func exemptSuffixesMayHavePrivateAddresses() throws {
        var bench = try ResolverBench()
        bench.resolver = Resolver(
            table: try sampleTable(),
            configuration: ResolverConfiguration(
                upstreams: [ResolverBench.first],
                localSuffixes: [try #require(DNSName("home.example"))]))
        for (name, count) in [("tv.home.example", 1), ("tv.example", 0)] {
            try bench.query(name)
            let query = try bench.takeUpstreamQuery()
            bench.answer(query, try query.positive(address: 0xC0A8_0001))
            #expect(try bench.takeReply().answers.count == count)
        }
    }

    @Test func aliasesOutOfTheZoneAreFollowed() throws {
        let zone = try #require(DNSName("m.internal"))
        let alias = try #require(DNSName("web.m.internal"))
        let inner = try #require(DNSName("www.m.internal"))
        let outside = try #require(DNSName("cdn.example.com"))
        let table = NameTable(
            zone: zone, nameServer: "a", serial: 1, prefixes: [], hosts: [],
            records: [
                ResourceRecord(inner, .cname(alias), ttl: 9),
                ResourceRecord(alias, .cname(outside), ttl: 9),
            ])
        var bench = try ResolverBench()
        bench.resolver.table = table
        try bench.query("www.m.internal", id: 5)
        let query = try bench.takeUpstreamQuery()
        #expect(query.message.questions.map(\.name) == [outside])
        bench.answer(query, try query.positive())
        for _ in 0..<2 {
            let reply = try bench.takeReply()
            #expect(reply.questions.map(\.name) == [inner])
            #expect(reply.answers.map(\.name) == [inner, alias, outside])
            #expect(reply.flags.contains(.authoritative))
            try bench.query("www.m.internal", id: 5)
        }
        _ = try bench.takeReply()
        try bench.query("www.m.internal", flags: [])
        #expect(try bench.takeReply().answers.count == 2)
        #expect(bench.upstreamQueryCount == 0)
        try bench.query("web.m.internal", .mx)
        let missing = try bench.takeUpstreamQuery()
        bench.answer(missing, try missing.negative(.nameError, soa: (60, 60)))
        let reply = try bench.takeReply()
        #expect(reply.code == .nameError)
        #expect(reply.answers.count == 1)
        #expect(reply.authorities.count == 1)
        var alone = try ResolverBench(upstreams: [])
        alone.resolver.table = table
        try alone.query("www.m.internal")
        #expect(try alone.takeReply().answers.count == 2)
    }

    @Test func anyGetsAsLittleAsPossible() throws {
        var bench = try ResolverBench()
        try bench.query("example.com", .any)
        let foreign = try bench.takeReply()
        #expect(foreign.answers.map(\.type) == [.hinfo])
        #expect(!foreign.flags.contains(.authoritative))
        try bench.query("node-1.mesh.internal", .any)
        #expect(try bench.takeReply().answers.map(\.type) == [.a])
        try bench.query("mesh.internal", .any)
        #expect(try bench.takeReply().answers.map(\.type) == [.soa])
        try bench.query("nobody.mesh.internal", .any)
        #expect(try bench.takeReply().code == .nameError)
        #expect(bench.upstreamQueryCount == 0)
    }

    @Test func validationIsPassedOnToThoseWhoAsk() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let query = try bench.takeUpstreamQuery()
        #expect(query.message.flags.contains(.authenticData))
        var reply = try query.positive()
        reply.flags.insert(.authenticData)
        bench.answer(query, reply)
        #expect(try !bench.takeReply().flags.contains(.authenticData))
        try bench.query("example.com", flags: [.recursionDesired, .authenticData])
        #expect(try bench.takeReply().flags.contains(.authenticData))
    }

    @Test func answersInUseAreFetchedBeforeTheyEnd() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 100))
        _ = try bench.takeReply()
        bench.pass(.seconds(89))
        try bench.query("example.com")
        #expect(bench.upstreamQueryCount == 0)
        _ = try bench.takeReply()
        bench.pass(.seconds(1))
        try bench.query("example.com")
        try bench.query("example.com")
        #expect(try bench.takeReplies().flatMap(\.answers).map(\.ttl) == [10, 10])
        let second = try bench.takeUpstreamQuery()
        bench.answer(second, try second.positive(ttl: 100))
        #expect(try bench.takeReplies().isEmpty)
        try bench.query("example.com")
        #expect(try bench.takeReply().answers.map(\.ttl) == [100])
        #expect(bench.resolver.counters.prefetches == 1)
    }

    @Test func staleAnswersComeSoonAndAreMarked() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 60))
        _ = try bench.takeReply()
        bench.pass(.seconds(600))
        try bench.query("example.com", edns: EDNS())
        bench.pass(.milliseconds(1799))
        #expect(try bench.takeReplies().isEmpty)
        bench.pass(.milliseconds(1))
        let stale = try bench.takeReply()
        #expect(stale.edns?.extendedError == EDNS.staleAnswer)
        #expect(stale.answers.map(\.ttl) == [30])
        for _ in 0..<5 { bench.pass(.seconds(1)) }
        #expect(bench.resolver.deadline == nil)
        bench.actions = []
        // For half a minute nobody is asked in vain.
        try bench.query("example.com")
        #expect(try bench.takeReply().answers.map(\.ttl) == [30])
        #expect(bench.upstreamQueryCount == 0)
        bench.pass(.seconds(30))
        try bench.query("example.com")
        let again = try bench.takeUpstreamQuery()
        bench.answer(again, try again.positive(ttl: 60))
        #expect(try bench.takeReply().answers.map(\.ttl) == [60])
    }

    @Test func failuresAreKeptForFiveSeconds() throws {
        var bench = try ResolverBench()
        try bench.query("example.com")
        for _ in 0..<5 { bench.pass(.seconds(1)) }
        #expect(try bench.takeReply().code == .serverFailure)
        bench.actions = []
        bench.pass(.seconds(3))
        try bench.query("example.com", edns: EDNS())
        // Another key: DO and CD are the same, EDNS alone is not part of it.
        #expect(try bench.takeReply().code == .serverFailure)
        #expect(bench.upstreamQueryCount == 0)
        bench.pass(.seconds(2))
        try bench.query("example.com")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func theLogSaysWhoAskedOnlyWhenWanted() throws {
        var bench = try ResolverBench()
        try bench.query("node-1.mesh.internal")
        #expect(bench.actions.count == 1)
        bench.resolver = Resolver(
            table: try sampleTable(), configuration: ResolverConfiguration(logsQueries: true))
        try bench.query("nobody.mesh.internal")
        let logged = bench.actions.compactMap { action -> AnsweredQuery? in
            if case .answered(let line) = action { line } else { nil }
        }
        #expect(logged.map(\.code) == [.nameError])
        #expect(logged.map(\.origin) == [.zone])
        #expect(logged.map(\.client) == [ResolverBench.client(1000)])
    }
}
