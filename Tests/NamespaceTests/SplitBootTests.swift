import Foundation
import Testing

/// Four machines whose network is in two halves when they boot for the first time.
///
///     n1    n2          n3    n4      172.31.78.1 ... .4 on eth0
///      \    /            \    /
///      switch            rest         two of four are not three, on either side
///
/// A founding waits 10 s for more voters before it would be content with fewer. Longer and other
/// numbers of splits:
///
///     SPLIT_BOOTS=20 SPLIT_SECONDS=180 .scripts/test --filter SplitBootTests
@Suite(.serialized) struct SplitBootTests {
    @Test func twoHalvesFoundNothingAndTheWholeFoundsOnce() async throws {
        for number in 1...setting("SPLIT_BOOTS", default: 5) {
            try await splitBoot()
            print("split \(number): one founding after the halves met")
        }
    }

    private func splitBoot() async throws {
        try await withClusterLab(count: 4, policy: ["--nodes", "4", "--servers", "3"]) { cluster in
            let nodes = cluster.nodes
            let away = Array(nodes.suffix(2))
            try await cluster.split(away)
            try await cluster.start(nodes.shuffled())
            let end = ContinuousClock.now + .seconds(setting("SPLIT_SECONDS", default: 25))
            // Each half sees two voters, waits and says for whom.
            for half in [Array(nodes.prefix(2)), away] {
                try await cluster.expectNoFounding(of: half, needing: 3)
            }
            while ContinuousClock.now < end {
                #expect(nodes.allSatisfy { $0.datastore() == nil })
                try await Task.sleep(for: .milliseconds(500))
            }
            try await cluster.heal(away)
            let statuses = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(180))
            #expect(Set(statuses.map(\.cluster.founder)).count == 1)
            #expect(Set(statuses.map(\.cluster.generation)) == [1])
            let founders = nodes.filter { $0.log.contains("this node founds the cluster") }
            #expect(founders.count == 1)
        }
    }
}
