import Foundation
import Testing

/// `elect` with real nodes, real jobs, kill -9 and a network that splits.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /        each runs the same `elect` line
///       +-----+-switch-+----+         split: some ports move to a second bridge
///
/// The job writes its fencing number and its machine into one file again and again. In that file
/// numbers never go back, and no number has two machines: so no earlier job worked after a later
/// one had begun, and no two at once.
///
/// `ELECTION_KILLS=100` kills that many holders, `ELECTION_SEED` chooses how.
@Suite(.serialized) struct ElectionTests {
    @Test func numbersNeverGoBackHoweverHoldersDie() async throws {
        try await withClusterLab(count: 5, policy: ["--nodes", "5", "--servers", "3"]) { cluster in
            var campaign = try ElectionCampaign(
                cluster: cluster, seed: UInt64(setting("ELECTION_SEED", default: 1)))
            try await campaign.begin()
            do {
                for _ in 0..<setting("ELECTION_KILLS", default: 5) {
                    try await campaign.killTheHolder()
                }
            } catch {
                throw LabFailure(
                    "\(error)\n\(try campaign.lastWords())\n\(await cluster.story())")
            }
            let entries = try campaign.entries()
            for (earlier, later) in zip(entries, entries.dropFirst()) {
                #expect(earlier.number <= later.number, "\(earlier) was followed by \(later)")
                if earlier.number == later.number { #expect(earlier.name == later.name) }
            }
            let numbers = Set(entries.map(\.number)).count
            #expect(numbers > campaign.changes)
            print("\(campaign.kills) kills, \(numbers) elections, \(entries.count) lines of work")
            print(campaign.story.joined(separator: ", "))
        }
    }

    /// A lock is for one at a time, tells its number, and gives the job's exit code back.
    @Test func whoWaitsForALockIsToldWhy() async throws {
        try await withMesh { mesh in
            let anna = try await mesh.lan(["anna"])[0]
            _ = try await anna.up(["--interface", "none"])
            let lock = try anna.host.start(
                [try Lab.binary(), "lock", "site", "--api", anna.api, "--", "true"])
            try await lock.prints("site has to wait: ")
            lock.send(SIGTERM)
            #expect(try await lock.end(within: .seconds(20)) == 128 + SIGTERM)
            #expect(lock.output.split(separator: "\n").count == 1, "\(lock.output)")
        }
    }

    @Test func aLockIsHeldByOneAndPassedOn() async throws {
        try await withClusterLab(count: 3, policy: ["--nodes", "3"]) { cluster in
            try await cluster.start(cluster.nodes)
            let waited = try await cluster.nodes[2].ask([
                "wait-for", "cluster", "--timeout", "120",
            ])
            #expect(waited.status == 0, "\(waited.output)")
            let journal = try cluster.lab.file("journal", "")
            let script = try cluster.lab.file(
                "job",
                """
                echo "begin $EDGEVPN_LEASE_NUMBER $1" >> \(journal)
                sleep 1
                echo "end $EDGEVPN_LEASE_NUMBER $1" >> \(journal)
                exit 7
                """)
            let runs = try cluster.nodes.map { try $0.leased("lock", script) }
            for run in runs { #expect(try await run.end(within: .seconds(60)) == 7) }
            let words = try String(contentsOfFile: journal, encoding: .utf8)
                .split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
            #expect(words.count == 6)
            var last: UInt64 = 0
            for pair in stride(from: 0, to: words.count - 1, by: 2) {
                #expect(words[pair][0] == "begin" && words[pair + 1][0] == "end")
                #expect(words[pair].dropFirst() == words[pair + 1].dropFirst())
                let number = try #require(UInt64(words[pair][1]))
                #expect(number > last)
                last = number
            }
        }
    }

    /// A job that a signal ended gives the code that shells give; nobody stands for election again.
    @Test func aJobThatEndsByASignalIsNotALostLease() async throws {
        try await withClusterLab(count: 2, policy: ["--nodes", "2"]) { cluster in
            try await cluster.start(cluster.nodes)
            let node = cluster.nodes[0]
            #expect(try await node.ask(["wait-for", "cluster", "--timeout", "120"]).status == 0)
            for verb in ["lock", "elect"] {
                for signal in [SIGKILL, SIGTERM] {
                    let script = try cluster.lab.file("\(verb)-\(signal)", "kill -\(signal) $$\n")
                    let run = try node.leased(verb, script)
                    #expect(
                        try await run.end(within: .seconds(60)) == 128 + signal, "\(run.output)")
                    #expect(!run.output.contains("lost"), "\(run.output)")
                }
            }
        }
    }

    /// What scripts wait for: it comes true, or the exit code says that it did not.
    @Test func scriptsWaitForConditions() async throws {
        try await withClusterLab(count: 2, policy: ["--nodes", "2"]) { cluster in
            let (first, second) = (cluster.nodes[0], cluster.nodes[1])
            try first.start()
            try await eventually("the node answers") {
                try await first.ask(["wait-for", "node", "--timeout", "1"]).status == 0
            }
            #expect(try await first.ask(["wait-for", "peers:1", "--timeout", "1"]).status == 1)
            #expect(try await first.ask(["wait-for", "the moon"]).status == 2)
            let patient = try first.waiting(for: "machine:n2")
            let entry = try first.waiting(for: "ledger:users/greeting")
            try second.start()
            #expect(try await patient.end(within: .seconds(60)) == 0)
            let put = try await second.ask(["ledger", "put", "users", "greeting", "hello"])
            #expect(put.status == 0, "\(put.output)")
            #expect(try await entry.end(within: .seconds(60)) == 0)
        }
    }
}

/// Five candidates, and everything that happens to the one that holds.
private struct ElectionCampaign {
    struct Entry: Equatable {
        var number: UInt64
        var name: String
    }

    let cluster: ClusterLab
    let journal: String
    let script: String
    private(set) var kills = 0
    /// Kills after which somebody else had to be elected.
    private(set) var changes = 0
    private(set) var story: [String] = []
    private var random: SeededDice
    private var candidates: [String: LabProcess] = [:]

    init(cluster: ClusterLab, seed: UInt64) throws {
        self.cluster = cluster
        random = SeededDice(state: seed)
        journal = try cluster.lab.file("journal", "")
        script = try cluster.lab.file(
            "job",
            """
            while true; do
                echo "$EDGEVPN_LEASE_NUMBER $1" >> \(journal)
                sleep 0.05
            done
            """)
    }

    mutating func begin() async throws {
        try await cluster.start(cluster.nodes)
        try await cluster.settle(cluster.nodes, servers: 3, agents: 2, within: .seconds(180))
        // The founder alone decides at first; one server joins it after the other, and machines
        // that are no servers ask for what they missed.
        do {
            try await eventually("three machines decide", within: .seconds(180)) {
                for node in cluster.nodes {
                    guard try await node.status()?.cluster.leaseVoters?.count == 3 else {
                        return false
                    }
                }
                return true
            }
        } catch {
            throw LabFailure("\(error)\n\(await cluster.story())")
        }
        for node in cluster.nodes { candidates[node.name] = try node.leased("elect", script) }
    }

    /// Kills what holds, in one of three ways, with the network whole or split, and waits for the
    /// next holder.
    mutating func killTheHolder() async throws {
        let holder = try await holder(after: kills == 0 ? 0 : nil)
        let node = try #require(cluster.nodes.first { $0.name == holder.name })
        let isSplit = Int.random(in: 0..<3, using: &random) == 0
        var away: [ClusterNode] = []
        if isSplit {
            // A side of one or two, so that three of the servers' machines may still talk.
            away = Array(
                cluster.nodes.shuffled(using: &random)
                    .prefix(Int.random(in: 1...2, using: &random)))
            story.append("split \(away.map(\.name).joined(separator: " "))")
            try await cluster.split(away)
        }
        let begin = ContinuousClock.now
        var mayGoOn = false
        switch Int.random(in: 0..<3, using: &random) {
        case 0:
            story.append("kill elect on \(node.name)")
            candidates[node.name]?.send(SIGKILL)
            try await candidates[node.name]?.end(within: .seconds(5))
        case 1:
            // Nobody answers the command any more, so its job ends in time by itself, unless the next
            // daemon is there before and gets the lease back.
            mayGoOn = true
            story.append("kill the daemon of \(node.name)")
            node.daemon?.send(SIGKILL)
            try await node.daemon?.end(within: .seconds(5))
        default:
            story.append("kill \(node.name)")
            node.killEverything()
            try await node.daemon?.end(within: .seconds(5))
            try await candidates[node.name]?.end(within: .seconds(5))
        }
        kills += 1
        // Some splits last until somebody else is elected on one side.
        let pause = Int.random(in: 0...(isSplit ? 25_000 : 3_000), using: &random)
        try await Task.sleep(for: .milliseconds(pause))
        if isSplit { try await cluster.heal(away) }
        if node.daemon?.exitCode != nil { try node.start() }
        if candidates[node.name]?.exitCode != nil {
            try await eventually("the node of \(node.name) answers", within: .seconds(30)) {
                try await node.status() != nil
            }
            candidates[node.name] = try node.leased("elect", script)
        }
        if mayGoOn {
            // What the dead daemon said is over by then.
            try await Task.sleep(until: begin + .seconds(12), clock: .continuous)
            let known = try entries().count
            try await eventually("work goes on", within: .seconds(180)) {
                try entries().count > known
            }
        } else {
            changes += 1
            try await eventually("another election", within: .seconds(180)) {
                try entries().last.map { $0.number > holder.number } ?? false
            }
        }
    }

    /// What a failing campaign tells of itself.
    func lastWords() throws -> String {
        let commands = candidates.sorted { $0.key < $1.key }.map { name, process in
            let end = process.exitCode.map { "ended with \($0)" } ?? "runs"
            return "\(name): elect \(end): \(process.output.suffix(300))"
        }
        let work = try entries().suffix(3).map { "\($0.name) works under \($0.number)" }
        let lines = try entries().count
        return (story + commands + work + ["\(lines) lines of work"]).joined(separator: "\n")
    }

    private func holder(after number: UInt64?) async throws -> Entry {
        var last: Entry?
        try await eventually("a machine is elected", within: .seconds(180)) {
            last = try entries().last
            return last.map { $0.number > number ?? 0 } ?? false
        }
        return try #require(last)
    }

    func entries() throws -> [Entry] {
        try String(contentsOfFile: journal, encoding: .utf8).split(separator: "\n").compactMap {
            let words = $0.split(separator: " ")
            guard words.count == 2, let number = UInt64(words[0]) else { return nil }
            return Entry(number: number, name: String(words[1]))
        }
    }
}

extension ClusterNode {
    /// Runs a job under a lease; it is told this machine's name.
    fileprivate func leased(_ verb: String, _ script: String) throws -> LabProcess {
        try host.start([
            try Lab.binary(), verb, "the-job", "--api", "unix:\(directory)/api", "--", "sh",
            script, name,
        ])
    }

    fileprivate func waiting(for condition: String) throws -> LabProcess {
        try host.start([
            try Lab.binary(), "wait-for", condition, "--api", "unix:\(directory)/api",
        ])
    }
}
