import Consensus
import Foundation
import MeshBase
import Testing

/// Whole meshes under loss, duplication, reordering, partitions, crashes at any action, lost
/// disks, damaged records, drifting clocks and hasty operators.
///
/// `FOUNDING_SEEDS=20000 swift test -c release --filter SimulationTests` looks longer.
@Suite struct SimulationTests {
    static let seeds: UInt64 =
        ProcessInfo.processInfo.environment["FOUNDING_SEEDS"].flatMap(UInt64.init) ?? 300

    @Test func neverTwoFoundings() {
        var generations: UInt32 = 0
        var recovered = 0
        for seed in 0..<Self.seeds {
            let course = Course.varied(seed)
            var simulation = Simulation(course: course, seed: seed)
            simulation.run()
            let checker = simulation.checker
            if let violation = checker.violation {
                Issue.record("seed \(seed): \(violation)\n\(simulation.story)")
            }
            if course.diskLosses == 0, course.amnesias == 0, !checker.hasRecovered {
                Issue.record("seed \(seed): no founding after all faults\n\(simulation.story)")
            }
            generations = max(generations, checker.generations)
            recovered += checker.hasRecovered ? 1 : 0
        }
        // The courses are worth something: most end well, and some claims are abandoned.
        #expect(recovered * 10 >= Int(Self.seeds) * 8)
        #expect(generations >= 2)
    }

    @Test func aSeedIsAStory() {
        func trace() -> String {
            var simulation = Simulation(course: .varied(12), seed: 12)
            simulation.run()
            return simulation.story
        }
        #expect(trace() == trace())
    }

    /// A rule left out. If the simulation did not notice, it would be worth nothing.
    struct Mutant: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// Where the search begins: shortly before the first seed that showed it, to save time.
        var firstSeed: UInt64 = 0
        let change: @Sendable (inout Course) -> Void
    }

    static let mutants = [
        Mutant(testDescription: "quorum minus one") { $0.rules.quorumOffset = -1 },
        Mutant(testDescription: "votes are not persisted") { $0.rules.persistsVotes = false },
        Mutant(
            testDescription: "votes are not persisted, and nobody looks at the disk",
            firstSeed: 2_240
        ) {
            $0.rules.persistsVotes = false
            $0.checksDurability = false
            $0.makeStormy()
        },
        Mutant(testDescription: "promises are not kept", firstSeed: 320) {
            $0.rules.keepsPromises = false
        },
        Mutant(testDescription: "accepted values are not adopted") {
            $0.rules.adoptsAcceptedValues = false
        },
        Mutant(testDescription: "a generation begins without abandonment") {
            $0.rules.requiresAbandonment = false
        },
        Mutant(testDescription: "holds are ignored") { $0.rules.honoursHolds = false },
        Mutant(testDescription: "no wait after a start", firstSeed: 400) {
            $0.rules.waitsAfterStart = false
            $0.makeStormy()
        },
        Mutant(testDescription: "deadlines are ignored") { $0.rules.obeysDeadline = false },
    ]

    @Test(arguments: mutants) func mutantIsCaught(_ mutant: Mutant) {
        for seed in mutant.firstSeed..<mutant.firstSeed + 10_000 {
            var course = Course.varied(seed)
            mutant.change(&course)
            var simulation = Simulation(course: course, seed: seed)
            simulation.run()
            if simulation.checker.violation != nil { return }
        }
        Issue.record("10,000 seeds did not notice")
    }
}

extension Simulation {
    /// How it ended, for a person.
    var story: String {
        var text = "\(course.policy), \(events) events, ended at \(now) ms\n"
        for machine in machines {
            guard let view = machine.founding?.view else { continue }
            var fingerprint = Fingerprint()
            machine.founding?.fingerprint(into: &fingerprint)
            text += "  \(machine.identity.short) \(view.phase) of generation \(view.generation), "
            text += "\(fingerprint.value): \(view.reason)\n"
        }
        return text
    }
}
