import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import Testing

/// Members that have met and have had nothing to do with each other since, 20 ms apart; all of them
/// relay.
private struct Circle {
    var finders: [PathFinder]
    var random = SeededGenerator(seed: 3)
    var now = BootInstant(nanoseconds: 1_000_000_000)
    private var flying: [(at: BootInstant, datagram: [UInt8], source: SocketAddress, target: Int)] =
        []
    /// Datagrams by sender since the last ``forget()``.
    private(set) var sent: [Int]
    /// How many of a sender's next datagrams are lost.
    var loses: [Int: Int] = [:]
    /// By where they went, since the last ``forget()``.
    private(set) var sentTo: [SocketAddress: Int] = [:]
    /// Networks in which nothing passes, by the first byte of their addresses.
    var deadNetworks: Set<UInt32> = []
    /// Pairs between which nothing passes, the smaller number first.
    var cuts: Set<[Int]> = []
    private(set) var selected: [(BootInstant, Int, SocketAddress)] = []

    let addresses: [SocketAddress]
    /// Of a second network between the same machines.
    let spares: [SocketAddress]

    init(_ count: UInt32 = 3, onOneLink: Bool = true, hasSpares: Bool = false) {
        spares = (1...count).map { SocketAddress(ip: .v4(0x2E12_0001 + $0), port: 700) }
        addresses = (1...count).map {
            SocketAddress(ip: .v4(0x2D12_0001 + ($0 << (onOneLink ? 0 : 8))), port: 700)
        }
        sent = addresses.map { _ in 0 }
        finders = (1...count).map { number in
            var configuration = testConfiguration(UInt8(number))
            configuration.capabilities = PathCapability.relays
            return PathFinder(configuration: configuration)
        }
        for near in finders.indices {
            var actions: [PathAction] = []
            finders[near].networkChanged(
                local: [addresses[near]] + (hasSpares ? [spares[near]] : []), at: now,
                random: &random, into: &actions)
            for far in finders.indices where near != far {
                finders[near].addCandidate(addresses[far], source: .lan, at: now)
                if hasSpares { finders[near].addCandidate(spares[far], source: .lan, at: now) }
            }
        }
        run(.seconds(5))
    }

    mutating func forget() {
        sent = addresses.map { _ in 0 }
        sentTo = [:]
        selected = []
    }

    func node(_ index: Int) -> NodeID { finders[index].localNode }

    mutating func run(_ span: Duration, until isDone: ((Circle) -> Bool)? = nil) {
        let end = now + span
        while now < end, isDone?(self) != true {
            for index in finders.indices {
                if let due = finders[index].deadline, due <= now {
                    var actions: [PathAction] = []
                    finders[index].timeout(at: now, random: &random, into: &actions)
                    take(actions, from: index)
                }
            }
            let due = flying.filter { $0.at <= now }
            flying.removeAll { $0.at <= now }
            for letter in due { arrive(letter) }
            let next = flying.isEmpty ? finders.compactMap(\.deadline).min() ?? end : now
            now = min(max(now + .milliseconds(5), next), end)
        }
    }

    mutating func take(_ actions: [PathAction], from sender: Int) {
        for action in actions {
            if case .selected(_, let address) = action { selected.append((now, sender, address)) }
            guard case .send(let datagram, let target) = action,
                let (bytes, hop) = finders[sender].route(datagram, to: target),
                let receiver = addresses.firstIndex(of: hop) ?? spares.firstIndex(of: hop)
            else { continue }
            sent[sender] += 1
            sentTo[hop, default: 0] += 1
            if let count = loses[sender], count > 0 {
                loses[sender] = count - 1
                continue
            }
            if cuts.contains([min(sender, receiver), max(sender, receiver)]) { continue }
            if case .v4(let address) = hop.ip, deadNetworks.contains(address >> 24) { continue }
            let source = spares.contains(hop) ? spares[sender] : addresses[sender]
            flying.append((now + .milliseconds(20), bytes, source, receiver))
        }
    }

    private mutating func arrive(
        _ letter: (at: BootInstant, datagram: [UInt8], source: SocketAddress, target: Int)
    ) {
        var actions: [PathAction] = []
        let source = letter.source
        if RelayFrame.channel(of: letter.datagram) != nil {
            switch finders[letter.target].relayed(letter.datagram, from: source) {
            case .forward(let next): actions.append(.send(letter.datagram, to: next))
            case .arrived(let inner, let standIn):
                finders[letter.target].receive(
                    inner, from: standIn, at: now, random: &random, into: &actions)
            case nil: break
            }
        } else {
            finders[letter.target].receive(
                letter.datagram, from: source, at: now, random: &random, into: &actions)
        }
        take(actions, from: letter.target)
    }

    /// Whether the first member's way to the second one was proven lately.
    var isProven: Bool { finders[0].isConfirmed(node(1), at: now) }
}

@Test func membersWithoutBusinessComeToRest() {
    var circle = Circle()
    circle.finders[0].want(circle.node(1), candidates: [], for: .seconds(20), at: circle.now)
    circle.run(.seconds(60))
    circle.forget()
    circle.run(.seconds(300))
    #expect(circle.sent == [0, 0, 0], "nobody wants anybody")
}

/// One end has business with the other: it alone looks after the way, and the other end proves its
/// own once in a while.
@Test func theEndThatIsAskedAsksSeldom() {
    var circle = Circle()
    circle.finders[0].want(circle.node(1), candidates: [], for: .seconds(2_000), at: circle.now)
    circle.run(.seconds(100))
    circle.forget()
    circle.run(.seconds(540))
    // Twenty questions and some six or seven answers to questions of the other end.
    #expect((22...28).contains(circle.sent[0]), "\(circle.sent)")
    #expect((22...28).contains(circle.sent[1]), "\(circle.sent)")
}

/// Two ways on links of their own, one of which is in use: the other one is asked when that one does
/// not answer, or when there is data, and not before.
@Test(arguments: [false, true]) func aSpareWayOnALinkRests(hasData: Bool) throws {
    var circle = Circle(2, hasSpares: true)
    circle.finders[0].want(circle.node(1), candidates: [], for: .seconds(2_000), at: circle.now)
    circle.run(.seconds(100))
    circle.forget()
    circle.run(.seconds(540))
    let used = try #require(circle.finders[0].address(of: circle.node(1)))
    let both = [circle.addresses[1], circle.spares[1]]
    let spare = try #require(both.first { $0 != used })
    #expect(both.contains(used) && circle.sentTo[spare] == nil, "\(circle.sentTo)")
    #expect(circle.sentTo[used, default: 0] > 20, "\(circle.sentTo)")

    if hasData {
        circle.finders[0].noteActivity(circle.node(1), sent: circle.now, received: circle.now)
        circle.run(.seconds(2))
        #expect(circle.sentTo[spare, default: 0] > 0, "data is worth a look at what is spare")
    }
    guard case .v4(let address) = used.ip else { return }
    circle.deadNetworks = [address >> 24]
    circle.run(.seconds(40)) { $0.finders[0].address(of: $0.node(1)) == spare }
    #expect(circle.finders[0].address(of: circle.node(1)) == spare)
}

/// Needed after an hour, the old way is asked at once, and again at once when a question is lost:
/// nobody waits for the long pauses of ways that broke.
@Test(arguments: [0, 1, 2]) func aForgottenWayIsAskedAtOnce(lost: Int) {
    var circle = Circle()
    circle.run(.seconds(3_600))
    circle.forget()
    circle.loses = [0: lost]
    let begin = circle.now
    circle.finders[0].want(circle.node(1), candidates: [], at: circle.now)
    circle.run(.seconds(10)) { $0.isProven }
    let needed = circle.now - begin
    #expect(needed < [.milliseconds(60), .milliseconds(600), .milliseconds(900)][lost])
    #expect(circle.selected.isEmpty, "no relay was needed: \(circle.selected)")
    if lost == 0 { #expect(circle.sent[2] == 0, "and none was asked") }
}

/// A NAT forgot the flow meanwhile. A relay carries within a second, not after the pauses.
@Test func aForgottenWayThatIsGoneGivesWayToARelay() {
    var circle = Circle()
    for index in [0, 1] {
        circle.finders[index].want(
            circle.node(2), candidates: [], for: .seconds(9_000), at: circle.now)
    }
    circle.run(.seconds(3_600))
    circle.forget()
    let begin = circle.now
    circle.finders[0].want(circle.node(1), candidates: [], at: circle.now)
    circle.cuts = [[0, 1]]
    circle.run(.seconds(10)) { $0.selected.contains { $0.1 == 0 && $0.2.isRelayed } }
    #expect(circle.now - begin < .seconds(1), "\(circle.now - begin)")
}

/// Between two networks there may be what forgets a flow, and then only those who kept theirs could
/// carry a call.
@Test func waysThatLeaveTheLinkAreKept() {
    var circle = Circle(onOneLink: false)
    circle.finders[0].want(circle.node(1), candidates: [], for: .seconds(60), at: circle.now)
    circle.run(.seconds(300))
    circle.forget()
    circle.run(.seconds(300))
    #expect(circle.sent[0] > 15 && circle.sent[1] > 15, "\(circle.sent)")
}

/// The default route changed and the addresses did not: whatever matters is asked at once, and what
/// others saw is of the past.
@Test func anotherWayOutPutsEveryWayInDoubt() {
    var circle = Circle(onOneLink: false)
    circle.finders[0].want(circle.node(1), candidates: [], for: .seconds(60), at: circle.now)
    circle.run(.seconds(30))
    #expect(!circle.finders[0].observedAddresses.isEmpty)
    var actions: [PathAction] = []
    circle.finders[0].waysOutChanged(at: circle.now, random: &circle.random, into: &actions)
    let asked = actions.contains { action in
        if case .send(_, let target) = action { target == circle.addresses[1] } else { false }
    }
    #expect(asked)
    #expect(circle.finders[0].observedAddresses.isEmpty)
}

/// Neither of the two relays that are nearest reaches the other end. The third does, and is asked
/// when they were.
@Test func relaysAreAskedInTurn() {
    var circle = Circle(5, onOneLink: false)
    for relay in 2...4 {
        circle.finders[0].want(
            circle.node(relay), candidates: [], for: .seconds(9_000), at: circle.now)
    }
    circle.run(.seconds(30))
    circle.forget()
    let nearest = circle.finders[0].availableRelays(at: circle.now)
    circle.cuts = [[0, 1]]
    for relay in 2...4 where nearest.filter({ $0 != circle.node(1) }).last != circle.node(relay) {
        circle.cuts.insert([1, relay])
    }
    let begin = circle.now
    circle.finders[0].want(circle.node(1), candidates: [], at: circle.now)
    circle.run(.seconds(20)) { $0.selected.contains { $0.1 == 0 && $0.2.isRelayed } }
    #expect(circle.now - begin < .seconds(12), "\(circle.now - begin)")
}

/// Of many relays the one that is asked last reaches the other end, and the others say nothing or
/// refuse: no pause comes before its turn.
@Test(arguments: [false, true]) func everyRelayIsAskedBeforeAnyPause(othersRefuse: Bool) throws {
    var circle = Circle(16, onOneLink: false)
    for relay in 2...15 {
        circle.finders[0].want(
            circle.node(relay), candidates: [], for: .seconds(9_000), at: circle.now)
    }
    circle.run(.seconds(30))
    let other = circle.node(1)
    let relays = circle.finders[0].availableRelays(at: circle.now).filter { $0 != other }
    try #require(relays.count == 14)
    circle.forget()
    circle.cuts = [[0, 1]]
    for index in 2...15 where circle.node(index) != relays.last {
        circle.cuts.insert([1, index])
        if othersRefuse { circle.finders[index].remove(other) }
    }
    let begin = circle.now
    circle.finders[0].want(other, candidates: [], at: circle.now)
    circle.run(.seconds(20)) { $0.selected.contains { $0.1 == 0 && $0.2.isRelayed } }
    print(
        "measured: the last relay carries after \(circle.now - begin), others refuse: \(othersRefuse)"
    )
    #expect(circle.now - begin < .seconds(6), "\(circle.now - begin)")
}
