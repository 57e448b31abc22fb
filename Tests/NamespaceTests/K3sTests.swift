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
            try story.onlyDropInsWereWritten()
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
            let begin = ContinuousClock.now
            try await cluster.start(cluster.nodes.filter { $0 !== founder })
            try await cluster.settle(
                cluster.nodes, servers: 3, agents: 1, within: .seconds(240))
            measured("one server grew to three, and an agent", since: begin)
            try await eventually("the founder would join another", within: .seconds(60)) {
                founder.text(of: founder.dropIn).contains("server: 'https://")
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
}
