import MeshBase
import NetAddress
import PathDiscovery
import Testing

private let gateway = IPAddress.v4(0xC0A8_0101)
private let client = IPAddress.v4(0xC0A8_0102)
private let server = SocketAddress(ip: gateway, port: 5_351)

/// A mapper, and the gateway that the test plays.
private struct Bench {
    var random = SeededGenerator(seed: 4)
    var mapper: PortMapper
    var now = BootInstant(nanoseconds: 1_000_000_000)
    var actions: [PortMappingAction] = []

    init() {
        mapper = PortMapper(internalPort: 41_641, random: &random)
        mapper.setGateway(gateway, client: client, at: now, into: &actions)
    }

    /// Everything sent since the last call.
    mutating func sent() -> [[UInt8]] {
        defer { actions = [] }
        return actions.compactMap { if case .send(let bytes, _) = $0 { bytes } else { nil } }
    }

    mutating func hear(_ datagram: [UInt8], from source: SocketAddress = server) {
        mapper.receive(datagram, from: source, at: now, random: &random, into: &actions)
    }

    /// Lets time pass until the mapper has had its say so often.
    mutating func wait(_ rounds: Int) {
        for _ in 0..<rounds {
            guard let due = mapper.deadline else { return }
            now = max(now, due)
            mapper.timeout(at: now, random: &random, into: &actions)
        }
    }

    /// The HTTP request that was asked for last, with its number; 0 for none.
    mutating func request() -> (UInt32, String) {
        defer { actions = [] }
        for case .exchange(let number, let bytes, _) in actions.reversed() {
            return (number, String(decoding: bytes, as: UTF8.self))
        }
        return (0, "")
    }

    mutating func answer(_ number: UInt32, _ text: String?) {
        mapper.exchanged(
            number, answer: text.map { Array($0.utf8) }, at: now, random: &random,
            into: &actions)
    }

    var state: UInt64 {
        var fingerprint = Fingerprint()
        mapper.fingerprint(into: &fingerprint)
        return fingerprint.value
    }
}

private func bytes(_ hex: String) -> [UInt8] { [UInt8](hex: hex.filter { $0 != " " }) ?? [] }

/// RFC 6887 figure 9 filled in: lifetime 7200, 192.168.1.2, UDP, internal 41641.
private func pcpAnswer(to request: [UInt8], result: UInt8 = 0, epoch: UInt8 = 9) -> [UInt8] {
    bytes("02 81 00") + [result] + bytes("00001c20 000000") + [epoch]
        + bytes("000000000000000000000000") + request[24..<42]
        + bytes("c353 00000000000000000000ffff 2d120202")
}

@Test func aPCPRequestIsTheOneOfTheStandard() throws {
    var bench = Bench()
    let request = try #require(bench.sent().first)
    #expect(
        request[..<24]
            == bytes("02010000 00001c20 00000000000000000000ffffc0a80102")[...])
    #expect(request[36...] == bytes("11000000 a2a9a2a9 00000000000000000000ffff00000000")[...])
    #expect(request.count == 60)
    bench.hear(pcpAnswer(to: request))
    #expect(bench.mapper.mapped == SocketAddress(ip: .v4(0x2D12_0202), port: 50_003))
    #expect(bench.mapper.mappedBy == .pcp)
}

@Test func aMappingIsRenewedAtHalfItsLifeAndRemovedInTheEnd() throws {
    var bench = Bench()
    let first = try #require(bench.sent().first)
    bench.hear(pcpAnswer(to: first))
    let begin = bench.now
    // Its clock is asked for every 15 s until then.
    bench.wait(3_600 / 15 - 1)
    #expect(bench.sent().allSatisfy { $0.count == 24 })
    bench.wait(1)
    #expect(bench.now - begin == .seconds(3_600))
    let second = try #require(bench.sent().last)
    #expect(second[24..<36] == first[24..<36], "the nonce names the mapping")
    #expect(second[42..<44] == bytes("c353")[...], "what stands is wished for")
    bench.hear(pcpAnswer(to: second))
    bench.actions = []
    bench.mapper.leave(into: &bench.actions)
    let last = try #require(bench.sent().last)
    #expect(last[4..<8] == bytes("00000000")[...], "a lifetime of 0 removes it")
    #expect(last[24..<36] == first[24..<36])
}

@Test func aGatewayThatKnowsNATPMPOnlyIsAskedByIt() throws {
    var bench = Bench()
    _ = bench.sent()
    // RFC 6887 appendix A: such a gateway says that it does not know version 2.
    bench.hear(bytes("0081 0001 00000010"))
    #expect(bench.sent() == [bytes("0000")])
    // RFC 6886 section 3.2: success, epoch 16, 45.18.2.2.
    bench.hear(bytes("0080 0000 00000010 2d120202"))
    #expect(bench.sent() == [bytes("0001 0000 a2a9 a2a9 00001c20")])
    bench.hear(bytes("0081 0000 00000010 a2a9 c353 00001c20"))
    #expect(bench.mapper.mapped == SocketAddress(ip: .v4(0x2D12_0202), port: 50_003))
    #expect(bench.mapper.mappedBy == .natPMP)
    bench.actions = []
    bench.mapper.leave(into: &bench.actions)
    #expect(bench.sent() == [bytes("0001 0000 a2a9 0000 00000000")])
}

@Test func aGatewayThatStartedAnewIsAskedAgain() throws {
    var bench = Bench()
    let first = try #require(bench.sent().first)
    bench.hear(pcpAnswer(to: first, epoch: 200))
    bench.actions = []
    bench.now = bench.now + .seconds(100)
    // An announcement with the epoch that is due changes nothing.
    bench.hear(bytes("02800000 00000000 0000012c 000000000000000000000000"))
    #expect(bench.sent().isEmpty)
    bench.hear(bytes("02800000 00000000 00000003 000000000000000000000000"))
    #expect(bench.sent().count == 1)
    #expect(bench.mapper.mapped != nil, "until it is known otherwise it stands")
}

/// Says nothing when it starts, and does so a moment after it mapped.
@Test func aSilentRestartIsNoticedByTheGatewaysClock() throws {
    var bench = Bench()
    let first = try #require(bench.sent().first)
    bench.hear(pcpAnswer(to: first, epoch: 2))
    bench.actions = []
    bench.wait(1)
    #expect(bench.sent() == [bytes("02000000 00000000 00000000000000000000ffffc0a80102")])
    // On for 14 seconds, and not for 17.
    bench.hear(bytes("02800000 00000000 0000000e 000000000000000000000000"))
    let again = try #require(bench.sent().last)
    #expect(again.count == 60 && again[24..<36] == first[24..<36])
    bench.hear(pcpAnswer(to: again, epoch: 14))
    bench.actions = []
    bench.wait(1)
    _ = bench.sent()
    bench.hear(bytes("02800000 00000000 0000001d 000000000000000000000000"))
    #expect(bench.sent().isEmpty, "its clock goes as ours does")
}

/// A restart takes longer than questions are repeated.
@Test func aGatewayThatIsBackMapsAgain() throws {
    var bench = Bench()
    bench.hear(pcpAnswer(to: try #require(bench.sent().first), epoch: 200))
    bench.actions = []
    bench.hear(bytes("02800000 00000000 00000000 000000000000000000000000"))
    bench.wait(12)
    #expect(bench.mapper.mapped == nil)
    _ = bench.sent()
    bench.wait(1)
    #expect(bench.sent().last?.count == 24)
    bench.hear(bytes("02800000 00000000 00000009 000000000000000000000000"))
    let again = try #require(bench.sent().last)
    bench.hear(pcpAnswer(to: again, epoch: 9))
    #expect(bench.mapper.mappedBy == .pcp)
}

@Test func aMappingThatCannotBeRenewedIsForgotten() throws {
    var bench = Bench()
    bench.hear(pcpAnswer(to: try #require(bench.sent().first)))
    // Half of its life with questions for the clock, then four steps without an answer.
    bench.wait(3_600 / 15 + 4)
    #expect(bench.mapper.mapped == nil)
    #expect(bench.actions.contains(.changed))
}

@Test func silenceLeadsToUPnP() {
    var bench = Bench()
    _ = bench.sent()
    bench.wait(6)
    let searches = bench.sent().map { String(decoding: $0, as: UTF8.self) }
    #expect(searches.contains { $0.hasPrefix("M-SEARCH * HTTP/1.1\r\n") })
    let place = SocketAddress(ip: gateway, port: 1_900)
    bench.hear(
        Array("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n".utf8),
        from: place)
    var (number, request) = bench.request()
    #expect(request.hasPrefix("GET /root.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"))
    let description = """
        <root><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <controlURL>/l3</controlURL></service><service>
        <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
        <controlURL>/control</controlURL></service></root>
        """
    // In chunks, as some devices answer.
    let size = String(description.utf8.count, radix: 16)
    bench.answer(
        number,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\(size)\r\n\(description)\r\n0\r\n\r\n"
    )
    (number, request) = bench.request()
    #expect(
        request.contains("SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#GetExternal")
    )
    bench.answer(
        number,
        "HTTP/1.1 200 OK\r\n\r\n<NewExternalIPAddress>45.18.2.2</NewExternalIPAddress>")
    (number, request) = bench.request()
    // Not our own port: others have knocked there already.
    #expect(request.contains("<NewExternalPort>8873</NewExternalPort>"))
    #expect(request.contains("<NewInternalClient>192.168.1.2</NewInternalClient>"))
    // Another machine has the port, then the device knows no leases.
    bench.answer(number, "HTTP/1.1 500 Error\r\n\r\n<errorCode>718</errorCode>")
    (number, request) = bench.request()
    #expect(!request.contains("<NewExternalPort>8873</NewExternalPort>"))
    bench.answer(number, "HTTP/1.1 500 Error\r\n\r\n<errorCode>725</errorCode>")
    (number, request) = bench.request()
    #expect(request.contains("<NewLeaseDuration>0</NewLeaseDuration>"))
    bench.answer(number, "HTTP/1.1 200 OK\r\n\r\n")
    #expect(bench.mapper.mappedBy == .upnp && bench.mapper.mapped?.ip == .v4(0x2D12_0202))
    bench.actions = []
    bench.mapper.leave(into: &bench.actions)
    request = bench.request().1
    #expect(request.contains("#DeletePortMapping"))
}

/// A bench whose gateway has mapped by UPnP.
private func benchWithUPnP() -> Bench {
    var bench = Bench()
    bench.wait(6)
    bench.hear(
        Array("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n".utf8),
        from: SocketAddress(ip: gateway, port: 1_900))
    for page in [
        "<service>urn:schemas-upnp-org:service:WANIPConnection:1<controlURL>/c</controlURL></service>",
        "<NewExternalIPAddress>45.18.2.2</NewExternalIPAddress>", "",
    ] {
        bench.answer(bench.request().0, "HTTP/1.1 200 OK\r\n\r\n" + page)
    }
    bench.actions = []
    return bench
}

/// UPnP has no clock that could be asked: the gateway is asked for the mapping itself.
@Test func aUPnPGatewayIsAskedWhetherTheMappingStands() {
    var bench = benchWithUPnP()
    let mapped = bench.mapper.mapped
    let begin = bench.now
    bench.wait(1)
    #expect(mapped != nil && bench.now - begin == .seconds(60))
    var (number, request) = bench.request()
    #expect(request.contains("#GetSpecificPortMappingEntry"))
    #expect(request.contains("<NewExternalPort>8873</NewExternalPort>"))
    bench.answer(
        number, "HTTP/1.1 200 OK\r\n\r\n<NewInternalClient>192.168.1.2</NewInternalClient>")
    #expect(bench.actions.isEmpty, "it stands")

    // The gateway was restarted: it knows nothing of it.
    bench.wait(1)
    (number, request) = bench.request()
    #expect(request.contains("#GetSpecificPortMappingEntry"))
    bench.answer(number, "HTTP/1.1 500 Error\r\n\r\n<errorCode>714</errorCode>")
    (number, request) = bench.request()
    #expect(request.contains("#AddPortMapping"))
    #expect(request.contains("<NewExternalPort>8873</NewExternalPort>"))
    bench.answer(number, "HTTP/1.1 200 OK\r\n\r\n")
    #expect(bench.mapper.mapped == mapped && bench.actions.isEmpty)
    // Every minute, and half an hour after it was mapped it is renewed.
    for _ in 0..<30 {
        bench.wait(1)
        (number, request) = bench.request()
        #expect(request.contains("#GetSpecificPortMappingEntry"))
        bench.answer(
            number, "HTTP/1.1 200 OK\r\n\r\n<NewInternalClient>192.168.1.2</NewInternalClient>")
    }
    bench.wait(1)
    #expect(bench.request().1.contains("#AddPortMapping"))
}

/// It is starting: whoever mapped before is asked again soon.
@Test func aUPnPGatewayThatIsAwayIsSoughtAgain() {
    var bench = benchWithUPnP()
    bench.wait(1)
    bench.answer(bench.request().0, nil)
    #expect(bench.mapper.mapped == nil)
    let begin = bench.now
    bench.wait(9)
    bench.actions = []
    bench.wait(2)
    let asked = bench.sent().map(\.count)
    #expect(asked.first == 60 && bench.now - begin < .seconds(90), "PCP comes first: \(asked)")
}

@Test func aDescriptionElsewhereIsNotFetched() {
    for place in [
        "http://192.168.1.9:5000/", "http://gateway/", "https://192.168.1.1/", "http://[::1]/",
        "http://192.168.1.1:0/", "http://192.168.1.1:99999/", "http://192.168.1.1/a b",
    ] {
        var bench = Bench()
        bench.wait(6)
        bench.hear(
            Array("HTTP/1.1 200 OK\r\nLOCATION: \(place)\r\n\r\n".utf8),
            from: SocketAddress(ip: gateway, port: 1_900))
        #expect(bench.request().0 == 0, "\(place)")
    }
}

@Test func strangersAndGarbageChangeNothing() throws {
    var bench = Bench()
    let request = try #require(bench.sent().first)
    let before = bench.state
    let stranger = SocketAddress(ip: .v4(0xC0A8_0109), port: 5_351)
    bench.hear(pcpAnswer(to: request), from: stranger)
    #expect(bench.state == before)
    var otherNonce = pcpAnswer(to: request)
    otherNonce[24] ^= 1
    bench.hear(otherNonce)
    #expect(bench.state == before)
    for count in 0..<200 {
        var garbage = bench.random.bytes(count)
        // Nothing that says no in due form.
        if count > 1 { garbage[1] &= 0x7F }
        bench.hear(garbage)
        bench.hear(garbage, from: SocketAddress(ip: gateway, port: 1_900))
    }
    bench.answer(77, "HTTP/1.1 200 OK\r\n\r\n")
    #expect(bench.state == before && bench.actions.isEmpty)
}

@Test func aGatewayThatMapsNothingIsLeftAloneForAWhile() {
    var bench = Bench()
    bench.wait(9)
    let begin = bench.now
    _ = bench.sent()
    bench.wait(1)
    #expect(bench.now - begin >= .seconds(600))
}
