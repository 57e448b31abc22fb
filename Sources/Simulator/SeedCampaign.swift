import MeshBase

/// The kinds of worlds that one seed decides.
package enum WorldKind: String, CaseIterable, Sendable {
    /// ``FoundingWorld``
    case founding
    /// ``LeaseWorld``
    case leases
    /// ``Simulation``: whole nodes with real cryptography.
    case nodes
}

/// What became of one world.
package struct WorldOutcome: Hashable, Sendable {
    package var seed: UInt64
    /// The first rule that was broken.
    package var violation: String?
    package var events: Int
    /// Founding worlds: every machine knew the cluster after healing.
    package var isDecided = false
    /// Founding worlds: the datastore had all its members.
    package var isWhole = false
}

/// Many worlds, one from each seed.
package enum SeedCampaign {
    package static func outcome(of kind: WorldKind, seed: UInt64) -> WorldOutcome {
        switch kind {
        case .founding:
            let world = FoundingWorld(seed: seed)
            world.run()
            return world.outcome
        case .leases:
            var world = LeaseWorld(seed: seed)
            world.run()
            return WorldOutcome(seed: seed, violation: world.violation, events: world.events)
        case .nodes:
            let trial = Trial(.hostile(seed: seed))
            let problem = trial.problems.isEmpty ? nil : trial.problems.joined(separator: "; ")
            return WorldOutcome(seed: seed, violation: problem, events: trial.simulation.steps)
        }
    }

    /// Runs worlds on so many threads at a time; the outcomes are in the order of the seeds.
    package static func run(
        _ seeds: Range<UInt64>, lanes: Int,
        outcome: @escaping @Sendable (UInt64) -> WorldOutcome
    ) async -> [WorldOutcome] {
        let lanes = UInt64(max(lanes, 1))
        return await withTaskGroup(of: [WorldOutcome].self) { group in
            for lane in 0..<lanes {
                group.addTask { seeds.filter { $0 % lanes == lane }.map(outcome) }
            }
            var outcomes: [WorldOutcome] = []
            for await part in group { outcomes += part }
            return outcomes.sorted { $0.seed < $1.seed }
        }
    }
}

extension FoundingWorld {
    package var outcome: WorldOutcome {
        WorldOutcome(
            seed: seed, violation: violation, events: eventCount, isDecided: decidedAt != nil,
            isWhole: isComplete)
    }
}
