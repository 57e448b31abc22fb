import ClusterPlan
import Consensus
import Cryptography
import MeshBase
import MeshNode
import NetAddress
import Simulator
import Testing
import WireGuard

/// Three machines that know each other, with a cluster; the victim is a copy of the first node,
/// so every input meets the same state.
private struct Stage {
    let victim: Node
    let now: Now
    let member: StaticPublicKey
    let memberAddress: SocketAddress

    init() throws {
        let world = Simulation(
            options: SimulationOptions(
                seed: 11, machines: 3, policy: GenesisPolicy(voterLimit: 3)))
        let isReady = world.run(until: world.now + .seconds(60)) { $0.complaints.isEmpty }
        try #require(isReady, "\(world.storyTail())")
        let node = try #require(world.node(of: 0))
        let route = try #require(node.forwarding.first)
        member = route.key
        memberAddress = try #require(route.endpoint)
        now = world.clock(of: 0)
        // Whatever is due now and the news that the member lives are done before the attack.
        var settled = node
        var actions: [NodeAction] = []
        settled.receive(.timeout, at: now, into: &actions)
        let pong = ControlFrame(kind: .pong, requestID: 1, body: [])
        settled.receive(.controlFrame(pong.encode(), from: member), at: now, into: &actions)
        victim = settled
    }

    /// Feeds one input to a copy of the victim.
    func isUnmoved(by input: NodeInput) -> Bool {
        var node = victim
        var actions: [NodeAction] = []
        node.receive(input, at: now, into: &actions)
        return fingerprint(node) == fingerprint(victim) && actions.allSatisfy(\.isHarmless)
    }

    private func fingerprint(_ node: Node) -> UInt64 {
        var fingerprint = Fingerprint()
        node.fingerprint(into: &fingerprint)
        return fingerprint.value
    }
}

extension NodeAction {
    /// Nothing leaves the node and nothing is written.
    fileprivate var isHarmless: Bool {
        switch self {
        case .log(let level, _): level == .debug
        case .send, .sendShort, .sendUnfragmented, .sendMulticast, .persist, .forwardingChanged,
            .addressesChanged, .namesChanged, .host, .pong, .carrier, .gateway, .record:
            false
        }
    }
}

private let stranger = SocketAddress(ip: .v4(0xC633_6401), port: 999)

@Test func randomDatagramsOfEveryFirstByteChangeNothing() throws {
    let stage = try Stage()
    var random = SeededGenerator(seed: 1)
    for first in UInt8.min...UInt8.max {
        for source in [stranger, stage.memberAddress] {
            var datagram = random.bytes(Int(random.next() % 300) + 1)
            datagram[0] = first
            #expect(
                stage.isUnmoved(by: .datagram(datagram, from: source)), "\(datagram.hex)")
        }
    }
}

@Test func randomDatagramsOfEveryLengthChangeNothing() throws {
    let stage = try Stage()
    var random = SeededGenerator(seed: 2)
    /// Handshake messages have their exact length (WireGuard 5.4), the envelope has its header.
    let heads: [[UInt8]] = [
        [1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [5, 0, 0, 0], [6, 0, 0, 0],
        [0xEB, 0x56, 1, 1], [0xEB, 0x56, 1, 2], [0xEB, 0x56, 1, 3], [0xEB, 0x56, 2, 1],
    ]
    for count in Array(0...200) + [1_200, 1_400, 1_500, 9_000, 65_507] {
        for head in heads {
            let datagram = Array((head + random.bytes(max(0, count - head.count))).prefix(count))
            #expect(
                stage.isUnmoved(by: .datagram(datagram, from: stranger)),
                "\(count) bytes after \(head)")
        }
    }
}

@Test func randomFramesOfAMemberChangeNothing() throws {
    let stage = try Stage()
    var random = SeededGenerator(seed: 3)
    for first in UInt8.min...UInt8.max where first != 0x13 && first != 0x15 {
        let payload = [first] + random.bytes(Int(random.next() % 200))
        #expect(stage.isUnmoved(by: .controlFrame(payload, from: stage.member)), "\(payload.hex)")
    }
    for kind in ControlFrame.Kind.allCases where kind != .ping && kind != .pathProbe {
        for round in 0..<300 {
            var body = random.bytes(Int(random.next() % 400))
            // Half of them get past the first checks of a core.
            if !body.isEmpty, round.isMultiple(of: 2) { body[0] = UInt8(round / 2 % 16) }
            // Any list of handles of eight bytes is a question that a member may ask the ledger.
            if kind == .ledger, body.count % 8 == 1 { continue }
            let frame = ControlFrame(kind: kind, requestID: 7, body: body)
            #expect(
                stage.isUnmoved(by: .controlFrame(frame.encode(), from: stage.member)),
                "\(kind) \(body.hex)")
        }
    }
}

@Test func framesOfStrangersChangeNothing() throws {
    let stage = try Stage()
    let key = StaticPrivateKey(SecretBytes(Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)))
        .publicKey
    for kind in ControlFrame.Kind.allCases {
        let frame = ControlFrame(kind: kind, requestID: 7, body: [1, 2, 3])
        #expect(stage.isUnmoved(by: .controlFrame(frame.encode(), from: key)), "\(kind)")
    }
    #expect(stage.isUnmoved(by: .sessionWanted(key)))
    #expect(stage.isUnmoved(by: .sessionConfirmed(localIndex: 0x1234_5678)))
}

@Test func randomMulticastChangesNothing() throws {
    let stage = try Stage()
    var random = SeededGenerator(seed: 4)
    for count in 0..<600 {
        var bytes = random.bytes(count % 300)
        // A plausible header: a response or a query with one record.
        if count.isMultiple(of: 2), bytes.count >= 12 {
            bytes.replaceSubrange(0..<12, with: [0, 0, UInt8(count % 4 == 0 ? 0x84 : 0), 0])
            bytes.insert(contentsOf: [0, 1, 0, 1, 0, 0, 0, 0], at: 4)
        }
        #expect(
            stage.isUnmoved(
                by: .multicast(bytes, from: stranger, interface: 1, toGroup: true)),
            "\(bytes.hex)")
    }
}

@Test func lateReportsOfTheHostChangeNothing() throws {
    let stage = try Stage()
    let nobody = NodeID(.zero)
    let reports: [HostReport] = [
        .evicted(memberID: 9), .requestMade([1, 2, 3]), .startFailed(.removed, reason: "late"),
        .founded(ClusterIdentity(generation: 7, caHash: .zero)),
        .foundingFailed(generation: 1, reason: "late"),
        .running(ClusterIdentity(generation: 7, caHash: .zero), .agent),
        .admitted(joiner: nobody, nonce: [], role: .server, sealed: []),
        .refused(joiner: nobody, nonce: [], .wrongCluster),
    ]
    for report in reports { #expect(stage.isUnmoved(by: .host(report)), "\(report)") }
}

/// Every recorded handshake and envelope, replayed to a node that has seen it, is refused.
@Test func replaysChangeNothing() throws {
    let world = Simulation(options: SimulationOptions(seed: 12, machines: 2))
    world.recordsDatagrams = true
    world.run(until: world.now + .seconds(20))
    let recorded = world.recordedDatagrams(to: 0)
    try #require(recorded.count > 5)
    for (bytes, source) in recorded where bytes.first != 4 {
        // A replayed hello may be answered; it must not move anything.
        let before = try #require(world.node(of: 0)).forwarding.map(\.endpoint)
        world.inject(.datagram(bytes, from: stranger), into: 0)
        #expect(try #require(world.node(of: 0)).forwarding.map(\.endpoint) == before)
        world.inject(.datagram(bytes, from: source), into: 0)
        #expect(try #require(world.node(of: 0)).forwarding.map(\.endpoint) == before)
    }
    #expect(world.isFullyConnected)
}
