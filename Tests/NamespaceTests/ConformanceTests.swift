// One namespace with nothing but loopback, and three servers of the same two zones:
//
//     the test -> 127.0.0.1:5300  name server of the mesh
//              -> 127.0.0.2:5300  unbound, as authority from zone files
//              -> 127.0.0.3:5300  dnsmasq, as far as its configuration can say the same

import DNS
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Runtime
import Testing

@Suite struct ConformanceTests {
    /// CONFORMANCE_QUERIES questions, 2,000 if it is not set. Identifier, TTL, order and the
    /// additional section are not compared. What differs has a reason, and the document that gives
    /// it; a difference without one fails the test.
    @Test func unboundAndDnsmasqSayTheSame() throws {
        let count = setting("CONFORMANCE_QUERIES", default: 2_000)
        let results = try inNewNamespace { try compare(count) }
        var reasons: [String: Int] = [:]
        for result in results {
            for (server, difference) in result.differences {
                let reason = explain(server, result)
                if let reason { reasons["\(server): \(reason)", default: 0] += 1 }
                #expect(
                    reason != nil,
                    "\(result.question.name) \(result.question.type) \(result.way): \(server): \(difference)"
                )
            }
        }
        #expect(results.count == count)
        for (reason, count) in reasons.sorted(by: { $0.key < $1.key }) {
            print("differs: \(count) times, \(reason)")
        }
    }
}

/// A question, and what the servers said that was not the same.
private struct Comparison: Sendable {
    var question: DNSQuestion
    var way: Way
    var ours: Said
    var others: [String: Said]

    var differences: [(String, String)] {
        others.sorted { $0.key < $1.key }.compactMap { server, said in
            // dnsmasq is no authority: it has no SOA record, and does not say that it is one.
            let same =
                server == "unbound"
                ? said == ours
                : (said.code, said.answers, said.isCut) == (ours.code, ours.answers, ours.isCut)
            return same ? nil : (server, "ours \(ours), theirs \(said)")
        }
    }
}

/// How a question travels.
private struct Way: Hashable, Sendable {
    var isStream: Bool
    /// `nil` without EDNS.
    var payload: UInt16?
}

/// What is compared of a response.
private struct Said: Hashable, Sendable {
    var code: UInt16
    var isAuthoritative: Bool
    var isCut: Bool
    var answers: [String]
    var hasAuthority: Bool
    var echoesQuestion: Bool
}

/// Why a server's answer is another one than ours, with the document that decides: each rule says
/// what both must have answered, so that nothing else hides behind it.
private func explain(_ server: String, _ result: Comparison) -> String? {
    guard let theirs = result.others[server] else { return nil }
    let ours = result.ours
    let type = result.question.type
    let isEmpty = ours.code == 0 && ours.answers.isEmpty && !ours.isCut
    if type == .any, ours.code == theirs.code, !ours.answers.isEmpty,
        Set(ours.answers).isSubset(of: theirs.answers) || theirs.isCut
            || theirs.answers.allSatisfy({ $0.contains(" hinfo ") })
    {
        return "ANY: one set of records is enough (RFC 8482 section 4.1)"
    }
    if theirs.answers == ours.answers, theirs.answers.contains(where: { $0.contains(" cname ") }),
        theirs.code == 0
    {
        return ours.code == 3
            ? "the code is that of the last name of a chain (RFC 6604 section 3)"
            : "a chain that ends without data comes with SOA (RFC 2308 section 2.2)"
    }
    guard server == "dnsmasq" else { return nil }
    return explainDnsmasq(result.question, ours, theirs, isEmpty: isEmpty)
}

private func explainDnsmasq(
    _ question: DNSQuestion, _ ours: Said, _ theirs: Said, isEmpty: Bool
) -> String? {
    let name = question.name.description.lowercased()
    let isApex = name == zone || name.hasSuffix("in-addr.arpa")
    if name == "apps.\(zone)" || name.hasSuffix(".apps.\(zone)"),
        theirs.answers == ["\(name) a 10.1.0.9"]
    {
        // Its `address=` covers the name, all names below, and everything below those.
        if name == "apps.\(zone)", isEmpty {
            return "a wildcard does not cover its parent, which exists (RFC 4592 section 2.2.2)"
        }
        if name == "own.apps.\(zone)", isEmpty {
            return "a wildcard does not cover names that exist (RFC 4592 section 2.2.1)"
        }
        if name.hasSuffix(".own.apps.\(zone)"), ours.code == 3 {
            return "a name that exists keeps wildcards from those below (RFC 4592 section 3.3.1)"
        }
        if name.hasSuffix(".*.apps.\(zone)"), ours.code == 3 {
            return "a wildcard's own name exists and covers none below (RFC 4592 section 2.2.1)"
        }
    }
    if name.hasSuffix(".deep.sub.\(zone)"), theirs.code == 3,
        ours.answers.contains("\(name) cname node-5.\(zone).")
    {
        return "it has no aliases as wildcards (RFC 4592 section 4.3)"
    }
    if theirs.code == 3, isEmpty {
        return isApex
            ? "it has no zone: neither an apex nor names between (RFC 1034 section 4.2)"
            : "a name with names below it, or with other records, exists (RFC 8020 section 2)"
    }
    if isApex, theirs.answers.isEmpty, [.soa, .ns, .any].contains(question.type) {
        return "it has no zone: neither an apex nor names between (RFC 1034 section 4.2)"
    }
    if ours.isCut != theirs.isCut {
        return "what fits is what the client offered, 1,232 at most (RFC 9715 section 3)"
    }
    return nil
}

// MARK: - The zones

private let zone = "mesh.internal"

/// Owner relative to the zone, type, data.
private let records: [(String, String, String)] =
    (1...12).flatMap { number -> [(String, String, String)] in
        [
            ("node-\(number)", "A", "10.1.0.\(number)"),
            ("node-\(number)", "AAAA", "fd12:3456:789a::\(number)"),
        ]
    } + [
        ("web.rack2", "A", "10.1.2.1"), ("www", "CNAME", "node-2"), ("w3", "CNAME", "www"),
        ("w4", "CNAME", "w3"), ("mail", "MX", "10 node-3"), ("mail", "MX", "20 node-4"),
        ("about", "TXT", "\"the mesh\" \"and more\""), ("many", "A", "10.1.3.1"),
        ("_api._tcp", "SRV", "0 5 6443 node-1"), ("*.apps", "A", "10.1.0.9"),
        ("own.apps", "TXT", "\"x\""), ("*.deep.sub", "CNAME", "node-5"),
        ("lost", "CNAME", "nobody"), ("cut", "TXT", "\"1\""),
    ] + (2...40).map { ("many", "A", "10.1.3.\($0)") }
    + (2...90).map { ("cut", "TXT", "\"text number \($0) of many\"") }

private func ourTable() throws -> NameTable {
    let apex = DNSName(zone) ?? .root
    let parsed = try records.map { owner, type, text in
        ResourceRecord(
            (DNSName(owner) ?? .root).appending(apex) ?? .root,
            try RecordData(RecordType(type) ?? .a, text: text, zone: apex), ttl: 20)
    }
    // Machines bring their reverse names, other records do not.
    var hosts: [String: [IPAddress]] = [:]
    for record in parsed {
        guard case .address(let ip) = record.data else { continue }
        let owner = record.name.description.dropLast(zone.count + 1)
        if owner.hasPrefix("node-") { hosts[String(owner), default: []].append(ip) }
    }
    return NameTable(
        zone: apex, nameServer: "node-1", serial: 1,
        prefixes: ["10.1.0.0/16", "fd12:3456:789a::/48"].compactMap { IPPrefix($0) },
        hosts: hosts.map { HostNames(name: $0.key, addresses: $0.value) },
        records: parsed.filter { !$0.name.description.hasPrefix("node-") })
}

private func startUnbound(in directory: String) throws -> RunningProgram {
    let soa = "IN SOA node-1.\(zone). hostmaster.\(zone). 1 3600 600 86400 10"
    let forward =
        ["\(zone). 20 \(soa)", "\(zone). 20 IN NS node-1.\(zone)."]
        + records.map { owner, type, text in
            let data =
                (try? RecordData(RecordType(type) ?? .a, text: text, zone: DNSName(zone) ?? .root))
            return "\(owner).\(zone). 20 IN \(type) \(data?.text ?? text)"
        }
    let reverse =
        ["1.10.in-addr.arpa. 20 \(soa)", "1.10.in-addr.arpa. 20 IN NS node-1.\(zone)."]
        + (1...12).map { "\($0).0.1.10.in-addr.arpa. 20 IN PTR node-\($0).\(zone)." }
    try SystemFile.write(forward.joined(separator: "\n") + "\n", to: "\(directory)/forward")
    try SystemFile.write(reverse.joined(separator: "\n") + "\n", to: "\(directory)/reverse")
    var lines = [
        "server:", " directory: \"\(directory)\"", " chroot: \"\"", " username: \"\"",
        " pidfile: \"\"", " interface: 127.0.0.2@5300", " port: 5300", " do-daemonize: no",
        " use-syslog: no", " access-control: 127.0.0.0/8 allow", " edns-buffer-size: 1232",
        " max-udp-size: 1232", " local-zone: \"10.in-addr.arpa.\" nodefault",
        " minimal-responses: yes", " module-config: \"iterator\"", " num-threads: 1",
    ]
    for (name, file) in [(zone, "forward"), ("1.10.in-addr.arpa", "reverse")] {
        lines += [
            "auth-zone:", " name: \"\(name).\"", " zonefile: \"\(directory)/\(file)\"",
            " for-downstream: yes", " for-upstream: no", " fallback-enabled: no",
        ]
    }
    let path = "\(directory)/unbound.conf"
    try SystemFile.write(lines.joined(separator: "\n") + "\n", to: path)
    return try startProgram(["unbound", "-d", "-c", path])
}

private func startDnsmasq(in directory: String) throws -> RunningProgram {
    var lines = [
        "port=5300", "listen-address=127.0.0.3", "bind-interfaces", "no-resolv", "no-hosts",
        "local=/\(zone)/", "local=/1.10.in-addr.arpa/", "local-ttl=20", "user=root",
        "edns-packet-max=1232", "pid-file=",
    ]
    for (owner, type, text) in records {
        let name = "\(owner).\(zone)"
        let words = text.split(separator: " ").map(String.init)
        switch type {
        case "A" where owner == "*.apps": lines.append("address=/apps.\(zone)/\(text)")
        case "A", "AAAA": lines.append("host-record=\(name),\(text)")
        case "CNAME":
            lines.append("cname=\(name),\(text).\(zone)")
        case "MX": lines.append("mx-host=\(name),\(words[1]).\(zone),\(words[0])")
        case "SRV":
            lines.append("srv-host=\(name),\(words[3]).\(zone),\(words[2]),\(words[0]),\(words[1])")
        default: lines.append("txt-record=\(name),\(text.replacing("\" \"", with: "\",\""))")
        }
    }
    let path = "\(directory)/dnsmasq.conf"
    try SystemFile.write(lines.joined(separator: "\n") + "\n", to: path)
    return try startProgram(["dnsmasq", "-k", "-C", path])
}

// MARK: - Asking

private func compare(_ count: Int) throws -> [Comparison] {
    var template = Array("/tmp/evlab-names-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw SystemCallError("make a directory") }
    let directory = String(cString: made)
    defer { _ = try? runProgram(["rm", "-r", directory]) }
    let unbound = try startUnbound(in: directory)
    defer { unbound.terminate() }
    let dnsmasq = try startDnsmasq(in: directory)
    defer { dnsmasq.terminate() }
    let own = SocketAddress(ip: .v4(0x7F00_0001), port: 5300)
    let server = try NameServer(
        NameServerConfiguration(fixedAddresses: [own]), table: try ourTable()
    ) { print($0) }
    defer { server.stop() }
    let others = ["unbound": UInt32(0x7F00_0002), "dnsmasq": 0x7F00_0003]
        .mapValues { SocketAddress(ip: .v4($0), port: 5300) }
    for place in others.values { try awaitServer(place) }

    var random = SeededGenerator(seed: sha(1))
    return try (0..<count).map { number in
        let (question, way) = generated(&random)
        var query = DNSMessage(id: UInt16(truncatingIfNeeded: number), flags: .recursionDesired)
        query.questions = [question]
        query.edns = way.payload.map { EDNS(payloadSize: $0) }
        let bytes = query.encoded()
        return Comparison(
            question: question, way: way,
            ours: try ask(bytes, question, at: own, way),
            others: try others.mapValues { try ask(bytes, question, at: $0, way) })
    }
}

private func sha(_ byte: UInt8) -> Bytes32 { Bytes32(Array(repeating: byte, count: 32)) ?? .zero }

private func awaitServer(_ place: SocketAddress) throws {
    var query = DNSMessage(id: 7, flags: .recursionDesired)
    query.questions = [DNSQuestion(DNSName("node-1.\(zone)") ?? .root, .a)]
    for _ in 0..<100 {
        if let reply = try DNSExchange.udp(query.encoded(), to: place, patience: 100),
            reply.count > 12
        {
            return
        }
        usleep(50_000)
    }
    throw SystemCallError("ask \(place)", code: ETIMEDOUT)
}

private func ask(
    _ bytes: [UInt8], _ question: DNSQuestion, at place: SocketAddress, _ way: Way
) throws -> Said {
    let reply =
        way.isStream
        ? try DNSExchange.tcp(bytes, to: place) : try DNSExchange.udp(bytes, to: place)
    guard let reply, let message = try? DNSMessage(decoding: reply) else {
        return Said(
            code: 0xFFFF, isAuthoritative: false, isCut: false, answers: [], hasAuthority: false,
            echoesQuestion: false)
    }
    let isCut = message.flags.contains(.truncated)
    return Said(
        code: message.code.rawValue, isAuthoritative: message.flags.contains(.authoritative),
        isCut: isCut,
        // What is cut off says nothing.
        answers: isCut
            ? []
            : message.answers.map {
                "\($0.name) \($0.type) \($0.data.text)".lowercased()
            }.sorted(),
        hasAuthority: !isCut && message.authorities.contains { $0.type == .soa },
        echoesQuestion: message.questions.first?.name.wire == question.name.wire)
}

/// Names that exist, names beside and below them, all types, case, transports and sizes.
private func generated(_ random: inout SeededGenerator) -> (DNSQuestion, Way) {
    let owners = Set(records.map(\.0)).sorted()
    var name: String
    switch random.next() % 10 {
    case 0: name = "nobody-\(random.next() % 50).\(zone)"
    case 1:
        name = "x\(random.next() % 9).\(owners[Int(random.next() % UInt64(owners.count))]).\(zone)"
    case 2:
        name =
            ["a.apps", "a.b.apps", "x.own.apps", "apps", "own.apps", "y.deep.sub", "deep.sub"][
                Int(random.next() % 7)] + ".\(zone)"
    case 3: name = ["rack2", "_tcp", "sub"][Int(random.next() % 3)] + ".\(zone)"
    case 4: name = zone
    case 5: name = "\(random.next() % 16).0.1.10.in-addr.arpa"
    case 6:
        name =
            ["1.10.in-addr.arpa", "0.1.10.in-addr.arpa", "9.1.10.in-addr.arpa"][
                Int(random.next() % 3)]
    default: name = "\(owners[Int(random.next() % UInt64(owners.count))]).\(zone)"
    }
    name = String(
        name.map { random.next() & 1 == 0 ? $0 : Character($0.uppercased()) })
    let types: [RecordType] = [
        .a, .a, .a, .aaaa, .aaaa, .txt, .mx, .srv, .cname, .ptr, .soa, .ns, .naptr, .https, .caa,
        .any, RecordType(rawValue: 65_280),
    ]
    let type = types[Int(random.next() % UInt64(types.count))]
    let payloads: [UInt16?] = [nil, 512, 700, 1_232, 4_096]
    let way = Way(
        isStream: random.next() % 8 == 0,
        payload: payloads[Int(random.next() % UInt64(payloads.count))])
    return (DNSQuestion(DNSName(name) ?? .root, type), way)
}
