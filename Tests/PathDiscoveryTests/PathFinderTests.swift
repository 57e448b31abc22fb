import Cryptography
import MeshBase
import NetAddress
import PathDiscovery
import Testing

/// Two or three members and a wire between them, as values.
private struct Site {
    var finders: [PathFinder] = []
    var addresses: [SocketAddress] = []
    var random = SeededGenerator(seed: 7)
    var now = BootInstant(nanoseconds: 1_000_000_000)
    var log: [[PathAction]] = []

    static let meshID = [UInt8](repeating: 9, count: 16)

    init(_ configurations: [PathConfiguration]) {
        for (index, configuration) in configurations.enumerated() {
            finders.append(PathFinder(configuration: configuration))
            addresses.append(SocketAddress(ip: .v4(0x0A00_0001 + UInt32(index)), port: 7000))
            log.append([])
        }
    }

    /// Runs due timers and delivers until the wire is quiet.
    mutating func settle() {
        for index in finders.indices {
            var actions: [PathAction] = []
            finders[index].timeout(at: now, random: &random, into: &actions)
            deliver(actions, from: index)
        }
    }

    mutating func deliver(_ actions: [PathAction], from sender: Int) {
        log[sender] += actions
        for case .send(let datagram, let target) in actions {
            guard let receiver = addresses.firstIndex(of: target) else { continue }
            var replies: [PathAction] = []
            finders[receiver].receive(
                datagram, from: addresses[sender], at: now, random: &random, into: &replies)
            deliver(replies, from: receiver)
        }
    }
}

private func introductions(_ actions: [PathAction]) -> [PeerIntroduction] {
    actions.compactMap { if case .introduced(let introduction) = $0 { introduction } else { nil } }
}

private func state(_ finder: PathFinder) -> UInt64 {
    var fingerprint = Fingerprint()
    finder.fingerprint(into: &fingerprint)
    return fingerprint.value
}

/// A copied disk: two machines with one key. What one of them asks afresh, only the other can have
/// answered; an old hello of its own proves nothing.
@Test func aMachineWithTheSameKeyIsNoticed() {
    var copy = testConfiguration(1)
    copy.bootNonce = 99
    var site = Site([testConfiguration(1), copy])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    site.settle()
    #expect(site.finders[0].hasTwin)
    #expect(!site.finders[1].hasTwin)
    #expect(introductions(site.log[0] + site.log[1]).isEmpty)

    // The hello and the welcome of an earlier life, played to a later one.
    var earlier = Site([testConfiguration(1), copy])
    earlier.finders[0].addCandidate(earlier.addresses[1], source: .lan, at: earlier.now)
    earlier.settle()
    var later = testConfiguration(1)
    later.bootNonce = 100
    var restarted = PathFinder(configuration: later)
    for case .send(let datagram, _) in earlier.log[0] + earlier.log[1] {
        var actions: [PathAction] = []
        restarted.receive(
            datagram, from: earlier.addresses[1], at: earlier.now, random: &earlier.random,
            into: &actions)
    }
    #expect(!restarted.hasTwin)

    // Its own hello that comes back to it is nothing either.
    var mirror = Site([testConfiguration(1), testConfiguration(1)])
    mirror.finders[0].addCandidate(mirror.addresses[1], source: .lan, at: mirror.now)
    mirror.settle()
    #expect(!mirror.finders[0].hasTwin && !mirror.finders[1].hasTwin)
}

@Test func twoMembersMeetByOneAddress() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    site.settle()
    #expect(introductions(site.log[0]).map(\.isProven) == [true])
    #expect(introductions(site.log[1]).map(\.isProven) == [false])
    #expect(site.finders[0].deadline == nil, "a contact that answered is not knocked at again")

    var actions: [PathAction] = []
    let peer = introductions(site.log[0])[0].peer.node
    site.finders[0].send([1, 2, 3], to: peer, random: &site.random, into: &actions)
    site.deliver(actions, from: 0)
    let received = site.log[1].compactMap {
        if case .message(_, let body) = $0 { body } else { nil }
    }
    #expect(received == [[1, 2, 3]])
}

@Test func strangersGetNoAnswer() {
    let stranger = testConfiguration(2, discovery: 55)
    let otherMesh = testConfiguration(3, mesh: [UInt8](repeating: 8, count: 16))
    var site = Site([testConfiguration(1), stranger, otherMesh])
    for index in [1, 2] {
        site.finders[index].addCandidate(site.addresses[0], source: .lan, at: site.now)
    }
    let before = state(site.finders[0])
    site.settle()
    #expect(state(site.finders[0]) == before)
    #expect(site.log[0].count == 2)
    for action in site.log[0] {
        guard case .dropped(.unauthenticated) = action else {
            Issue.record("a stranger caused \(action)")
            return
        }
    }
}

@Test func garbageOfEveryLengthChangesNothing() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    site.settle()
    let before = state(site.finders[1])
    for length in 0..<1_500 {
        var datagram = site.random.bytes(length)
        for (index, byte) in [0xEB, 0x56, 1, UInt8(length % 5)].enumerated() where index < length {
            datagram[index] = byte
        }
        var actions: [PathAction] = []
        site.finders[1].receive(
            datagram, from: site.addresses[0], at: site.now, random: &site.random, into: &actions)
        #expect(actions.count == 1)
        guard case .dropped = actions.first else {
            Issue.record("length \(length) caused \(actions)")
            return
        }
    }
    #expect(state(site.finders[1]) == before)
}

@Test func replayedMessagesAreRefusedAndDoNotMoveThePath() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    site.settle()
    let node = (0...1).map { site.finders[$0].localNode }
    var actions: [PathAction] = []
    site.finders[0].send([7], to: node[1], random: &site.random, into: &actions)
    guard case .send(let datagram, _) = actions[0] else { return }
    let elsewhere = SocketAddress(ip: .v4(0x0A09_0909), port: 9)
    for attempt in 0..<3 {
        var results: [PathAction] = []
        let source = attempt == 0 ? site.addresses[0] : elsewhere
        site.finders[1].receive(
            datagram, from: source, at: site.now, random: &site.random, into: &results)
        if attempt == 0 {
            guard case .message = results[0] else { Issue.record("lost"); return }
        } else {
            guard case .dropped(.replayed) = results[0] else { Issue.record("replayed"); return }
        }
    }
    #expect(site.finders[1].address(of: node[0]) == site.addresses[0])

    var fresh: [PathAction] = []
    site.finders[0].send([8], to: node[1], random: &site.random, into: &fresh)
    guard case .send(let next, _) = fresh[0] else { return }
    var results: [PathAction] = []
    site.finders[1].receive(
        next, from: elsewhere, at: site.now, random: &site.random, into: &results)
    #expect(
        site.finders[1].address(of: node[0]) == site.addresses[0],
        "a message says that a member may have moved; an answer proves it")
    let probed = results.compactMap { action -> SocketAddress? in
        if case .send(_, let target) = action { target } else { nil }
    }
    #expect(probed.contains(elsewhere))
    // The member is at the new address only, so the old one stops answering.
    site.addresses[0] = elsewhere
    site.deliver(results, from: 1)
    for _ in 0..<10 {
        site.now = site.now + .milliseconds(300)
        site.settle()
    }
    #expect(site.finders[1].address(of: node[0]) == elsewhere, "what answers is the path")
}

@Test func aReplayedHelloRevealsPresenceAndNothingElse() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    var actions: [PathAction] = []
    site.finders[0].timeout(at: site.now, random: &site.random, into: &actions)
    guard case .send(let hello, _) = actions[0] else { return }
    site.deliver(actions, from: 0)
    let elsewhere = SocketAddress(ip: .v4(0x0A09_0909), port: 9)
    var results: [PathAction] = []
    site.finders[1].receive(
        hello, from: elsewhere, at: site.now, random: &site.random, into: &results)
    #expect(site.finders[1].address(of: site.finders[0].localNode) == site.addresses[0])
    guard case .send(let welcome, let target) = results[0] else {
        Issue.record("no welcome")
        return
    }
    #expect(target == elsewhere && welcome.count <= hello.count)
}

@Test func welcomesAreBoundedPerAddress() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    site.finders[0].addCandidate(site.addresses[1], source: .lan, at: site.now)
    var actions: [PathAction] = []
    site.finders[0].timeout(at: site.now, random: &site.random, into: &actions)
    guard case .send(let hello, _) = actions[0] else { return }
    var welcomes = 0
    for _ in 0..<100 {
        var results: [PathAction] = []
        site.finders[1].receive(
            hello, from: site.addresses[0], at: site.now, random: &site.random, into: &results)
        for case .send in results { welcomes += 1 }
    }
    #expect(welcomes == 20)
}

@Test func ourOwnAddressIsLearntAndLeftAlone() {
    var site = Site([testConfiguration(1)])
    site.finders[0].addCandidate(site.addresses[0], source: .configured, at: site.now)
    site.settle()
    site.now = site.now + .seconds(60)
    site.finders[0].addCandidate(site.addresses[0], source: .configured, at: site.now)
    site.settle()
    #expect(introductions(site.log[0]).isEmpty)
}

@Test func configuredAddressesAreTriedForEverAndOthersAreNot() {
    var site = Site([testConfiguration(1)])
    let quiet = (1...2).map { SocketAddress(ip: .v4(0x0A00_0100 + UInt32($0)), port: 7) }
    site.finders[0].addCandidate(quiet[0], source: .configured, at: site.now)
    site.finders[0].addCandidate(quiet[1], source: .member, at: site.now)
    for _ in 0..<200 {
        site.settle()
        site.now = site.now + .seconds(5)
    }
    let knocks = quiet.map { target in
        site.log[0].filter { if case .send(_, target) = $0 { true } else { false } }.count
    }
    #expect(knocks[0] > 60)
    #expect(knocks[1] == 8)
}

/// Each address is another way to the same member: once both are proven, there is nothing to say.
/// The second network is slower, so that both members keep to the first.
@Test func membersWithTwoAddressesStopIntroducingThemselves() {
    var site = Site([testConfiguration(1), testConfiguration(2)])
    let networks: [[SocketAddress]] = [0x0A00_0000, 0x0B00_0000].map { (base: UInt32) in
        (1...2).map { SocketAddress(ip: .v4(base + $0), port: 7000) }
    }
    for network in networks {
        site.finders[0].addCandidate(network[1], source: .lan, at: site.now)
        site.finders[1].addCandidate(network[0], source: .lan, at: site.now)
    }
    var introductions = 0
    for round in 0..<300 {
        // The slower address is announced again.
        if round == 50 {
            site.finders[0].addCandidate(networks[1][1], source: .lan, at: site.now)
        }
        var waiting: [(sender: Int, actions: [PathAction])] = []
        for index in site.finders.indices {
            var actions: [PathAction] = []
            site.finders[index].timeout(at: site.now, random: &site.random, into: &actions)
            waiting.append((index, actions))
        }
        while !waiting.isEmpty {
            let (sender, actions) = waiting.removeFirst()
            for case .send(let datagram, let target) in actions {
                guard let network = networks.first(where: { $0[1 - sender] == target }) else {
                    continue
                }
                if network == networks[1] { site.now = site.now + .milliseconds(20) }
                // Hellos and welcomes are the only long ones.
                if datagram.count > 700 { introductions += 1 }
                var replies: [PathAction] = []
                site.finders[1 - sender].receive(
                    datagram, from: network[sender], at: site.now, random: &site.random,
                    into: &replies)
                waiting.append((1 - sender, replies))
            }
        }
        site.now = site.now + .milliseconds(100)
    }
    #expect((4...12).contains(introductions), "\(introductions)")
}
