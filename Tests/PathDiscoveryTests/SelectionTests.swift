import MeshBase
import NetAddress
import PathDiscovery
import Testing

private let home = SocketAddress(ip: .v4(0xC0A8_0002), port: 7)
private let world = SocketAddress(ip: .v4(0x2D12_0102), port: 7)
private let sixth = SocketAddress(ip: .v6(0x2001_0DB8_0000_0000, 1), port: 7)
private let relay = SocketAddress(
    relay: NodeID(Bytes32(word0: 9, word1: 0, word2: 0, word3: 0)), channel: 5)

/// One row: the ways, the present one, the expected one.
private struct Case: CustomTestStringConvertible {
    var testDescription: String
    var ways: [WayView]
    var current: SocketAddress?
    var expected: SocketAddress?
    var reason: PathReason?
}

private func way(
    _ address: SocketAddress, _ milliseconds: Int, lost: Int = 0, of asked: Int = 16
) -> WayView {
    WayView(
        address, isLive: true, roundTrip: .milliseconds(milliseconds), lost: lost, asked: asked)
}

private func dead(_ address: SocketAddress, wasHeard: Bool = false) -> WayView {
    WayView(address, isLive: false, wasHeard: wasHeard)
}

private let table: [Case] = [
    Case(testDescription: "no way", ways: [], expected: nil),
    Case(
        testDescription: "nothing answers: stay", ways: [dead(home), dead(world)], current: world,
        expected: world, reason: .unproven),
    Case(
        testDescription: "nothing answers: whoever was heard",
        ways: [dead(home), dead(world, wasHeard: true)], expected: world, reason: .unproven),
    Case(
        testDescription: "what answers beats the present", ways: [dead(home), way(relay, 90)],
        current: home, expected: relay, reason: .onlyLive),
    Case(
        testDescription: "direct beats a faster relay", ways: [way(world, 80), way(relay, 20)],
        current: relay, expected: world, reason: .direct),
    Case(
        testDescription: "not when it loses more than a fifth, and a relay half of that",
        ways: [way(world, 20, lost: 4), way(relay, 80, lost: 2)], current: world, expected: relay,
        reason: .lossy),
    Case(
        testDescription: "a relay that loses as much is no better",
        ways: [way(world, 20, lost: 7), way(relay, 80, lost: 5)], current: relay, expected: world,
        reason: .direct),
    Case(
        testDescription: "nor one of which little is known",
        ways: [way(world, 20, lost: 7), way(relay, 80, of: 3)], current: world, expected: world,
        reason: .direct),
    Case(
        testDescription: "a fifth is borne", ways: [way(world, 20, lost: 3), way(relay, 80)],
        current: world, expected: world, reason: .direct),
    Case(
        testDescription: "a little faster is not enough", ways: [way(world, 20), way(home, 19)],
        current: world, expected: world, reason: .kept),
    Case(
        testDescription: "much faster is", ways: [way(world, 20), way(home, 2)], current: world,
        expected: home, reason: .faster),
    Case(
        testDescription: "a tenth of a long way is needed",
        ways: [way(world, 200), way(sixth, 188)], current: world, expected: world, reason: .kept),
    Case(
        testDescription: "IPv6 wins between equals", ways: [way(world, 30), way(sixth, 30)],
        expected: sixth, reason: .faster),
]

@Test(arguments: table) private func theBestWayIsChosen(_ row: Case) {
    let choice = PathSelector.choose(row.ways, current: row.current)
    #expect(choice?.address == row.expected)
    #expect(choice?.reason == row.reason)
    let reversed = PathSelector.choose(row.ways.reversed(), current: row.current)
    #expect(reversed?.address == row.expected, "the order of the ways decides nothing")
}

@Test func probesSurviveTheirCodingAndNothingElseDoes() throws {
    let node = NodeID(Bytes32(word0: 1, word1: 2, word2: 3, word3: 4))
    let messages: [ProbeMessage] = [
        .ping(id: 7), .pong(id: 7, observed: world), .pong(id: 8, observed: sixth),
        .callMe(
            .init(isAnswer: true, hasHeard: true, portStep: -3, candidates: [home, world, sixth])),
        .callMe(.init(isAnswer: false, hasHeard: false, portStep: 0, candidates: [])),
        .callMe(.init(isAnswer: false, hasHeard: true, portStep: 0, candidates: [])),
        .openRelay(to: node), .relayOpened(to: node, channel: 0xFFFF_FFFF),
        .relayRefused(to: node),
        .birthday(.accept, SocketAddress(ip: .v4(0x2D12_0102), port: 7_000)),
    ]
    var random = SeededGenerator(seed: 3)
    for message in messages {
        let bytes = message.encode()
        #expect(try ProbeMessage(decoding: bytes) == message)
        #expect(ProbeMessage.isProbe(bytes))
        for cut in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) {
                try ProbeMessage(decoding: Array(bytes[..<cut]))
            }
        }
        #expect(throws: DecodingFailure.self) { try ProbeMessage(decoding: bytes + [0]) }
    }
    // Whatever decodes is what its encoding says: no two spellings of one message.
    var decoded = 0
    for _ in 0..<20_000 {
        var bytes = random.bytes(Int(random.next() % 64) + 1)
        bytes[0] = 0x80 + UInt8(random.next() % 8)
        guard let message = try? ProbeMessage(decoding: bytes) else { continue }
        decoded += 1
        #expect(message.encode() == bytes)
    }
    #expect(decoded > 0)
}

@Test func aChannelIsRefusedBeyondItsBounds() {
    var table = RelayTable()
    var random = SeededGenerator(seed: 4)
    let now = BootInstant(nanoseconds: 1_000_000_000)
    let node = { (number: UInt64) in NodeID(Bytes32(word0: number, word1: 0, word2: 0, word3: 0)) }
    var opened = 0
    for other in 2..<200 {
        if table.open(node(1), node(UInt64(other)), at: now, random: &random) != nil { opened += 1 }
    }
    #expect(opened == RelayTable.limitPerMember)
    let again = table.open(node(2), node(1), at: now + .seconds(80), random: &random)
    #expect(again != nil && table.channels[again ?? 0]?.second == node(2), "one channel a pair")
    let hasExpired = table.expire(at: now + .seconds(91))
    #expect(hasExpired)
    #expect(table.channels.count == 1, "what is renewed stays")
}
