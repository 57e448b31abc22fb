import Foundation

/// What `status --json` says, as far as it matters here.
private struct MeshStatus: Decodable {
    struct Node: Decodable {
        let ipv4: String?
    }
    struct Peer: Decodable {
        let state: String
        let suite: String?
    }
    let node: Node
    let peers: [Peer]
}

extension Lab {
    /// Two members of a mesh. They choose their suite and their addresses themselves.
    func mesh(binary: String, version: String) throws -> Candidate {
        let token = "\(directory)/token"
        let made = try execute([
            binary, "token", "new", "--dht", "off", "--admin-key", "\(directory)/root.key",
        ])
        guard made.output.split(separator: "\n").count == 1 else {
            throw Failure("token new printed more than the token")
        }
        try write(made.output, to: token)
        var processes: [Process] = []
        for side in Side.allCases {
            let words = [
                binary, "up", "--token-file", token, "--state-dir",
                "\(directory)/state-\(side.rawValue)", "--hostname", side.rawValue, "--api",
                api(side), "--dht", "off", "--no-mdns", "--dns", "off", "--role", "none",
                "--listen", "7103", "--peer", "\(side.other.outer):7103", "--interface", "mesh0",
            ]
            processes.append(try start(inside(side, words), log: "mesh-\(side.rawValue)"))
        }
        for _ in 0..<100 {
            Thread.sleep(forTimeInterval: 0.2)
            guard let target = try meshStatus(binary: binary, .b)?.node.ipv4,
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
            guard let peer = try meshStatus(binary: binary, side)?.peers.first,
                peer.state == "alive", let suite = peer.suite
            else { return nil }
            suites.insert(suite)
        }
        return suites.count == 1 ? suites.first : nil
    }

    private func meshStatus(binary: String, _ side: Side) throws -> MeshStatus? {
        let shown = try execute([binary, "status", "--json", "--api", api(side)], mayFail: true)
        guard shown.status == 0 else { return nil }
        return try? JSONDecoder().decode(MeshStatus.self, from: Data(shown.output.utf8))
    }

    private func api(_ side: Side) -> String { "unix:\(directory)/\(side.rawValue).sock" }
}
