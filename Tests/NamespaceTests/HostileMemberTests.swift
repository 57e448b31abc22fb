import Foundation
import Testing

/// Four machines found in mode `voters`; the fifth holds the token and lies to all of them from its
/// first second on (``HostileMember``).
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     / lies
///       +-----+-switch-+----+
@Suite(.serialized) struct HostileMemberTests {
    @Test func aMemberThatLiesStopsNothing() async throws {
        try await withClusterLab(
            count: 5,
            policy: [
                "--nodes", "4", "--servers", "3", "--genesis", "voters",
            ]
        ) { cluster in
            let honest = Array(cluster.nodes[..<4])
            let theirs = try cluster.lab.file("token.hostile", cluster.token)
            try await cluster.nameVoters(honest)
            let liar = try cluster.nodes[4].host.start(
                [try HostileMember.program(), theirs, "n5", "172.31.78.5:41641"]
                    + (1...4).map { "172.31.78.\($0):41641" })
            for node in honest.shuffled() { try node.start(["--listen", "41641"]) }
            let before = try await cluster.settle(
                honest, servers: 3, agents: 1, within: .seconds(120))
            #expect(Set(before.map(\.cluster.founder)).count == 1)
            #expect(honest.count { $0.log.contains("this node founds the cluster") } == 1)
            try await HostileMember.goesOn(liar, by: 2_000)

            // What others wrote stays theirs.
            #expect(try await honest[0].ask(["ledger", "put", "notes", "key", "mine"]).status == 0)
            for node in honest {
                try await eventually("\(node.name) reads the note") {
                    try await node.ask(["ledger", "get", "notes", "key"]).output.contains("mine")
                }
            }
            let memory = try honest.map { try residentKiB(#require($0.daemon)) }
            try await HostileMember.goesOn(liar, by: 10_000)
            for (node, memory) in zip(honest, memory) {
                let growth = try residentKiB(#require(node.daemon)) - memory
                print("measured: \(node.name) grew from \(memory) KiB by \(growth) under lies")
                // Each of these frames has some 200 bytes, so 2 MB came to every machine.
                #expect(growth < 8_192, "\(node.name) grew from \(memory) KiB by \(growth)")
            }
            let owners = before.map(\.node.id)
            for node in honest {
                // Its lies came through the tunnels, and each was one.
                let refused = try await node.drops()
                for reason in ["founding_notAVoter", "ledger_signature"] {
                    #expect(refused[reason, default: 0] > 100, "\(node.name): \(refused)")
                }
            }
            for node in honest { try await node.expectNothingForged(owners: owners) }

            // Nor does it keep a site from coming back.
            for node in honest { node.killEverything() }
            for node in honest { try await node.daemon?.end(within: .seconds(5)) }
            for node in honest.shuffled() { try node.start(["--listen", "41641"]) }
            let after = try await cluster.settle(
                honest, servers: 3, agents: 1, within: .seconds(120))
            #expect(after.map(\.cluster.role) == before.map(\.cluster.role))
            #expect(after.map(\.node.ipv4) == before.map(\.node.ipv4))
            try await HostileMember.goesOn(liar, by: 2_000)
            for (node, status) in zip(honest, after) {
                #expect(status.cluster.voters?.count == 4)
                #expect(!node.log.contains("alarm"), "\(node.log)")
                try await node.expectNothingForged(owners: owners)
            }
            print("measured: \(liar.output.split(separator: "\n").last ?? "")")
        }
    }
}

/// The program beside this file.
private enum HostileMember {
    /// It is built beside the executable of these tests.
    static func program() throws -> String {
        let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let path = URL(filePath: tests).deletingLastPathComponent()
            .appending(path: "HostileMember").path
        try #require(FileManager.default.isExecutableFile(atPath: path), "\(path) is missing")
        return path
    }

    /// Waits until it has said so many frames more, some of them forged and some replayed, to all
    /// four.
    static func goesOn(_ liar: LabProcess, by count: Int) async throws {
        let start = said(liar)
        try await eventually("it says \(count) more\n\(liar.output)", within: .seconds(120)) {
            said(liar) >= start + count
        }
        let last = try #require(liar.output.split(separator: "\n").last)
        #expect(last.hasSuffix("to 4 members") && !last.contains(" 0 "), "\(last)")
    }

    private static func said(_ liar: LabProcess) -> Int {
        let line = liar.output.split(separator: "\n").last { $0.hasSuffix("members") }
        return line?.split(separator: " ").first.flatMap { Int($0) } ?? 0
    }
}

extension ClusterLab {
    /// Writes the token with the admin key's word for each of them where the nodes read it.
    fileprivate func nameVoters(_ voters: [ClusterNode]) async throws {
        var token = self.token
        for node in voters {
            let id = try await node.host.run([
                try Lab.binary(), "id", "--state-dir", node.state,
            ])
            let line = try #require(id.split(whereSeparator: \.isWhitespace).last)
            token = try await named(voter: String(line), in: token)
        }
        _ = try lab.file("token", token)
    }
}

extension ClusterNode {
    private struct Entry: Decodable {
        var bucket: String
        var key: String
        var owner: String
        var version: UInt64
        var value: String?
    }

    /// How much went no further on this machine, by reason.
    fileprivate func drops() async throws -> [String: Int] {
        let answer = try await host.attempt([
            "curl", "--silent", "--unix-socket", "\(directory)/api", "http://node/metrics",
        ])
        var drops: [String: Int] = [:]
        for line in answer.output.split(separator: "\n")
        where line.hasPrefix("edgevpn_drops_total{") {
            let words = line.split(separator: "\"")
            guard words.count == 3 else { continue }
            drops[String(words[1])] = Int(words[2].dropFirst(2))
        }
        return drops
    }

    /// Everybody's entries are there and their own, and the liar's fill no more than one owner's.
    fileprivate func expectNothingForged(owners: [String]) async throws {
        let answer = try await ask(["ledger", "get", "--json"])
        #expect(answer.status == 0, "\(answer.output)")
        let entries = try JSONDecoder().decode([Entry].self, from: Data(answer.output.utf8))
        let honest = entries.filter { owners.contains($0.owner) }
        for owner in owners {
            #expect(honest.contains { $0.owner == owner && $0.bucket == "machines" })
        }
        #expect(honest.allSatisfy { $0.version < 1 << 40 })
        let notes = honest.filter { $0.bucket == "notes" }
        #expect(notes.map(\.value) == ["mine"])
        // docs/protocols/ledger.md
        let others = entries.count - honest.count
        #expect(others > 0 && others <= 65, "\(others) entries of the liar")
    }
}
