import Foundation
import Testing

/// The life of one K3s cluster of three servers and two agents, chapter by chapter.
struct K3sStory {
    let cluster: ClusterLab
    private var nodes: [ClusterNode] { cluster.nodes }
    /// By node, as of the founding.
    private var statuses: [ClusterStatus]

    /// Chapter one: started in any order, they found one cluster.
    init(founding cluster: ClusterLab) async throws {
        self.cluster = cluster
        let begin = ContinuousClock.now
        let start = FoundingTimes.bootTime()
        try await cluster.start(cluster.nodes.shuffled())
        statuses = try await cluster.settle(
            cluster.nodes, servers: 3, agents: 2, within: .seconds(240))
        measured("five machines, three servers of K3s, two agents", since: begin)
        try FoundingTimes(cluster.nodes, since: start).tell()
        #expect(Set(statuses.map(\.cluster.founder)).count == 1)
        let founders = nodes.filter { $0.log.contains("this node founds the cluster") }
        #expect(founders.count == 1, "\(founders.map(\.name))")
    }

    private func index(_ node: ClusterNode) -> Int {
        nodes.firstIndex { $0 === node } ?? 0
    }

    private func role(_ node: ClusterNode) -> String? { statuses[index(node)].cluster.role }
    private func address(_ node: ClusterNode) -> String { statuses[index(node)].node.ipv4 ?? "" }

    private var servers: [ClusterNode] { nodes.filter { role($0) == "server" } }
    private var agents: [ClusterNode] { nodes.filter { role($0) == "agent" } }
    private var founder: ClusterNode? {
        nodes.first { statuses[index($0)].cluster.phase == "ready" }
    }

    /// The server that this machine's configuration points at.
    private func target(of node: ClusterNode) -> ClusterNode? {
        let text = node.text(of: node.dropIn)
        return nodes.first { text.contains("server: 'https://\(address($0)):6443'") }
    }

    /// No unit and no file of the operator is touched, and `cluster-init` is gone.
    func onlyDropInsWereWritten() async throws {
        for node in nodes {
            try await eventually("\(node.name) would join another", within: .seconds(60)) {
                target(of: node).map { $0 !== node } ?? false
            }
            let text = node.text(of: node.dropIn)
            let attributes = try FileManager.default.attributesOfItem(atPath: node.dropIn)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
            #expect(!text.contains("cluster-init"), "\(node.name):\n\(text)")
            #expect(text.contains("node-ip: '\(address(node))'"))
            #expect(text.contains("flannel-iface: 'edgevpn0'"))
            #expect(text.contains("advertise-address") == (role(node) == "server"))
            let server = try #require(self.target(of: node), "\(text)")
            #expect(server !== node && role(server) == "server")
        }
    }

    func kubernetesKnowsEveryMachine() async throws {
        for server in servers {
            try await eventually("\(server.name) sees five ready Nodes", within: .seconds(60)) {
                let seen = try await server.kubernetesNodes()
                return seen.count == 5 && seen.values.allSatisfy { $0 }
            }
        }
    }

    func secretsStayWhereTheyBelong() async throws {
        // The root key signs where it is, also what the node then refuses.
        let reset = try await nodes[0].ask(["cluster", "reset", "--admin-key", cluster.adminKey])
        #expect(reset.status == 3, "\(reset.output)")
        let tokens = agents.map { $0.text(of: "\($0.files)/agent-token") }
        #expect(Set(tokens).count == agents.count && tokens.allSatisfy { $0.contains(".") })
        let secrets = try ClusterSecrets(k3s: cluster)
        try await secrets.expectNowhere(in: cluster)
        try secrets.expectServersOnly(agents: agents)
        try secrets.expectOwnersOnlyInMemory(of: cluster, agents: agents)
    }

    func theGateLetsMembersStart() async throws {
        for node in nodes {
            let isServer = role(node) == "server"
            #expect(try await node.mayStart().status == (isServer ? 0 : 3))
            #expect(try await node.mayStart(["--agent"]).status == (isServer ? 3 : 0))
        }
    }

    func theKubeconfigWorksFromAnywhere() async throws {
        let server = try #require(servers.last)
        let agent = try #require(agents.first)
        let printed = try await server.kubeconfig()
        #expect(printed.status == 0)
        let file = try cluster.lab.file("kubeconfig", printed.output)
        let answer = try await agent.host.attempt([
            standInK3s, "kubectl", "--kubeconfig", file, "get", "nodes",
        ])
        #expect(answer.status == 0 && answer.output.contains("control-plane"), "\(answer.output)")
        let refused = try await agent.kubeconfig()
        #expect(refused.status == 1 && refused.output.contains("no server"), "\(refused.output)")
    }

    /// Of the token's plan 10.1.0.0/16.
    private static let serviceAddress = "10.1.255.254"

    /// `api.<zone>` names the healthy servers, and one address leads to one of them, from every
    /// machine, with a certificate for it; also after that one died.
    func theAPIIsReachedThroughTheMesh() async throws {
        for node in nodes {
            try await node.expectAPI(at: K3sStory.serviceAddress, authority: authorityFile)
            let names = try await node.host.attempt([
                "dig", "+short", "@\(address(node))", "api.mesh.internal", "A",
            ])
            #expect(
                Set(names.output.split(separator: "\n").map(String.init))
                    == Set(servers.map { address($0) }), "\(names.output)")
        }
        let dead = try #require(servers.first)
        dead.killEverything()
        try await dead.daemon?.end(within: .seconds(5))
        let begin = ContinuousClock.now
        for node in nodes where node !== dead {
            try await node.expectAPI(at: K3sStory.serviceAddress, authority: authorityFile)
        }
        measured("the service address leads elsewhere after a server died", since: begin)
        try dead.start()
        try await nothingChanged(within: .seconds(120))
    }

    private var authorityFile: String { "\(servers[0].k3sData)/server/tls/server-ca.crt" }

    /// Killed alone after READY, the daemon leaves K3s running and finds it again.
    func k3sOutlivesTheDaemon() async throws {
        for node in [servers[0], agents[0]] {
            try await eventually("K3s runs on \(node.name)") { node.k3s() != nil }
            if role(node) == "server" { try await node.k3sServes() }
            let process = try #require(node.k3s())
            node.daemon?.send(SIGKILL)
            try await node.daemon?.end(within: .seconds(5))
            // The gate answers from the disk.
            let unit = role(node) == "server" ? [] : ["--agent"]
            #expect(try await node.mayStart(unit).status == 0)
            try node.start()
            try await cluster.settle([node], servers: 3, agents: 2, within: .seconds(60))
            #expect(node.k3s() == process, "K3s was started anew\n\(node.lastWords)")
        }
    }

    func everyMachineDies() async throws {
        for node in nodes { node.killEverything() }
        for node in nodes { try await node.daemon?.end(within: .seconds(5)) }
        let begin = ContinuousClock.now
        for node in nodes.shuffled() { try node.start() }
        try await nothingChanged(within: .seconds(150))
        measured("five machines with K3s back after all were killed", since: begin)
    }

    /// The server that an agent's configuration names dies for good: an agent that was off meanwhile
    /// and one that runs are both served by another.
    func anAgentFollowsLivingServers() async throws {
        let agent = try #require(agents.first)
        var dead = try #require(target(of: agent))
        for node in [agent, dead] {
            node.killEverything()
            try await node.daemon?.end(within: .seconds(5))
        }
        try await others(than: dead, see: [(agent, false), (dead, false)])
        // All that the agent has is a configuration that names a server which is gone.
        #expect(target(of: agent) === dead)
        try agent.start()
        try await others(than: dead, see: [(agent, true), (dead, false)])
        #expect(target(of: agent) !== dead, "\(agent.text(of: agent.dropIn))")
        try dead.start()
        try await nothingChanged(within: .seconds(120))

        dead = try #require(target(of: agent))
        dead.killEverything()
        try await dead.daemon?.end(within: .seconds(5))
        // Once the silence of the dead one is noticed, what is ready has spoken since it died.
        try await others(than: dead, see: [(agent, true), (dead, false)])
        try await eventually("its configuration names a living server", within: .seconds(60)) {
            target(of: agent).map { $0 !== dead } ?? false
        }
        try dead.start()
        try await nothingChanged(within: .seconds(120))
    }

    /// Waits until a living server's Kubernetes finds these Nodes ready or not.
    private func others(than dead: ClusterNode, see wanted: [(ClusterNode, Bool)]) async throws {
        let witness = try #require(servers.first { $0 !== dead })
        let named = wanted.map { node, isReady in
            ("\(node.name)-\(statuses[index(node)].node.id.prefix(6))", isReady)
        }
        let words = named.map { "\($0.0) is \($0.1 ? "" : "not ")ready" }.joined(separator: ", ")
        try await eventually("\(witness.name) sees that \(words)", within: .seconds(120)) {
            let nodes = try await witness.kubernetesNodes()
            return named.allSatisfy { nodes[$0.0] == $0.1 }
        }
    }

    /// K3s' directory is lost, the node's is not: a start by hand would found a second cluster.
    func theFounderLosesItsClusterData() async throws {
        let founder = try #require(self.founder)
        founder.killEverything()
        try await founder.daemon?.end(within: .seconds(5))
        try FileManager.default.removeItem(atPath: founder.k3sData)
        let gate = try await founder.mayStart()
        #expect(gate.status == 3 && gate.output.contains("lost"), "\(gate.output)")
        let begin = ContinuousClock.now
        try founder.start()
        // It learns that its member is lost, asks again under the same name, and joins.
        try await eventually("it holds data again", within: .seconds(200)) {
            let wal = "\(founder.k3sData)/server/db/etcd/member/wal"
            return FileManager.default.fileExists(atPath: wal)
        }
        try await nothingChanged(within: .seconds(150))
        measured("the founder joined after it lost K3s' data", since: begin)
        #expect(!founder.text(of: founder.dropIn).contains("cluster-init"))
        #expect(
            founder.log.split(separator: "\n")
                .count { $0.contains("this node founds the cluster") } == 1)
    }

    /// Same nodes, addresses, founder, roles, and one authority.
    private func nothingChanged(within limit: Duration) async throws {
        let now = try await cluster.settle(nodes, servers: 3, agents: 2, within: limit)
        #expect(now.map(\.node.id) == statuses.map(\.node.id))
        #expect(now.map(\.node.ipv4) == statuses.map(\.node.ipv4))
        #expect(now.map(\.cluster.founder) == statuses.map(\.cluster.founder))
        #expect(now.map(\.cluster.role) == statuses.map(\.cluster.role))
        let authorities = servers.map { $0.text(of: "\($0.k3sData)/server/tls/server-ca.crt") }
        #expect(Set(authorities).count == 1 && authorities[0].contains("BEGIN"))
    }
}

extension ClusterLab {
    /// The machine loses everything and starts with a new installation and its old host name.
    func reimage(_ node: ClusterNode) async throws {
        node.killEverything()
        try await node.daemon?.end(within: .seconds(5))
        try node.wipe()
        try node.start()
    }

    /// A server goes for good; the others have one member less, and it stays away.
    func leave(_ node: ClusterNode) async throws {
        let answer = try await node.host.attempt(
            [try Lab.binary(), "cluster", "leave", "--api", "unix:\(node.directory)/api"],
            within: .seconds(160))
        #expect(answer.status == 0, "\(answer.output)")
        #expect(node.k3s() == nil)
        let others = nodes.filter { $0 !== node }
        try await settle(others, servers: 2, agents: 0, within: .seconds(90))
        node.daemon?.send(SIGTERM)
        try await node.daemon?.end(within: .seconds(20))
        try node.start()
        try await eventually("it remembers that it left", within: .seconds(30)) {
            try await node.status()?.cluster.reason?.contains("has left") ?? false
        }
        try await settle(others, servers: 2, agents: 0, within: .seconds(30))
    }

    /// Somebody founds another cluster by hand on a machine of the mesh.
    func aForeignClusterAlarms(on node: ClusterNode) async throws {
        node.killEverything()
        try await node.daemon?.end(within: .seconds(5))
        try node.wipe()
        let configuration = "\(node.k3sConfiguration)/config.yaml"
        try FileManager.default.createDirectory(
            atPath: node.k3sConfiguration, withIntermediateDirectories: true)
        let settings = """
            cluster-init: true
            token: mine
            data-dir: \(node.k3sData)
            node-ip: 127.0.0.1
            write-kubeconfig: \(node.kubeconfig)

            """
        try settings.write(toFile: configuration, atomically: true, encoding: .utf8)
        let rogue = try node.host.start([standInK3s, "server", "--config", configuration])
        let wal = "\(node.k3sData)/server/db/etcd/member/wal"
        try await eventually("the rogue has data\n\(rogue.output)", within: .seconds(60)) {
            FileManager.default.fileExists(atPath: wal)
        }
        // Its third identity; the policy allows for one lost disk among voters.
        try node.start(["--role", "agent"])
        for other in nodes {
            try await eventually("\(other.name) tells", within: .seconds(60)) {
                let reason = try await other.status()?.cluster.reason ?? ""
                return reason.contains("this mesh did not found")
            }
        }
        let status = try #require(try await node.status())
        #expect(status.cluster.phase == "alarm")
        let others = nodes.filter { $0 !== node }
        try await settle(others, servers: 2, agents: 0, within: .seconds(30))
        #expect(others.contains { $0.log.contains("alarm: ") })
    }
}
