import Foundation
import Testing

/// The stand-in for K3s beside the tests; EDGEVPN_TEST_K3S names a real one in its place.
let standInK3s =
    ProcessInfo.processInfo.environment["EDGEVPN_TEST_K3S"]
    ?? URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "K3sStandIn/k3s").path

/// Whether these words of a command line are that K3s as a server or an agent, with or without an
/// interpreter before it.
func isK3s(_ words: [Substring]) -> Bool {
    guard let place = words.prefix(2).firstIndex(where: { $0 == standInK3s }) else { return false }
    return words.count > place + 1 && ["server", "agent"].contains(words[place + 1])
}

extension ClusterNode {
    var k3sData: String { "\(directory)/k3s" }
    var k3sConfiguration: String { "\(directory)/etc/k3s" }
    var dropIn: String { "\(k3sConfiguration)/config.yaml.d/90-edgevpn.yaml" }
    var kubeconfig: String { "\(k3sConfiguration)/k3s.yaml" }

    var k3sOptions: [String] {
        [
            "--k3s-binary", standInK3s, "--k3s-data-dir", k3sData, "--k3s-config-dir",
            k3sConfiguration,
        ]
    }

    /// The K3s process, if it runs.
    func k3s() -> Int32? {
        processes().first { process in
            isK3s(Lab.contents(of: "/proc/\(process)/cmdline")?.split(separator: "\0") ?? [])
        }
    }

    /// Waits until this machine's own server answers out of the datastore. What others say of it may
    /// be older than its last start, and before it serves it ends when its addresses go.
    func k3sServes() async throws {
        try await eventually("K3s serves on \(name)", within: .seconds(60)) {
            try await !self.kubernetesNodes().isEmpty
        }
    }

    /// What the daemon and K3s said last, for a failing test.
    var lastWords: String {
        log.split(separator: "\n").suffix(12).joined(separator: "\n    ") + "\n    " + k3sLog
    }

    /// Runs the stand-in's kubectl with this server's administrator's configuration.
    func kubectl(_ words: [String]) async throws -> (status: Int32, output: String) {
        try await host.attempt([standInK3s, "kubectl", "--kubeconfig", kubeconfig] + words)
    }

    /// The Nodes that Kubernetes lists, by name, with whether each is ready.
    func kubernetesNodes() async throws -> [String: Bool] {
        let answer = try await kubectl(["get", "nodes"])
        guard answer.status == 0 else { return [:] }
        let rows = answer.output.split(separator: "\n").dropFirst()
            .map { $0.split(separator: " ") }
        return Dictionary(uniqueKeysWithValues: rows.map { (String($0[0]), $0[1] == "Ready") })
    }

    /// What a unit asks before it starts.
    func mayStart(_ options: [String] = []) async throws -> (status: Int32, output: String) {
        try await host.attempt(
            [
                try Lab.binary(), "cluster", "may-start", "--state-dir", state, "--k3s-data-dir",
                k3sData, "--k3s-config-dir", k3sConfiguration,
            ] + options)
    }

    func kubeconfig() async throws -> (status: Int32, output: String) {
        try await host.attempt([
            try Lab.binary(), "cluster", "kubeconfig", "--state-dir", state, "--k3s-config-dir",
            k3sConfiguration,
        ])
    }

    /// A server answers at `address`, and its certificate is for it.
    func expectAPI(at address: String, authority: String) async throws {
        try await eventually("\(name) reaches the API at \(address)", within: .seconds(60)) {
            let answer = try await host.attempt([
                "curl", "--silent", "--show-error", "--max-time", "4", "--cacert", authority,
                "https://\(address):6443/ping",
            ])
            return answer.output == "pong"
        }
    }

    func text(of path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }

    /// The last words of K3s, for a failing test.
    var k3sLog: String {
        text(of: "\(files)/k3s.log").split(separator: "\n").suffix(8).joined(separator: "\n    ")
    }

    /// Loses everything that `k3s` and the daemon keep on this machine.
    func wipe() throws {
        for path in [state, k3sData, "\(directory)/etc"]
        where FileManager.default.fileExists(atPath: path) {
            try FileManager.default.removeItem(atPath: path)
        }
    }
}
