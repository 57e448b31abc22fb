import Foundation
import Testing

/// The founding as operators steer it, with real nodes and real etcd.
///
///     n1    n2    n3      172.31.78.1 ... .3 on eth0
///      \     |    /
///       +-switch-+        they find each other by multicast DNS
@Suite(.serialized) struct FoundingModeTests {
    /// Voters that the admin key names found; a reset with it ends what they founded, everywhere.
    @Test func namedVotersFoundAndTheAdminKeyEndsIt() async throws {
        try await withClusterLab(
            count: 3, policy: ["--nodes", "3", "--genesis", "voters"]
        ) { cluster in
            // Without a name nobody votes.
            try await cluster.start(cluster.nodes)
            try await eventually("they say what is missing") {
                for node in cluster.nodes {
                    let answer = try await node.ask(["cluster", "explain"])
                    guard answer.output.contains("token voter ID") else { return false }
                }
                return true
            }
            var token = cluster.token
            for node in cluster.nodes {
                let id = try #require(try await node.status()).node.id
                token = try await cluster.named(voter: id, in: token)
                node.daemon?.send(SIGTERM)
                try await node.daemon?.end(within: .seconds(10))
            }
            _ = try cluster.lab.file("token", token)
            try await cluster.start(cluster.nodes)
            try await cluster.settle(cluster.nodes, servers: 3, agents: 0, within: .seconds(120))

            let node = cluster.nodes[1]
            let story = try await node.ask(["cluster", "explain"])
            #expect(story.output.contains("This is final"), "\(story.output)")
            let hasty = try await node.ask(["cluster", "reset", "--admin-key", cluster.adminKey])
            #expect(hasty.status == 3 && node.datastore() != nil, "\(hasty.output)")
            #expect(try await node.ask(["cluster", "takeover"]).status == 3)
            #expect(try await node.ask(["cluster", "init"]).status == 3)

            let reset = try await node.ask([
                "cluster", "reset", "--admin-key", cluster.adminKey, "--even-if-ready",
            ])
            #expect(reset.status == 0, "\(reset.output)")
            try await eventually("no machine runs the old datastore", within: .seconds(60)) {
                for node in cluster.nodes {
                    guard node.datastore() == nil, let status = try await node.status(),
                        status.cluster.generation == 2, status.cluster.founder == nil
                    else { return false }
                }
                return true
            }
            let later = try await node.ask(["cluster", "explain"])
            #expect(later.output.contains("an operator reset the founding"), "\(later.output)")
        }
    }

    /// A holder of the token whom the admin key did not name gets no server's place, though one is free.
    @Test func whoWasNotNamedDoesNotServe() async throws {
        try await withClusterLab(
            count: 4, policy: ["--nodes", "3", "--disk-losses", "0", "--genesis", "voters"]
        ) { cluster in
            let (named, stranger) = (Array(cluster.nodes[..<3]), cluster.nodes[3])
            try await cluster.start(cluster.nodes)
            var token = cluster.token
            for node in named {
                try await eventually("\(node.name) answers") { try await node.status() != nil }
                let id = try #require(try await node.status()).node.id
                token = try await cluster.named(voter: id, in: token)
            }
            for node in cluster.nodes {
                node.daemon?.send(SIGTERM)
                try await node.daemon?.end(within: .seconds(10))
            }
            _ = try cluster.lab.file("token", token)
            let early = [named[0], named[1], stranger]
            try await cluster.start(early)
            try await cluster.settle(early, servers: 2, agents: 1, within: .seconds(120))
            #expect(try await stranger.status()?.cluster.role == "agent")
            #expect(!FileManager.default.fileExists(atPath: "\(stranger.files)/ca.key"))
            try named[2].start()
            try await cluster.settle(cluster.nodes, servers: 3, agents: 1, within: .seconds(60))
        }
    }

    @Test func oneMachineFoundsWhenItIsTold() async throws {
        try await withClusterLab(count: 1, policy: ["--genesis", "single"]) { cluster in
            let node = cluster.nodes[0]
            try await cluster.start(cluster.nodes)
            try await eventually("it waits for a word") {
                try await node.status()?.cluster.phase == "refused"
            }
            let advice = try await node.ask(["cluster", "explain"])
            #expect(advice.output.contains("Say `cluster init`"), "\(advice.output)")
            #expect(try await node.ask(["cluster", "init"]).status == 0)
            try await cluster.settle(cluster.nodes, servers: 1, agents: 0, within: .seconds(60))
        }
    }
}

extension ClusterLab {
    /// The token with the admin key's word that this machine may vote.
    func named(voter id: String, in token: String) async throws
        -> String
    {
        let file = try lab.file("token.part", token)
        let made = try LabProcess.start(
            [
                try Lab.binary(), "token", "voter", id, "--admin-key", adminKey, "--token-file",
                file,
            ], in: lab.directory)
        let lines = try await made.succeed(within: .seconds(20)).split(separator: "\n")
        return String(try #require(lines.first { $0.hasPrefix("evpn1") }))
    }
}
