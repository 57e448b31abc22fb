import MeshBase
import NetAddress
import Testing

@Test(arguments: [
    ("10.1.2.3/8", "10.0.0.0/8"), ("10.1.2.3/32", "10.1.2.3/32"), ("10.1.2.3", "10.1.2.3/32"),
    ("10.1.2.3/0", "0.0.0.0/0"), ("255.255.255.255/31", "255.255.255.254/31"),
    ("fd00:1:2:3:4::/64", "fd00:1:2:3::/64"), ("fd00::ffff/127", "fd00::fffe/127"),
    ("ffff::/1", "8000::/1"), ("::1/128", "::1/128"), ("fd00::1:2:3:4:5/65", "fd00:0:0:1::/65"),
    ("::1", "::1/128"), ("ff::/0", "::/0"),
]) func bitsBehindThePrefixAreCleared(text: String, written: String) throws {
    let prefix = try #require(IPPrefix(text))
    #expect(prefix.description == written)
    #expect(IPPrefix(written) == prefix)
}

@Test(arguments: [
    "", "/", "10.0.0.0/", "/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8",
    "10.0.0.0/8/8", "10.0.0.0/ 8", "10.0.0.0/8 ", "10.0.0.0/0x8", "10.0.0.0/٨",
    "10.0.0.0/99999999999999999999", "10.0.0/8",
]) func hostileTextIsNoPrefix(text: String) {
    #expect(IPPrefix(text) == nil)
}

@Test func aPrefixContainsExactlyItsBlock() throws {
    let block = try #require(IPPrefix("10.1.0.0/16"))
    for (text, isInside) in [
        ("10.1.0.0", true), ("10.1.255.255", true), ("10.0.255.255", false), ("10.2.0.0", false),
        ("::ffff:10.1.0.1", false),
    ] {
        #expect(block.contains(try #require(IPAddress(text))) == isInside, "\(text)")
    }
    let wide = try #require(IPPrefix("fd00::/70"))
    #expect(wide.contains(try #require(IPAddress("fd00::3ff:ffff:ffff:ffff"))))
    #expect(!wide.contains(try #require(IPAddress("fd00::400:0:0:0"))))
    #expect(try #require(IPPrefix("0.0.0.0/0")).contains(.v4(.max)))
    #expect(!(try #require(IPPrefix("0.0.0.0/0")).contains(.v6(0, 0))))
}

@Test func prefixesOverlapWhenOneHoldsTheOther() throws {
    func overlap(_ first: String, _ second: String) throws -> Bool {
        let one = try #require(IPPrefix(first))
        let two = try #require(IPPrefix(second))
        #expect(one.overlaps(two) == two.overlaps(one), "overlap has no direction")
        return one.overlaps(two)
    }
    #expect(try overlap("10.0.0.0/8", "10.1.0.0/16"))
    #expect(try overlap("10.0.0.0/8", "10.0.0.0/8"))
    #expect(try overlap("0.0.0.0/0", "192.168.0.1/32"))
    #expect(try !overlap("10.0.0.0/9", "10.128.0.0/9"))
    #expect(try !overlap("0.0.0.0/0", "::/0"))
}

/// Masking against the definition, bit by bit.
@Test func maskingKeepsTheFirstBits() throws {
    var random = SeededGenerator(seed: 2)
    for count in [4, 16] {
        let bytes = random.bytes(count)
        let address = try #require(IPAddress(bytes: bytes))
        for length in 0...count * 8 {
            var expected = bytes
            for bit in length..<count * 8 { expected[bit / 8] &= ~(0x80 >> UInt8(bit % 8)) }
            #expect(address.masked(to: length).bytes == expected, "/\(length)")
        }
    }
}

@Test(arguments: [
    "10.0.0.1:51820", "[fd00::1]:51820", "[fe80::1%3]:41641", "0.0.0.0:1", "[::]:65535",
]) func socketAddressesComeBackFromText(text: String) {
    #expect(SocketAddress(text)?.description == text)
}

@Test(arguments: [
    "", ":", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1", ":51820",
    "fd00::1:51820", "[fd00::1]", "[fd00::1]51820", "[]:1", "[10.0.0.1%1]:1", "[fe80::1%]:1",
    "[fe80::1%eth0]:1", "host:1", "[[::1]]:1", "10.0.0.1:1 ", "10.0.0.1: 1",
]) func hostileTextIsNoSocketAddress(text: String) {
    #expect(SocketAddress(text) == nil)
}

@Test func hostsAndPortsAreSplitWithoutResolving() {
    #expect(splitHostPort("vpn.example:41641")?.host == "vpn.example")
    #expect(splitHostPort("[fd00::1]:7")?.host == "fd00::1")
    #expect(splitHostPort("[fd00::1]:7")?.port == 7)
    for text in ["vpn.example", "vpn.example:", "a:b:1", "vpn.example:http", ":1"] {
        #expect(splitHostPort(text) == nil, "\(text)")
    }
}

@Test func socketAddressesTravelWithoutTheirScope() throws {
    for (text, count) in [("10.0.0.1:51820", 7), ("[fe80::1%3]:1", 19)] {
        let address = try #require(SocketAddress(text))
        var writer = ByteWriter()
        address.encode(into: &writer)
        #expect(writer.count == count)
        var expected = address
        expected.scope = 0
        var reader = ByteReader(writer.bytes)
        #expect(try SocketAddress(from: &reader) == expected)
        try reader.finish()
        for cut in 0..<count {
            var short = ByteReader(writer.bytes.prefix(cut))
            #expect(throws: DecodingFailure.truncated) { _ = try SocketAddress(from: &short) }
        }
    }
    for family in [UInt8(0), 5, 7, 255] {
        var reader = ByteReader([family] + [UInt8](repeating: 1, count: 18))
        #expect(throws: DecodingFailure.field("address family")) {
            _ = try SocketAddress(from: &reader)
        }
    }
}
