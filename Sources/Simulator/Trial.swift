import MeshBase

/// One world through a time of faults and a time of healing.
package struct Trial {
    package let simulation: Simulation
    /// What is still wrong at the end; rules that were broken come first.
    package let problems: [String]
    /// How long after healing all was well; `nil` when it never was.
    package let recovery: Duration?

    /// Runs a world.
    ///
    /// - Parameters:
    ///   - faultsFor: how long the plan of faults is in force.
    ///   - patience: how long the world may take to become well afterwards.
    package init(
        _ options: SimulationOptions, faultsFor: Duration = .seconds(90),
        patience: Duration = .seconds(180)
    ) {
        let simulation = Simulation(options: options)
        simulation.run(until: simulation.now + faultsFor) { !$0.violations.isEmpty }
        var recovery: Duration?
        if simulation.violations.isEmpty {
            simulation.heal()
            let healed = simulation.now
            let isWell = simulation.run(until: healed + patience) {
                !$0.violations.isEmpty || $0.complaints.isEmpty
            }
            if isWell { recovery = simulation.now - healed }
        }
        self.simulation = simulation
        self.recovery = recovery
        problems = simulation.violations + (recovery == nil ? simulation.complaints : [])
    }

    /// What went wrong and how it came to that.
    package func story(lines: Int = 80) -> String {
        let seed = simulation.options.seed
        return """
            seed \(seed): \(problems.joined(separator: "; "))
            \(simulation.storyTail(lines))
            replay: EDGEVPN_SEED=\(seed) swift test --filter oneChosenWorld
            """
    }
}
