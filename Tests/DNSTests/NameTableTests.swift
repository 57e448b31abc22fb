import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct NameTableTests {
    let table: NameTable

    init() throws {
        table = try sampleTable()
    }

    private func ask(_ name: String, _ type: RecordType) throws -> NameAnswer? {
        table.answer(DNSQuestion(try #require(DNSName(name)), type))
    }

    @Test func hostsHaveTheirAddresses() throws {
        let answer = try #require(try ask("NODE-1.mesh.internal", .a))
        #expect(answer.code == .noError)
        #expect(answer.answers.map(\.data) == [.address(.v4(0x0A01_0001))])
        #expect((15...30).contains(try #require(answer.answers.first).ttl))
        #expect(answer.authorities.isEmpty)
        let six = try #require(try ask("node-1.mesh.internal", .aaaa))
        #expect(six.answers.map(\.data) == [.address(.v6(0xFD12_3456_789A_0000, 1))])
    }

    @Test func missingNamesAndMissingTypesDiffer() throws {
        let missing = try #require(try ask("node-9.mesh.internal", .a))
        #expect(missing.code == .nameError)
        #expect(missing.authorities.map(\.type) == [.soa])
        let noType = try #require(try ask("node-1.mesh.internal", .mx))
        #expect(noType.code == .noError)
        #expect(noType.answers.isEmpty)
        #expect(noType.authorities.map(\.type) == [.soa])
        // A name that only has names below it exists.
        let empty = try #require(try ask("rack2.mesh.internal", .a))
        #expect(empty.code == .noError)
        #expect(empty.answers.isEmpty)
        let below = try #require(try ask("x.node-1.mesh.internal", .a))
        #expect(below.code == .nameError)
    }

    @Test func foreignNamesAreNobodysBusiness() throws {
        #expect(try ask("example.com", .a) == nil)
        #expect(try ask("internal", .a) == nil)
        #expect(try ask("mesh.internal.example", .a) == nil)
        #expect(try ask("1.2.11.in-addr.arpa", .ptr) == nil)
    }

    @Test func theApexHasItsRecords() throws {
        #expect(try ask("mesh.internal", .soa)?.answers.map(\.type) == [.soa])
        let servers = try #require(try ask("mesh.internal", .ns))
        #expect(
            servers.answers.map(\.data) == [
                .ns(try #require(DNSName("node-1.mesh.internal")))
            ])
        #expect(servers.additionals.map(\.type) == [.a, .aaaa])
        #expect(try ask("1.10.in-addr.arpa", .soa)?.answers.count == 1)
        #expect(try ask("mesh.internal", .a)?.authorities.map(\.type) == [.soa])
    }

    @Test func addressesHaveNames() throws {
        let node = RecordData.ptr(try #require(DNSName("node-1.mesh.internal")))
        #expect(try ask("1.0.1.10.in-addr.arpa", .ptr)?.answers.map(\.data) == [node])
        let name = try #require(
            reverseName(IPPrefix(host: .v6(0xFD12_3456_789A_0000, 1)))
        ).description
        #expect(name.hasPrefix("1.0.0.0") && name.hasSuffix("2.1.d.f.ip6.arpa"))
        #expect(try ask(name.uppercased(), .ptr)?.answers.map(\.data) == [node])
    }

    @Test(arguments: [
        ("2.0.1.10.in-addr.arpa", ResponseCode.noError, 1),
        ("9.0.1.10.in-addr.arpa", .nameError, 0),
        // The part above existing addresses exists, without records.
        ("0.1.10.in-addr.arpa", .noError, 0),
        ("7.1.10.in-addr.arpa", .nameError, 0),
        ("01.0.1.10.in-addr.arpa", .nameError, 0),
        ("1.1.0.1.10.in-addr.arpa", .nameError, 0),
        ("x.1.10.in-addr.arpa", .nameError, 0),
        ("256.0.1.10.in-addr.arpa", .nameError, 0),
    ])
    func reverseNamesExistOrNot(_ name: String, _ code: ResponseCode, _ count: Int) throws {
        let answer = try #require(try ask(name, .ptr))
        #expect(answer.code == code)
        #expect(answer.answers.count == count)
        #expect(answer.authorities.isEmpty == (count > 0))
    }

    @Test func oddPrefixesTakeSeveralZones() throws {
        let prefix = try #require(IPPrefix("100.64.16.0/20"))
        let zone = try #require(DNSName("m.internal"))
        let table = NameTable(
            zone: zone, nameServer: "n", serial: 1, prefixes: [prefix], hosts: [])
        #expect(table.owns(try #require(DNSName("1.16.64.100.in-addr.arpa"))))
        #expect(table.owns(try #require(DNSName("1.31.64.100.in-addr.arpa"))))
        #expect(!table.owns(try #require(DNSName("1.32.64.100.in-addr.arpa"))))
        #expect(!table.owns(try #require(DNSName("1.15.64.100.in-addr.arpa"))))
    }

    @Test func aliasesAreFollowedAndLoopsEnd() throws {
        let answer = try #require(try ask("www.mesh.internal", .a))
        #expect(answer.answers.map(\.type) == [.cname, .a])
        let loop = try #require(try ask("loop.mesh.internal", .a))
        #expect(loop.code == .serverFailure)
        #expect(try ask("www.mesh.internal", .cname)?.answers.map(\.type) == [.cname])
    }

    @Test func wildcardsCoverWhatDoesNotExist() throws {
        let answer = try #require(try ask("anything.apps.mesh.internal", .a))
        #expect(answer.answers.map(\.name) == [DNSName("anything.apps.mesh.internal")])
        #expect(try ask("a.b.apps.mesh.internal", .a)?.answers.count == 1)
        // A name that exists hides the wildcard, for types that it lacks and for names below it
        // (RFC 4592 section 2.2.1).
        #expect(try ask("own.apps.mesh.internal", .a)?.answers.isEmpty == true)
        #expect(try ask("x.own.apps.mesh.internal", .a)?.code == .nameError)
    }

    @Test func servicesBringTheirAddresses() throws {
        let answer = try #require(try ask("_api._tcp.mesh.internal", .srv))
        #expect(answer.answers.map(\.type) == [.srv])
        #expect(answer.additionals.map(\.type) == [.a, .aaaa])
    }

    @Test func transfersAreRefused() throws {
        #expect(try ask("mesh.internal", .axfr)?.code == .refused)
    }

    @Test func impossibleHostNamesAreNamed() throws {
        #expect(table.rejectedHosts == ["bad..name"])
    }
}

/// Three machines, one of them two labels deep, an alias, a wildcard and a service.
func sampleTable() throws -> NameTable {
    let zone = try #require(DNSName("mesh.internal"))
    let name = { (text: String) in try #require(DNSName(text + ".mesh.internal")) }
    let v6 = { (host: UInt64) in IPAddress.v6(0xFD12_3456_789A_0000, host) }
    return NameTable(
        zone: zone, nameServer: "node-1", serial: 7,
        prefixes: [
            try #require(IPPrefix("10.1.0.0/16")), try #require(IPPrefix("fd12:3456:789a::/48")),
        ],
        hosts: [
            HostNames(name: "node-1", addresses: [.v4(0x0A01_0001), v6(1)]),
            HostNames(name: "node-2", addresses: [.v4(0x0A01_0002), v6(2)]),
            HostNames(name: "web.rack2", addresses: [.v4(0x0A01_0003)]),
            HostNames(name: "bad..name", addresses: [.v4(0x0A01_0004)]),
        ],
        records: [
            ResourceRecord(try name("www"), .cname(try name("node-2")), ttl: 20),
            ResourceRecord(try name("loop"), .cname(try name("loop")), ttl: 20),
            ResourceRecord(try name("*.apps"), .address(.v4(0x0A01_0001)), ttl: 20),
            ResourceRecord(try name("own.apps"), .txt([Array("x".utf8)]), ttl: 20),
            ResourceRecord(
                try name("_api._tcp"),
                .srv(ServiceLocation(port: 6443, target: try name("node-1"))),
                ttl: 20),
        ])
}
