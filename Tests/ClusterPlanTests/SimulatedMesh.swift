import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// Coordinators on a virtual network with a virtual clock. Node 0 is the owner of the claim; the
/// certified decisions are made by the scenario.
///
/// Host commands take time; a crash loses the running command, the queued messages and, before
/// READY, the datastore process.
struct SimulatedMesh {
    struct Node {
        var coordinator: ClusterCoordinator
        var random: SeededGenerator
        var summary = FoundingSummary(phase: .waiting)
        var isUp = true
        /// Of the daemon; reports of an earlier life are lost.
        var life = 0
        var commands: [HostCommand] = []
        var isBusy = false
    }

    enum Event {
        case message([UInt8], from: Int, to: Int)
        case commandEnds(Int, life: Int)
        case fact(String, [UInt8], owner: Int, to: Int)
    }

    var nodes: [Node] = []
    var hosts: [SimulatedHost] = []
    var store = SimulatedDatastore()
    var now = BootInstant(nanoseconds: 1_000_000_000)
    var events: [(at: BootInstant, event: Event)] = []
    var random: SeededGenerator
    /// Of 100 messages, how many are lost and how many come twice.
    var lossPercent: UInt64 = 0
    var duplicatePercent: UInt64 = 0
    var longestDelay = Duration.milliseconds(200)
    /// Facts that the ledger holds, replayed to a restarted node.
    var facts: [Int: [String: [UInt8]]] = [:]
    var foundingReady: Bytes32?
    var readyFacts = GenesisFacts()
    var foundingFailures = 0
    var isReadyCertified = false
    /// How often each request was granted anew.
    var grants: [[UInt8]: Int] = [:]
    /// Nodes that ever executed `found`.
    var foundings: Set<Int> = []
    var violations: [String] = []
    var drops: [ClusterDropReason] = []
    var alarms: [String] = []
    /// What every node was told to do, for scenarios that look at the order.
    var history: [(node: Int, command: HostCommand)] = []
    let serverLimit: Int

    init(roles: [RoleWish], serverLimit: Int = 3, seed: UInt64 = 1) {
        random = SeededGenerator(seed: seed)
        self.serverLimit = serverLimit
        for index in roles.indices {
            nodes.append(
                Node(
                    coordinator: ClusterCoordinator(
                        configuration: ClusterConfiguration(
                            kind: .etcd, role: roles[index], node: node(index),
                            staticPublicKey: key(index), serverLimit: serverLimit,
                            hostname: "n\(index)", zone: "mesh.internal")),
                    random: SeededGenerator(seed: seed &* 100 &+ UInt64(index))))
            hosts.append(SimulatedHost())
        }
        for index in nodes.indices { tellMembership(index) }
    }

    func node(_ index: Int) -> NodeID {
        NodeID(Bytes32(word0: UInt64(index + 1) << 56, word1: 0, word2: 0, word3: 9))
    }

    func key(_ index: Int) -> StaticPublicKey {
        StaticPublicKey(Bytes32(word0: UInt64(index + 1), word1: 5, word2: 5, word3: 5))
    }

    func name(_ index: Int) -> String {
        EtcdPlan.memberName(hostname: "n\(index)", node: node(index))
    }

    func caHash(of index: Int) -> Bytes32 {
        Bytes32(word0: 0xCA, word1: UInt64(index), word2: 0, word3: 0)
    }

    mutating func check(_ condition: Bool, _ text: String) {
        if !condition { violations.append("\(now): \(text)") }
    }

    // MARK: - Inputs

    mutating func apply(
        _ index: Int,
        _ input: (
            inout ClusterCoordinator, Now, inout SeededGenerator, inout [ClusterAction]
        ) -> Void
    ) {
        guard nodes[index].isUp else { return }
        var actions: [ClusterAction] = []
        let time = Now(boot: now, wall: WallTime(seconds: 0))
        var node = nodes[index]
        input(&node.coordinator, time, &node.random, &actions)
        nodes[index] = node
        for action in actions { perform(action, of: index) }
    }

    private mutating func perform(_ action: ClusterAction, of index: Int) {
        switch action {
        case .host(let command):
            history.append((index, command))
            nodes[index].commands.append(command)
            if case .stop = command, nodes[index].isBusy {
                // The running command is interrupted: its report comes to nobody.
                nodes[index].isBusy = false
                nodes[index].life += 1
                nodes[index].commands.removeAll { $0 != command }
            }
            startNextCommand(index)
        case .send(let target, let message):
            check(isReadyCertified, "a message left before READY")
            check(message.count <= 1200, "a message of \(message.count) bytes")
            send(message, from: index, to: target)
        case .publish(let key, let value):
            check(isReadyCertified, "a fact left before READY")
            check(value.count <= 4096, "a fact of \(value.count) bytes")
            facts[index, default: [:]][key] = value
            for other in nodes.indices {
                schedule(.fact(key, value, owner: index, to: other), after: delay())
            }
        case .foundingReady(let caHash, let facts): (foundingReady, readyFacts) = (caHash, facts)
        case .foundingFailed: foundingFailures += 1
        case .alarm(let text): alarms.append(text)
        case .dropped(let reason): drops.append(reason)
        }
    }

    private mutating func send(_ message: [UInt8], from index: Int, to target: NodeID) {
        guard let receiver = nodes.indices.first(where: { node($0) == target }) else { return }
        if random.next() % 100 >= lossPercent {
            schedule(.message(message, from: index, to: receiver), after: delay())
        }
        if random.next() % 100 < duplicatePercent {
            let late = random.duration(in: .zero...Duration.seconds(60))
            schedule(.message(message, from: index, to: receiver), after: late)
        }
    }

    private mutating func delay() -> Duration {
        random.duration(in: Duration.milliseconds(1)...longestDelay)
    }

    private mutating func schedule(_ event: Event, after delay: Duration) {
        events.append((now + delay, event))
    }

    /// Commands run one after the other and take up to two seconds.
    private mutating func startNextCommand(_ index: Int) {
        guard !nodes[index].isBusy, !nodes[index].commands.isEmpty else { return }
        nodes[index].isBusy = true
        let duration = random.duration(in: Duration.milliseconds(10)...Duration.seconds(2))
        schedule(.commandEnds(index, life: nodes[index].life), after: duration)
    }

    private mutating func endCommand(_ index: Int, life: Int) {
        guard nodes[index].isUp, nodes[index].life == life, nodes[index].isBusy else { return }
        nodes[index].isBusy = false
        guard !nodes[index].commands.isEmpty else { return }
        let command = nodes[index].commands.removeFirst()
        if let report = execute(command, on: index) {
            apply(index) { $0.hostReported(report, at: $1, random: &$2, into: &$3) }
        }
        startNextCommand(index)
    }

    // MARK: - Scenario verbs

    mutating func certify(_ summary: FoundingSummary, owner: Int) {
        if summary.phase == .ready { isReadyCertified = true }
        for index in nodes.indices {
            var own = summary
            own.owner = node(owner)
            own.isOwner = index == owner
            nodes[index].summary = own
            apply(index) { $0.foundingChanged(own, at: $1, random: &$2, into: &$3) }
        }
    }

    /// Claims for node 0 and certifies READY as soon as its datastore is healthy.
    mutating func foundByNode0() {
        certify(
            FoundingSummary(phase: .starting, generation: 1, startDeadline: now + .seconds(600)),
            owner: 0)
        run(for: .seconds(30)) { $0.foundingReady != nil }
        certify(
            FoundingSummary(
                phase: .ready, generation: 1, caHash: foundingReady, facts: readyFacts),
            owner: 0)
    }

    /// An operator's reset begins generation 2, and node `owner` claims it.
    mutating func foundAnew(by owner: Int) {
        foundings = []
        certify(
            FoundingSummary(phase: .starting, generation: 2, startDeadline: now + .seconds(60)),
            owner: owner)
    }

    /// The daemon dies; before READY the datastore process with it.
    mutating func crash(_ index: Int, withProcess: Bool = false) {
        // Half of the running commands had taken effect already; nobody hears of it.
        if nodes[index].isUp, nodes[index].isBusy, random.next() % 2 == 0,
            let command = nodes[index].commands.first
        {
            _ = execute(command, on: index)
        }
        nodes[index].isUp = false
        nodes[index].life += 1
        nodes[index].commands = []
        nodes[index].isBusy = false
        if hosts[index].isBound || withProcess { stopProcess(on: index) }
        for other in nodes.indices { tellMembership(other) }
    }

    mutating func restart(_ index: Int) {
        guard !nodes[index].isUp else { return }
        nodes[index].isUp = true
        nodes[index].coordinator = ClusterCoordinator(
            configuration: nodes[index].coordinator.configuration)
        let summary = nodes[index].summary
        for other in nodes.indices { tellMembership(other) }
        apply(index) { $0.foundingChanged(summary, at: $1, random: &$2, into: &$3) }
        tell(index, facts)
    }

    /// Facts of others arrive.
    mutating func tell(_ index: Int, _ told: [Int: [String: [UInt8]]]) {
        for owner in told.keys.sorted() {
            for (key, value) in (told[owner] ?? [:]).sorted(by: { $0.key < $1.key }) {
                let id = node(owner)
                apply(index) {
                    $0.factChanged(
                        owner: id, key: key, value: value, at: $1, random: &$2, into: &$3)
                }
            }
        }
    }

    mutating func tellMembership(_ index: Int) {
        let peers = nodes.indices.map { other in
            ClusterPeer(
                id: node(other), staticKey: key(other), ipv4: .v4(0x0A01_0001 + UInt32(other)),
                ipv6: .v6(0xFD00 << 48, UInt64(other)), hostname: "n\(other)",
                isAlive: nodes[other].isUp)
        }
        apply(index) { $0.membershipChanged(peers, at: $1, random: &$2, into: &$3) }
    }

    // MARK: - Time

    /// Runs until the condition holds or the time is over; whether it held.
    @discardableResult
    mutating func run(for limit: Duration, until condition: (SimulatedMesh) -> Bool) -> Bool {
        let end = now + limit
        while true {
            if condition(self) { return true }
            guard let next = nextInstant, next <= end else {
                now = end
                return condition(self)
            }
            now = max(now, next)
            step()
            checkInvariants()
        }
    }

    private var nextInstant: BootInstant? {
        var next = events.map { $0.at }.min()
        for (index, node) in nodes.enumerated() where node.isUp {
            next = earlier(next, node.coordinator.deadline)
            next = earlier(next, hosts[index].deadline)
        }
        return next
    }

    private mutating func step() {
        for index in nodes.indices {
            // The supervisor's own timer.
            if let deadline = hosts[index].deadline, deadline <= now { stopProcess(on: index) }
            if nodes[index].isUp, let deadline = nodes[index].coordinator.deadline,
                deadline <= now
            {
                apply(index) { $0.timeout(at: $1, random: &$2, into: &$3) }
                if nodes[index].coordinator.deadline == deadline {
                    check(false, "node \(index) asks for the same deadline again")
                    nodes[index].isUp = false
                }
            }
        }
        guard let first = events.indices.min(by: { events[$0].at < events[$1].at }),
            events[first].at <= now
        else { return }
        switch events.remove(at: first).event {
        case .message(let message, let from, let to):
            let sender = node(from)
            apply(to) { $0.receive(message, from: sender, at: $1, random: &$2, into: &$3) }
        case .commandEnds(let index, let life): endCommand(index, life: life)
        case .fact(let key, let value, let owner, let to):
            let id = node(owner)
            apply(to) {
                $0.factChanged(
                    owner: id, key: key, value: value, at: $1, random: &$2, into: &$3)
            }
        }
    }

    private mutating func checkInvariants() {
        check(store.members.count <= serverLimit, "more members than servers are wanted")
        check(store.members.filter { $0.isLearner }.count <= 1, "two learners")
        check(foundings.count <= 1, "two nodes founded")
        let names = store.members.map { $0.name }.filter { !$0.isEmpty }
        check(Set(names).count == names.count, "two members of one name")
    }

    // MARK: - Looking

    func view(_ index: Int) -> ClusterView { nodes[index].coordinator.view }

    func isComplete(servers: Int, agents: Int) -> Bool {
        nodes.indices.filter { nodes[$0].isUp && nodes[$0].coordinator.takesPart }
            .allSatisfy { index in
                let view = view(index)
                return [.ready, .joined].contains(view.phase) && view.members.count == servers
                    && view.members.allSatisfy { $0.isVoter && $0.isStarted }
                    && view.agents.count == agents
            }
    }

    var story: String {
        let lines = nodes.indices.map { index in
            let view = view(index)
            return "n\(index)\(nodes[index].isUp ? "" : " (down)"): \(view.phase) "
                + "\(view.role.map { "\($0)" } ?? "-") members \(view.members.map { $0.name }) "
                + "agents \(view.agents.map { $0.name }) \(view.reason)"
        }
        return (["at \(now)"] + lines + violations).joined(separator: "\n")
    }
}
