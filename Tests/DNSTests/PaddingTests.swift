import DNS
import MeshBase
import NetAddress
import Testing

/// What travels encrypted shall not tell by its length which name it asks for.
@Suite struct PaddingTests {
    /// RFC 8467 section 4.1: the closest multiple of 128 bytes; RFC 7830 section 3: the padding's
    /// bytes are zero.
    @Test func queriesOverTLSAreMultiplesOf128Bytes() throws {
        var sizes: Set<Int> = []
        for length in 1...60 {
            var bench = try secureBench()
            let label = String(repeating: "x", count: length)
            try bench.query(
                "\(label).\(label).\(label).\(label.prefix(57))", flags: .recursionDesired)
            let (transport, bytes) = try bench.takeUpstreamBytes()
            #expect(transport == .tls)
            #expect(bytes.count % 128 == 0, "\(length): \(bytes.count) bytes")
            sizes.insert(bytes.count)
            let message = try DNSMessage(decoding: bytes)
            let padding = try #require(message.edns?.padding, "\(length): no padding option")
            #expect(padding < 128)
            #expect(bytes.suffix(padding).allSatisfy { $0 == 0 })
        }
        #expect(sizes == [128, 256, 384])
    }

    /// It is sixty bytes more for everybody on the way, and hides nothing there.
    @Test func queriesInTheClearAreNotPadded() throws {
        var bench = try ResolverBench()
        try bench.query("www.example.com")
        let (transport, bytes) = try bench.takeUpstreamBytes()
        #expect(transport == .udp)
        #expect(try DNSMessage(decoding: bytes).edns?.padding == nil)
        #expect(bytes.count < 64)
    }

    /// What we are sent may be padded with anything.
    @Test func paddingOfOthersIsPassedOver() throws {
        for count in [0, 1, 127, 400] {
            var bench = try ResolverBench()
            var edns = EDNS()
            edns.padding = count
            try bench.query("node-1.mesh.internal", edns: edns)
            let reply = try bench.takeReply()
            #expect(reply.code == .noError && reply.answers.count == 1)
            #expect(reply.edns?.padding == nil, "over UDP a reply is not padded either")
        }
    }
}

private func secureBench() throws -> ResolverBench {
    var bench = try ResolverBench()
    let upstream = SocketAddress(ip: .v4(0xC000_0201), port: 853)
    var configuration = ResolverConfiguration(upstreams: [upstream], queriesPerSecond: 0)
    configuration.secureUpstreams = [upstream]
    bench.resolver = Resolver(table: try sampleTable(), configuration: configuration)
    return bench
}

extension ResolverBench {
    fileprivate mutating func takeUpstreamBytes() throws -> (DNSTransport, [UInt8]) {
        for action in actions {
            if case .queryUpstream(_, _, let transport, let bytes) = action {
                return (transport, bytes)
            }
        }
        throw DecodingFailure.truncated
    }
}
