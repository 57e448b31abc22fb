import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import Testing

/// Two members on one network with an IPv4 and an IPv6 address each, and answers that take long.
private struct SlowWire {
    var finders: [PathFinder] = []
    var random = SeededGenerator(seed: 11)
    var now = BootInstant(nanoseconds: 1_000_000_000)
    /// One way, drawn for each datagram.
    var delay: ClosedRange<Duration>
    var sent = 0
    var sentBytes = 0
    private var underWay: [Letter] = []

    private struct Letter {
        var arrival: BootInstant
        var receiver: Int
        var bytes: [UInt8]
        var source: SocketAddress
    }

    static let addresses: [[SocketAddress]] = (0..<2).map { index in
        [
            SocketAddress(ip: .v4(0x0A00_0001 + index), port: 7_000),
            SocketAddress(ip: .v6(0xFD00_0000_0000_0000, UInt64(index + 1)), port: 7_000),
        ]
    }

    init(_ delay: ClosedRange<Duration>) {
        self.delay = delay
        for number in [1, 2] as [UInt8] {
            finders.append(PathFinder(configuration: testConfiguration(number)))
        }
        for address in Self.addresses[1] {
            finders[0].addCandidate(address, source: .lan, at: now)
        }
    }

    func node(_ index: Int) -> NodeID { finders[index].localNode }

    private mutating func post(_ actions: [PathAction], from sender: Int) {
        for case .send(let bytes, let target) in actions {
            sent += 1
            sentBytes += bytes.count
            guard let family = Self.addresses[1 - sender].firstIndex(of: target) else { continue }
            underWay.append(
                Letter(
                    arrival: now + random.duration(in: delay), receiver: 1 - sender, bytes: bytes,
                    source: Self.addresses[sender][family]))
        }
    }

    /// Both want each other all the time, and say a word each second, as liveness does.
    mutating func run(for span: Duration) {
        let end = now + span
        var nextWord = now
        while now < end {
            var next = min(end, nextWord)
            for finder in finders { next = min(next, finder.deadline ?? end) }
            for letter in underWay { next = min(next, letter.arrival) }
            now = max(now, next)
            var due = underWay.filter { $0.arrival <= now }
            due.sort { $0.arrival < $1.arrival }
            underWay.removeAll { $0.arrival <= now }
            for letter in due {
                var actions: [PathAction] = []
                finders[letter.receiver].receive(
                    letter.bytes, from: letter.source, at: now, random: &random, into: &actions)
                post(actions, from: letter.receiver)
            }
            for index in finders.indices {
                var actions: [PathAction] = []
                if nextWord <= now {
                    finders[index].want(node(1 - index), candidates: [], at: now)
                    finders[index].send(
                        [1, 2, 3], to: node(1 - index), random: &random, into: &actions)
                }
                finders[index].timeout(at: now, random: &random, into: &actions)
                post(actions, from: index)
            }
            if nextWord <= now { nextWord = now + .seconds(1) }
            now = now + .microseconds(1)
        }
    }
}

/// A slow machine answers late. Whoever took that for loss would ask more, and make it slower.
@Test(arguments: [1, 300, 600, 1_500])
func slowAnswersAreNotAskedForAgain(roundTrip: Int64) {
    let least = Duration.milliseconds(roundTrip) / 4
    var wire = SlowWire(least...(least * 3))
    wire.run(for: .seconds(30))
    let before = wire.sent
    wire.run(for: .seconds(120))
    // Two words a second, and each of two ways is asked from both ends every 27 s.
    let perMinute = (wire.sent - before) / 2 - 120
    #expect(perMinute <= 40, "\(perMinute) questions and answers a minute")
    for index in [0, 1] {
        let report = wire.finders[index].report(of: wire.node(1 - index), at: wire.now)
        #expect(report?.ways.count(where: \.isLive) == 2)
    }
}

@Test func aSlowWelcomeIsWaitedFor() {
    var wire = SlowWire(.milliseconds(400)...(.milliseconds(600)))
    wire.run(for: .seconds(20))
    let before = wire.finders[0].sentBytes["hello"] ?? 0
    // The member is sought anew, as after a long silence.
    wire.finders[0].seek(wire.node(1), at: SlowWire.addresses[1], isForced: true, at: wire.now)
    wire.run(for: .seconds(20))
    let hellos = ((wire.finders[0].sentBytes["hello"] ?? 0) - before) / 812
    #expect((2...4).contains(hellos), "\(hellos) hellos for two addresses")
    // And where it answers anyway, without a hello.
    let known = wire.finders[0].sentBytes["hello"]
    wire.finders[0].seek(wire.node(1), at: SlowWire.addresses[1], isForced: false, at: wire.now)
    wire.run(for: .seconds(20))
    #expect(wire.finders[0].sentBytes["hello"] == known)
}
