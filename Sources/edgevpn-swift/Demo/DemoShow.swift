import Configuration
import Consensus
import Glibc
import HTTPAPI
import LinuxIO
import MeshBase
import MeshNode
import NetAddress

/// What the demonstration found out, in JSON.
struct DemoReport: Codable {
    struct Node: Codable {
        var hostname: String
        var id: String?
        var ipv4: String?
        var ipv6: String?
        var role: String?
    }

    var success: Bool
    var seconds: Double
    var steps: [DemoStep]
    var nodes: [Node]
}

/// Why a step did not hold.
struct StepFailure: Error {
    var reason: String
}

/// One run of the demonstration: the steps in their order. DemoShow+Mesh.swift and
/// DemoShow+Cluster.swift hold what each of them does.
struct DemoShow {
    typealias Step = (name: String, run: (inout DemoShow) async throws -> String)

    let lab: DemoLab
    let cluster: ClusterChoice
    /// How many of the nodes become servers of the datastore.
    let servers: Int
    var screen: DemoScreen
    var children: [ChildRun] = []
    /// The newest answer of each node.
    var statuses: [StatusModel?]
    private(set) var current = 0
    private let began = SystemClock.boot()
    /// When the last node was started.
    var started: BootInstant?
    private var success = false

    init(count: Int, cluster: ClusterChoice, silent: Bool) throws(CommandFailure) {
        lab = try DemoLab(count: count)
        self.cluster = cluster
        servers = count >= 3 ? 3 : 1
        statuses = Array(repeating: nil, count: count)
        screen = DemoScreen(
            DemoShow.steps(count: count, cluster: cluster).map(\.name), silent: silent)
    }

    private static func steps(count: Int, cluster: ClusterChoice) -> [Step] {
        var steps: [Step] = [
            ("namespaces and a fresh token", { try await $0.prepare() }),
            ("nodes answer", { try await $0.startNodes() }),
            ("addresses claimed", { try await $0.claimAddresses() }),
        ]
        if count > 1 {
            steps += [
                ("peers found", { try await $0.findPeers() }),
                ("packets through the tunnels", { try await $0.carryPackets() }),
            ]
        }
        steps.append(("names resolved", { try await $0.resolveNames() }))
        steps.append(("a ledger entry travels", { try await $0.shareEntry() }))
        if cluster == .etcd {
            steps += [
                ("one founder, certified", { try await $0.watchFounding() }),
                ("datastore members", { try await $0.watchMembers() }),
                ("a datastore value travels", { try await $0.shareValue() }),
            ]
        }
        if count > 1 { steps.append(("throughput", { try await $0.measure() })) }
        return steps
    }

    /// Runs every step until one fails or somebody interrupts. Whether all held.
    mutating func run() async -> Bool {
        let steps = DemoShow.steps(count: lab.nodes.count, cluster: cluster)
        for (index, step) in steps.enumerated() {
            current = index
            screen.begin(index)
            do {
                let detail = try await step.run(&self)
                screen.end(index, .held, detail, sinceStart: sinceStart)
            } catch {
                screen.end(index, .failed, describe(error), sinceStart: sinceStart)
                for later in steps.indices.dropFirst(index + 1) {
                    screen.end(later, .skipped, "", sinceStart: nil)
                }
                return false
            }
        }
        success = true
        return true
    }

    private func describe(_ error: any Error) -> String {
        if let signal = Interruption.signal { return "stopped by signal \(signal)" }
        return switch error {
        case let failure as StepFailure: failure.reason
        default: "\(error)"
        }
    }

    private var sinceStart: Double? {
        started.map { (SystemClock.boot() - $0).inSeconds }
    }

    /// Repeats `check` until it returns a detail, ten times a second, and shows the nodes
    /// meanwhile.
    ///
    /// - Parameter check: returns what was seen, or throws a ``StepFailure`` with what is missing.
    mutating func wait(
        upTo limit: Duration, _ check: (inout DemoShow) async throws -> String
    ) async throws -> String {
        let end = SystemClock.boot() + limit
        while true {
            do {
                return try await check(&self)
            } catch let failure as StepFailure {
                screen.progress(current, failure.reason, nodes: nodeLines)
                if SystemClock.boot() >= end {
                    throw StepFailure(
                        reason: "after \(rounded(limit.inSeconds, 0)) s: \(failure.reason)")
                }
            }
            try await pause()
        }
    }

    /// A tenth of a second; throws when somebody interrupts or a node has died.
    func pause() async throws {
        if Interruption.signal != nil { throw CancellationError() }
        for (node, child) in zip(lab.nodes, children) {
            guard let code = child.poll() else { continue }
            throw StepFailure(
                reason: "\(node.hostname) ended with code \(code): \(lastLine(of: node.log))")
        }
        try await Task.sleep(for: .milliseconds(100))
    }

    /// Asks every node; an unreachable one keeps its former answer out of the way.
    mutating func refresh() async {
        for (index, node) in lab.nodes.enumerated() {
            statuses[index] = try? await APIClient(node.api, timeout: .seconds(2)).status()
        }
    }

    var nodeLines: [String] {
        let rows = zip(lab.nodes, statuses).map { node, status -> [String] in
            guard let status else { return [node.hostname, "-", "-", "-", "-"] }
            let handshakes = status.peers.count { $0.lastHandshakeSeconds != nil }
            return [
                node.hostname, status.node.ipv4 ?? "-",
                "\(status.peers.count { $0.state == .alive })", "\(handshakes)",
                status.cluster.phase.rawValue
                    + (status.cluster.phase == .none
                        ? "" : status.cluster.role.map { " (\($0))" } ?? ""),
            ]
        }
        return table(["NODE", "IPV4", "ALIVE", "HANDSHAKES", "CLUSTER"], rows)
            .split(separator: "\n").map(String.init)
    }

    // MARK: - What is left at the end

    var report: DemoReport {
        DemoReport(
            success: success, seconds: (SystemClock.boot() - began).inSeconds,
            steps: screen.steps,
            nodes: zip(lab.nodes, statuses).map { node, status in
                DemoReport.Node(
                    hostname: node.hostname, id: status?.node.id, ipv4: status?.node.ipv4,
                    ipv6: status?.node.ipv6, role: status?.cluster.role)
            })
    }

    var summary: String {
        let held = screen.steps.count { $0.outcome == .held }
        let total = rounded((SystemClock.boot() - began).inSeconds, 1)
        let rows = screen.steps.map { step in
            [
                step.outcome.rawValue, step.sinceStart.map { "\(rounded($0, 2)) s" } ?? "-",
                step.name, step.detail,
            ]
        }
        let verdict =
            success
            ? "Everything held: \(counted(lab.nodes.count, "node")), \(held) of \(rows.count) steps"
            : "NOT everything held: \(held) of \(rows.count) steps"
        return "\n" + table(["RESULT", "SINCE START", "STEP", "SEEN"], rows)
            + "\n\n\(verdict), \(total) s in all."
    }

    /// How to look around in a demonstration that was told to stay.
    var directions: String {
        let node = lab.nodes[0]
        return """

            It stays. Look around:
              edgevpn-swift peers --api \(node.api)
              ip netns exec \(node.namespace) ip address
            Remove it:
              edgevpn-swift demo --clean
            """
    }

    /// The end of each node's log, for a run that failed.
    func logs() -> String {
        lab.nodes.map { node in
            let text = String(
                decoding: (try? readFile(node.log, limit: 1 << 20)) ?? [], as: UTF8.self)
            let tail = text.split(separator: "\n").suffix(15).joined(separator: "\n")
            return "\n--- \(node.hostname), end of its log\n\(tail)"
        }.joined(separator: "\n")
    }

    func lastLine(of log: String) -> String {
        let text = String(decoding: (try? readFile(log, limit: 1 << 20)) ?? [], as: UTF8.self)
        return text.split(separator: "\n").last.map(String.init) ?? "its log is empty"
    }
}
