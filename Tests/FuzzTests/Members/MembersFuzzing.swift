import ClusterPlan
import Consensus
import Cryptography
import Ledger
import Membership
import MeshBase
import MeshNode
import NetAddress
import Simulator
import WireGuard

/// What fuzzers call, and what the tests call with the corpus: bytes of a hostile member, inside its
/// tunnel and outside of it, and of strangers who send what looks like WireGuard. The first byte
/// chooses the part; a broken promise traps.
package func fuzzMembers(_ input: [UInt8]) {
    guard let choice = input.first else { return }
    let bytes = Array(input.dropFirst())
    switch choice % 5 {
    case 0: fuzzFrame(bytes)
    case 1: fuzzStranger(bytes)
    case 2: fuzzLiveness(bytes)
    case 3: fuzzFacts(bytes)
    default: fuzzDecisions(bytes)
    }
}

#if FUZZ_MEMBERS
    /// The entry point of libFuzzer (`.scripts/fuzz`).
    @_cdecl("LLVMFuzzerTestOneInput")
    package func fuzzOneMember(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
        fuzzMembers(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }
#endif

/// One of three machines with a founded cluster; every input meets a copy of it.
private struct Stage {
    let node: Node
    let now: Now
    let member: StaticPublicKey
    let fingerprint: UInt64

    /// Made once and only copied from.
    nonisolated(unsafe) static let shared = Stage()

    private init() {
        let world = Simulation(
            options: SimulationOptions(
                seed: 11, machines: 3, policy: GenesisPolicy(voterLimit: 3)))
        guard world.run(until: world.now + .seconds(60), isDone: { $0.complaints.isEmpty }),
            var node = world.node(of: 0), let member = node.forwarding.first?.key
        else { preconditionFailure("the world did not become well") }
        now = world.clock(of: 0)
        // What is due now is done before the attack.
        var actions: [NodeAction] = []
        node.receive(.timeout, at: now, into: &actions)
        self.node = node
        self.member = member
        fingerprint = state { node.fingerprint(into: &$0) }
    }

    /// What a copy of the node does about `input`, and what it is afterwards.
    func actions(for input: NodeInput) -> (actions: [NodeAction], after: Node) {
        var copy = node
        var actions: [NodeAction] = []
        copy.receive(input, at: now, into: &actions)
        return (actions, copy)
    }
}

private func state(_ mix: (inout Fingerprint) -> Void) -> UInt64 {
    var fingerprint = Fingerprint()
    mix(&fingerprint)
    return fingerprint.value
}

/// A member says something in its tunnel, of any kind: a bounded number of datagrams at most, and
/// nothing that is too long.
private func fuzzFrame(_ bytes: [UInt8]) {
    if let frame = try? ControlFrame(decoding: bytes) {
        precondition((try? ControlFrame(decoding: frame.encode())) == frame)
    }
    let kinds = ControlFrame.Kind.allCases
    guard let first = bytes.first else { return }
    let kind = kinds[Int(first) % kinds.count]
    let body = Array(bytes.dropFirst().prefix(kind.bodyLimit))
    let frame = ControlFrame(kind: kind, requestID: 7, body: body)
    let stage = Stage.shared
    for payload in [bytes, frame.encode()] {
        let (actions, _) = stage.actions(for: .controlFrame(payload, from: stage.member))
        var sent = 0
        for case .send(let datagram, _) in actions {
            precondition(datagram.count <= 2_048, "a datagram of \(datagram.count) bytes")
            sent += 1
        }
        precondition(sent <= 64, "\(sent) datagrams for one")
    }
}

/// Nothing that strangers send changes anything or is answered; a handshake needs the key of a
/// member.
private func fuzzStranger(_ bytes: [UInt8]) {
    let source = SocketAddress(ip: .v4(0xC633_6401), port: 9)
    var datagrams = [bytes]
    // As long as the protocol wants it: initiations, responses, cookies, and our second suite.
    for (type, count) in [(1, 148), (2, 92), (3, 64), (5, 148), (6, 92)] as [(UInt8, Int)] {
        let filled = [type, 0, 0, 0] + bytes + [UInt8](repeating: 0, count: count)
        datagrams.append(Array(filled.prefix(count)))
    }
    for datagram in datagrams where !datagram.isEmpty {
        let (actions, after) = Stage.shared.actions(for: .datagram(datagram, from: source))
        let fingerprint = state { after.fingerprint(into: &$0) }
        precondition(fingerprint == Stage.shared.fingerprint, "a stranger changed the node")
        for action in actions {
            guard case .log(.debug, _) = action else {
                preconditionFailure("a stranger caused \(action)")
            }
        }
    }
}

/// The liveness protocol among twenty members.
private func fuzzLiveness(_ bytes: [UInt8]) {
    let now = BootInstant(nanoseconds: 1_000_000_000)
    let nodes = (1...20).map { NodeID(Bytes32(word0: $0, word1: 2, word2: 3, word3: 4)) }
    var swim = SwimInstance(local: nodes[0], at: now)
    for node in nodes.dropFirst() { _ = swim.admit(node) }
    let before = state { swim.fingerprint(into: &$0) }
    var actions: [SwimAction] = []
    swim.receive(bytes, from: nodes[1], at: now, into: &actions)
    // Whoever says something that is not awaited is alive all the same.
    for case .dropped(.malformed) in actions {
        precondition(state { swim.fingerprint(into: &$0) } == before)
    }
    precondition(actions.count <= 64)
    precondition(swim.table.count == 19, "a member named members")
}

/// What can be read is written as it was: signatures and hashes stand over it.
private func fuzzFacts(_ bytes: [UInt8]) {
    if let message = try? JoinMessage(decoding: bytes) { precondition(message.encoded == bytes) }
    if let fact = try? RoleFact(decoding: bytes) { precondition(fact.encoded == bytes) }
    if let fact = try? MemberListFact(decoding: bytes) { precondition(fact.encoded == bytes) }
    if let entry = try? LedgerEntry(decoding: bytes) { precondition(entry.encode() == bytes) }
    if let record = try? MachineRecord(decoding: bytes) { precondition(record.encode() == bytes) }
    if let list = try? RevocationList(decoding: bytes) { precondition(list.encode() == bytes) }
    if let certificate = try? MembershipCertificate(decoding: bytes) {
        precondition(certificate.encode() == bytes)
    }
}

private func fuzzDecisions(_ bytes: [UInt8]) {
    _ = try? FoundingMessage(decoding: bytes)
    if let policy = try? GenesisPolicy(decoding: bytes) { precondition(policy.encoded == bytes) }
    if let reset = try? FoundingReset(decoding: bytes) { precondition(reset.encoded == bytes) }
    if let certificate = try? DecisionCertificate(decoding: bytes) {
        precondition(certificate.encoded == bytes)
    }
}
