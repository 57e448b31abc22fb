import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct QueryCheckTests {
    @Test func ownNamesAreAnsweredWithAuthority() throws {
        var bench = try ResolverBench()
        try bench.query("Node-1.Mesh.internal", id: 99, edns: EDNS(dnssecOK: true))
        let reply = try bench.takeReply()
        #expect(reply.id == 99)
        #expect(reply.flags == [.response, .authoritative, .recursionDesired, .recursionAvailable])
        #expect(reply.questions.first?.name.description == "Node-1.Mesh.internal")
        #expect(reply.answers.count == 1)
        #expect(reply.edns == EDNS(dnssecOK: true))
        #expect(bench.actions.isEmpty)
        try bench.query("nobody.mesh.internal")
        #expect(try bench.takeReply().code == .nameError)
        try bench.query("node-1.mesh.internal", .mx)
        let noData = try bench.takeReply()
        #expect(noData.code == .noError)
        #expect(noData.authorities.count == 1)
        #expect(noData.edns == nil)
    }

    @Test func ownZonesAreNeverForwarded() throws {
        var bench = try ResolverBench()
        for name in ["x.mesh.internal", "9.9.1.10.in-addr.arpa", "mesh.internal"] {
            for type in [RecordType.a, .ptr, .mx, .any, .axfr, RecordType(rawValue: 65)] {
                try bench.query(name, type)
            }
        }
        #expect(bench.upstreamQueryCount == 0)
        #expect(try bench.takeReplies().count == 18)
    }

    @Test func otherOperationsAreNotImplemented() throws {
        var bench = try ResolverBench()
        try bench.query("node-1.mesh.internal", flags: DNSFlags(rawValue: 0x2800))
        let reply = try bench.takeReply()
        #expect(reply.code == .notImplemented)
        #expect(reply.flags.opcode == 5)
    }

    @Test func brokenQueriesGetAFormatError() throws {
        var bench = try ResolverBench()
        var two = DNSMessage(id: 3)
        let question = DNSQuestion(try #require(DNSName("node-1.mesh.internal")), .a)
        two.questions = [question, question]
        bench.send(two.encoded())
        #expect(try bench.takeReply().code == .formatError)
        bench.send(DNSMessage(id: 4).encoded())
        #expect(try bench.takeReply().code == .formatError)
        var one = DNSMessage(id: 5)
        one.questions = [question]
        bench.send(one.encoded() + [0])
        #expect(try bench.takeReply().code == .formatError)
        bench.send(Array(one.encoded().dropLast()))
        #expect(try bench.takeReply().code == .formatError)
    }

    @Test func newerOptionsGetBadVersion() throws {
        var bench = try ResolverBench()
        try bench.query("node-1.mesh.internal", edns: EDNS(version: 1))
        let reply = try bench.takeReply()
        #expect(reply.code == .badVersion)
        #expect(reply.edns?.version == 0)
        #expect(reply.answers.isEmpty)
    }

    @Test func responsesAndScrapsAreIgnoredWithoutTrace() throws {
        var bench = try ResolverBench()
        let before = bench.fingerprint
        var response = DNSMessage(id: 1, flags: .response)
        response.questions = [DNSQuestion(.root, .a)]
        bench.send(response.encoded())
        bench.send([1, 2, 3])
        bench.send([])
        #expect(bench.drops == [.unexpectedResponse, .tooShort, .tooShort])
        #expect(bench.fingerprint == before)
        #expect(try bench.takeReplies().isEmpty)
    }

    @Test func foreignQuestionsNeedAnUpstreamAndRecursion() throws {
        var alone = try ResolverBench(upstreams: [])
        try alone.query("example.com")
        #expect(try alone.takeReply().code == .refused)
        var bench = try ResolverBench()
        try bench.query("example.com", flags: [])
        #expect(try bench.takeReply().code == .refused)
        try bench.query("example.com", .axfr)
        #expect(try bench.takeReply().code == .refused)
        #expect(bench.upstreamQueryCount == 0)
    }

    @Test func strangersAreRefused() throws {
        var bench = try ResolverBench()
        bench.resolver = Resolver(
            table: try sampleTable(),
            configuration: ResolverConfiguration(
                upstreams: [ResolverBench.first], clients: [try #require(IPPrefix("10.1.0.0/16"))]))
        try bench.query("node-1.mesh.internal")
        #expect(try bench.takeReply().code == .noError)
        var stranger = ResolverBench.client(1)
        stranger.address.ip = .v4(0xC633_6401)
        try bench.query("node-1.mesh.internal", from: stranger)
        #expect(try bench.takeReply().code == .refused)
    }

    @Test func answersThatDoNotFitAreCutOverUDPOnly() throws {
        let zone = try #require(DNSName("big.internal"))
        let hosts = [HostNames(name: "many", addresses: (0..<60).map { .v4($0) })]
        var bench = try ResolverBench()
        bench.resolver.table = NameTable(
            zone: zone, nameServer: "many", serial: 1, prefixes: [], hosts: hosts)
        try bench.query("many.big.internal")
        let cut = try bench.takeReply()
        #expect(cut.flags.contains(.truncated))
        #expect(cut.answers.isEmpty)
        try bench.query("many.big.internal", edns: EDNS(payloadSize: 4096))
        #expect(try bench.takeReply().answers.count == 60)
        try bench.query("many.big.internal", from: ResolverBench.client(1, .tcp))
        #expect(try bench.takeReply().answers.count == 60)
    }

    @Test func manyAddressesTakeTurns() throws {
        var bench = try ResolverBench()
        bench.resolver.table = NameTable(
            zone: try #require(DNSName("m.internal")), nameServer: "a", serial: 1, prefixes: [],
            hosts: [HostNames(name: "a", addresses: [.v4(1), .v4(2), .v4(3)])])
        var firsts: Set<RecordData> = []
        for id in 0..<6 {
            try bench.query("a.m.internal", id: UInt16(id))
            let reply = try bench.takeReply()
            #expect(reply.answers.count == 3)
            firsts.insert(try #require(reply.answers.first).data)
        }
        #expect(firsts.count == 3)
    }
}
