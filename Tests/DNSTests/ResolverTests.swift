import DNS
import MeshBase
import NetAddress
import Testing

/// A resolver, a virtual clock and the other ends of its sockets.
private struct Bench {
    var resolver: Resolver
    var random = SeededGenerator(seed: 1)
    var now = BootInstant(nanoseconds: 1_000_000_000_000)
    var actions: [ResolverAction] = []

    static let first = SocketAddress(ip: .v4(0xC000_0201), port: 53)
    static let second = SocketAddress(ip: .v4(0xC000_0202), port: 53)

    init(upstreams: [SocketAddress] = [Bench.first], capacity: Int = 100) throws {
        resolver = Resolver(
            table: try sampleTable(),
            configuration: ResolverConfiguration(upstreams: upstreams, cacheCapacity: capacity))
    }

    static func client(_ number: UInt16, _ transport: DNSTransport = .udp) -> DNSClient {
        DNSClient(
            address: SocketAddress(ip: .v4(0x0A01_0001), port: number), transport: transport,
            channel: 0)
    }

    mutating func query(
        _ name: String, _ type: RecordType = .a, id: UInt16 = 7, edns: EDNS? = nil,
        flags: DNSFlags = .recursionDesired, from client: DNSClient = Bench.client(1000)
    ) throws {
        var message = DNSMessage(id: id, flags: flags)
        message.questions = [DNSQuestion(try #require(DNSName(name)), type)]
        message.edns = edns
        send(message.encoded(), from: client)
    }

    mutating func send(_ bytes: [UInt8], from client: DNSClient = Bench.client(1000)) {
        resolver.receive(
            query: bytes, from: client, at: now, random: &random, into: &actions)
    }

    mutating func pass(_ duration: Duration) {
        now = now + duration
        resolver.timeout(at: now, random: &random, into: &actions)
    }

    /// Takes the one upstream query that is waiting in the actions.
    mutating func takeUpstreamQuery() throws -> UpstreamQuery {
        let index = try #require(
            actions.firstIndex { if case .queryUpstream = $0 { true } else { false } })
        guard
            case .queryUpstream(let exchange, let upstream, let transport, let bytes) =
                actions.remove(at: index)
        else { throw DecodingFailure.truncated }
        return UpstreamQuery(
            exchange: exchange, upstream: upstream, transport: transport,
            message: try DNSMessage(decoding: bytes))
    }

    mutating func answer(_ query: UpstreamQuery, _ message: DNSMessage) {
        deliver(query, message.encoded())
    }

    mutating func deliver(_ query: UpstreamQuery, _ bytes: [UInt8], from: SocketAddress? = nil) {
        resolver.receive(
            reply: bytes, exchange: query.exchange, from: from ?? query.upstream, at: now,
            random: &random, into: &actions)
    }

    /// All replies so far, which must be the only actions beside closed exchanges.
    mutating func takeReplies() throws -> [DNSMessage] {
        let replies = actions.compactMap { action -> [UInt8]? in
            if case .reply(_, let bytes) = action { bytes } else { nil }
        }
        actions.removeAll { if case .reply = $0 { true } else { false } }
        return try replies.map { try DNSMessage(decoding: $0) }
    }

    mutating func takeReply() throws -> DNSMessage {
        let replies = try takeReplies()
        #expect(replies.count == 1)
        return try #require(replies.first)
    }

    var upstreamQueryCount: Int {
        actions.count { if case .queryUpstream = $0 { true } else { false } }
    }

    var drops: [DNSDropReason] {
        actions.compactMap { if case .dropped(let reason) = $0 { reason } else { nil } }
    }

    var fingerprint: UInt64 {
        var result = Fingerprint()
        resolver.fingerprint(into: &result)
        return result.value
    }
}

private struct UpstreamQuery {
    let exchange: UInt64
    let upstream: SocketAddress
    let transport: DNSTransport
    let message: DNSMessage

    /// The response with one address record.
    func positive(ttl: UInt32 = 300, address: UInt32 = 0x0808_0808) throws -> DNSMessage {
        var response = DNSMessage(
            id: message.id, flags: [.response, .recursionDesired, .recursionAvailable])
        response.questions = message.questions
        let name = try #require(message.questions.first).name
        response.answers = [ResourceRecord(name, .address(.v4(address)), ttl: ttl)]
        response.edns = EDNS()
        return response
    }

    func negative(_ code: ResponseCode, soa: (ttl: UInt32, minimum: UInt32)?) throws -> DNSMessage {
        var response = DNSMessage(id: message.id, flags: DNSFlags.response.with(code))
        response.questions = message.questions
        if let soa {
            let zone = try #require(DNSName("example"))
            response.authorities = [
                ResourceRecord(
                    zone,
                    .soa(
                        StartOfAuthority(
                            primary: zone, mailbox: zone, serial: 1, refresh: 1, retry: 1,
                            expire: 1, minimum: soa.minimum)), ttl: soa.ttl)
            ]
        }
        return response
    }

    func failure(_ code: ResponseCode) throws -> DNSMessage {
        try negative(code, soa: nil)
    }
}

@Suite struct QueryCheckTests {
    @Test func ownNamesAreAnsweredWithAuthority() throws {
        var bench = try Bench()
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
        var bench = try Bench()
        for name in ["x.mesh.internal", "9.9.1.10.in-addr.arpa", "mesh.internal"] {
            for type in [RecordType.a, .ptr, .mx, .any, .axfr, RecordType(rawValue: 65)] {
                try bench.query(name, type)
            }
        }
        #expect(bench.upstreamQueryCount == 0)
        #expect(try bench.takeReplies().count == 18)
    }

    @Test func otherOperationsAreNotImplemented() throws {
        var bench = try Bench()
        try bench.query("node-1.mesh.internal", flags: DNSFlags(rawValue: 0x2800))
        let reply = try bench.takeReply()
        #expect(reply.code == .notImplemented)
        #expect(reply.flags.opcode == 5)
    }

    @Test func brokenQueriesGetAFormatError() throws {
        var bench = try Bench()
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
        var bench = try Bench()
        try bench.query("node-1.mesh.internal", edns: EDNS(version: 1))
        let reply = try bench.takeReply()
        #expect(reply.code == .badVersion)
        #expect(reply.edns?.version == 0)
        #expect(reply.answers.isEmpty)
    }

    @Test func responsesAndScrapsAreIgnoredWithoutTrace() throws {
        var bench = try Bench()
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
        var alone = try Bench(upstreams: [])
        try alone.query("example.com")
        #expect(try alone.takeReply().code == .refused)
        var bench = try Bench()
        try bench.query("example.com", flags: [])
        #expect(try bench.takeReply().code == .refused)
        try bench.query("example.com", .axfr)
        #expect(try bench.takeReply().code == .refused)
        #expect(bench.upstreamQueryCount == 0)
    }

    @Test func strangersAreRefused() throws {
        var bench = try Bench()
        bench.resolver = Resolver(
            table: try sampleTable(),
            configuration: ResolverConfiguration(
                upstreams: [Bench.first], clients: [try #require(IPPrefix("10.1.0.0/16"))]))
        try bench.query("node-1.mesh.internal")
        #expect(try bench.takeReply().code == .noError)
        var stranger = Bench.client(1)
        stranger.address.ip = .v4(0xC633_6401)
        try bench.query("node-1.mesh.internal", from: stranger)
        #expect(try bench.takeReply().code == .refused)
    }

    @Test func answersThatDoNotFitAreCutOverUDPOnly() throws {
        let zone = try #require(DNSName("big.internal"))
        let hosts = [HostNames(name: "many", addresses: (0..<60).map { .v4($0) })]
        var bench = try Bench()
        bench.resolver.table = NameTable(
            zone: zone, nameServer: "many", serial: 1, prefixes: [], hosts: hosts)
        try bench.query("many.big.internal")
        let cut = try bench.takeReply()
        #expect(cut.flags.contains(.truncated))
        #expect(cut.answers.isEmpty)
        try bench.query("many.big.internal", edns: EDNS(payloadSize: 4096))
        #expect(try bench.takeReply().answers.count == 60)
        try bench.query("many.big.internal", from: Bench.client(1, .tcp))
        #expect(try bench.takeReply().answers.count == 60)
    }

    @Test func manyAddressesTakeTurns() throws {
        var bench = try Bench()
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

@Suite struct ForwardingTests {
    @Test func anAnswerComesBackUnderTheClientsIdentifierAndSpelling() throws {
        var bench = try Bench()
        try bench.query(
            "ExAmple.com", id: 42, edns: EDNS(dnssecOK: true),
            flags: [
                .recursionDesired, .checkingDisabled,
            ])
        let upstream = try bench.takeUpstreamQuery()
        #expect(upstream.upstream == Bench.first)
        #expect(upstream.transport == .udp)
        #expect(upstream.message.edns == EDNS(dnssecOK: true))
        #expect(upstream.message.flags == [.recursionDesired, .checkingDisabled])
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
        var bench = try Bench()
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
        var bench = try Bench()
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.positive(ttl: 0))
        #expect(try bench.takeReply().answers.count == 1)
        try bench.query("example.com")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func flagsThatChangeTheAnswerArePartOfTheKey() throws {
        var bench = try Bench()
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
            var bench = try Bench()
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
        var bench = try Bench()
        try bench.query("missing.example")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.negative(.nameError, soa: nil))
        #expect(try bench.takeReply().code == .nameError)
        try bench.query("missing.example")
        #expect(bench.upstreamQueryCount == 1)
    }

    @Test func identicalQuestionsShareOneExchange() throws {
        var bench = try Bench()
        for number in 1...5 {
            try bench.query("Example.com", id: UInt16(number), from: Bench.client(UInt16(number)))
        }
        #expect(bench.upstreamQueryCount == 1)
        let upstream = try bench.takeUpstreamQuery()
        bench.answer(upstream, try upstream.positive())
        #expect(try bench.takeReplies().map(\.id) == [1, 2, 3, 4, 5])
    }

    @Test func silenceMovesToTheNextUpstreamAndEndsInFailure() throws {
        var bench = try Bench(upstreams: [Bench.first, Bench.second])
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
        #expect(asked.prefix(2) == [Bench.first, Bench.second])
        #expect(asked.count >= 3)
        #expect(bench.resolver.counters.failures == 1)
        #expect(bench.now - BootInstant(nanoseconds: 1_000_000_000_000) < .seconds(5))
    }

    @Test func theLastWordIsServerFailure() throws {
        var bench = try Bench()
        try bench.query("example.com", id: 77)
        for _ in 0..<10 { bench.pass(.seconds(1)) }
        let reply = try bench.takeReply()
        #expect(reply.code == .serverFailure)
        #expect(reply.id == 77)
        #expect(bench.resolver.deadline == nil)
    }

    @Test func aFailingUpstreamIsPassedOver() throws {
        var bench = try Bench(upstreams: [Bench.first, Bench.second])
        try bench.query("example.com")
        let first = try bench.takeUpstreamQuery()
        bench.answer(first, try first.failure(.serverFailure))
        #expect(try bench.takeReplies().isEmpty)
        let second = try bench.takeUpstreamQuery()
        #expect(second.upstream == Bench.second)
        bench.answer(second, try second.positive())
        #expect(try bench.takeReply().answers.count == 1)
    }

    @Test func aSilentUpstreamIsAvoidedForAWhile() throws {
        var bench = try Bench(upstreams: [Bench.first, Bench.second])
        for number in 0..<3 {
            try bench.query("n\(number).example")
            #expect(try bench.takeUpstreamQuery().upstream == Bench.first)
            bench.pass(.seconds(1))
            let second = try bench.takeUpstreamQuery()
            bench.answer(second, try second.positive())
        }
        try bench.query("n3.example")
        #expect(try bench.takeUpstreamQuery().upstream == Bench.second)
        bench.pass(.seconds(40))
        try bench.query("n4.example")
        let queries = bench.actions.compactMap { action -> SocketAddress? in
            if case .queryUpstream(_, let upstream, _, _) = action { upstream } else { nil }
        }
        #expect(queries.last == Bench.first)
    }

    @Test func truncatedRepliesAreFetchedOverTCP() throws {
        var bench = try Bench()
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
        var bench = try Bench()
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
        var bench = try Bench()
        try bench.query("example.com")
        let query = try bench.takeUpstreamQuery()
        let before = bench.fingerprint
        var wrongID = try query.positive(address: 0x0666_0666)
        wrongID.id ^= 1
        bench.answer(query, wrongID)
        var wrongQuestion = try query.positive()
        wrongQuestion.questions = [DNSQuestion(try #require(DNSName("evil.com")), .a)]
        bench.answer(query, wrongQuestion)
        bench.deliver(query, try query.positive().encoded(), from: Bench.second)
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
        var bench = try Bench()
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
        var bench = try Bench()
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
        var bench = try Bench()
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

    @Test func theCacheIsBounded() throws {
        var bench = try Bench(capacity: 10)
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
        var bench = try Bench()
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
            var bench = try Bench()
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
            var bench = try Bench(upstreams: [Bench.first, Bench.second])
            for number in 0..<20 { try bench.query("n\(number).example") }
            for _ in 0..<6 { bench.pass(.seconds(1)) }
            traces.append(bench.actions)
        }
        #expect(traces[0] == traces[1])
    }
}
