import Foundation
import Testing

/// The stand-in for K3s keeps what was seen of a real one, so that what is tested against it means
/// something. With EDGEVPN_TEST_K3S the same is asked of a real `k3s`.
///
///     a ---- b      172.31.79.1 and .2 on eth0, switched
@Suite(.serialized) struct StandInTests {
    @Test func twoServersAndAnAgentByHand() async throws {
        try await withStandIn { first, second in
            let server = try first.start(["server", "--cluster-init", "--token", "mine"])
            try await first.answersPing(server)
            try await first.isReady(server)

            // The token carries the hash of the authority that /cacerts shows.
            let authority = try await first.curl("/cacerts")
            let token = first.read("server/token")
            #expect(token.hasPrefix("K10\(try await first.sha256(authority))::server:mine"))
            #expect(first.read("server/node-token") == token)
            #expect(FileManager.default.fileExists(atPath: first.wal))

            let joined = try second.start([
                "server", "--server", "https://172.31.79.1:6443", "--token",
                token.trimmingCharacters(in: .newlines),
            ])
            try await second.answersPing(joined)
            try await joined.prints(
                "this server has not yet been promoted from learner to voting member",
                within: .seconds(60))
            try await eventually("both vote", within: .seconds(60)) {
                try await first.voters() == "True True"
            }
        }
    }

    /// A second cluster is one wrong start away, and nothing warns of it.
    @Test func theDirectoryOfTheLogDecidesHowAServerStarts() async throws {
        try await withStandIn { first, second in
            let founding = ["server", "--cluster-init", "--token", "mine"]
            try await first.isReady(try first.start(founding))
            let authority = first.read("server/tls/server-ca.crt")
            try await first.stop()

            // With the directory: the member that it was, whatever it is told.
            try await first.isReady(
                try first.start([
                    "server", "--server", "https://172.31.79.2:6443", "--token", "mine",
                ]))
            #expect(first.read("server/tls/server-ca.crt") == authority)
            try await first.stop()

            // Without, told to join itself: nothing.
            try FileManager.default.removeItem(atPath: first.data)
            let lost = try first.start([
                "server", "--server", "https://172.31.79.1:6443", "--token", "mine",
            ])
            #expect(try await lost.end(within: .seconds(60)) != 0)
            #expect(!FileManager.default.fileExists(atPath: first.wal))

            // Without: a new cluster under a new authority, in silence.
            try await first.isReady(try first.start(founding))
            #expect(first.read("server/tls/server-ca.crt") != authority)
            try await first.stop()

            // A bare server founds, too; with SQLite.
            try await second.isReady(try second.start(["server"]))
            #expect(FileManager.default.fileExists(atPath: "\(second.data)/server/db/state.db"))
            #expect(!FileManager.default.fileExists(atPath: second.wal))
        }
    }

    @Test func aDatabaseOfOneServerMovesToEtcd() async throws {
        try await withStandIn { first, _ in
            let single = try first.start(["server", "--token", "mine"])
            try await first.isReady(single)
            let authority = first.read("server/tls/server-ca.crt")
            let made = try await first.kubectl([
                "-n", "kube-system", "create", "configmap", "kept", "--from-literal=key=value",
            ])
            #expect(made.status == 0, "\(made.output)")
            try await first.stop()

            try await first.isReady(
                try first.start(["server", "--cluster-init", "--token", "mine"]))
            #expect(FileManager.default.fileExists(atPath: first.wal))
            #expect(!FileManager.default.fileExists(atPath: "\(first.data)/server/db/state.db"))
            #expect(first.read("server/tls/server-ca.crt") == authority)
            let kept = try await first.kubectl([
                "-n", "kube-system", "get", "configmap", "kept", "--no-headers", "-o",
                "custom-columns=KEY:.data.key",
            ])
            #expect(kept.output.contains("value"), "\(kept.output)")
        }
    }

    @Test func serversThatDisagreeAboutCriticalSettingsAreRefused() async throws {
        try await withStandIn { first, second in
            try await first.isReady(
                try first.start([
                    "server", "--cluster-init", "--token", "mine", "--cluster-cidr",
                    "10.50.0.0/16",
                ]))
            let join = ["server", "--server", "https://172.31.79.1:6443", "--token", "mine"]
            let refused = try second.start(join)
            #expect(try await refused.end(within: .seconds(60)) != 0)
            #expect(refused.output.contains("critical configuration value mismatch"))
            #expect(!FileManager.default.fileExists(atPath: second.wal))
            try await second.isReady(
                try second.start(join + ["--cluster-cidr", "10.50.0.0/16"]))
        }
    }

    @Test func tokensOfAnotherClusterAreRefused() async throws {
        try await withStandIn { first, second in
            try await first.isReady(
                try first.start(["server", "--cluster-init", "--token", "mine"]))
            let wrong = "K10\(String(repeating: "0", count: 64))::server:mine"
            let refused = try second.start([
                "server", "--server", "https://172.31.79.1:6443", "--token", wrong,
            ])
            #expect(try await refused.end(within: .seconds(60)) != 0)
            #expect(refused.output.contains("token CA hash does not match"), "\(refused.output)")
            // The full form founds nothing without an authority that it could belong to.
            let founder = try second.start(["server", "--cluster-init", "--token", wrong])
            #expect(try await founder.end(within: .seconds(60)) != 0)
            #expect(!FileManager.default.fileExists(atPath: second.wal))
        }
    }

    /// A bootstrap token lets an agent in until it is deleted.
    @Test func aBootstrapTokenIsGoodUntilItIsDeleted() async throws {
        try await withStandIn { first, second in
            try await first.isReady(
                try first.start(["server", "--cluster-init", "--token", "mine"]))
            let made = try await first.makeToken(["--ttl", "0", "--description", "of worker"])
            let token = try #require(made.split(separator: "\n").last.map(String.init))
            let parts = token.components(separatedBy: "::")
            #expect(parts.count == 2 && parts[1].count == 23, "\(made)")
            let agent = [
                "agent", "--server", "https://172.31.79.1:6443", "--token", token, "--node-name",
                "worker", "--node-ip", "172.31.79.2",
            ]
            _ = try second.start(agent)
            try await first.lists("worker")
            try await second.stop()
            let deleted = try await first.kubectl([
                "-n", "kube-system", "delete", "secret", "bootstrap-token-\(parts[1].prefix(6))",
            ])
            #expect(deleted.status == 0, "\(deleted.output)")
            try await second.start(agent).prints("401", within: .seconds(60))
        }
    }

    /// Until the Node is deleted, its name belongs to whoever has the password.
    @Test func aNodeNameBelongsToItsPassword() async throws {
        try await withStandIn { first, second in
            try await first.isReady(
                try first.start([
                    "server", "--cluster-init", "--token", "mine", "--agent-token", "theirs",
                ]))
            let agent = [
                "agent", "--server", "https://172.31.79.1:6443", "--token", "theirs",
                "--node-name", "worker", "--node-ip", "172.31.79.2",
            ]
            _ = try second.start(agent)
            try await first.lists("worker")
            try await second.stop()
            try FileManager.default.removeItem(atPath: second.password)
            let stranger = try second.start(agent)
            try await stranger.prints("Node password rejected", within: .seconds(60))
            let deleted = try await first.kubectl(["delete", "node", "worker"])
            #expect(deleted.status == 0, "\(deleted.output)")
            try await first.lists("worker")
        }
    }
}

/// One machine with `k3s` and nothing of ours.
private final class StandInMachine {
    let host: LabHost
    let address: String
    let directory: String
    private var runs: [LabProcess] = []

    init(host: LabHost, address: String, directory: String) {
        self.host = host
        self.address = address
        self.directory = directory
    }

    var data: String { "\(directory)/data" }
    var wal: String { "\(data)/server/db/etcd/member/wal" }
    var password: String { "\(directory)/etc/node/password" }
    private var configuration: String { "\(directory)/etc/k3s/config.yaml" }
    private var kubeconfig: String { "\(directory)/etc/k3s/k3s.yaml" }

    func prepare() throws {
        try FileManager.default.createDirectory(
            atPath: "\(directory)/etc/k3s", withIntermediateDirectories: true)
        try "data-dir: \(data)\n".write(toFile: configuration, atomically: true, encoding: .utf8)
    }

    func start(_ words: [String]) throws -> LabProcess {
        let own =
            words[0] == "agent"
            ? []
            : [
                "--node-name", host.name, "--node-ip", address, "--write-kubeconfig", kubeconfig,
            ]
        runs.append(try host.start([standInK3s] + words + own + ["--config", configuration]))
        return try #require(runs.last)
    }

    /// Ends what was started last, and its etcd with it.
    func stop() async throws {
        runs.last?.send(SIGTERM)
        _ = try await runs.last?.end(within: .seconds(30))
    }

    func read(_ path: String) -> String { Lab.contents(of: "\(data)/\(path)") ?? "" }

    func curl(_ path: String) async throws -> String {
        try await host.attempt(["curl", "-sk", "--max-time", "4", "https://\(address):6443\(path)"])
            .output
    }

    func sha256(_ text: String) async throws -> String {
        let file = try host.lab.file("hashed", text)
        return String(try await host.run(["sha256sum", file]).prefix(64))
    }

    func answersPing(_ process: LabProcess) async throws {
        try await eventually("/ping answers\n\(process.output)", within: .seconds(60)) {
            try await curl("/ping") == "pong"
        }
    }

    func isReady(_ process: LabProcess) async throws {
        try await eventually("\(host.name) is ready", within: .seconds(90)) {
            if let code = process.exitCode {
                throw LabFailure("ended with \(code): \(process.output)")
            }
            return try await kubectl(["get", "--raw=/readyz"]).output.hasPrefix("ok")
        }
    }

    func kubectl(_ words: [String]) async throws -> (status: Int32, output: String) {
        try await host.attempt([standInK3s, "kubectl", "--kubeconfig", kubeconfig] + words)
    }

    func makeToken(_ options: [String]) async throws -> String {
        try await host.attempt(
            [standInK3s, "token", "create", "--kubeconfig", kubeconfig] + options
        ).output
    }

    func voters() async throws -> String {
        let answer = try await kubectl([
            "get", "nodes", "--no-headers", "-o",
            "custom-columns=V:.status.conditions[?(@.type==\"EtcdIsVoter\")].status",
        ])
        return answer.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    func lists(_ node: String) async throws {
        try await eventually("\(node) is a ready Node", within: .seconds(60)) {
            try await kubectl(["get", "nodes", "--no-headers"]).output.split(separator: "\n")
                .contains { $0.hasPrefix(node + " ") && $0.contains(" Ready ") }
        }
    }
}

private func withStandIn(
    _ body: (StandInMachine, StandInMachine) async throws -> Void
) async throws {
    try await withLab { lab in
        for (tool, package) in [("etcd", "etcd-server"), ("etcdctl", "etcd-client")] {
            try Lab.requireTool(tool, package: package)
        }
        var machines: [StandInMachine] = []
        for name in ["a", "b"] {
            machines.append(
                StandInMachine(
                    host: try await lab.host(name), address: "172.31.79.\(machines.count + 1)",
                    directory: "\(lab.directory)/\(name)"))
        }
        _ = try await lab.lan("eth0", machines.map(\.host))
        for machine in machines {
            try await machine.host.ip("address add \(machine.address)/24 dev eth0")
            try machine.prepare()
        }
        try await body(machines[0], machines[1])
    }
}
