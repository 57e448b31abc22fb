import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import Testing

/// Two members that have met and have had nothing to do with each other since, 20 ms apart. A third
/// one relays.
private struct Trio {
    var finders: [PathFinder]
    var random = SeededGenerator(seed: 3)
    var now = BootInstant(nanoseconds: 1_000_000_000)
    private var flying: [(at: BootInstant, datagram: [UInt8], source: Int, target: Int)] = []
    /// Datagrams by sender since the last ``forget()``.
    private(set) var sent = [0, 0, 0]
    /// How many of a sender's next datagrams are lost.
    var loses: [Int: Int] = [:]
    /// Nothing passes between the first two.
    var isCut = false
    private(set) var selected: [(BootInstant, Int, SocketAddress)] = []

    static let addresses = (1...3).map { SocketAddress(ip: .v4(0x2D12_0001 + $0 << 8), port: 700) }

    init() {
        finders = (1...3).map { number in
            var configuration = testConfiguration(UInt8(number))
            configuration.capabilities = PathCapability.relays
            return PathFinder(configuration: configuration)
        }
        for near in 0..<3 {
            for far in 0..<3 where near != far {
                finders[near].addCandidate(Self.addresses[far], source: .lan, at: now)
            }
        }
        run(.seconds(5))
    }

    mutating func forget() {
        sent = [0, 0, 0]
        selected = []
    }

    func node(_ index: Int) -> NodeID { finders[index].localNode }

    mutating func run(_ span: Duration, until isDone: ((Trio) -> Bool)? = nil) {
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
                let receiver = Self.addresses.firstIndex(of: hop)
            else { continue }
            sent[sender] += 1
            if let count = loses[sender], count > 0 {
                loses[sender] = count - 1
                continue
            }
            if isCut, sender + receiver == 1 { continue }
            flying.append((now + .milliseconds(20), bytes, sender, receiver))
        }
    }

    private mutating func arrive(
        _ letter: (at: BootInstant, datagram: [UInt8], source: Int, target: Int)
    ) {
        var actions: [PathAction] = []
        let source = Self.addresses[letter.source]
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
    var trio = Trio()
    trio.finders[0].want(trio.node(1), candidates: [], for: .seconds(20), at: trio.now)
    trio.run(.seconds(60))
    trio.forget()
    trio.run(.seconds(300))
    #expect(trio.sent == [0, 0, 0], "nobody wants anybody")
}

/// One end has business with the other: it alone looks after the way, and the other end proves its
/// own once in a while.
@Test func theEndThatIsAskedAsksSeldom() {
    var trio = Trio()
    trio.finders[0].want(trio.node(1), candidates: [], for: .seconds(2_000), at: trio.now)
    trio.run(.seconds(100))
    trio.forget()
    trio.run(.seconds(540))
    // Twenty questions and some six or seven answers to questions of the other end.
    #expect((22...28).contains(trio.sent[0]), "\(trio.sent)")
    #expect((22...28).contains(trio.sent[1]), "\(trio.sent)")
}

/// Needed after an hour, the old way is asked at once, and again at once when a question is lost:
/// nobody waits for the long pauses of ways that broke.
@Test(arguments: [0, 1, 2]) func aForgottenWayIsAskedAtOnce(lost: Int) {
    var trio = Trio()
    trio.run(.seconds(3_600))
    trio.forget()
    trio.loses = [0: lost]
    let begin = trio.now
    trio.finders[0].want(trio.node(1), candidates: [], at: trio.now)
    trio.run(.seconds(10)) { $0.isProven }
    let needed = trio.now - begin
    #expect(needed < [.milliseconds(60), .milliseconds(600), .milliseconds(900)][lost])
    #expect(trio.selected.isEmpty, "no relay was needed: \(trio.selected)")
    if lost == 0 { #expect(trio.sent[2] == 0, "and none was asked") }
}

/// A NAT forgot the flow meanwhile. A relay carries within a second, not after the pauses.
@Test func aForgottenWayThatIsGoneGivesWayToARelay() {
    var trio = Trio()
    for index in [0, 1] {
        trio.finders[index].want(
            trio.node(2), candidates: [], for: .seconds(9_000), at: trio.now)
    }
    trio.run(.seconds(3_600))
    trio.forget()
    let begin = trio.now
    trio.finders[0].want(trio.node(1), candidates: [], at: trio.now)
    trio.isCut = true
    trio.run(.seconds(10)) { $0.selected.contains { $0.1 == 0 && $0.2.isRelayed } }
    #expect(trio.now - begin < .seconds(1), "\(trio.now - begin)")
}
