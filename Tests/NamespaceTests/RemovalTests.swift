import Foundation
import Testing

/// A server dies for good, and its machine comes back under another name.
///
///     n1    n2    n3    n4      172.31.78.1 ... .4 on eth0
///      \     \    |    /
///       +-----+-switch
@Suite(.serialized) struct RemovalTests {
    @Test(arguments: [ClusterLab.Kind.etcd, .k3s])
    func anOperatorTakesADeadServerOut(_ kind: ClusterLab.Kind) async throws {
        try await withClusterLab(
            count: 4, policy: ["--nodes", "4", "--servers", "3"], kind: kind
        ) { cluster in
            let nodes = cluster.nodes
            try await cluster.start(nodes.shuffled())
            let before = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(240))
            let servers = nodes.indices.filter { before[$0].cluster.role == "server" }
            let agent = try #require(nodes.indices.first { !servers.contains($0) })
            let (asked, dead) = (nodes[servers[0]], nodes[servers[1]])
            let living = nodes.filter { $0 !== dead }

            // What lives is not removed, and who serves nothing removes nobody.
            let hasty = try await asked.remove(dead.name)
            #expect(hasty.status == 3 && hasty.output.contains("is alive"), "\(hasty.output)")
            let itself = try await asked.remove(asked.name)
            #expect(itself.status == 3 && itself.output.contains("leave"), "\(itself.output)")
            #expect(try await asked.remove("nobody").status == 2)
            let stranger = try await nodes[agent].remove(dead.name)
            #expect(stranger.status == 1, "\(stranger.output)")

            dead.killEverything()
            try await dead.daemon?.end(within: .seconds(5))
            try await eventually("its death is known", within: .seconds(60)) {
                let answer = try await asked.remove(dead.name)
                #expect([0, 3].contains(answer.status), "\(answer.output)")
                return answer.status == 0
            }
            try await cluster.settle(living, servers: 2, agents: 1, within: .seconds(60))
            #expect(try await asked.remove(dead.name).status == 2)

            // A new machine has the free place.
            try dead.wipe()
            try dead.start(["--hostname", "fresh"])
            let after = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(200))
            #expect(after[servers[1]].cluster.role == "server")
            #expect(after[servers[1]].node.id != before[servers[1]].node.id)
            #expect(Set(after.map(\.cluster.founder)) == Set(before.map(\.cluster.founder)))
            if kind == .k3s {
                try await cluster.agentIsTakenOut(nodes[agent], by: asked)
            }
        }
    }
}

extension ClusterLab {
    /// What it copied of its token is worth nothing; when it comes back, it asks for another.
    fileprivate func agentIsTakenOut(_ agent: ClusterNode, by server: ClusterNode) async throws {
        let copy = agent.agentToken
        #expect(try await server.answer(to: copy) == "200")
        agent.killEverything()
        try await agent.daemon?.end(within: .seconds(5))
        try await eventually("it is taken out", within: .seconds(60)) {
            try await server.remove(agent.name).status == 0
        }
        #expect(try await server.answer(to: copy) == "401")
        try agent.start()
        try await settle(nodes, servers: 3, agents: 1, within: .seconds(200))
        #expect(agent.agentToken != copy)
        #expect(try await server.answer(to: agent.agentToken) == "200")
        #expect(try await server.answer(to: copy) == "401")
    }
}

extension ClusterNode {
    fileprivate var agentToken: String {
        text(of: "\(files)/agent-token").trimmingCharacters(in: .newlines)
            .components(separatedBy: "::").last ?? ""
    }

    /// The status with which this server's supervisor answers whoever shows `token`.
    fileprivate func answer(to token: String) async throws -> String {
        let header = try host.lab.file("header", "Authorization: Bearer \(token)\n")
        return try await host.attempt([
            "curl", "--silent", "--cacert", "\(k3sData)/server/tls/server-ca.crt", "--header",
            "@\(header)", "--output", "/dev/null", "--write-out", "%{http_code}",
            "https://127.0.0.1:6443/v1-k3s/readyz",
        ]).output
    }

    fileprivate func remove(_ machine: String) async throws -> (status: Int32, output: String) {
        try await host.attempt(
            [
                try Lab.binary(), "cluster", "remove", machine, "--api", "unix:\(directory)/api",
            ], within: .seconds(90))
    }
}
