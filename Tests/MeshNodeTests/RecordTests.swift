import MeshBase
import MeshNode
import NetAddress
import Testing

@Test(arguments: ControlFrame.Kind.allCases) func framesComeBack(kind: ControlFrame.Kind) throws {
    for count in [0, 1, 15, 16, 1_199, ControlFrame.bodyLimit] {
        let frame = ControlFrame(
            kind: kind, requestID: 0xDEAD_BEEF, body: [UInt8](repeating: 0xA5, count: count))
        let payload = frame.encode()
        #expect(payload[0] >> 4 != 4 && payload[0] >> 4 != 6, "it would be taken for a packet")
        #expect(try ControlFrame(decoding: payload) == frame)
        // The tunnel pads to 16 bytes.
        let padding = (16 - payload.count % 16) % 16
        let padded = payload + [UInt8](repeating: 0, count: padding)
        #expect(try ControlFrame(decoding: padded) == frame)
        for cut in 0..<min(payload.count, 40) {
            #expect(throws: DecodingFailure.self) {
                _ = try ControlFrame(decoding: Array(payload.dropLast(cut + 1)))
            }
        }
        #expect(throws: DecodingFailure.trailingBytes) {
            _ = try ControlFrame(decoding: payload + [UInt8](repeating: 0, count: 16))
        }
        #expect(throws: DecodingFailure.trailingBytes) {
            _ = try ControlFrame(decoding: payload + [1])
        }
    }
}

@Test func everyFirstByteButOursIsNoFrame() {
    let known = Set(ControlFrame.Kind.allCases.map { 0x10 | $0.rawValue })
    for first in UInt8.min...UInt8.max where !known.contains(first) {
        #expect(throws: DecodingFailure.field("frame kind")) {
            _ = try ControlFrame(decoding: [first, 0, 0, 0, 0, 0, 0])
        }
    }
    #expect(throws: DecodingFailure.field("length")) {
        _ = try ControlFrame(
            decoding: [0x10, 0, 0, 0, 0, 0x04, 0xB1] + [UInt8](repeating: 0, count: 1_201))
    }
}

private let endpoints = [
    SocketAddress(ip: .v4(0xC0A8_0001), port: 41_641),
    SocketAddress(ip: .v6(0xFD00_0000_0000_0000, 1), port: 7),
]

@Test(arguments: [ClaimStrength.wish, .promised, .used])
func machineRecordsComeBack(strength: ClaimStrength) throws {
    for ipv4 in [nil, IPAddress.v4(0x0A01_0203)] {
        let record = MachineRecord(
            hostname: "node-1", ipv4: ipv4, strength: strength, endpoints: endpoints)
        let bytes = record.encode()
        let decoded = try MachineRecord(decoding: bytes)
        #expect(decoded == record)
        #expect(decoded.encode() == bytes, "a record has one spelling")
        #expect(decoded.strength == (ipv4 == nil ? .wish : strength))
        for cut in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) {
                _ = try MachineRecord(decoding: Array(bytes.prefix(cut)))
            }
        }
        #expect(throws: DecodingFailure.trailingBytes) {
            _ = try MachineRecord(decoding: bytes + [0])
        }
    }
}

@Test func aMachineWithManyAddressesTellsTheFirst() throws {
    let many = (0..<20).map { SocketAddress(ip: .v4(UInt32($0) + 1), port: 1) }
    let record = MachineRecord(hostname: "a", ipv4: nil, strength: .wish, endpoints: many)
    let decoded = try MachineRecord(decoding: record.encode())
    #expect(decoded.endpoints == Array(many.prefix(MachineRecord.endpointLimit)))
}

/// Everything that decodes at all is written back as the same bytes, so that a signed record
/// cannot mean two things.
@Test func hostileRecordsAreRefusedOrCanonical() {
    let record = MachineRecord(
        hostname: "node-1", ipv4: .v4(0x0A01_0203), strength: .used, endpoints: endpoints)
    let bytes = record.encode()
    var random = SeededGenerator(seed: 4)
    for round in 0..<20_000 {
        var hostile = bytes
        if round.isMultiple(of: 2) {
            hostile[Int(random.next() % UInt64(bytes.count))] = UInt8(
                truncatingIfNeeded: random.next())
        } else {
            hostile = random.bytes(Int(random.next() % 80))
            if !hostile.isEmpty { hostile[0] = 1 }
        }
        if let decoded = try? MachineRecord(decoding: hostile) {
            #expect(decoded.encode() == hostile)
            #expect(MachineRecord.isValidHostname(decoded.hostname))
        }
    }
}

@Test(arguments: [
    "", "-a", "a-", "a.b", "a b", "ä", "a\u{0}", "a_b", String(repeating: "a", count: 64),
])
func hostnamesAreOneLabel(name: String) {
    #expect(!MachineRecord.isValidHostname(name))
    #expect(MachineRecord.isValidHostname(MachineRecord.hostnameLabel(from: name)))
}

@Test func hostNamesBecomeLabels() {
    #expect(MachineRecord.hostnameLabel(from: "db1.example.com") == "db1")
    #expect(MachineRecord.hostnameLabel(from: "my_host") == "my-host")
    #expect(MachineRecord.hostnameLabel(from: "_x_") == "x")
    #expect(MachineRecord.hostnameLabel(from: "___") == "node")
    #expect(MachineRecord.hostnameLabel(from: "localhost") == "localhost")
}
