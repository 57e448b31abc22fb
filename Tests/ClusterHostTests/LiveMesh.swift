import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

/// Nodes whose coordinators talk through this value and whose executors run real etcd on loopback
/// addresses. The founding registers are the test's own: it plays the certified decisions.
final class LiveMesh {
    struct Member {
        var coordinator: ClusterCoordinator
        var executor: ClusterExecutor
        let reports: ReportBox
        let directory: String
        let address: IPAddress
        var random: SeededGenerator
        var isCut = false
        var summary = FoundingSummary(phase: .waiting)
    }

    private let scratch = ScratchDirectory()
    private(set) var members: [Member] = []
    private(set) var facts: [String: [UInt8]] = [:]
    var foundingReady: Bytes32?
    private var queue: [(from: NodeID, to: NodeID, message: [UInt8])] = []
    /// Everything that ever left a node before READY was certified.
    private(set) var leftBeforeReady: [String] = []
    private(set) var isReadyCertified = false
    let firstHost: Int

    init(roles: [RoleWish], serverLimit: Int = 3, firstHost: Int) {
        self.firstHost = firstHost
        for index in roles.indices {
            let number = UInt64(index + 1)
            members.append(
                makeMember(
                    index,
                    ClusterConfiguration(
                        kind: .etcd, role: roles[index], node: testNode(number),
                        staticPublicKey: testKey(number).publicKey, serverLimit: serverLimit,
                        hostname: "node\(number)", zone: "mesh.internal")))
        }
        for index in members.indices {
            apply(index) { $0.membershipChanged(peers, at: $1, random: &$2, into: &$3) }
        }
    }

    deinit {
        for member in members {
            member.executor.execute(.stop(reason: "the test ends"))
            member.executor.shutDown()
        }
    }

    private var peers: [ClusterPeer] {
        members.indices.map { index in
            ClusterPeer(
                id: testNode(UInt64(index + 1)),
                staticKey: testKey(UInt64(index + 1)).publicKey, ipv4: members[index].address,
                ipv6: .v6(0xFD00 << 48, UInt64(index + 1)), hostname: "node\(index + 1)",
                isAlive: !members[index].isCut)
        }
    }

    var now: Now { Now(boot: bootTime(), wall: WallTime(seconds: 0)) }

    func apply(
        _ index: Int,
        _ input: (
            inout ClusterCoordinator, Now, inout SeededGenerator, inout [ClusterAction]
        ) -> Void
    ) {
        var actions: [ClusterAction] = []
        var member = members[index]
        input(&member.coordinator, now, &member.random, &actions)
        members[index] = member
        for action in actions { perform(action, of: index) }
    }

    private func perform(_ action: ClusterAction, of index: Int) {
        switch action {
        case .host(let command): members[index].executor.execute(command)
        case .send(let target, let message):
            if !isReadyCertified { leftBeforeReady.append("message to \(target.short)") }
            queue.append((testNode(UInt64(index + 1)), target, message))
        case .publish(let key, let value):
            if !isReadyCertified { leftBeforeReady.append("fact \(key)") }
            facts["\(index) \(key)"] = value
            for other in members.indices {
                apply(other) { coordinator, now, random, actions in
                    coordinator.factChanged(
                        owner: testNode(UInt64(index + 1)), key: key, value: value, at: now,
                        random: &random, into: &actions)
                }
            }
        case .foundingReady(let caHash, _): foundingReady = caHash
        case .foundingFailed, .alarm, .dropped: break
        }
    }

    func setFounding(_ summary: FoundingSummary, owner: Int) {
        if summary.phase == .ready { isReadyCertified = true }
        for index in members.indices {
            var own = summary
            own.isOwner = index == owner
            own.owner = testNode(UInt64(owner + 1))
            members[index].summary = own
            apply(index) { $0.foundingChanged(own, at: $1, random: &$2, into: &$3) }
        }
    }

    /// A daemon that is killed: its coordinator is gone and nobody hears its executor any more.
    /// What it started stays, as after READY.
    func crash(_ index: Int) {
        let old = members[index]
        members[index] = makeMember(index, old.coordinator.configuration)
        members[index].summary = old.summary
        apply(index) { $0.membershipChanged(peers, at: $1, random: &$2, into: &$3) }
        apply(index) { $0.foundingChanged(old.summary, at: $1, random: &$2, into: &$3) }
    }

    private func makeMember(_ index: Int, _ configuration: ClusterConfiguration) -> Member {
        let number = UInt64(index + 1)
        let directory = scratch.path + "/node\(number)"
        let box = ReportBox()
        return Member(
            coordinator: ClusterCoordinator(configuration: configuration),
            executor: ClusterExecutor(settings: settings(directory, key: number)) {
                box.put($0)
            }, reports: box, directory: directory, address: testAddress(firstHost + index),
            random: SeededGenerator(seed: number))
    }

    func setCut(_ index: Int, _ isCut: Bool) {
        members[index].isCut = isCut
        for other in members.indices {
            apply(other) { $0.membershipChanged(peers, at: $1, random: &$2, into: &$3) }
        }
    }

    /// Runs until the condition holds; the limit only ends a test that has already failed.
    func run(within seconds: Int = 120, until condition: (LiveMesh) -> Bool) -> Bool {
        let end = bootTime() + .seconds(seconds)
        while bootTime() < end {
            step()
            if condition(self) { return true }
            usleep(20_000)
        }
        return false
    }

    private func step() {
        for index in members.indices {
            for report in members[index].reports.takeAll() {
                apply(index) { $0.hostReported(report, at: $1, random: &$2, into: &$3) }
            }
            if let deadline = members[index].coordinator.deadline, deadline <= bootTime() {
                apply(index) { $0.timeout(at: $1, random: &$2, into: &$3) }
            }
        }
        let messages = queue
        queue = []
        for (sender, target, message) in messages {
            let numbers = members.indices.map { testNode(UInt64($0 + 1)) }
            guard let from = numbers.firstIndex(of: sender),
                let to = numbers.firstIndex(of: target), !members[from].isCut,
                !members[to].isCut
            else { continue }
            apply(to) { $0.receive(message, from: sender, at: $1, random: &$2, into: &$3) }
        }
    }

    func view(_ index: Int) -> ClusterView { members[index].coordinator.view }

    /// The state of all nodes, for a failing test's story.
    var story: String {
        members.indices.map { index in
            let view = view(index)
            let names = view.members.map { $0.name + ($0.isVoter ? "" : "(learner)") }
            return "node\(index + 1): \(view.phase) \(view.role.map { "\($0)" } ?? "-") "
                + "members \(names) agents \(view.agents.map { $0.name }) \(view.reason)"
        }.joined(separator: "\n")
    }

    func path(_ index: Int, _ name: String) -> String { members[index].directory + "/" + name }

    /// Runs etcdctl as node `index` against the client port of node `target`.
    func etcdctl(as index: Int, at target: Int, _ arguments: [String]) -> (Int32, String) {
        let (status, output) = ClusterHostTests.run(
            [
                "/usr/bin/env", "ETCDCTL_API=3", "/usr/bin/etcdctl",
                "--endpoints=https://\(members[target].address):2379",
                "--cacert=" + path(index, "ca.crt"), "--cert=" + path(index, "node.crt"),
                "--key=" + path(index, "node.key"),
            ] + arguments)
        return (status, output)
    }
}
