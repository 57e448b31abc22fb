import Foundation
import Testing

/// What goes wrong around a cluster of three, one mishap after the other.
///
///     n1   n2   n3      172.31.78.1 ... .3 on eth0
///      \    |   /
///       +-switch
@Suite(.serialized) struct ClusterTroubleTests {
    @Test func threeMachinesSurviveTheirMishaps() async throws {
        try await withClusterLab(count: 3, policy: ["--nodes", "3"]) { cluster in
            let nodes = cluster.nodes
            try await cluster.start(nodes.shuffled())
            let founder = try await cluster.firstFounder()
            try await cluster.machineDiesAfterReady(founder)
            let joiner = try await cluster.machineDiesWhileJoining(
                nodes.filter { $0 !== founder })
            let statuses = try await cluster.settle(
                nodes, servers: 3, agents: 0, within: .seconds(120))
            #expect(Set(statuses.map(\.cluster.founder)).count == 1)

            try await cluster.supervisorDies(on: founder)
            try await cluster.daemonAndDatastoreDieInTurn(on: joiner)
            try await cluster.daemonLeaves(joiner)
            try await cluster.cableOfTheLeaderIsPulled()
            try await cluster.majorityDies(leaving: joiner)

            let last = try await cluster.settle(
                nodes, servers: 3, agents: 0, within: .seconds(60))
            #expect(last.map(\.node.id) == statuses.map(\.node.id))
            #expect(last.map(\.node.ipv4) == statuses.map(\.node.ipv4))
            #expect(last.map(\.cluster.founder) == statuses.map(\.cluster.founder))
        }
    }
}

extension ClusterLab {
    private func address(_ node: ClusterNode) async throws -> String {
        try #require(try await node.status()?.node.ipv4)
    }

    /// The whole machine, before anybody has joined.
    fileprivate func machineDiesAfterReady(_ founder: ClusterNode) async throws {
        try await eventually("READY is certified", within: .seconds(60), every: .milliseconds(50)) {
            try await founder.status()?.cluster.phase == "ready"
        }
        founder.killEverything()
        try await founder.daemon?.end(within: .seconds(5))
        for node in nodes where node !== founder {
            #expect(try await node.status()?.cluster.phase != "refused")
        }
        try founder.start()
    }

    /// Between its admission as a learner and its promotion, or soon after.
    fileprivate func machineDiesWhileJoining(_ joiners: [ClusterNode]) async throws -> ClusterNode {
        var joiner: ClusterNode?
        try await eventually(
            "somebody starts as a member", within: .seconds(60), every: .milliseconds(20)
        ) {
            joiner = joiners.first { $0.datastore() != nil }
            return joiner != nil
        }
        let found = try #require(joiner)
        found.killEverything()
        try await found.daemon?.end(within: .seconds(5))
        try found.start()
        return found
    }

    /// The supervisor takes the datastore with it; the daemon brings it back.
    fileprivate func supervisorDies(on node: ClusterNode) async throws {
        let supervisor = try #require(
            node.processes().first {
                Lab.contents(of: "/proc/\($0)/comm") == "evpn-supervise\n"
            })
        let process = try #require(node.datastore())
        kill(supervisor, SIGKILL)
        let begin = ContinuousClock.now
        try await eventually("another datastore process serves", within: .seconds(30)) {
            guard let now = node.datastore(), now != process else { return false }
            return try await node.canUse([try await address(node)], key: "supervisor")
        }
        measured("the datastore is back after its supervisor was killed", since: begin)
    }

    /// Nobody is there to notice that the datastore ends; the next start of the daemon does.
    fileprivate func daemonAndDatastoreDieInTurn(on node: ClusterNode) async throws {
        node.daemon?.send(SIGKILL)
        try await node.daemon?.end(within: .seconds(5))
        kill(try #require(node.datastore()), SIGKILL)
        try await eventually("nothing is left") { node.processes().isEmpty }
        try node.start()
        try await settle([node], servers: 3, agents: 0, within: .seconds(60))
        try await eventually("the datastore serves", within: .seconds(30)) {
            try await node.canUse([try await address(node)], key: "in turn")
        }
    }

    /// An orderly goodbye leaves the datastore alone too.
    fileprivate func daemonLeaves(_ node: ClusterNode) async throws {
        let process = try #require(node.datastore())
        node.daemon?.send(SIGTERM)
        #expect(try await node.daemon?.end(within: .seconds(20)) == 0)
        #expect(node.datastore() == process)
        try node.start()
        try await settle([node], servers: 3, agents: 0, within: .seconds(60))
        #expect(node.datastore() == process)
    }

    fileprivate func cableOfTheLeaderIsPulled() async throws {
        var leader: ClusterNode?
        for node in nodes {
            let answer = try await node.etcdctl(
                ["endpoint", "status"], at: [try await address(node)])
            if answer.output.split(separator: ",").dropFirst(4).first == " true" { leader = node }
        }
        let cut = try #require(leader)
        let other = try #require(nodes.first { $0 !== cut })
        try await cut.host.ip("link set eth0 down")
        let begin = ContinuousClock.now
        try await eventually("the other two go on", within: .seconds(60)) {
            try await other.etcdctl(
                ["put", "cable", "pulled"], at: [try await address(other)], within: 1
            ).status == 0
        }
        measured("writable without the leader's cable", since: begin)
        try await cut.host.ip("link set eth0 up")
        let back = ContinuousClock.now
        try await eventually("the third reads what it missed", within: .seconds(60)) {
            try await cut.etcdctl(
                ["get", "cable", "--print-value-only"], at: [try await address(cut)], within: 1
            ).output.contains("pulled")
        }
        measured("the leader's machine caught up", since: back)
    }

    /// The last one says that it cannot serve, founds nothing, and serves again with company.
    fileprivate func majorityDies(leaving last: ClusterNode) async throws {
        let dead = nodes.filter { $0 !== last }
        for node in dead { node.killEverything() }
        for node in dead { try await node.daemon?.end(within: .seconds(5)) }
        try await eventually("the last one says so", within: .seconds(90)) {
            let cluster = try #require(try await last.status()).cluster
            #expect(["ready", "joined"].contains(cluster.phase))
            return cluster.reason?.contains("does not answer") ?? false
        }
        for node in dead { try node.start() }
        try await eventually("the datastore serves again", within: .seconds(60)) {
            try await last.canUse([try await address(last)], key: "together again")
        }
    }
}
