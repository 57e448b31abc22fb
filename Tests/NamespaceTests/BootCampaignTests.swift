import Foundation
import Testing

/// A site of five machines boots for the first time, again and again: in any order, with clocks that
/// are wrong by decades, while its network splits and machines and daemons are killed. Every time
/// it must end as one cluster that was founded once.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /
///       +-----+-switch-+----+        split: some ports move to a second bridge
///
/// SITE_BOOTS says how many times (5), SITE_BOOT_SEED where the seeds begin (1).
@Suite(.serialized) struct BootCampaignTests {
    @Test func everyBootFoundsExactlyOneCluster() async throws {
        let first = setting("SITE_BOOT_SEED", default: 1)
        var durations: [Duration] = []
        for seed in first..<first + setting("SITE_BOOTS", default: 5) {
            try await withClusterLab(
                count: 5, policy: ["--nodes", "5", "--servers", "3"], kind: .k3s
            ) { cluster in
                var boot = try await SiteBoot(cluster: cluster, seed: UInt64(seed))
                do {
                    try await boot.play()
                    durations.append(try await boot.settle())
                    try boot.expectOneFounding()
                } catch {
                    let story = boot.story.joined(separator: "\n")
                    throw LabFailure("boot \(seed): \(error)\n\(story)")
                }
                print("boot \(seed): \(boot.story.joined(separator: ", "))")
            }
        }
        report("one cluster after the last mishap of a first boot", durations)
    }
}

/// One first boot with everything that goes wrong in it.
struct SiteBoot {
    let cluster: ClusterLab
    private(set) var story: [String] = []
    private var random: SeededDice
    /// The wall clock of each machine's daemon; K3s itself has the right time.
    private let clocks: [WrongClock?]

    init(cluster: ClusterLab, seed: UInt64) async throws {
        let library = try await cluster.wrongClockLibrary()
        self.cluster = cluster
        var random = SeededDice(state: seed)
        // Today, 2 January 1970, 20 January 2038.
        let years = cluster.nodes.map { _ in
            [0, 0, 86_400, 2_147_558_400].randomElement(using: &random) ?? 0
        }
        let now = Int(Date().timeIntervalSince1970)
        clocks = years.map { year in
            year == 0 ? nil : WrongClock(seconds: year - now, library: library)
        }
        self.random = random
        let names = years.map { $0 == 0 ? "now" : $0 == 86_400 ? "1970" : "2038" }
        story.append("clocks \(names.joined(separator: " "))")
    }

    mutating func play() async throws {
        let order = cluster.nodes.shuffled(using: &random)
        story.append("order \(order.map(\.name).joined(separator: " "))")
        for node in order {
            try start(node)
            try await pause(upTo: 1_500)
        }
        for _ in 0..<Int.random(in: 2...4, using: &random) {
            try await pause(upTo: 6_000)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: try await split()
            case 1: try await killDaemon()
            default: try await killMachine()
            }
        }
    }

    private func start(_ node: ClusterNode) throws {
        let index = cluster.nodes.firstIndex { $0 === node } ?? 0
        try node.start(clock: clocks[index])
    }

    private mutating func pause(upTo milliseconds: Int) async throws {
        let time = Int.random(in: 0...milliseconds, using: &random)
        try await Task.sleep(for: .milliseconds(time))
    }

    /// Up to four machines are on their own for a while.
    private mutating func split() async throws {
        let count = Int.random(in: 1...4, using: &random)
        let away = Array(cluster.nodes.shuffled(using: &random).prefix(count))
        story.append("split \(away.map(\.name).joined(separator: " "))")
        try await cluster.split(away)
        try await pause(upTo: 15_000)
        try await cluster.heal(away)
    }

    private mutating func killDaemon() async throws {
        guard let node = cluster.nodes.randomElement(using: &random) else { return }
        story.append("kill the daemon of \(node.name)")
        node.daemon?.send(SIGKILL)
        try await node.daemon?.end(within: .seconds(5))
        try await pause(upTo: 3_000)
        try start(node)
    }

    private mutating func killMachine() async throws {
        guard let node = cluster.nodes.randomElement(using: &random) else { return }
        story.append("kill \(node.name)")
        node.killEverything()
        try await node.daemon?.end(within: .seconds(5))
        try await pause(upTo: 3_000)
        try start(node)
    }

    /// Waits for three servers and two agents that every machine sees, with K3s up on all.
    func settle() async throws -> Duration {
        let begin = ContinuousClock.now
        try await cluster.settle(cluster.nodes, servers: 3, agents: 2, within: .seconds(420))
        try await eventually("K3s runs everywhere", within: .seconds(120)) {
            cluster.nodes.allSatisfy { $0.k3s() != nil }
        }
        return ContinuousClock.now - begin
    }

    /// One machine founded, and one authority exists, also among what was set aside.
    func expectOneFounding() throws {
        let founders = cluster.nodes.filter { $0.log.contains("this node founds the cluster") }
        #expect(founders.count == 1, "\(founders.map(\.name)) founded: \(story)")
        var authorities: Set<String> = []
        for node in cluster.nodes {
            let names = try FileManager.default.contentsOfDirectory(atPath: node.k3sData)
            for name in names where name.hasPrefix("server") {
                let text = node.text(of: "\(node.k3sData)/\(name)/tls/server-ca.crt")
                if !text.isEmpty { authorities.insert(text) }
            }
            #expect(!node.log.contains("cannot be preloaded"), "the clock is not wrong")
            #expect(!node.text(of: node.dropIn).contains("cluster-init"), "\(node.name)")
        }
        #expect(authorities.count == 1, "\(authorities.count) clusters: \(story)")
    }
}
