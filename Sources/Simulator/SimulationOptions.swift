import Consensus
import Cryptography
import MeshBase
import MeshNode

/// What one simulated world is made of.
package struct SimulationOptions: Sendable {
    package var seed: UInt64
    package var machines: Int
    /// The founding policy of the token; `nil` for a mesh without one.
    package var policy: GenesisPolicy?
    /// Machines start at random moments of this span.
    package var startSpread: Duration = .seconds(3)
    package var faults = FaultPlan()
    /// Folds every node's whole state into the trace after each step: slow, and finds the first
    /// step in which two runs differ.
    package var hashesEveryStep = false

    static let storyLimit = 20_000

    package init(seed: UInt64, machines: Int, policy: GenesisPolicy? = nil) {
        self.seed = seed
        self.machines = machines
        self.policy = policy
    }
}

/// The token of a simulated mesh, made from the simulation's own randomness.
struct SimulationToken {
    let token: NetworkToken

    init(options: SimulationOptions, random: inout SeededGenerator) {
        var request = TokenRequest()
        request.name = "sim"
        request.policy = options.policy
        guard let made = try? NetworkToken.make(request, random: &random) else {
            preconditionFailure("the simulation's token request is valid")
        }
        token = made.token
    }
}
