import Foundation
import Testing

/// What `status --json` says that these tests ask for.
struct ClusterStatus: Decodable, Sendable {
    struct Node: Decodable, Sendable {
        var id: String
        var ipv4: String?
        var ipv6: String
    }

    struct Cluster: Decodable, Sendable {
        var phase: String
        var generation: Int?
        var founder: String?
        var role: String?
        var voters: [String]?
        var quorum: Int?
        var reason: String?
        var members: [String]?
        var agents: [String]?
        var leaseVoters: [String]?
    }

    var node: Node
    var cluster: Cluster
}

/// Machines on one LAN, each with a node that takes part in the founding.
final class ClusterLab {
    let lab: Lab
    private(set) var nodes: [ClusterNode] = []

    enum Kind {
        case etcd
        /// The stand-in for K3s.
        case k3s
        /// The stand-in for k0s.
        case k0s
        /// The example of an operator's program, over etcd without certificates.
        case program
    }

    /// - Parameters:
    ///   - count: how many machines; none of their nodes runs yet.
    ///   - policy: what `token new` is told besides the DHT mode.
    init(_ lab: Lab, count: Int, policy: [String], kind: Kind = .etcd) async throws {
        for (tool, package) in [("etcd", "etcd-server"), ("etcdctl", "etcd-client")] {
            try Lab.requireTool(tool, package: package)
        }
        self.lab = lab
        var hosts: [LabHost] = []
        for number in 1...count { hosts.append(try await lab.host("n\(number)")) }
        hub = try await lab.lan("eth0", hosts)
        for (index, host) in hosts.enumerated() {
            try await host.ip("address add 172.31.78.\(index + 1)/24 dev eth0")
        }
        adminKey = "\(lab.directory)/admin.key"
        let made = try LabProcess.start(
            [try Lab.binary(), "token", "new", "--dht", "off", "--admin-key", adminKey] + policy,
            in: lab.directory)
        let lines = try await made.succeed(within: .seconds(20)).split(separator: "\n")
        let token = try #require(lines.first { $0.hasPrefix("evpn1") })
        tokenFile = try lab.file("token", String(token))
        self.token = String(token)
        for (index, host) in hosts.enumerated() {
            nodes.append(
                try ClusterNode(
                    host: host, directory: "\(lab.directory)/n\(index + 1)", tokenFile: tokenFile,
                    kind: kind))
        }
    }

    /// The switch.
    let hub: LabHost
    let token: String
    private let tokenFile: String
    /// The file with the mesh's root key.
    let adminKey: String

    /// Ends everything in the namespaces and removes the nodes' directories.
    func clear() async throws {
        for node in nodes { node.killEverything() }
        for node in nodes {
            try await eventually("the processes of \(node.name) end", within: .seconds(10)) {
                node.processes().isEmpty
            }
            try FileManager.default.removeItem(atPath: node.directory)
        }
    }

    /// Starts the nodes in the order given, with pauses of up to a second.
    func start(_ order: [ClusterNode]) async throws {
        for node in order {
            try node.start()
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...600)))
        }
    }

    /// The nodes' own words, for a failing test.
    func story(_ nodes: [ClusterNode]? = nil) async -> String {
        var lines: [String] = []
        for node in nodes ?? self.nodes {
            let status = try? await node.status()
            let cluster = status.map { "\($0.cluster)" } ?? "no status"
            let log = node.log.split(separator: "\n").suffix(12).joined(separator: "\n    ")
            lines.append("\(node.name): \(cluster)\n    \(log)")
        }
        return lines.joined(separator: "\n")
    }

    /// Waits until the cluster is complete in the eyes of every node in `running`.
    ///
    /// - Returns: everybody's status, in the order of `running`.
    @discardableResult
    func settle(
        _ running: [ClusterNode], servers: Int, agents: Int, within limit: Duration
    ) async throws -> [ClusterStatus] {
        var statuses: [ClusterStatus] = []
        do {
            try await eventually(
                "\(servers) members and \(agents) agents", within: limit, every: .milliseconds(400)
            ) {
                statuses = []
                for node in running {
                    guard let status = try await node.status(),
                        ["ready", "joined"].contains(status.cluster.phase),
                        status.cluster.members?.count == servers,
                        status.cluster.agents?.count == agents
                    else { return false }
                    statuses.append(status)
                }
                return true
            }
        } catch {
            throw LabFailure("\(error)\n\(await story())")
        }
        return statuses
    }
}

/// A wall clock that is wrong by a number of seconds, and a boot clock that tells of sleep.
struct WrongClock: Sendable {
    var seconds: Int
    /// Tests/WrongClock, compiled.
    var library: String
    /// A file with the seconds that the machine has slept.
    var slept: String?
}

extension ClusterLab {
    /// Moves the ports of some machines to a second bridge.
    func split(_ away: [ClusterNode]) async throws {
        try await hub.ip("link add rest type bridge")
        try await hub.ip("link set rest up")
        for node in away { try await hub.ip("link set \(port(node)) master rest") }
    }

    func heal(_ away: [ClusterNode]) async throws {
        for node in away { try await hub.ip("link set \(port(node)) master hub") }
        try await hub.ip("link delete rest")
    }

    /// Compiles what a daemon with a wrong clock is started with.
    func wrongClockLibrary() async throws -> String {
        let source = URL(filePath: standInK3s).deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "WrongClock/wrong_clock.c").path
        let library = "\(lab.directory)/wrong_clock.so"
        try await hub.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source])
        return library
    }

    private func port(_ node: ClusterNode) -> String {
        "port\(nodes.firstIndex { $0 === node } ?? 0)"
    }
}

extension ClusterLab {
    /// Watches `running` for longer than the founding waits for more voters.
    func expectNoFounding(of running: [ClusterNode], needing quorum: Int) async throws {
        try await eventually("\(running.count) voters know each other") {
            for node in running {
                guard try await node.status()?.cluster.voters?.count == running.count else {
                    return false
                }
            }
            return true
        }
        let end = ContinuousClock.now + .seconds(12)
        while ContinuousClock.now < end {
            for node in running {
                let cluster = try #require(try await node.status()).cluster
                #expect(cluster.phase == "waiting")
                #expect(cluster.founder == nil)
                #expect(cluster.quorum == quorum)
                #expect(node.datastore() == nil)
            }
            try await Task.sleep(for: .milliseconds(700))
        }
        for node in running {
            let answer = try await node.ask(["cluster", "status"])
            #expect(
                answer.output.contains("\(running.count) of")
                    && answer.output.contains("\(quorum)"),
                "it does not say who is missing:\n\(answer.output)")
        }
    }

    /// The node that has just gathered its holds.
    func firstFounder() async throws -> ClusterNode {
        var founder: ClusterNode?
        try await eventually("somebody founds", within: .seconds(60), every: .milliseconds(10)) {
            founder = nodes.first { $0.log.contains("this node founds the cluster") }
            return founder != nil
        }
        return try #require(founder)
    }

    /// The datastore of `founder` works, and nobody may know it yet.
    func expectUncertifiedDatastore(on founder: ClusterNode) async throws {
        try await eventually("the founder waits for its certificate", within: .seconds(30)) {
            try await founder.status()?.cluster.reason?.contains("certificate of READY") ?? false
        }
        #expect(founder.datastore() != nil)
        let status = try #require(try await founder.status())
        #expect(status.cluster.phase == "starting")
        let endpoint = try #require(status.node.ipv4)
        #expect(try await founder.canUse([endpoint], key: "too-early"))
    }
}

/// One machine of a ``ClusterLab``.
final class ClusterNode {
    let host: LabHost
    /// Everything of this node, on a disk that survives a power cut.
    let directory: String
    private let tokenFile: String
    private let kind: ClusterLab.Kind
    private var runs: [LabProcess] = []

    fileprivate init(
        host: LabHost, directory: String, tokenFile: String, kind: ClusterLab.Kind
    ) throws {
        self.kind = kind
        self.host = host
        self.directory = directory
        self.tokenFile = tokenFile
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: false)
    }

    var name: String { host.name }
    var state: String { "\(directory)/state" }
    var files: String { "\(state)/cluster" }
    /// What the daemon's present run writes of its founding; that of the one before has `.1` behind.
    var foundingLog: String { "\(directory)/founding.log" }
    var daemon: LabProcess? { runs.last }

    /// What every run of the daemon printed.
    var log: String { runs.map(\.output).joined() }

    /// - Parameters:
    ///   - clock: by how many seconds the daemon's wall clock is wrong. Its children have the right
    ///     time, since it gives them no environment.
    ///   - wrapper: a command that becomes the daemon.
    func start(
        _ options: [String] = [], clock: WrongClock? = nil, wrapper: [String] = []
    ) throws {
        let faked = clock.map { clock in
            ["env", "WRONG_CLOCK_SECONDS=\(clock.seconds)", "LD_PRELOAD=\(clock.library)"]
                + (clock.slept.map { ["WRONG_CLOCK_SLEPT=\($0)"] } ?? [])
        }
        runs.append(try host.start(wrapper + (faked ?? []) + (try command(options))))
    }

    /// The command line of the daemon.
    func command(_ options: [String] = []) throws -> [String] {
        [
            try Lab.binary(), "up", "--token-file", tokenFile, "--state-dir", state, "--hostname",
            name, "--api", "unix:\(directory)/api", "--founding-log", foundingLog, "--cluster",
        ] + datastoreOptions + options
    }

    private var datastoreOptions: [String] {
        switch kind {
        case .etcd: ["etcd"]
        case .k3s: ["k3s"] + k3sOptions
        case .k0s:
            [
                "k0s", "--k3s-binary", datastoreStandIn("k0s"), "--k3s-data-dir",
                "\(directory)/k0s",
            ]
        case .program: ["exec:\(datastoreStandIn("plain-etcd"))"]
        }
    }

    /// Runs a command that asks this node's daemon.
    func ask(_ words: [String]) async throws -> (status: Int32, output: String) {
        try await host.attempt([try Lab.binary()] + words + ["--api", "unix:\(directory)/api"])
    }

    /// `nil` while the daemon does not answer.
    func status() async throws -> ClusterStatus? {
        let (code, text) = try await ask(["status", "--json"])
        return code == 0
            ? try JSONDecoder().decode(ClusterStatus.self, from: Data(text.utf8)) : nil
    }

    // MARK: - Processes

    /// Every process of this machine, ascending.
    func processes() -> [Int32] {
        guard let wanted = Self.namespace("\(Lab.namespaceDirectory)/\(host.namespace)") else {
            return []
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }
            .filter { Self.namespace("/proc/\($0)/ns/net") == wanted && Self.isAlive($0) }.sorted()
    }

    private static func namespace(_ path: String) -> [UInt64]? {
        var found = stat()
        return stat(path, &found) == 0 ? [UInt64(found.st_dev), UInt64(found.st_ino)] : nil
    }

    private static func isAlive(_ process: Int32) -> Bool {
        let fields = Lab.contents(of: "/proc/\(process)/stat")?.split(separator: ")").last
        return fields.map { !$0.hasPrefix(" Z") && !$0.hasPrefix(" X") } ?? false
    }

    /// The process of the datastore, if it runs.
    func datastore() -> Int32? {
        processes().first { Lab.contents(of: "/proc/\($0)/comm") == "etcd\n" }
    }

    /// As if the machine lost its power, but for the disk's cache.
    func killEverything() {
        for process in processes() { kill(process, SIGKILL) }
    }

    // MARK: - The datastore

    /// Runs etcdctl with this machine's own certificate.
    func etcdctl(_ words: [String], at endpoints: [String], within limit: Int = 5) async throws
        -> (status: Int32, output: String)
    {
        try await host.attempt(
            [
                "env", "ETCDCTL_API=3", "etcdctl", "--endpoints",
                endpoints.map { "https://\($0):2379" }.joined(separator: ","), "--cacert",
                "\(files)/ca.crt", "--cert", "\(files)/node.crt", "--key", "\(files)/node.key",
                "--command-timeout", "\(limit)s",
            ] + words)
    }

    /// Writes and reads a value; whether both worked.
    func canUse(_ endpoints: [String], key: String) async throws -> Bool {
        let value = "value of \(name)"
        guard try await etcdctl(["put", key, value], at: endpoints).status == 0 else {
            return false
        }
        return try await etcdctl(["get", key, "--print-value-only"], at: endpoints)
            .output.contains(value)
    }
}

/// Runs `body` with a fresh cluster lab; ends what it started, whatever happened.
func withClusterLab(
    count: Int, policy: [String], kind: ClusterLab.Kind = .etcd,
    _ body: (ClusterLab) async throws -> Void
) async throws {
    try await withLab { lab in
        let cluster = try await ClusterLab(lab, count: count, policy: policy, kind: kind)
        do {
            try await body(cluster)
        } catch {
            try await cluster.clear()
            throw error
        }
        try await cluster.clear()
    }
}
