import ArgumentParser
import HTTPAPI

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the node, its peers and its cluster.")

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let client = try node.client()
        let status = try await asking { () async throws(APIClientFailure) in
            try await client.status()
        }
        try output.show(status) { describe(status) }
    }

    private func describe(_ status: StatusModel) -> String {
        let alive = status.peers.count { $0.state == .alive }
        var rows = [
            ["node", status.node.id],
            ["hostname", status.node.hostname],
            ["ipv4", status.node.ipv4 ?? "not claimed"],
            ["ipv6", status.node.ipv6 ?? "unknown"],
            ["udp port", status.node.port.map(String.init) ?? "unknown"],
            ["version", status.node.version],
            ["peers", "\(status.peers.count) known, \(alive) alive"],
            ["cluster", status.cluster.phase.rawValue],
        ]
        if let nat = status.node.nat { rows.insert(["nat", nat], at: rows.count - 1) }
        if let seen = status.node.observed?.first {
            rows.insert(["seen at", seen], at: rows.count - 1)
        }
        if let dht = status.dht { rows.insert(["dht", describe(dht)], at: rows.count - 1) }
        for warning in status.node.warnings ?? [] { rows.append(["warning", warning]) }
        if let role = status.cluster.role { rows.append(["role", role]) }
        if let founder = status.cluster.founder { rows.append(["founder", founder]) }
        if let reason = status.cluster.reason, !reason.isEmpty { rows.append(["", reason]) }
        return table(["", ""], rows).split(separator: "\n").dropFirst().joined(separator: "\n")
    }

    private func describe(_ dht: DHTModel) -> String {
        guard dht.mode != "off" else { return "off" }
        let role = dht.mode == "public" && !dht.reachable ? ", only asking" : ""
        return "\(dht.mode), \(dht.nodesIPv4 + dht.nodesIPv6) nodes\(role)"
    }
}
