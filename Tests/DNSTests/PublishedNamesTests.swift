import DNS
import MeshBase
import NetAddress
import Testing

/// Records that people publish: their text, and which of them are served.
@Suite struct PublishedNamesTests {
    private let zone = DNSName("mesh.internal") ?? .root

    private func name(_ text: String) throws -> DNSName {
        try #require(DNSName("\(text).mesh.internal"))
    }

    private func entry(_ key: String, _ lines: String...) throws -> PublishedName {
        let value = Array(lines.joined(separator: "\n").utf8)
        return try #require(PublishedName(key: key, value: value, zone: zone))
    }

    // MARK: Text

    @Test(arguments: [
        ("A", "10.1.0.7", "10.1.0.7"), ("AAAA", "fd00::7", "fd00::7"),
        ("CNAME", "alpha", "alpha.mesh.internal."), ("CNAME", "example.com.", "example.com."),
        ("PTR", #"Web\032site._http._tcp"#, #"Web\032site._http._tcp.mesh.internal."#),
        ("MX", "10 alpha", "10 alpha.mesh.internal."),
        (
            "TXT", #"plain "two words" "quote \" \\ \200""#,
            #""plain" "two words" "quote \" \\ \200""#
        ),
        ("SRV", "0 5 443 alpha.mesh.internal", "0 5 443 alpha.mesh.internal."),
        (
            "NAPTR", #"100 10 "u" "E2U+sip" "!^.*$!sip:a@b!" ."#,
            #"100 10 "u" "E2U+sip" "!^.*$!sip:a@b!" ."#
        ),
        ("CAA", #"0 issue "ca.example""#, #"0 "issue" "ca.example""#),
        ("TLSA", "3 1 1 00ff 17", "3 1 1 00ff17"),
        (
            "HTTPS", "1 . port=8443 alpn=h2,http/1.1 ipv4hint=10.1.0.1,10.1.0.2",
            "1 . alpn=h2,http/1.1 port=8443 ipv4hint=10.1.0.1,10.1.0.2"
        ),
        ("SVCB", "0 alpha", "0 alpha.mesh.internal."),
        ("TYPE65280", "\\# 3 0a0b0c", "\\# 3 0a0b0c"), ("A", "\\# 4 0a010007", "10.1.0.7"),
    ])
    func recordsAreReadAndWritten(_ type: String, _ text: String, _ canonical: String) throws {
        let type = try #require(RecordType(type))
        let data = try RecordData(type, text: text, zone: zone)
        #expect(data.type == type)
        #expect(data.text == canonical)
        #expect(try RecordData(type, text: data.text, zone: zone) == data)
        // And over the wire.
        var message = DNSMessage()
        message.answers = [ResourceRecord(zone, data, ttl: 1)]
        #expect(try DNSMessage(decoding: message.encoded()).answers == message.answers)
    }

    @Test(arguments: [
        ("A", "fd00::1"), ("A", "10.1.0.7 10.1.0.8"), ("A", ""), ("AAAA", "10.1.0.7"),
        ("CNAME", "two words"), ("CNAME", "www.example.com"), ("MX", "alpha"),
        ("MX", "70000 alpha"), ("SRV", "0 5 alpha"), ("SRV", "0 5 +443 alpha"),
        ("TXT", #""open"#), ("NAPTR", "1 2 u"), ("CAA", "256 issue x"), ("TLSA", "3 1 1 abc"),
        ("HTTPS", "1 . port=x"), ("HTTPS", "1 . port=1 port=2"), ("HTTPS", "1 . alpn"),
        ("TYPE65280", "abc"), ("TYPE65280", "\\# 4 0a0b0c"), ("A", "\\# 3 0a0b0c"),
        ("NS", "alpha"), ("SOA", "a b 1 2 3 4 5"), ("TYPE41", "\\# 0"), ("TYPE255", "\\# 0"),
        ("DNSKEY", "\\# 4 00000000"),
    ])
    func whatIsNoRecordIsRefused(_ type: String, _ text: String) throws {
        let type = try #require(RecordType(type))
        #expect(throws: RecordTextProblem.self) {
            try RecordData(type, text: text, zone: zone)
        }
    }

    @Test func entriesSurviveTheLedger() throws {
        let original = try entry(
            "web", "A 10.1.0.7", "60 TXT \"a b\"", "nonsense", "A 10.1.0.7", "TYPE9999 \\# 0")
        #expect(original.records.map(\.ttl) == [20, 60, 20])
        let again = PublishedName(key: original.key(zone: zone), value: original.value, zone: zone)
        #expect(again == original)
        #expect(PublishedName.key(.name(try name("Web.Rack2")), zone: zone) == "web.rack2")
        // A key has one spelling; another one would be a second entry of the same name.
        #expect(PublishedName(key: "WEB", value: original.value, zone: zone) == nil)
        #expect(PublishedName(key: "web.mesh.internal", value: original.value, zone: zone) == nil)
        #expect(PublishedName(key: "web", value: Array("nonsense".utf8), zone: zone) == nil)
        #expect(PublishedName.owner("web.example.com.", zone: zone) == nil)
    }

    // MARK: Patterns

    @Test(arguments: [
        ("node-[0-9]+", "node-12", true), ("node-[0-9]+", "node-", false),
        ("node-[0-9]+", "xnode-1", false), ("node-[0-9]+", "node-1x", false),
        (#"^.*\.dev$"#, "a.b.dev", true), (#".*\.dev"#, "adev", false),
        ("(web|api)(-v[12])?", "API-V2", true), ("(web|api)(-v[12])?", "api-v3", false),
        ("a{2,3}", "aaa", true), ("a{2,3}", "aaaa", false), ("a{2}", "aa", true),
        ("a{1,}", "aaaaa", true), ("(a*)*", "aaaa", true), (#"\d\w"#, "7x", true),
        ("[^.]+", "a.b", false), ("a|", "", true), ("x.y", "x.y", true), ("ab?c", "ac", true),
    ])
    func patternsMatchWholeNames(_ pattern: String, _ name: String, _ matches: Bool) throws {
        let pattern = try #require(NamePattern(pattern))
        #expect(pattern.matches(Array(name.utf8)) == matches)
    }

    @Test(arguments: [
        "", "(", ")", "a**b(", "[", "[z-a]", "*", "a{3,2}", "a{0}", "(){99}", #"\"#, "(?=a)",
        #"\b"#, "a b", "((((a{99}){99}){99}){99})", String(repeating: "(", count: 400),
        String(repeating: "a", count: 300), "\u{e4}",
    ])
    func brokenAndHugePatternsAreRefused(_ text: String) {
        #expect(NamePattern(text) == nil)
    }

    @Test func evilPatternsTakeLinearTime() throws {
        // A backtracking engine takes 2^60 steps for this.
        let pattern = try #require(NamePattern("(a|a|aa)*(a|a)*b"))
        #expect(!pattern.matches(Array(repeating: UInt8(ascii: "a"), count: 250)))
    }

    // MARK: What is served

    private let alpha = PublishedMachine(
        name: "alpha", addresses: [.v4(0x0A01_0001)], isAlive: true)
    private let beta = PublishedMachine(
        name: "beta", addresses: [.v4(0x0A01_0002)], isAlive: true)

    /// The answers of a zone with alpha (0) and beta (1) as authors.
    private func answers(
        _ question: String, _ type: RecordType, beta isBetaAlive: Bool = true,
        _ publications: [(Int, PublishedName)]
    ) throws -> NameAnswer {
        var beta = beta
        beta.isAlive = isBetaAlive
        let published = PublishedZone(
            zone: zone, machines: [alpha, beta],
            publications: publications.map { Publication(author: $0.0, content: $0.1) })
        let alive = [alpha, beta].filter(\.isAlive)
        let table = NameTable(
            zone: zone, nameServer: "alpha", serial: 1, prefixes: [],
            hosts: alive.map { HostNames(name: $0.name, addresses: $0.addresses) },
            records: published.records, patterns: published.patterns)
        return try #require(table.answer(DNSQuestion(try name(question), type)))
    }

    @Test func aHostNameIsItsMachines() throws {
        let publications = [
            (0, try entry("beta", "A 10.1.0.1", "TXT \"mine\"")),
            (1, try entry("beta", "TXT \"own\"", "CNAME alpha")),
        ]
        #expect(
            try answers("beta", .a, publications).answers.map(\.data) == [
                .address(.v4(0x0A01_0002))
            ])
        #expect(
            try answers("beta", .txt, publications).answers.map(\.data) == [
                .txt([Array("own".utf8)])
            ])
    }

    @Test func recordsOfAllAuthorsStandTogether() throws {
        let publications = [
            (0, try entry("db", "A 10.1.0.1", "CNAME beta")),
            (1, try entry("db", "CNAME alpha", "A 10.1.0.2", "A 10.1.0.1")),
        ]
        let answer = try answers("db", .a, publications)
        #expect(
            answer.answers.map(\.data) == [
                .address(.v4(0x0A01_0001)), .address(.v4(0x0A01_0002)),
            ])
        // Where an alias comes first, it is alone.
        let alias = [
            (0, try entry("db", "CNAME beta")), (1, try entry("db", "A 10.1.0.1", "CNAME alpha")),
        ]
        #expect(try answers("db", .a, alias).answers.map(\.type) == [.cname, .a])
        #expect(
            try answers("db", .cname, alias).answers.map(\.data) == [.cname(try name("beta"))])
    }

    @Test func namesFollowLiveness() throws {
        let publications = [
            (0, try entry("db", "A 10.1.0.1", "A 10.1.0.2")),
            (0, try entry("only", "A 10.1.0.2", "TXT \"about\"")),
            (1, try entry("_http._tcp", "PTR Shop._http._tcp")),
            (1, try entry("shop._http._tcp", "SRV 0 0 80 beta", "TXT \"path=/\"")),
        ]
        #expect(try answers("db", .a, publications).answers.count == 2)
        #expect(try answers("_http._tcp", .ptr, publications).answers.count == 1)
        #expect(
            try answers("_services._dns-sd._udp", .ptr, publications).answers.map(\.data) == [
                .ptr(try name("_http._tcp"))
            ])
        #expect(try answers("b._dns-sd._udp", .ptr, publications).answers.count == 1)

        #expect(try answers("beta", .a, beta: false, publications).code == .nameError)
        #expect(
            try answers("db", .a, beta: false, publications).answers.map(\.data) == [
                .address(.v4(0x0A01_0001))
            ])
        #expect(try answers("only", .txt, beta: false, publications).code == .nameError)
        #expect(try answers("_http._tcp", .ptr, beta: false, publications).answers.isEmpty)
        #expect(
            try answers("shop._http._tcp", .txt, beta: false, publications).code == .nameError)
        #expect(
            try answers("_services._dns-sd._udp", .ptr, beta: false, publications).code
                == .nameError)
    }

    @Test func patternsCoverWhatNothingElseDoes() throws {
        let publications = [
            (0, try entry(#"/web-[0-9]+/"#, "A 10.1.0.1")), (1, try entry("/.*/", "A 10.1.0.2")),
            (0, try entry("web-7", "TXT \"explicit\"")), (0, try entry("*.apps", "A 10.1.0.9")),
        ]
        func first(_ question: String) throws -> RecordData? {
            try answers(question, .a, publications).answers.first?.data
        }
        #expect(try first("WEB-1") == .address(.v4(0x0A01_0001)))
        #expect(try first("other.x") == .address(.v4(0x0A01_0002)))
        #expect(try first("alpha") == .address(.v4(0x0A01_0001)))
        #expect(try first("web-7") == nil)
        #expect(try first("x.apps") == .address(.v4(0x0A01_0009)))
    }
}
