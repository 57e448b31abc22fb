import DNS
import MeshBase
import NetAddress
import Testing

@Suite struct NameTests {
    @Test func textAndWireAgree() throws {
        let name = try #require(DNSName("Node-1.mesh.internal."))
        #expect(
            name.wire == [6] + Array("Node-1".utf8) + [4] + Array("mesh".utf8) + [8]
                + Array("internal".utf8) + [0])
        #expect(name.description == "Node-1.mesh.internal")
        #expect(DNSName(".") == .root)
        #expect(
            try #require(DNSName(#"a\.b\000.c"#)).labels.map(Array.init) == [
                Array("a.b".utf8) + [0], Array("c".utf8),
            ])
        #expect(DNSName(#"a\.b\000.c"#)?.description == #"a\.b\000.c"#)
    }

    @Test func comparisonIgnoresCaseOfLettersOnly() {
        #expect(DNSName("A.Example") == DNSName("a.eXAMPLE"))
        #expect(DNSName("A.Example")?.hashValue == DNSName("a.eXAMPLE")?.hashValue)
        #expect(DNSName("a[") != DNSName("a{"))
        #expect(DNSName("ab.c") != DNSName("a.bc"))
    }

    @Test(arguments: ["a..b", ".a", "..", #"a\"#, #"a\25"#, #"a\256"#])
    func malformedTextIsRefused(_ text: String) {
        #expect(DNSName(text) == nil)
    }

    @Test func lengthsAreBounded() {
        let label = String(repeating: "x", count: 63)
        #expect(DNSName(label) != nil)
        #expect(DNSName(label + "x") == nil)
        let long = [label, label, label, String(repeating: "x", count: 61)]
        #expect(DNSName(long.joined(separator: "."))?.wire.count == 255)
        #expect(DNSName(long.joined(separator: ".") + "y") == nil)
        #expect(DNSName(long.joined(separator: "."))?.prepending([1]) == nil)
    }

    @Test func ancestryStopsAtLabels() throws {
        let zone = try #require(DNSName("mesh.internal"))
        #expect(zone.isWithin(zone))
        #expect(try #require(DNSName("a.b.MESH.internal")).isWithin(zone))
        #expect(try !#require(DNSName("amesh.internal")).isWithin(zone))
        #expect(try !#require(DNSName("internal")).isWithin(zone))
        #expect(zone.isWithin(.root))
    }
}

@Suite struct MessageTests {
    @Test func everyRecordTypeSurvivesTheWire() throws {
        let message = try sampleMessage()
        let bytes = message.encoded()
        #expect(try DNSMessage(decoding: bytes) == message)
        // Compression leaves one spelling of the zone for all names but the SRV target.
        let occurrences = bytes.indices.filter { bytes[$0...].starts(with: Array("mesh".utf8)) }
        #expect(occurrences.count == 2)
    }

    @Test func namesInNewerTypesComeOutExpanded() throws {
        let name = try #require(DNSName("mesh.internal"))
        let other = try #require(DNSName("a.mesh.internal")).wire
        let cases: [(RecordType, head: [UInt8], tail: [UInt8])] = [
            (.naptr, [0, 1, 0, 2, 1, 83, 0, 0], []), (.rrsig, Array(0..<18), [1, 2, 3]),
            (.nsec, [], [0, 1, 64]), (.https, [0, 1], [0, 1, 0, 3, 2, 104, 50]),
            (.svcb, [0, 0], []), (.dname, [], []),
        ]
        for (type, head, tail) in cases {
            var message = DNSMessage(id: 1, flags: .response)
            message.questions = [DNSQuestion(name, type)]
            let data = head + other + tail
            message.answers = [ResourceRecord(name, .opaque(type, data), ttl: 1)]
            let bytes = message.encoded()
            #expect(bytes.suffix(data.count) == data[...], "\(type): no pointer in the data")
            #expect(try DNSMessage(decoding: bytes) == message)
            // The same name behind a pointer to the question.
            let short = head + [1, 97, 0xC0, 12] + tail
            var packed = Array(bytes.dropLast(data.count + 2))
            packed += [0, UInt8(short.count)] + short
            #expect(try DNSMessage(decoding: packed) == message, "\(type)")
            #expect(throws: DecodingFailure.self, "\(type) cut") {
                var cut = Array(packed.dropLast(short.count + 2))
                cut += [0, UInt8(head.count + 3)] + short.prefix(head.count + 3)
                _ = try DNSMessage(decoding: cut)
            }
        }
    }

    @Test(arguments: [
        (RecordType.ds, 3), (.dnskey, 3), (.nsec3, 5), (.tlsa, 2), (.caa, 1), (.rrsig, 17),
    ])
    func dataShorterThanItsTypeIsRefused(_ type: RecordType, _ count: Int) {
        var message = DNSMessage(flags: .response)
        let data = [UInt8](repeating: 1, count: count)
        message.answers = [ResourceRecord(.root, .opaque(type, data), ttl: 1)]
        #expect(throws: DecodingFailure.self) { try DNSMessage(decoding: message.encoded()) }
    }

    @Test func repeatedLabelsInsideANameAreNoTargets() throws {
        var message = DNSMessage()
        message.questions = [DNSQuestion(try #require(DNSName("9.9.9.1.9.arpa")), .ptr)]
        #expect(try DNSMessage(decoding: message.encoded()) == message)
    }

    @Test func emptyTextRecordHoldsOneEmptyString() throws {
        var message = DNSMessage()
        message.answers = [ResourceRecord(.root, .txt([]), ttl: 1)]
        let decoded = try DNSMessage(decoding: message.encoded())
        #expect(decoded.answers.first?.data == .txt([[]]))
    }

    @Test func everyTruncationIsRefused() throws {
        let bytes = try sampleMessage().encoded()
        for count in 0..<bytes.count {
            #expect(throws: DecodingFailure.self, "cut at \(count)") {
                try DNSMessage(decoding: Array(bytes[..<count]))
            }
        }
        #expect(throws: DecodingFailure.trailingBytes) {
            try DNSMessage(decoding: bytes + [0])
        }
    }

    @Test(arguments: [
        // A pointer to itself, forward, into the header, two that chase each other, reserved kinds.
        "c00c", "c010", "c000", "c00e c00c", "01 61 c00c", "40 00", "80 00",
    ])
    func pointersMustGoBack(_ name: String) throws {
        let wire = try #require([UInt8](hex: name.filter { $0 != " " }))
        let bytes = try header(questions: 1) + wire + [0, 1, 0, 1]
        #expect(throws: DecodingFailure.self) { try DNSMessage(decoding: bytes) }
    }

    @Test func aLadderOfPointersIsBoundedByTheNameLength() throws {
        // Each rung adds a label and points to the rung before it: 200 of them exceed 255 bytes.
        var bytes = try header(questions: 200)
        var previous: Int?
        for _ in 0..<200 {
            let start = bytes.count
            bytes += [1, UInt8(ascii: "a")]
            if let previous {
                bytes += [0xC0 | UInt8(previous >> 8), UInt8(truncatingIfNeeded: previous)]
            } else {
                bytes.append(0)
            }
            bytes += [0, 1, 0, 1]
            previous = start
        }
        #expect(throws: DecodingFailure.field("name length")) {
            try DNSMessage(decoding: bytes)
        }
    }

    @Test func twoOptionsRecordsAreRefused() throws {
        var message = DNSMessage()
        message.edns = EDNS()
        var bytes = message.encoded()
        bytes += bytes[12...]
        bytes[11] = 2
        #expect(throws: DecodingFailure.field("OPT record")) { try DNSMessage(decoding: bytes) }
    }

    @Test func optionsRecordCarriesItsFields() throws {
        var message = DNSMessage(flags: DNSFlags.response.with(.badVersion))
        message.edns = EDNS(payloadSize: 4096, extendedCode: 1, version: 3, dnssecOK: true)
        let decoded = try DNSMessage(decoding: message.encoded())
        #expect(decoded.edns == message.edns)
        #expect(decoded.code == .badVersion)
    }

    @Test func mutatedMessagesNeverTrap() throws {
        var random = SeededGenerator(seed: 7)
        let valid = try sampleMessage().encoded()
        var accepted = 0
        for _ in 0..<5_000 {
            var bytes = valid
            for _ in 0...Int.random(in: 0..<6, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            guard let message = try? DNSMessage(decoding: bytes) else { continue }
            accepted += 1
            #expect(throws: Never.self) { try DNSMessage(decoding: message.encoded()) }
        }
        #expect(accepted > 50, "the mutations must reach deep into the decoder")
    }

    @Test func randomBytesOfEveryLengthNeverTrap() {
        var random = SeededGenerator(seed: 9)
        for length in 0..<600 {
            var bytes = random.bytes(length)
            _ = try? DNSMessage(decoding: bytes)
            if length >= 12 {
                // Small counts, so that the sections are reached.
                for index in 4..<12 { bytes[index] = index.isMultiple(of: 2) ? 0 : 2 }
                _ = try? DNSMessage(decoding: bytes)
            }
        }
    }
}

private func header(questions: UInt16) throws -> [UInt8] {
    [0, 1, 0, 0, UInt8(questions >> 8), UInt8(truncatingIfNeeded: questions), 0, 0, 0, 0, 0, 0]
}

private func sampleMessage() throws -> DNSMessage {
    let zone = try #require(DNSName("mesh.internal"))
    let node = try #require(zone.prepending(Array("node".utf8)))
    var message = DNSMessage(id: 0x1234, flags: [.response, .recursionDesired])
    message.questions = [DNSQuestion(node, .any)]
    message.answers = [
        ResourceRecord(node, .address(.v4(0x0A01_0203)), ttl: 20),
        ResourceRecord(node, .address(.v6(0xFD00_0000_0000_0000, 1)), ttl: 20),
        ResourceRecord(node, .cname(zone), ttl: 1),
        ResourceRecord(zone, .mx(preference: 10, exchange: node), ttl: 1),
        ResourceRecord(zone, .txt([Array("k=v".utf8), []]), ttl: 1),
        ResourceRecord(zone, .srv(ServiceLocation(port: 53, target: node)), ttl: 1),
        ResourceRecord(zone, .ptr(node), ttl: 1),
        ResourceRecord(zone, .opaque(RecordType(rawValue: 65_280), [1, 2, 3]), ttl: 1),
    ]
    message.authorities = [ResourceRecord(zone, .ns(node), ttl: 5)]
    message.additionals = [ResourceRecord(node, .address(.v4(1)), ttl: 0)]
    message.edns = EDNS(dnssecOK: true)
    return message
}
