import Consensus
import Foundation
import MeshBase
import Simulator
import Testing

/// Leases under loss, partitions, crashes, drifting clocks, and voters that are replaced.
///
/// `LEASE_SEEDS=20000 swift test -c release --filter LeaseWorldTests` looks longer.
@Suite struct LeaseWorldTests {
    static let seeds: UInt64 =
        ProcessInfo.processInfo.environment["LEASE_SEEDS"].flatMap(UInt64.init) ?? 60

    @Test func workNeverOverlapsAndNumbersOnlyGrow() {
        var starts = 0
        var epochs: UInt32 = 0
        for seed in 0..<Self.seeds {
            var world = LeaseWorld(seed: seed)
            world.run()
            if let violation = world.violation {
                Issue.record("seed \(seed): \(violation), epoch \(world.epoch)")
            }
            starts += world.starts
            epochs = max(epochs, world.epoch)
        }
        // The worlds are worth something: work is done, and voters come and go.
        #expect(starts > Int(Self.seeds) * 5)
        #expect(epochs > 6)
    }

    struct Mutant: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let change: @Sendable (inout LeaseRules) -> Void
    }

    static let mutants = [
        Mutant(testDescription: "holds are ignored") { $0.honoursHolds = false },
        Mutant(testDescription: "no wait after a start") { $0.waitsAfterStart = false },
        Mutant(testDescription: "votes are not persisted") { $0.persistsVotes = false },
        Mutant(testDescription: "the newest value is not adopted") { $0.adoptsNewest = false },
        Mutant(testDescription: "voters change before all is settled") { $0.settlesFirst = false },
    ]

    @Test func aMachineThatNeverAsksForVotersIsCaught() {
        var rules = LeaseRules()
        rules.asksForVoters = false
        let isCaught = (UInt64(0)..<10_000).contains { seed in
            var world = LeaseWorld(seed: seed, rules: rules)
            world.run()
            return world.violation?.contains("never heard of change") ?? false
        }
        #expect(isCaught)
    }

    @Test(arguments: mutants) func mutantIsCaught(_ mutant: Mutant) {
        var rules = LeaseRules()
        mutant.change(&rules)
        for seed in UInt64(0)..<10_000 {
            var world = LeaseWorld(seed: seed, rules: rules)
            world.run()
            if let violation = world.violation, !violation.hasPrefix("liveness") {
                print("\(mutant.testDescription): seed \(seed): \(violation)")
                return
            }
        }
        Issue.record("10,000 seeds did not notice")
    }
}
