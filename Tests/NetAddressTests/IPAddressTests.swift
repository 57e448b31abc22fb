import MeshBase
import NetAddress
import Testing

/// Text and its canonical form, RFC 5952 sections 4 and 5.
private let canonical: [(text: String, written: String)] = [
    ("2001:db8::1", "2001:db8::1"),
    ("2001:0db8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"),
    ("2001:DB8::ABCD", "2001:db8::abcd"),
    ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
    ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ("0:0:0:0:0:0:0:0", "::"),
    ("0:0:0:0:0:0:0:1", "::1"),
    ("1:0:0:0:0:0:0:0", "1::"),
    ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
    ("::ffff:c000:201", "::ffff:192.0.2.1"),
    ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ("1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a"),
    ("fe80::1", "fe80::1"),
    ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
]

@Test(arguments: canonical.indices) func ipv6HasOneWrittenForm(index: Int) throws {
    let (text, written) = canonical[index]
    let address = try #require(IPAddress(text), "\(text)")
    #expect(address.description == written)
    #expect(IPAddress(written) == address)
}

@Test(arguments: [
    "", ":", ":::", "::1::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8:",
    ":1:2:3:4:5:6:7:8", "1::2:3:4:5:6:7:8", "::1:2:3:4:5:6:7:8", "12345::", "g::", "-1::", "+1::",
    "::+1", " ::1", "::1 ", "::1%1", "[::1]", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "::1.2.3.4.5",
    "::1.2.3.256", "1.2.3.4::", "::1.2.3.4:5", "1.2.3.4:5::", "1.2.3", "1.2.3.4.", ".1.2.3.4",
    "1..2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.00", "256.1.1.1", "1.2.3.-4", "1.2.3.+4",
    "0x1.2.3.4", "1.2.3.4 ", "１.2.3.4", "1.2.3.٤", "::é", "::\u{0}",
    String(repeating: "0", count: 10_000), String(repeating: ":", count: 10_000),
]) func hostileTextIsNoAddress(text: String) {
    #expect(IPAddress(text) == nil)
}

@Test func everyAddressSurvivesTextAndBytes() throws {
    var random = SeededGenerator(seed: 9)
    for round in 0..<2_000 {
        // Sparse bytes, so that runs of zeros of every length and place occur.
        let count = round.isMultiple(of: 2) ? 4 : 16
        let bytes = random.bytes(count).map { $0 % 3 == 0 ? $0 : 0 }
        let address = try #require(IPAddress(bytes: bytes))
        #expect(address.bytes == bytes)
        #expect(IPAddress(address.description) == address, "\(address)")
        #expect(address.isIPv4 == (count == 4))
        #expect(address.mappedBytes.count == 16)
        #expect(IPAddress(bytes: address.mappedBytes)?.unmapped == address.unmapped)
    }
    for count in [0, 1, 3, 5, 15, 17, 32] {
        #expect(IPAddress(bytes: [UInt8](repeating: 1, count: count)) == nil)
    }
}

@Test func kindsOfAddresses() throws {
    func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
    for text in ["127.0.0.1", "127.255.255.255", "::1"] {
        #expect(try address(text).isLoopback, "\(text)")
    }
    for text in ["169.254.0.1", "fe80::1", "febf::1"] {
        #expect(try address(text).isLinkLocal, "\(text)")
    }
    for text in ["224.0.0.251", "239.255.255.255", "ff02::fb"] {
        #expect(try address(text).isMulticast, "\(text)")
    }
    for text in ["0.0.0.0", "::"] { #expect(try address(text).isUnspecified, "\(text)") }
    for text in ["10.0.0.1", "fec0::1", "fd00::1", "223.255.255.255", "240.0.0.1", "128.0.0.1"] {
        let plain = try address(text)
        #expect(!plain.isLoopback && !plain.isLinkLocal, "\(text)")
        #expect(!plain.isMulticast && !plain.isUnspecified, "\(text)")
    }
    #expect(try address("::ffff:10.1.2.3").unmapped == address("10.1.2.3"))
    #expect(try address("::fffe:a01:203").unmapped == address("::fffe:a01:203"))
}

@Test func familiesAndNumbersOrderAddresses() throws {
    let texts = ["0.0.0.1", "10.0.0.2", "10.0.1.0", "200.0.0.0", "::", "::2", "1::", "ff00::"]
    let addresses = try texts.map { try #require(IPAddress($0)) }
    #expect(addresses.reversed().sorted() == addresses)
}
