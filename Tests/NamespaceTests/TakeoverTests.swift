import Foundation
import Testing

/// What operators can do about a founder that is gone, with real nodes and real etcd, to its end.
///
///     n1    n2    n3    n4      172.31.78.1 ... .4 on eth0
///      \     \    /     /
///       +-switch-+---+          their boot clocks can be told that the machines slept
///
/// Voters keep a founder's claim for 20 minutes after its last hold and after their own start. All of that is
/// boot time, which counts sleep; so here the machines sleep for 25 minutes in an instant.
@Suite(.serialized) struct TakeoverTests {
    @Test func aFounderThatIsGoneIsSucceededAndJoinsItsSuccessor() async throws {
        // q = 3 of 4: three are enough to give up on the fourth.
        let policy = ["--nodes", "4", "--disk-losses", "0", "--servers", "3"]
        try await withClusterLab(count: 4, policy: policy) { cluster in
            let site = try await SleepySite(cluster)
            try site.start(cluster.nodes)
            let founder = try await cluster.firstFounder()
            founder.killEverything()
            try await founder.daemon?.end(within: .seconds(5))
            let others = cluster.nodes.filter { $0 !== founder }
            #expect(!founder.log.contains("outcome of generation 1"), "it was ready already")

            try await eventually("the others know who has the claim", within: .seconds(30)) {
                for node in others {
                    guard try await node.status()?.cluster.founder != nil else { return false }
                }
                return true
            }
            let answer = try await others[0].ask(["cluster", "takeover"])
            #expect(answer.status == 0, "\(answer.output)")
            // The founder may still run under a hold, so nothing happens yet.
            try await Task.sleep(for: .seconds(5))
            for node in others { #expect(try await node.status()?.cluster.generation == 1) }
            try site.sleep(seconds: 1_500)
            let statuses = try await cluster.settle(
                others, servers: 3, agents: 0, within: .seconds(180))
            #expect(Set(statuses.map(\.cluster.generation)) == [2])

            // It comes back with a claim, perhaps with data, and finds that time went on.
            try site.start([founder])
            let all = try await cluster.settle(
                cluster.nodes, servers: 3, agents: 1, within: .seconds(180))
            #expect(Set(all.map(\.cluster.founder)).count == 1)
            #expect(all.first?.cluster.founder != nil)
        }
    }

    /// Where all must agree only the admin key helps: the reset voids everything, and after the wait
    /// the same machines found anew.
    @Test func afterAResetTheMachinesFoundAnew() async throws {
        let key = "/tmp/evlab-reset-key-\(ProcessInfo.processInfo.processIdentifier)"
        defer { try? FileManager.default.removeItem(atPath: key) }
        try await withClusterLab(count: 3, policy: ["--nodes", "3", "--admin-key", key]) {
            cluster in
            let site = try await SleepySite(cluster)
            try site.start(cluster.nodes)
            try await cluster.settle(cluster.nodes, servers: 3, agents: 0, within: .seconds(120))
            let authority = cluster.nodes[0].text(of: "\(cluster.nodes[0].files)/ca.crt")
            let reset = try await cluster.nodes[1].ask([
                "cluster", "reset", "--admin-key", key, "--even-if-ready",
            ])
            #expect(reset.status == 0, "\(reset.output)")
            try await eventually("the old datastore is stopped", within: .seconds(60)) {
                cluster.nodes.allSatisfy { $0.datastore() == nil }
            }
            let wait = try await cluster.nodes[1].ask(["cluster", "explain"])
            #expect(wait.output.contains("the voters wait"), "\(wait.output)")
            try site.sleep(seconds: 1_500)
            let statuses = try await cluster.settle(
                cluster.nodes, servers: 3, agents: 0, within: .seconds(180))
            #expect(Set(statuses.map(\.cluster.generation)) == [2])
            let next = cluster.nodes[0].text(of: "\(cluster.nodes[0].files)/ca.crt")
            #expect(!authority.isEmpty && !next.isEmpty && next != authority)
        }
    }
}

/// Machines whose boot clocks leap at a word.
private struct SleepySite {
    let clock: WrongClock
    private let file: String

    init(_ cluster: ClusterLab) async throws {
        file = try cluster.lab.file("slept", "0")
        clock = WrongClock(
            seconds: 0, library: try await cluster.wrongClockLibrary(), slept: file)
    }

    func start(_ nodes: [ClusterNode]) throws {
        for node in nodes { try node.start(clock: clock) }
    }

    /// In place, since the daemons have the file open.
    func sleep(seconds: Int) throws {
        let handle = try #require(FileHandle(forWritingAtPath: file))
        try handle.write(contentsOf: Data("\(seconds)".utf8))
        try handle.close()
    }
}
