import Foundation
import Testing

/// Every test with whole nodes: one at a time, since each of them is several programs that wait
/// for each other.
@Suite(.serialized) enum MeshTests {}

/// A mesh under test: one token, and machines with a node each.
final class MeshLab: Sendable {
    let lab: Lab
    let token: String

    fileprivate init(lab: Lab) async throws {
        self.lab = lab
        token = try await MeshLab.newToken(lab)
    }

    /// The token of a new mesh called `lab`.
    static func newToken(_ lab: Lab) async throws -> String {
        let command = [try Lab.binary(), "token", "new", "--name", "lab", "--dht", "off"]
        let output = try await LabProcess.start(command, in: lab.directory).succeed(
            within: .seconds(20))
        let lines = output.split(separator: "\n")
        return String(try #require(lines.first { $0.hasPrefix("evpn1") }))
    }

    /// A machine without any network.
    func machine(_ name: String, token other: String? = nil) async throws -> MeshMachine {
        MeshMachine(
            host: try await lab.host(name),
            tokenPath: try lab.file("token-\(name)", "\(other ?? token)\n"))
    }

    /// Machines on one switch, with the addresses 192.168.60.1 and so on on `lan0`.
    func lan(_ names: [String]) async throws -> [MeshMachine] {
        var machines: [MeshMachine] = []
        for name in names { machines.append(try await machine(name)) }
        try await connect(machines)
        return machines
    }

    func connect(_ machines: [MeshMachine]) async throws {
        _ = try await lab.lan("lan0", machines.map(\.host))
        for (index, machine) in machines.enumerated() {
            try await machine.host.ip("addr add 192.168.60.\(index + 1)/24 dev lan0")
        }
    }

    /// State directories are not flat, so they go before the lab removes its own files.
    fileprivate func removeStates() {
        let files = FileManager.default
        let names = (try? files.contentsOfDirectory(atPath: lab.directory)) ?? []
        for name in names where name.hasPrefix("state-") {
            try? files.removeItem(atPath: "\(lab.directory)/\(name)")
        }
    }
}

/// Runs `body` with a fresh mesh and removes everything afterwards.
func withMesh(_ body: (MeshLab) async throws -> Void) async throws {
    try await withLab { lab in
        let mesh = try await MeshLab(lab: lab)
        defer { mesh.removeStates() }
        try await body(mesh)
    }
}

/// One machine of a mesh; its node runs between ``start(_:)`` and a signal.
struct MeshMachine: Sendable {
    let host: LabHost
    let tokenPath: String

    var name: String { host.name }
    var directory: String { host.lab.directory }
    var state: String { "\(directory)/state-\(name)" }
    var api: String { "unix:\(directory)/\(name).sock" }

    /// What `up` is told, unless a test says otherwise behind it.
    var upCommand: [String] {
        get throws {
            [
                try Lab.binary(), "up", "--token-file", tokenPath, "--state-dir", state,
                "--hostname", name, "--api", api, "--dht", "off",
            ]
        }
    }

    /// Starts the node and does not wait for it.
    func start(_ options: [String] = []) throws -> LabProcess {
        try host.start(try upCommand + options)
    }

    /// Starts the node and waits until it answers.
    func up(_ options: [String] = []) async throws -> LabProcess {
        let process = try start(options)
        try await answers(process)
        return process
    }

    /// Waits until the node's API answers; fails at once when the node ends before.
    func answers(_ process: LabProcess) async throws {
        try await eventually("\(name) answers\n\(process.output)") {
            if let code = process.exitCode {
                throw LabFailure("\(name) ended with exit code \(code)\n\(process.output)")
            }
            return try await ask(["status", "--json"]).status == 0
        }
    }

    /// Runs a command that talks to the node.
    func ask(_ words: [String]) async throws -> (status: Int32, output: String) {
        try await host.attempt([try Lab.binary()] + words + ["--api", api])
    }

    func status() async throws -> MeshStatus {
        let answer = try await ask(["status", "--json"])
        guard answer.status == 0 else {
            throw LabFailure("no status of \(name): \(answer.output)")
        }
        return try JSONDecoder().decode(MeshStatus.self, from: Data(answer.output.utf8))
    }

    /// The state of the peer called `peer` as this node sees it.
    func state(of peer: String) async throws -> String? {
        try await status().peers.first { $0.hostname == peer }?.state
    }

    /// Waits until this node sees `peer` in `state`.
    func sees(
        _ peer: MeshMachine, _ state: String, within limit: Duration = .seconds(20)
    ) async throws {
        try await eventually("\(name) sees \(peer.name) as \(state)", within: limit) {
            try await self.state(of: peer.name) == state
        }
    }

    /// Asks the name server at `server`, an own overlay address; the response code and the data.
    func resolve(_ name: String, _ type: String, at server: String) async throws
        -> (code: String, data: [String])
    {
        let answer = try await host.attempt([
            "dig", "+time=1", "+tries=2", "+noall", "+comments", "+answer", "@\(server)", name,
            type,
        ])
        let words = answer.output.split(whereSeparator: { " ,\n".contains($0) }).map(String.init)
        let code = words.firstIndex(of: "status:").map { words[$0 + 1] } ?? "none"
        let data = answer.output.split(separator: "\n").filter { !$0.hasPrefix(";") }
            .compactMap { $0.split(whereSeparator: \.isWhitespace).last.map(String.init) }
        return (code, data)
    }

    /// Waits until each overlay address of `peer` answers an echo request through the interface.
    func reaches(_ peer: MeshMachine, within limit: Duration = .seconds(20)) async throws {
        let node = try await peer.status().node
        for address in [node.ipv4, node.ipv6].compactMap({ $0 }) {
            try await eventually("\(name) reaches \(peer.name) at \(address)", within: limit) {
                try await host.pings(address)
            }
        }
    }

    /// Every file below the state directory with its content and mode; `nil` when there is none.
    ///
    /// The lock file is left out: whoever holds or tried the lock writes its process id there.
    func snapshot() throws -> [String: StateFile]? {
        let files = FileManager.default
        guard files.fileExists(atPath: state) else { return nil }
        var result: [String: StateFile] = [:]
        for name in try files.subpathsOfDirectory(atPath: state) where name != "lock" {
            let path = "\(state)/\(name)"
            let attributes = try files.attributesOfItem(atPath: path)
            result[name] = StateFile(
                content: files.contents(atPath: path),
                mode: attributes[.posixPermissions] as? Int ?? -1)
        }
        return result
    }
}

struct StateFile: Equatable {
    var content: Data?
    var mode: Int
}

/// The parts of `status --json` that tests read.
struct MeshStatus: Decodable, Sendable {
    struct Node: Decodable, Equatable, Sendable {
        var id: String
        var hostname: String
        var ipv4: String?
        var ipv6: String?
        var port: Int?
        var mapped: String?
        var mappedBy: String?
        var nat: String?
        var observed: [String]?

        /// Without what others have to say first.
        var own: Node {
            var own = self
            own.nat = nil
            own.observed = nil
            return own
        }
    }

    struct Peer: Decodable, Sendable {
        var id: String
        var hostname: String?
        var ipv4: String?
        var ipv6: String?
        var state: String
        var endpoint: String?
        var path: String?
        var pathReason: String?
        var suite: String?
        var via: String?
        var relay: String?
        var candidates: [String]?
        var rxBytes: Int?
    }

    struct DHT: Decodable, Sendable {
        var mode: String
        var nodesIPv4: Int
        var nodesIPv6: Int
        var reachable: Bool
        var observedIPv4: String?
        var observedIPv6: String?
        var storedItems: Int
        var storedPeers: Int
    }

    var node: Node
    var peers: [Peer]
    var dht: DHT?
    var drops: [String: Int]?
}

// MARK: - Measuring

/// A whole number from the environment, for runs that are longer than those of every day.
func setting(_ name: String, default usual: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap(Int.init) ?? usual
}

/// Prints the median of `durations` with the extremes; figures are for people, not for asserting.
func report(_ what: String, _ durations: [Duration]) {
    let sorted = durations.sorted()
    guard let least = sorted.first, let most = sorted.last else { return }
    let median = sorted[sorted.count / 2]
    let figures = [median, least, most].map { "\($0 / .milliseconds(1))".prefix { $0 != "." } }
    print(
        "measured: \(what): median \(figures[0]) ms, \(figures[1]) to \(figures[2]) ms, "
            + "\(sorted.count) runs")
}
