import Foundation

extension Lab {
    /// Members c and d that reach each other only through r, which relays without a limit:
    ///
    ///     [NAME-c .212.1] ---- [.212.2 NAME-r .213.2] ---- [.213.1 NAME-d]
    func relayed(binary: String, version: String) throws -> Candidate {
        for letter in ["r", "c", "d"] { try addSpace(letter) }
        try wire("c", "192.168.212.1", "r", "192.168.212.2")
        try wire("d", "192.168.213.1", "r", "192.168.213.2")
        _ = try start(inside("d", ["iperf3", "-s"]), log: "iperf3-d")
        let token = try newToken(binary: binary, file: "relay-token")
        var processes: [Int32] = []
        for (letter, peer) in [("c", "192.168.212.2"), ("d", "192.168.213.2"), ("r", "")] {
            let words =
                memberWords(binary: binary, token: token, name: letter, port: 7104)
                + (peer.isEmpty ? [] : ["--peer", "\(peer):7104"]) + ["--relay", "unlimited"]
            processes.append(try start(inside(letter, words), log: "relay-\(letter)"))
        }
        for _ in 0..<150 {
            Thread.sleep(forTimeInterval: 0.2)
            guard let here = try memberStatus(binary: binary, "c"),
                let there = try memberStatus(binary: binary, "d"), let target = there.node.ipv4,
                let peer = here.peers.first(where: { $0.hostname == "d" }), peer.path == "relay",
                let suite = peer.suite
            else { continue }
            return Candidate(
                name: "edgevpn-swift \(version) up, through a relay", suite: suite, target: target,
                processes: processes, from: "c", to: "d", probes: [.pings])
        }
        throw Failure("the members did not meet through the relay\n" + logs())
    }
}
