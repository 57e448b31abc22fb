import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct SourceTests {
    // RFC 9018 appendix A: a new cookie, and one of either secret while they change.
    @Test(arguments: [
        (
            "198.51.100.100", "e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957",
            UInt32(0x5CF7_9F11), "010000005cf79f111f8130c3eee29480"
        ),
        (
            "2001:db8:220:1:59de:d0f4:8769:82b8", "445536bcd2513298075a5d379663c962",
            "22681ab97d52c298", 0x5CF7_C609, "010000005cf7c609a6bb79d16625507a"
        ),
        (
            "2001:db8:220:1:59de:d0f4:8769:82b8", "dd3bdf9344b678b185a6f5cb60fca715",
            "22681ab97d52c298", 0x5CF7_C579, "010000005cf7c57926556bd0934c72f8"
        ),
    ])
    func cookiesAreThoseOfTheStandard(
        _ client: String, _ secret: String, _ own: String, _ seconds: UInt32, _ expected: String
    ) throws {
        let cookie = ServerCookie(secret: try bytes(secret))
        let address = try #require(IPAddress(client))
        let option = cookie.option(for: try bytes(own), of: address, at: seconds)
        #expect(option.hex == own + expected)
        #expect(cookie.isValid(option, of: address, at: seconds + 3600))
        #expect(!cookie.isValid(option, of: address, at: seconds + 3601))
        #expect(cookie.isValid(option, of: address, at: seconds - 300))
        #expect(!cookie.isValid(option, of: address, at: seconds - 301))
        #expect(!cookie.isValid(option, of: .v4(1), at: seconds))
        for place in [0, 8, 15, 23] {
            var wrong = option
            wrong[place] ^= 1
            #expect(!cookie.isValid(wrong, of: address, at: seconds))
        }
    }

    @Test func aClientGetsACookieAndKeepsItsShareWithIt() throws {
        var bench = try limitedBench(rate: 3)
        var edns = EDNS()
        edns.cookie = Array(1...8)
        try bench.query("node-1.mesh.internal", edns: edns)
        let cookie = try #require(try bench.takeReply().edns).cookie
        #expect(cookie.count == 24)
        #expect(cookie.prefix(8) == Array(1...8)[...])
        // Somebody forges the address until it gets nothing more.
        for _ in 0..<10 { try bench.query("node-1.mesh.internal") }
        #expect(bench.drops == Array(repeating: .rateLimited, count: 4))
        bench.actions = []
        edns.cookie = cookie
        try bench.query("node-1.mesh.internal", edns: edns)
        #expect(try bench.takeReply().edns?.cookie == cookie)
        bench.pass(.seconds(86_400 - 60))
        try bench.query("node-1.mesh.internal", edns: edns)
        let fresh = try #require(try bench.takeReply().edns).cookie
        // The secret changes; the cookie made a minute before stays good.
        bench.pass(.seconds(120))
        for _ in 0..<10 { try bench.query("node-1.mesh.internal") }
        bench.actions = []
        edns.cookie = fresh
        try bench.query("node-1.mesh.internal", edns: edns)
        #expect(try bench.takeReply().edns?.cookie != fresh)
    }

    @Test(arguments: [1, 7, 9, 15, 41])
    func cookiesOfOtherLengthsAreAFormatError(_ count: Int) throws {
        var bench = try ResolverBench()
        var edns = EDNS()
        edns.cookie = [UInt8](repeating: 7, count: count)
        try bench.query("node-1.mesh.internal", edns: edns)
        #expect(try bench.takeReply().code == .formatError)
    }

    @Test func oneSourceIsBoundedAndOthersAreNot() throws {
        var bench = try limitedBench(rate: 200)
        for _ in 0..<300 { try bench.query("node-1.mesh.internal") }
        // Whoever receives the cut ones can go on over TCP.
        let replies = try bench.takeReplies()
        #expect(replies.prefix(200).allSatisfy { $0.answers.count == 1 })
        #expect(replies.dropFirst(200).allSatisfy { $0.flags.contains(.truncated) })
        #expect(replies.dropFirst(200).allSatisfy { $0.answers.isEmpty })
        #expect(replies.count == 250)
        #expect(bench.drops == Array(repeating: .rateLimited, count: 50))
        #expect(bench.resolver.counters.rateLimited == 100)
        let before = bench.fingerprint
        try bench.query("node-1.mesh.internal")
        #expect(bench.fingerprint == before)
        bench.actions = []
        var other = ResolverBench.client(1)
        other.address.ip = .v4(0x0A01_0002)
        try bench.query("node-1.mesh.internal", from: other)
        #expect(try bench.takeReplies().count == 1)
        // Over a connection there is an answer, for the client would wait for one.
        for _ in 0..<201 {
            try bench.query("node-1.mesh.internal", from: ResolverBench.client(1, .tcp))
        }
        #expect(try bench.takeReplies().last?.code == .refused)
        bench.pass(.milliseconds(100))
        bench.actions = []
        for _ in 0..<30 { try bench.query("node-1.mesh.internal") }
        #expect(try bench.takeReplies().count { $0.answers.count == 1 } == 20)
        var local = ResolverBench.client(1)
        local.address.ip = .v4(0x7F00_0001)
        for _ in 0..<300 { try bench.query("node-1.mesh.internal", from: local) }
        #expect(try bench.takeReplies().count == 300)
    }

    @Test func aNetworkOfIPv6IsOneSource() throws {
        var bench = try limitedBench(rate: 5)
        for number in 0..<20 {
            var client = ResolverBench.client(1)
            client.address.ip = .v6(0x2001_0DB8_0000_0001, UInt64(number))
            try bench.query("node-1.mesh.internal", from: client)
        }
        #expect(try bench.takeReplies().count { $0.answers.count == 1 } == 5)
    }

    @Test func sourcesAreForgottenRatherThanKept() throws {
        var bench = try limitedBench(rate: 1)
        for number in 0..<10_000 {
            var client = ResolverBench.client(1)
            client.address.ip = .v4(0x0B00_0000 + UInt32(number))
            try bench.query("node-1.mesh.internal", from: client)
        }
        #expect(try bench.takeReplies().count == 10_000)
        #expect(bench.resolver.knownSources == 4096)
    }
}

private func limitedBench(rate: Int) throws -> ResolverBench {
    var bench = try ResolverBench()
    bench.resolver = Resolver(
        table: try sampleTable(), configuration: ResolverConfiguration(queriesPerSecond: rate))
    return bench
}

private func bytes(_ hex: String) throws -> [UInt8] {
    let digits = hex.compactMap(\.hexDigitValue).map(UInt8.init)
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
