import Foundation
import Testing

/// The founding and what follows it, with real nodes and real etcd.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /
///       +-----+-switch-+----+         nothing else: they find each other by multicast DNS
///
/// Limits are generous: these tests are about what happens. How long it took is printed.
@Suite(.serialized) struct ClusterTests {
    @Test func fiveMachinesFoundOneClusterAndKeepIt() async throws {
        try await withClusterLab(
            count: 5, policy: ["--nodes", "5", "--servers", "3"]
        ) { cluster in
            let story = try await ClusterStory(founding: cluster)
            try await story.whatTheNodesWroteReplays()
            try await story.agentsUseTheDatastore()
            try await story.secretsStayWhereTheyBelong()
            try await story.theDatastoreOutlivesTheDaemon()
            try await story.theLeadersMachineDies()
            try await story.everyMachineDies()
            try await story.theFounderLosesItsDisk()
        }
    }

    /// Until READY is certified the datastore must not outlive the daemon.
    @Test func threeOfFiveAreTooFewAndAFounderMayDie() async throws {
        try await withClusterLab(
            count: 4, policy: ["--nodes", "5", "--servers", "3"]
        ) { cluster in
            let (early, late) = (Array(cluster.nodes[..<3]), cluster.nodes[3])
            try await cluster.start(early)
            try await cluster.expectNoFounding(of: early, needing: 4)

            try late.start()
            let founder = try await cluster.firstFounder()
            let others = cluster.nodes.filter { $0 !== founder }
            // READY needs four votes, and from now on there is one.
            for node in others { node.daemon?.send(SIGSTOP) }
            try await cluster.expectUncertifiedDatastore(on: founder)
            founder.daemon?.send(SIGKILL)
            try await founder.daemon?.end(within: .seconds(5))
            try await eventually("the datastore dies with the daemon", within: .seconds(3)) {
                founder.datastore() == nil
            }

            try founder.start()
            for node in others { node.daemon?.send(SIGCONT) }
            let begin = ContinuousClock.now
            let statuses = try await cluster.settle(
                cluster.nodes, servers: 3, agents: 1, within: .seconds(120))
            measured("four nodes after their founder died half-way", since: begin)
            let id = try #require(try await founder.status()).node.id
            #expect(Set(statuses.map(\.cluster.founder)) == [id])
            #expect(others.allSatisfy { !$0.log.contains("this node founds the cluster") })
        }
    }

    /// Its claim would be for ever, and nobody would found anything.
    @Test func aMachineThatCannotRunTheDatastoreDoesNotStart() async throws {
        try await withClusterLab(count: 1, policy: ["--nodes", "3"]) { cluster in
            let node = cluster.nodes[0]
            let start = try node.command(["--dns", "off"]).joined(separator: " ")
            let hidden = try await node.host.attempt(
                [
                    "unshare", "--mount", "sh", "-c",
                    "mount --bind /dev/null $(command -v etcd); \(start)",
                ])
            #expect(hidden.status == 1)
            #expect(hidden.output.contains("etcd not found"), "\(hidden.output)")
            let deviceless = try await node.host.attempt(
                try node.command(["--interface", "none"]))
            #expect(deviceless.status == 2)
            #expect(deviceless.output.contains("--interface"), "\(deviceless.output)")
            #expect(!FileManager.default.fileExists(atPath: node.state))
        }
    }

    @Test func withoutAPolicyTheMeshWorksAndFoundingIsRefused() async throws {
        try await withClusterLab(count: 2, policy: []) { cluster in
            try await cluster.start(cluster.nodes)
            let (first, second) = (cluster.nodes[0], cluster.nodes[1])
            try await eventually("the mesh works") {
                guard let address = try await second.status()?.node.ipv4 else { return false }
                return try await first.host.pings(address)
            }
            for node in cluster.nodes {
                let status = try #require(try await node.status())
                #expect(status.cluster.phase == "refused")
                #expect(status.cluster.founder == nil)
                for option in [[], ["--json"]] {
                    let answer = try await node.ask(["cluster", "status"] + option)
                    #expect(answer.status == 0)
                    #expect(answer.output.contains("refused"), "\(answer.output)")
                    #expect(answer.output.contains("no founding policy"), "\(answer.output)")
                    #expect(answer.output.contains("token new --nodes"), "\(answer.output)")
                }
                #expect(node.datastore() == nil)
            }
        }
    }
}

/// The life of one cluster of three servers and two agents, chapter by chapter.
struct ClusterStory {
    let cluster: ClusterLab
    private var nodes: [ClusterNode] { cluster.nodes }
    /// By node, as of the founding.
    private var statuses: [ClusterStatus]
    private var members: [EtcdMember] = []

    /// Chapter one: started in any order, they found one cluster.
    init(founding cluster: ClusterLab) async throws {
        self.cluster = cluster
        let order = cluster.nodes.shuffled()
        let start = FoundingTimes.bootTime()
        try await cluster.start(order)
        let begin = ContinuousClock.now
        statuses = try await cluster.settle(
            cluster.nodes, servers: 3, agents: 2, within: .seconds(150))
        measured("five nodes, three members, two agents", since: begin)
        try FoundingTimes(cluster.nodes, since: start).tell()
        #expect(
            Set(statuses.map(\.cluster.founder)).count == 1, "\(statuses.map(\.cluster.founder))")
        let founders = nodes.filter { $0.log.contains("this node founds the cluster") }
        #expect(
            founders.count == 1, "\(founders.map(\.name)) founded; started as \(order.map(\.name))")
        #expect(Set(statuses.map(\.cluster.members)).count == 1)
        #expect(Set(statuses.map(\.cluster.generation)) == [1])
        members = try await healthyMembers()
        #expect(Set(members.map(\.address)) == Set(serverAddresses))
        #expect(Set(members.map(\.id)).count == 3)
    }

    private func isServer(_ node: ClusterNode) -> Bool {
        statuses[index(node)].cluster.role == "server"
    }

    private func index(_ node: ClusterNode) -> Int {
        nodes.firstIndex { $0 === node } ?? 0
    }

    private var servers: [ClusterNode] { nodes.filter { isServer($0) } }
    private var agents: [ClusterNode] { nodes.filter { !isServer($0) } }

    private func address(_ node: ClusterNode) -> String { statuses[index(node)].node.ipv4 ?? "" }

    private var serverAddresses: [String] { servers.map { address($0) } }

    /// The members, once every server's own endpoint is healthy and all list the same.
    private func healthyMembers() async throws -> [EtcdMember] {
        var lists: Set<[EtcdMember]> = []
        for server in servers {
            try await eventually("\(server.name) is healthy", within: .seconds(60)) {
                try await server.etcdctl(["endpoint", "health"], at: [address(server)]).status == 0
            }
            let list = try await server.etcdctl(["member", "list"], at: [address(server)])
            lists.insert(EtcdMember.list(list.output))
        }
        #expect(lists.count == 1)
        return lists.first ?? []
    }

    /// The simulator's cores want and are what the daemons' were; a changed line is named.
    func whatTheNodesWroteReplays() async throws {
        let replay = [try Lab.binary(), "simulate", "--replay"]
        for node in nodes {
            let told = try await node.host.attempt(replay + [node.foundingLog])
            #expect(told.status == 0, "\(node.name): \(told.output.suffix(2_000))")
            #expect(told.output.contains("is ready (4 votes)"))
            #expect(told.output.contains("the same run"))
        }
        let lines = nodes[0].text(of: nodes[0].foundingLog).split(separator: "\n").map(String.init)
        let vote = try #require(lines.lastIndex { $0.contains(" founding message ") })
        var changed = lines
        changed[vote].append(changed[vote].removeLast() == "0" ? "1" : "0")
        let file = try cluster.lab.file("changed.log", changed.joined(separator: "\n") + "\n")
        let told = try await nodes[0].host.attempt(replay + [file])
        #expect(told.status == 1)
        #expect(told.output.contains("line \(vote + 2) was written as"), "\(told.output)")
        #expect(told.output.contains("badSignature"), "\(told.output)")
    }

    func agentsUseTheDatastore() async throws {
        #expect(agents.count == 2)
        for agent in agents {
            let works = try await agent.canUse(serverAddresses, key: "from-\(agent.name)")
            #expect(works, "\(agent.name) cannot write and read")
            #expect(agent.datastore() == nil)
            #expect(!FileManager.default.fileExists(atPath: "\(agent.files)/ca.key"))
        }
    }

    /// Killed alone after READY, the daemon leaves the datastore running and finds it again.
    func theDatastoreOutlivesTheDaemon() async throws {
        let node = try #require(servers.first)
        let process = try #require(node.datastore())
        node.daemon?.send(SIGKILL)
        try await node.daemon?.end(within: .seconds(5))
        try await Task.sleep(for: .seconds(1))
        #expect(node.datastore() == process)
        let begin = ContinuousClock.now
        try node.start()
        try await cluster.settle([node], servers: 3, agents: 2, within: .seconds(60))
        measured("a restarted daemon is back in its cluster", since: begin)
        #expect(node.datastore() == process, "the datastore was started anew")
        try await nothingChanged()
    }

    /// Kills the machine that leads the datastore; another takes over, and it comes back as itself.
    func theLeadersMachineDies() async throws {
        let leader = try await leader()
        let survivor = try #require(servers.first { $0 !== leader })
        leader.killEverything()
        let begin = ContinuousClock.now
        try await eventually("the datastore is writable again", within: .seconds(60)) {
            try await survivor.etcdctl(
                ["put", "after", "the leader"], at: [address(survivor)], within: 1
            ).status == 0
        }
        measured("writable without the leader", since: begin)
        try leader.start()
        let back = ContinuousClock.now
        try await cluster.settle(nodes, servers: 3, agents: 2, within: .seconds(90))
        measured("the leader's machine is back", since: back)
        try await nothingChanged()
    }

    func everyMachineDies() async throws {
        for node in nodes { node.killEverything() }
        for node in nodes { try await node.daemon?.end(within: .seconds(5)) }
        let begin = ContinuousClock.now
        for node in nodes.shuffled() { try node.start() }
        try await cluster.settle(nodes, servers: 3, agents: 2, within: .seconds(120))
        measured("five nodes back after all were killed", since: begin)
        try await nothingChanged()
        let read = try await servers[0].etcdctl(
            ["get", "after", "--print-value-only"], at: [address(servers[0])])
        #expect(read.output.contains("the leader"))
    }

    /// Comes back as a new identity under its old host name, and gets its former place in what it
    /// once founded.
    func theFounderLosesItsDisk() async throws {
        let founder = try #require(nodes.first { statuses[index($0)].cluster.phase == "ready" })
        let old = statuses[index(founder)]
        founder.killEverything()
        try await founder.daemon?.end(within: .seconds(5))
        try FileManager.default.removeItem(atPath: founder.state)
        let begin = ContinuousClock.now
        try founder.start()
        let seen = try await cluster.settle(nodes, servers: 3, agents: 2, within: .seconds(200))
        measured("the wiped founder joined", since: begin)
        let new = seen[index(founder)]
        #expect(new.node.id != old.node.id)
        #expect(new.cluster.phase == "joined")
        #expect(new.cluster.role == "server")
        #expect(Set(seen.map(\.cluster.founder)) == [old.node.id])
        let lines = founder.log.split(separator: "\n")
        #expect(lines.count { $0.contains("this node founds the cluster") } == 1)
    }

    /// Same nodes, addresses, founder and members as at the founding.
    private func nothingChanged() async throws {
        let now = try await cluster.settle(nodes, servers: 3, agents: 2, within: .seconds(60))
        #expect(now.map(\.node.id) == statuses.map(\.node.id))
        #expect(now.map(\.node.ipv4) == statuses.map(\.node.ipv4))
        #expect(now.map(\.cluster.founder) == statuses.map(\.cluster.founder))
        #expect(now.map(\.cluster.phase) == statuses.map(\.cluster.phase))
        #expect(now.map(\.cluster.role) == statuses.map(\.cluster.role))
        #expect(try await healthyMembers() == members)
    }

    private func leader() async throws -> ClusterNode {
        for server in servers {
            let answer = try await server.etcdctl(
                ["endpoint", "status", "--write-out=simple"], at: [address(server)])
            // endpoint, id, version, size, is leader, ...
            let fields = answer.output.split(separator: ",").map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            if fields.count > 4, fields[4] == "true" { return server }
        }
        throw LabFailure("no leader")
    }

    func secretsStayWhereTheyBelong() async throws {
        // The root key signs where it is, also what the node then refuses.
        let reset = try await nodes[0].ask(["cluster", "reset", "--admin-key", cluster.adminKey])
        #expect(reset.status == 3, "\(reset.output)")
        let secrets = try ClusterSecrets(cluster)
        try await secrets.expectNowhere(in: cluster)
        try secrets.expectOwnersOnlyInMemory(of: cluster, agents: agents)
    }
}

/// A line of `etcdctl member list`.
struct EtcdMember: Hashable {
    var id: String
    var name: String
    var address: String

    static func list(_ text: String) -> [EtcdMember] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ",").map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            guard fields.count == 6, fields[1] == "started", fields[5] == "false",
                let url = URL(string: fields[3]), let host = url.host
            else { return nil }
            return EtcdMember(id: fields[0], name: fields[2], address: host)
        }.sorted { $0.id < $1.id }
    }
}

/// Says how long something took; nobody fails because a machine is slow.
func measured(_ what: String, since begin: ContinuousClock.Instant) {
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    print("measured: \(what): \(Int(seconds * 10) / 10).\(Int(seconds * 10) % 10) s")
}
