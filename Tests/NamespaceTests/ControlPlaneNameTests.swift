// Three machines on a switch, which found one etcd cluster.

import Foundation
import Testing

extension MeshTests {
    @Suite struct ControlPlaneNameTests {
        /// `api` is not there before there is a cluster, then has every ready server's address on
        /// every machine, and loses that of a machine that dies. No machine can be called so.
        @Test func theNameOfTheControlPlaneFollowsItsServers() async throws {
            try await withClusterLab(count: 3, policy: ["--nodes", "3", "--servers", "3"]) {
                cluster in
                let first = cluster.nodes[0]
                try first.start()
                try await eventually("a lone node answers") {
                    try await first.resolve("api")?.code == "NXDOMAIN"
                }
                for node in cluster.nodes.dropFirst() { try node.start() }
                let statuses = try await cluster.settle(
                    cluster.nodes, servers: 3, agents: 0, within: .seconds(120))
                let addresses = statuses.compactMap(\.node.ipv4)
                for node in cluster.nodes {
                    try await eventually("\(node.name) knows all servers by their name") {
                        Set(try await node.resolve("api")?.data ?? []) == Set(addresses)
                    }
                }
                let published = try await first.ask(["dns", "add", "api", "A", "10.1.0.1"])
                #expect(published.status == 2, "\(published.output)")

                let victim = cluster.nodes[2]
                victim.killEverything()
                let rest = Set(addresses.dropLast())
                for node in cluster.nodes.dropLast() {
                    try await eventually(
                        "\(node.name) forgets the dead server", within: .seconds(60)
                    ) {
                        Set(try await node.resolve("api")?.data ?? []) == rest
                    }
                }
            }
        }
    }
}

extension ClusterNode {
    /// Asks the node's own name server for IPv4 addresses below the zone; `nil` while it is silent.
    fileprivate func resolve(_ name: String) async throws -> (code: String, data: [String])? {
        guard let server = try await status()?.node.ipv6 else { return nil }
        let answer = try await host.attempt([
            "dig", "+time=1", "+tries=1", "+noall", "+comments", "+answer", "@\(server)",
            "\(name).mesh.internal", "A",
        ])
        let words = answer.output.split(whereSeparator: { " ,\n".contains($0) }).map(String.init)
        guard let code = words.firstIndex(of: "status:").map({ words[$0 + 1] }) else { return nil }
        let data = answer.output.split(separator: "\n").filter { !$0.hasPrefix(";") }
            .compactMap { $0.split(whereSeparator: \.isWhitespace).last.map(String.init) }
        return (code, data)
    }
}
