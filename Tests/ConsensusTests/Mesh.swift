import Consensus
import MeshBase
import Simulator

/// A small mesh with a perfect network and one clock, for stories told step by step.
struct Mesh {
    struct Member {
        var founding: Founding
        var disk: [UInt8]?
        var random: SeededGenerator
        var runs: UInt32?
        var deadline: BootInstant?
        var decided: [DecisionCertificate] = []
        var alarms: [String] = []
        var drops: [FoundingDrop] = []
        var fenced: [UInt32] = []
        var resets: [FoundingReset] = []
        var starts = 0
    }

    var members: [NodeID: Member] = [:]
    var now = BootInstant.zero + .seconds(1)
    /// Messages on their way.
    var wire: [(from: NodeID, to: NodeID, bytes: [UInt8])] = []
    /// Nodes that nobody can talk to now.
    var unreachable: Set<NodeID> = []
    /// Whether started datastores come up at once.
    var hostWorks = true
    /// Every message ever sent, for looking into.
    var sent: [(from: NodeID, to: NodeID, bytes: [UInt8])] = []
    let signer: @Sendable (NodeID) -> any FoundingSigner

    init(signer: @escaping @Sendable (NodeID) -> any FoundingSigner = KeyedHashSigner.init) {
        self.signer = signer
    }

    /// A mesh of T voters that all know each other.
    init(
        policy: GenesisPolicy, count: Int? = nil,
        change: (inout FoundingConfiguration) -> Void = { _ in }
    ) {
        self.init()
        for number in 0..<(count ?? policy.voterLimit) {
            add(nodeID(number), policy: policy, change: change)
        }
    }

    mutating func add(
        _ node: NodeID, policy: GenesisPolicy?, restored: [UInt8]? = nil,
        change: (inout FoundingConfiguration) -> Void = { _ in }
    ) {
        var configuration = FoundingConfiguration(
            meshID: testMesh, policy: policy, node: node, isVoter: true, isDurable: true,
            mayFound: true, hasLocalData: false, root: testRoot)
        change(&configuration)
        let record = restored.flatMap { try? FoundingRecord(decoding: $0) }
        let founding = Founding(
            configuration: configuration, restored: record, at: now, signer: signer(node))
        members[node] = Member(
            founding: founding, disk: restored,
            random: SeededGenerator(seed: node.bytes.prefix64 &+ now.nanoseconds))
    }

    var nodes: [NodeID] { members.keys.sorted() }

    func view(_ number: Int) -> FoundingView? { members[nodeID(number)]?.founding.view }

    func fingerprint(_ node: NodeID) -> UInt64 {
        var fingerprint = Fingerprint()
        members[node]?.founding.fingerprint(into: &fingerprint)
        return fingerprint.value
    }

    mutating func step(
        _ node: NodeID,
        _ body: (inout Founding, BootInstant, inout SeededGenerator, inout [FoundingAction]) throws
            -> Void
    ) rethrows {
        guard var member = members[node] else { return }
        var actions: [FoundingAction] = []
        try body(&member.founding, now, &member.random, &actions)
        var comesUp = false
        for action in actions {
            switch action {
            case .persist(let record): member.disk = record
            case .send(let peer, let bytes):
                wire.append((node, peer, bytes))
                sent.append((node, peer, bytes))
            case .startDatastore(let generation, let deadline):
                member.runs = generation
                member.deadline = deadline
                member.starts += 1
                comesUp = hostWorks
            case .stopDatastore: member.runs = nil
            case .fenceDatastore(let generation):
                member.runs = nil
                member.fenced.append(generation)
            case .decided(let certificate): member.decided.append(certificate)
            case .reset(let reset): member.resets.append(reset)
            case .voterUnknown: break
            case .alarm(let text): member.alarms.append(text)
            case .dropped(let reason): member.drops.append(reason)
            }
        }
        members[node] = member
        if comesUp {
            step(node) { founding, at, random, actions in
                founding.datastoreReady(
                    caHash: node.bytes, facts: [10, 1, 0, 1], at: at, random: &random,
                    into: &actions)
            }
        }
    }

    mutating func receive(_ bytes: [UInt8], at node: NodeID, from peer: NodeID) {
        step(node) { founding, at, random, actions in
            founding.receive(bytes, from: peer, at: at, random: &random, into: &actions)
        }
    }

    mutating func announceAll() {
        for node in nodes {
            for other in nodes where other != node {
                step(node) { founding, at, random, actions in
                    founding.voterSeen(other, at: at, random: &random, into: &actions)
                }
            }
        }
        refresh()
    }

    /// Tells everybody who is reachable.
    mutating func refresh() {
        for node in nodes {
            let others = nodes.filter {
                $0 != node && !unreachable.contains($0) && !unreachable.contains(node)
            }
            members[node]?.founding.setReachable(others)
        }
    }

    /// Lets time pass until `seconds` later; everything is delivered 10 ms after it is sent.
    mutating func run(seconds: Int) {
        let end = now + .seconds(seconds)
        while now < end {
            let arrived = wire
            wire = []
            for (from, to, bytes) in arrived
            where !unreachable.contains(from) && !unreachable.contains(to) {
                receive(bytes, at: to, from: from)
            }
            for node in nodes {
                guard let due = members[node]?.founding.deadline, due <= now else { continue }
                step(node) { founding, at, random, actions in
                    founding.timeout(at: at, random: &random, into: &actions)
                }
            }
            let next = nodes.compactMap { members[$0]?.founding.deadline }.min() ?? end
            now =
                wire.isEmpty ? min(max(next, now + .milliseconds(1)), end) : now + .milliseconds(10)
        }
    }

    /// A daemon that starts again with what is on its disk.
    mutating func restart(
        _ node: NodeID, policy: GenesisPolicy,
        change: (inout FoundingConfiguration) -> Void = { _ in }
    ) {
        let disk = members[node]?.disk
        add(node, policy: policy, restored: disk, change: change)
        for other in nodes where other != node {
            step(node) { founding, at, random, actions in
                founding.voterSeen(other, at: at, random: &random, into: &actions)
            }
        }
        refresh()
    }
}
