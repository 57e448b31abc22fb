import DNS
import LinuxIO
import MeshBase
import NetAddress
import Runtime
import Testing

/// One namespace with nothing but loopback:
///
///     dig -> 127.0.0.1:5300  name server of the mesh  -> 127.0.0.2:5300  upstream
///
/// The upstream is a second name server that owns `example`.
@Suite struct DNSServerTests {
    @Test func digSeesNamesOfTheMeshOverUDPAndTCP() throws {
        let results = try withServers { dig in
            [
                "a": try dig(["node-1.mesh.internal", "A"]),
                "aaaa": try dig(["NODE-1.mesh.internal", "AAAA"]),
                "ptr": try dig(["-x", "10.1.0.1"]),
                "ptr6": try dig(["-x", "fd12:3456:789a::1"]),
                "tcp": try dig(["node-1.mesh.internal", "A", "+tcp"]),
                "missing": try dig(["node-9.mesh.internal", "A"]),
                "nodata": try dig(["node-1.mesh.internal", "MX"]),
                "plain": try dig(["node-1.mesh.internal", "A", "+noedns"]),
            ]
        }
        for key in ["a", "tcp", "plain"] {
            #expect(results[key]?.field("status") == "NOERROR")
            #expect(results[key]?.field("flags") == "qr aa rd ra")
            #expect(results[key]?.answers == ["node-1.mesh.internal. 20 IN A 10.1.0.1"])
        }
        #expect(
            results["aaaa"]?.answers == [
                "NODE-1.mesh.internal. 20 IN AAAA fd12:3456:789a::1"
            ])
        #expect(
            results["ptr"]?.answers == [
                "1.0.1.10.in-addr.arpa. 20 IN PTR node-1.mesh.internal."
            ])
        #expect(results["ptr6"]?.answers.first?.hasSuffix("PTR node-1.mesh.internal.") == true)
        #expect(results["missing"]?.field("status") == "NXDOMAIN")
        #expect(results["missing"]?.field("AUTHORITY") == "1")
        #expect(results["nodata"]?.field("status") == "NOERROR")
        #expect(results["nodata"]?.field("ANSWER") == "0")
        #expect(results["nodata"]?.field("AUTHORITY") == "1")
        #expect(results["a"]?.output.contains("udp: 1232") == true)
        #expect(results["plain"]?.output.contains("EDNS") == false)
        for result in results.values {
            #expect(!result.output.contains("WARNING"), "\(result.output)")
            #expect(!result.output.contains("Warning"), "\(result.output)")
        }
    }

    @Test func digSeesTheRightRefusals() throws {
        let results = try withServers { dig in
            [
                "axfr": try dig(["mesh.internal", "AXFR"]),
                "notify": try dig(["mesh.internal", "SOA", "+opcode=notify"]),
                "version": try dig(["node-1.mesh.internal", "A", "+edns=1", "+noednsnegotiation"]),
                "chaos": try dig(["version.bind", "TXT", "CH"]),
                "headeronly": try dig(["+header-only", "mesh.internal"]),
                "norecurse": try dig(["other.example", "A", "+norecurse"]),
            ]
        }
        #expect(results["axfr"]?.output.contains("Transfer failed") == true)
        #expect(results["notify"]?.field("status") == "NOTIMP")
        #expect(results["version"]?.field("status") == "BADVERS")
        #expect(results["chaos"]?.field("status") == "REFUSED")
        #expect(results["headeronly"]?.field("status") == "FORMERR")
        #expect(results["norecurse"]?.field("status") == "REFUSED")
    }

    @Test func foreignNamesComeFromTheUpstreamAndThenFromTheCache() throws {
        let results = try withServers { dig in
            [
                "first": try dig(["host.example", "A"]),
                "second": try dig(["HOST.example", "A"]),
                "missing": try dig(["nobody.example", "A"]),
                "tcp": try dig(["host.example", "A", "+tcp"]),
                // Sixty addresses fit no UDP message: the server itself must go to TCP.
                "large": try dig(["large.example", "A"]),
                "cut": try dig(["large.example", "A", "+ignore", "+bufsize=512"]),
            ]
        }
        for key in ["first", "second", "tcp"] {
            #expect(results[key]?.field("status") == "NOERROR")
            #expect(results[key]?.field("flags") == "qr rd ra")
            #expect(results[key]?.answers.count == 1)
        }
        #expect(results["second"]?.answers.first?.hasPrefix("HOST.example.") == true)
        #expect(results["missing"]?.field("status") == "NXDOMAIN")
        #expect(results["missing"]?.field("AUTHORITY") == "1")
        #expect(results["large"]?.answers.count == 100)
        #expect(results["cut"]?.field("flags") == "qr tc rd ra")
        #expect(results["cut"]?.answers.count == 0)
    }

    @Test func anUpstreamThatIsNotThereIsAServerFailureSoon() throws {
        let result = try inNewNamespace {
            let server = try makeServer(
                at: "127.0.0.1:5300", upstreams: ["127.0.0.9:5300"], table: meshTable())
            defer { server.stop() }
            return try runDig(["host.example", "A"])
        }
        // Loopback reports the closed port at once, so no timeout is waited for.
        #expect(result.field("status") == "SERVFAIL")
    }

    @Test func anUpstreamThatIsTheServerItselfIsNoUpstream() throws {
        let result = try inNewNamespace {
            let server = try makeServer(
                at: "127.0.0.1:5300", upstreams: ["127.0.0.1:5300"], table: meshTable())
            defer { server.stop() }
            return try runDig(["host.example", "A"])
        }
        #expect(result.field("status") == "REFUSED")
    }

    @Test func publishedNamesAndNewAddressesTakeEffect() throws {
        let (before, after, moved, old) = try inNewNamespace {
            let server = try makeServer(at: nil, upstreams: [], table: meshTable())
            defer { server.stop() }
            let first = try address("127.0.0.1:5300")
            let second = try address("127.0.0.3:5300")
            server.listen(on: [first])
            let before = try runDig(["late.mesh.internal", "A"])
            server.publish(try meshTable(extra: "late"))
            let after = try runDig(["late.mesh.internal", "A"])
            server.listen(on: [second])
            let moved = try runDig(["late.mesh.internal", "A"], server: "127.0.0.3")
            let old = try runDig(["late.mesh.internal", "A"])
            return (before, after, moved, old)
        }
        #expect(before.field("status") == "NXDOMAIN")
        #expect(after.answers.count == 1)
        #expect(moved.answers.count == 1)
        #expect(old.output.contains("refused") || old.output.contains("timed out"))
    }

    @Test func repliesComeFromTheAddressThatWasAsked() throws {
        let (wildcard, six) = try inNewNamespace {
            let everywhere = try makeServer(
                at: "0.0.0.0:5300", upstreams: [], table: meshTable())
            defer { everywhere.stop() }
            // Left to itself the kernel would answer from 127.0.0.1.
            let wildcard = try runDig(["node-1.mesh.internal", "A"], server: "127.0.0.5")
            let other = try makeServer(at: "[::1]:5300", upstreams: [], table: meshTable())
            defer { other.stop() }
            return (wildcard, try runDig(["node-1.mesh.internal", "A"], server: "::1"))
        }
        #expect(wildcard.answers.count == 1, "\(wildcard.output)")
        #expect(six.answers.count == 1, "\(six.output)")
    }

    @Test func anAddressThatIsTakenIsAWarning() throws {
        let (warnings, result) = try inNewNamespace {
            let taken = try DatagramSocket(boundTo: try address("127.0.0.1:5300"))
            defer { withExtendedLifetime(taken) {} }
            let warnings = Collector()
            let server = try NameServer(
                NameServerConfiguration(
                    fixedAddresses: [try address("127.0.0.1:5300"), try address("127.0.0.3:5300")]),
                table: try meshTable()
            ) { warnings.append($0) }
            defer { server.stop() }
            let result = try runDig(["node-1.mesh.internal", "A"], server: "127.0.0.3")
            return (warnings.all, result)
        }
        #expect(warnings.count == 1)
        #expect(warnings.first?.contains("127.0.0.1:5300") == true)
        #expect(result.answers.count == 1)
    }

    @Test func oneConnectionCarriesManyQueries() throws {
        let replies = try inNewNamespace {
            let server = try makeServer(at: "127.0.0.1:5300", upstreams: [], table: meshTable())
            defer { server.stop() }
            let socket = try StreamSocket(connectingTo: try address("127.0.0.1:5300"))
            var bytes: [UInt8] = []
            for id in 0..<200 {
                var query = DNSMessage(id: UInt16(id), flags: .recursionDesired)
                query.questions = [DNSQuestion(DNSName("node-1.mesh.internal") ?? .root, .a)]
                let encoded = query.encoded()
                bytes += [UInt8(encoded.count >> 8), UInt8(encoded.count & 255)] + encoded
            }
            return try exchange(socket, bytes, expecting: 200)
        }
        #expect(replies.map(\.id) == (0..<200).map { UInt16($0) })
        #expect(replies.allSatisfy { $0.answers.count == 1 })
    }

    @Test func aHundredAndFiftyConnectionsAreServedWithinTheBound() throws {
        let counts = try inNewNamespace {
            let server = try makeServer(at: "127.0.0.1:5300", upstreams: [], table: meshTable())
            defer { server.stop() }
            var open: [StreamSocket] = []
            for _ in 0..<150 {
                open.append(try StreamSocket(connectingTo: try address("127.0.0.1:5300")))
                // One query on each shows that it was accepted.
                let answered = try runQuery(on: open[open.count - 1])
                guard answered else { return (open.count, 0) }
            }
            let closed = open.filter { socket in
                var buffer: [UInt8] = []
                return socket.receive(into: &buffer, limit: 16) == .ended
            }
            return (open.count, closed.count)
        }
        #expect(counts.0 == 150)
        #expect(counts.1 == 50, "the connections above the bound make the longest idle ones go")
    }
}

// MARK: - The bench

private typealias Dig = ([String]) throws -> ProgramResult

private func withServers(
    _ body: @escaping @Sendable (Dig) throws -> [String: ProgramResult]
) throws -> [String: ProgramResult] {
    try inNewNamespace {
        let zone = DNSName("example") ?? .root
        let upstream = try makeServer(
            at: "127.0.0.2:5300", upstreams: [],
            table: NameTable(
                zone: zone, nameServer: "ns", serial: 1, prefixes: [],
                hosts: [
                    HostNames(name: "host", addresses: [.v4(0xC000_0201)]),
                    HostNames(name: "large", addresses: (0..<100).map { .v4(0xC000_0300 + $0) }),
                ]))
        defer { upstream.stop() }
        let server = try makeServer(
            at: "127.0.0.1:5300", upstreams: ["127.0.0.2:5300"], table: meshTable())
        defer { server.stop() }
        return try body { try runDig($0) }
    }
}

private func makeServer(
    at place: String?, upstreams: [String], table: NameTable
) throws -> NameServer {
    let fixed = try place.map { [try address($0)] } ?? []
    return try NameServer(
        NameServerConfiguration(
            fixedAddresses: fixed, upstreams: try upstreams.map(address)), table: table
    ) { print($0) }
}

private func address(_ text: String) throws -> SocketAddress {
    try #require(SocketAddress(text))
}

private func meshTable(extra: String? = nil) throws -> NameTable {
    let zone = DNSName("mesh.internal") ?? .root
    let prefixes = ["10.1.0.0/16", "fd12:3456:789a::/48"].compactMap { IPPrefix($0) }
    var hosts = [
        HostNames(
            name: "node-1", addresses: [.v4(0x0A01_0001), .v6(0xFD12_3456_789A_0000, 1)])
    ]
    if let extra { hosts.append(HostNames(name: extra, addresses: [.v4(0x0A01_0009)])) }
    return NameTable(
        zone: zone, nameServer: "node-1", serial: 1, prefixes: prefixes, hosts: hosts)
}

private func runDig(_ arguments: [String], server: String = "127.0.0.1") throws -> ProgramResult {
    try runProgram(
        ["dig", "@\(server)", "-p", "5300", "+time=3", "+tries=1", "+nocookie"] + arguments)
}

extension ProgramResult {
    /// The records of dig's answer section, with single blanks.
    fileprivate var answers: [String] {
        guard let start = lines.firstIndex(of: ";; ANSWER SECTION:") else { return [] }
        return lines[(start + 1)...].prefix { !$0.hasPrefix(";") }.map { line in
            line.split { $0 == " " || $0 == "\t" }.joined(separator: " ")
        }
    }
}

private final class Collector: @unchecked Sendable {
    /// Written and read by one thread, the one that owns the namespace.
    private(set) var all: [String] = []

    func append(_ text: String) {
        all.append(text)
    }
}

private func runQuery(on socket: StreamSocket) throws -> Bool {
    var query = DNSMessage(id: 1, flags: .recursionDesired)
    query.questions = [DNSQuestion(DNSName("node-1.mesh.internal") ?? .root, .a)]
    let encoded = query.encoded()
    let framed = [UInt8(encoded.count >> 8), UInt8(encoded.count & 255)] + encoded
    return try exchange(socket, framed, expecting: 1).count == 1
}

/// Sends `bytes` and takes framed messages until there are `count` or the connection ends.
private func exchange(
    _ socket: StreamSocket, _ bytes: [UInt8], expecting count: Int
) throws -> [DNSMessage] {
    let poller = try ReadinessPoller()
    try poller.add(socket.descriptor, [.input, .output], token: 1)
    var rest = bytes[...]
    var input: [UInt8] = []
    var replies: [DNSMessage] = []
    while replies.count < count {
        guard let event = poller.wait(milliseconds: 5_000).first else { break }
        if event.canWrite, !rest.isEmpty, case .moved(let sent) = socket.send(rest) {
            rest = rest.dropFirst(sent)
            if rest.isEmpty { try poller.change(socket.descriptor, to: .input, token: 1) }
        }
        guard event.canRead else { continue }
        guard case .moved = socket.receive(into: &input, limit: 65_536) else { break }
        while input.count >= 2, input.count >= 2 + Int(input[0]) << 8 + Int(input[1]) {
            let length = Int(input[0]) << 8 + Int(input[1])
            replies.append(try DNSMessage(decoding: Array(input[2..<2 + length])))
            input.removeFirst(2 + length)
        }
    }
    return replies
}
