import Foundation

/// What `status --json` says, as far as it matters here.
struct MeshStatus: Decodable {
    struct Node: Decodable {
        let ipv4: String?
    }
    struct Peer: Decodable {
        let hostname: String?
        let state: String
        let path: String?
        let suite: String?
    }
    let node: Node
    let peers: [Peer]
}

extension Lab {
    /// Two members of a mesh. They choose their suite and their addresses themselves.
    func mesh(binary: String, version: String) throws -> Candidate {
        let token = try newToken(binary: binary, file: "token")
        var processes: [Int32] = []
        for side in Side.allCases {
            let words =
                memberWords(binary: binary, token: token, name: side.rawValue, port: 7103)
                + ["--peer", "\(side.other.outer):7103"]
            processes.append(try start(inside(side, words), log: "mesh-\(side.rawValue)"))
        }
        for _ in 0..<100 {
            Thread.sleep(forTimeInterval: 0.2)
            guard let target = try memberStatus(binary: binary, "b")?.node.ipv4,
                let suite = try meshSuite(binary: binary)
            else { continue }
            return Candidate(
                name: "edgevpn-swift \(version) up", suite: suite, target: target,
                processes: processes)
        }
        throw Failure("the members did not meet\n" + logs())
    }

    /// The suite between the two members, when each sees the other alive and both name the same.
    func meshSuite(binary: String) throws -> String? {
        var suites: Set<String> = []
        for side in Side.allCases {
            guard let peer = try memberStatus(binary: binary, side.rawValue)?.peers.first,
                peer.state == "alive", let suite = peer.suite
            else { return nil }
            suites.insert(suite)
        }
        return suites.count == 1 ? suites.first : nil
    }

    /// The path of a file with a new mesh's token.
    func newToken(binary: String, file: String) throws -> String {
        let made = try execute([
            binary, "token", "new", "--dht", "off", "--admin-key", "\(directory)/\(file).key",
        ])
        guard made.output.split(separator: "\n").count == 1 else {
            throw Failure("token new printed more than the token")
        }
        try write(made.output, to: "\(directory)/\(file)")
        return "\(directory)/\(file)"
    }

    func memberWords(
        binary: String, token: String, name: String, port: Int, interface: String = "mesh0"
    ) -> [String] {
        [
            binary, "up", "--token-file", token, "--state-dir", "\(directory)/state-\(name)",
            "--hostname", name, "--api", api(name), "--dht", "off", "--no-mdns", "--dns", "off",
            "--role", "none", "--listen", "\(port)", "--interface", interface,
        ]
    }

    func memberStatus(binary: String, _ name: String) throws -> MeshStatus? {
        let shown = try execute([binary, "status", "--json", "--api", api(name)], mayFail: true)
        guard shown.status == 0 else { return nil }
        return try? JSONDecoder().decode(MeshStatus.self, from: Data(shown.output.utf8))
    }

    private func api(_ name: String) -> String { "unix:\(directory)/\(name).sock" }
}
