import Foundation
import Testing

/// `elect` with real nodes, real jobs and kill -9.
///
///     n1    n2    n3      172.31.78.1 ... .3 on eth0; each runs the same `elect` line
///      \     |    /
///       +-switch-+
///
/// The job writes its fencing number into one file again and again. In that file numbers never go
/// back: so no earlier job worked after a later one had begun.
///
/// `ELECTION_KILLS=100` kills that many holders.
@Suite(.serialized) struct ElectionTests {
    static let kills =
        ProcessInfo.processInfo.environment["ELECTION_KILLS"].flatMap(Int.init) ?? 4

    @Test func numbersNeverGoBackHoweverHoldersDie() async throws {
        try await withClusterLab(count: 3, policy: ["--nodes", "3"]) { cluster in
            let journal = try cluster.lab.file("journal", "")
            let script = try cluster.lab.file(
                "job",
                """
                while true; do
                    echo "$EDGEVPN_LEASE_NUMBER $1" >> \(journal)
                    sleep 0.05
                done
                """)
            try await cluster.start(cluster.nodes)
            try await cluster.settle(cluster.nodes, servers: 3, agents: 0, within: .seconds(120))
            // The founder alone decides at first; one machine joins it after the other.
            try await eventually("three machines decide", within: .seconds(120)) {
                cluster.nodes.allSatisfy { $0.log.contains("(change 2)") }
            }
            var candidates: [String: LabProcess] = [:]
            for node in cluster.nodes {
                candidates[node.name] = try node.elect(script)
            }
            for kill in 0..<Self.kills {
                let holder = try await Self.newHolder(journal, after: kill == 0 ? nil : kill)
                let node = try #require(cluster.nodes.first { $0.name == holder.name })
                if kill.isMultiple(of: 2) {
                    candidates[node.name]?.send(SIGKILL)
                    try await candidates[node.name]?.end(within: .seconds(5))
                    candidates[node.name] = try node.elect(script)
                } else {
                    node.daemon?.send(SIGKILL)
                    try await node.daemon?.end(within: .seconds(5))
                    // Nobody answers the command any more, so its job ends in time by itself.
                    try await Self.expectChange(of: holder, in: journal)
                    try node.start()
                }
            }
            let entries = try Self.entries(of: journal)
            #expect(entries.count > Self.kills)
            for (earlier, later) in zip(entries, entries.dropFirst()) {
                #expect(
                    earlier.number <= later.number, "\(earlier) was followed by \(later)")
                if earlier.number == later.number { #expect(earlier.name == later.name) }
            }
        }
    }

    struct Entry: Equatable {
        var number: UInt64
        var name: String
    }

    static func entries(of journal: String) throws -> [Entry] {
        try String(contentsOfFile: journal, encoding: .utf8).split(separator: "\n").compactMap {
            let words = $0.split(separator: " ")
            guard words.count == 2, let number = UInt64(words[0]) else { return nil }
            return Entry(number: number, name: String(words[1]))
        }
    }

    /// The holder after `changes` changes.
    static func newHolder(_ journal: String, after changes: Int?) async throws -> Entry {
        var last: Entry?
        try await eventually("a machine is elected", within: .seconds(90)) {
            let entries = try Self.entries(of: journal)
            last = entries.last
            return Set(entries.map(\.number)).count > changes ?? 0
        }
        return try #require(last)
    }

    static func expectChange(of holder: Entry, in journal: String) async throws {
        try await eventually("another machine is elected", within: .seconds(90)) {
            try Self.entries(of: journal).last.map { $0.number > holder.number } ?? false
        }
    }
}

extension ClusterNode {
    /// Stands for the election of a job that says its number and this machine's name.
    fileprivate func elect(_ script: String) throws -> LabProcess {
        try host.start([
            try Lab.binary(), "elect", "the-job", "--api", "unix:\(directory)/api", "--", "sh",
            script, name,
        ])
    }
}
