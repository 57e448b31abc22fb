import DNS
import MeshBase
import NetAddress

/// What fuzzers call, and what the tests call with the corpus: bytes of a stranger through the
/// parts of DNS that read them. The first byte chooses the part; a broken promise traps.
package func fuzzNames(_ input: [UInt8]) {
    guard let choice = input.first else { return }
    let bytes = Array(input.dropFirst())
    switch choice % 5 {
    case 0: fuzzMessage(bytes)
    case 1: fuzzQuery(bytes)
    case 2: fuzzReply(bytes)
    case 3: fuzzText(String(decoding: bytes, as: UTF8.self))
    default: fuzzPattern(bytes)
    }
}

/// The entry point of libFuzzer (`.scripts/fuzz`).
@_cdecl("LLVMFuzzerTestOneInput")
package func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    fuzzNames(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}

/// What was read once is written and read again as the same.
private func fuzzMessage(_ bytes: [UInt8]) {
    guard let message = try? DNSMessage(decoding: bytes) else { return }
    let written = message.encoded()
    // Names that came as pointers may leave in full, and then a message may be too long.
    guard written.count <= 65_535 else { return }
    guard let again = try? DNSMessage(decoding: written) else {
        preconditionFailure("a message that was written cannot be read")
    }
    precondition(again.questions == message.questions && again.answers == message.answers)
    precondition(again.authorities == message.authorities && again.flags == message.flags)
    for record in message.answers {
        if case .opaque(let type, _) = record.data, !type.isPublishable { continue }
        let text = record.data.text
        guard record.type.isPublishable,
            let read = try? RecordData(record.type, text: text, zone: .root)
        else { continue }
        precondition(read.type == record.type)
    }
}

/// At most one answer, which belongs to the query and fits.
private func fuzzQuery(_ bytes: [UInt8]) {
    var bench = FuzzBench()
    bench.resolver.receive(
        query: bytes, from: bench.client, at: bench.now, random: &bench.random,
        into: &bench.actions)
    var replies = 0
    for case .reply(_, let reply) in bench.actions {
        replies += 1
        precondition(reply.count >= 12 && reply.count <= 1_232)
        precondition(reply[0] == bytes[0] && reply[1] == bytes[1] && reply[2] & 0x80 != 0)
        precondition((try? DNSMessage(decoding: reply)) != nil)
    }
    precondition(replies <= 1)
    precondition(bytes.count < 12 || bytes[2] & 0x80 == 0 || replies == 0)
}

/// A reply of an upstream: whatever it says, the client gets one answer or the search goes on.
private func fuzzReply(_ bytes: [UInt8]) {
    var bench = FuzzBench()
    var query = DNSMessage(id: 7, flags: .recursionDesired)
    query.questions = [DNSQuestion(bench.foreign, .a)]
    query.edns = EDNS(dnssecOK: true)
    bench.resolver.receive(
        query: query.encoded(), from: bench.client, at: bench.now, random: &bench.random,
        into: &bench.actions)
    guard case .queryUpstream(let exchange, let upstream, _, let asked)? = bench.actions.first
    else { preconditionFailure("nobody was asked") }
    // The identifier and the question of the query in front: a forger who guessed all.
    var reply = Array(asked[..<2]) + bytes.prefix(10)
    if bytes.count > 10 {
        reply += asked[12..<(12 + bench.foreign.wire.count + 4)] + bytes.dropFirst(10)
    }
    bench.actions = []
    bench.resolver.receive(
        reply: reply, exchange: exchange, from: upstream, at: bench.now, random: &bench.random,
        into: &bench.actions)
    for case .reply(_, let answer) in bench.actions {
        precondition(answer.count <= 1_232 && (try? DNSMessage(decoding: answer)) != nil)
    }
}

private func fuzzText(_ text: String) {
    if let name = DNSName(text) {
        precondition(DNSName(name.description) == name)
    }
    let words = text.split(separator: " ", maxSplits: 1).map(String.init)
    let zone = DNSName("mesh.internal") ?? .root
    guard words.count == 2, let type = RecordType(words[0]),
        let data = try? RecordData(type, text: words[1], zone: zone)
    else { return }
    guard let again = try? RecordData(type, text: data.text, zone: zone) else {
        preconditionFailure("\(data.text) cannot be read back")
    }
    precondition(again == data)
    let content = PublishedName(key: "fuzz", value: Array(text.utf8), zone: zone)
    if let content {
        precondition(PublishedName(key: "fuzz", value: content.value, zone: zone) == content)
    }
}

private func fuzzPattern(_ bytes: [UInt8]) {
    let parts = bytes.split(separator: 0, maxSplits: 1)
    guard let first = parts.first, let pattern = NamePattern(String(decoding: first, as: UTF8.self))
    else { return }
    _ = pattern.matches(Array((parts.count > 1 ? parts[1] : []).prefix(255)))
}

private struct FuzzBench {
    var resolver: Resolver
    var random = SeededGenerator(seed: Bytes32.zero)
    var actions: [ResolverAction] = []
    let now = BootInstant(nanoseconds: 1_000_000_000_000)
    let foreign = DNSName("www.example.com") ?? .root
    let client = DNSClient(
        address: SocketAddress(ip: .v4(0x0A01_0001), port: 5_000), transport: .udp, channel: 0)

    init() {
        let zone = DNSName("mesh.internal") ?? .root
        let address = IPAddress.v4(0x0A01_0001)
        resolver = Resolver(
            table: NameTable(
                zone: zone, nameServer: "a", serial: 1, prefixes: [],
                hosts: [HostNames(name: "a", addresses: [address])],
                records: [
                    ResourceRecord(zone.prepending([42]) ?? zone, .address(address), ttl: 20)
                ]),
            configuration: ResolverConfiguration(
                upstreams: [SocketAddress(ip: .v4(0xC000_0201), port: 53)]))
    }
}
