import Foundation
import Testing

/// Three servers and two agents of K3s, by the stand-in over real etcd.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /
///       +-----+-switch-+----+
@Suite(.serialized) struct K3sTests {
    @Test func fiveMachinesFoundOneK3sClusterAndKeepIt() async throws {
        try await withClusterLab(
            count: 5, policy: ["--nodes", "5", "--servers", "3"], kind: .k3s
        ) { cluster in
            let story = try await K3sStory(founding: cluster)
            try await story.onlyDropInsWereWritten()
            try await story.kubernetesKnowsEveryMachine()
            try await story.secretsStayWhereTheyBelong()
            try await story.theGateLetsMembersStart()
            try await story.theKubeconfigWorksFromAnywhere()
            try await story.theAPIIsReachedThroughTheMesh()
            try await story.k3sOutlivesTheDaemon()
            try await story.everyMachineDies()
            try await story.anAgentFollowsLivingServers()
            try await story.theFounderLosesItsClusterData()
        }
    }

    /// One server first; two machines come later and become servers, too.
    @Test func oneServerGrowsToThree() async throws {
        try await withClusterLab(
            count: 4, policy: ["--nodes", "3", "--disk-losses", "0"], kind: .k3s
        ) { cluster in
            let pair = Array(cluster.nodes[..<2])
            try await cluster.start(pair)
            let founder = try await cluster.firstFounder()
            // Two of three voters decide; then the founder is left alone with its cluster.
            try await eventually("READY", within: .seconds(120), every: .milliseconds(20)) {
                try await founder.status()?.cluster.phase == "ready"
            }
            for node in pair where node !== founder {
                node.killEverything()
                try await node.daemon?.end(within: .seconds(5))
                try node.wipe()
            }
            try await cluster.settle([founder], servers: 1, agents: 0, within: .seconds(60))
            #expect(try await founder.mayStart().status == 0)
            // Without its data not even K3s by hand would found another: it is to join itself.
            let alone = founder.text(of: founder.dropIn)
            #expect(!alone.contains("cluster-init") && alone.contains("server: 'https://"))
            let begin = ContinuousClock.now
            try await cluster.start(cluster.nodes.filter { $0 !== founder })
            try await cluster.settle(
                cluster.nodes, servers: 3, agents: 1, within: .seconds(240))
            measured("one server grew to three, and an agent", since: begin)
            try await eventually("the founder would join another", within: .seconds(60)) {
                founder.text(of: founder.dropIn) != alone
            }
        }
    }

    @Test func aReimagedMachineComesBackUnderItsOldName() async throws {
        try await withClusterLab(count: 3, policy: ["--nodes", "3"], kind: .k3s) { cluster in
            try await cluster.start(cluster.nodes.shuffled())
            let before = try await cluster.settle(
                cluster.nodes, servers: 3, agents: 0, within: .seconds(240))
            let machine = cluster.nodes[2]
            let old = before[2].node.id
            try await cluster.reimage(machine)
            let after = try await cluster.settle(
                cluster.nodes, servers: 3, agents: 0, within: .seconds(240))
            #expect(after[2].node.id != old)
            #expect(Set(after.map(\.cluster.founder)) == Set(before.map(\.cluster.founder)))
            let names = try await cluster.nodes[0].kubernetesNodes().keys
            #expect(names.count == 3 && names.contains { $0 == "n3-\(after[2].node.id.prefix(6))" })
            #expect(!names.contains { $0 == "n3-\(old.prefix(6))" }, "\(names)")

            try await cluster.leave(machine)
            try await cluster.aForeignClusterAlarms(on: machine)
        }
    }

    /// Two of three disks are lost, and an operator goes back to a snapshot on the third.
    @Test func anOperatorRestoresASnapshot() async throws {
        try await withClusterLab(count: 3, policy: ["--nodes", "3"], kind: .k3s) { cluster in
            let nodes = cluster.nodes
            try await cluster.start(nodes.shuffled())
            let before = try await cluster.settle(
                nodes, servers: 3, agents: 0, within: .seconds(240))
            let authority = nodes[0].text(of: "\(nodes[0].k3sData)/server/tls/server-ca.crt")
            try await nodes[0].keep("early")
            let snapshot = try await nodes[0].snapshot()
            try await nodes[1].keep("late")

            for node in nodes { node.killEverything() }
            for node in nodes { try await node.daemon?.end(within: .seconds(5)) }
            let files = FileManager.default
            try files.removeItem(atPath: nodes[1].k3sData)
            try files.moveItem(
                atPath: "\(nodes[2].k3sData)/server/db", toPath: "\(nodes[2].k3sData)/lost")
            for node in nodes[1...] { #expect(try await node.mayStart().status == 3) }
            let reset = try await nodes[0].resetCluster(to: snapshot)
            #expect(reset.status == 0, "\(reset.output)")
            #expect(try await nodes[0].mayStart().status == 0)

            for node in nodes { try node.start() }
            let after = try await cluster.settle(
                nodes, servers: 3, agents: 0, within: .seconds(240))
            #expect(after.map(\.cluster.founder) == before.map(\.cluster.founder))
            #expect(after.map(\.node.ipv4) == before.map(\.node.ipv4))
            for node in nodes {
                #expect(node.text(of: "\(node.k3sData)/server/tls/server-ca.crt") == authority)
                try await node.holds(["early"])
            }
        }
    }
}

extension ClusterNode {
    /// Writes something that a snapshot has or has not.
    fileprivate func keep(_ name: String) async throws {
        let answer = try await kubectl([
            "-n", "kube-system", "create", "configmap", "kept-\(name)",
            "--from-literal=key=\(name)",
        ])
        #expect(answer.status == 0, "\(answer.output)")
    }

    fileprivate func holds(_ names: [String]) async throws {
        try await eventually("\(name) holds \(names)", within: .seconds(60)) {
            let answer = try await kubectl([
                "-n", "kube-system", "get", "configmaps", "--no-headers", "-o",
                "custom-columns=NAME:.metadata.name",
            ])
            let kept = answer.output.split(separator: "\n").filter { $0.hasPrefix("kept-") }
            return kept.map { $0.dropFirst(5) } == names.map { Substring($0) }
        }
    }

    /// - Returns: the snapshot's path, outside of K3s' directory.
    fileprivate func snapshot() async throws -> String {
        let place = "\(directory)/snapshots"
        let answer = try await host.attempt([
            standInK3s, "etcd-snapshot", "save", "--data-dir=\(k3sData)", "--dir=\(place)",
            "--name=early",
        ])
        #expect(answer.status == 0, "\(answer.output)")
        let names = try FileManager.default.contentsOfDirectory(atPath: place)
        let name = try #require(
            names.first { $0.hasPrefix("early") && !$0.hasSuffix(".bootstrap") })
        return "\(place)/\(name)"
    }

    fileprivate func resetCluster(to snapshot: String) async throws -> (
        status: Int32, output: String
    ) {
        try await host.attempt(
            [
                standInK3s, "server", "--config", "\(k3sConfiguration)/config.yaml",
                "--cluster-reset", "--cluster-reset-restore-path", snapshot,
            ], within: .seconds(60))
    }
}
