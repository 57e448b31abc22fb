import ClusterPlan
import Consensus
import Cryptography
import MeshBase
import MeshNode
import NetAddress

/// What one simulated world is made of.
package struct SimulationOptions: Sendable {
    package var seed: UInt64
    package var machines: Int
    /// The founding policy of the token; `nil` for a mesh without one.
    package var policy: GenesisPolicy?
    /// The last so many machines are agents by wish: they never vote and never found.
    package var agents = 0
    /// The last so many machines come with what `token grow` prints: they never vote and never found.
    package var growth = 0
    /// The overlay's IPv4 block; a small one makes machines claim the same address.
    package var ipv4Plan = IPPrefix(.v4(0x0A01_0000), length: 16)
    /// Without local discovery every machine is told the address of the first one.
    package var usesLocalDiscovery = true
    /// Machines look for each other with the DHT among members; all they are told is that the
    /// first one is a node of it.
    package var usesDHT = false
    /// What stands before each machine, by index; with an empty list all are on one network.
    /// Otherwise each is on a network of its own, and `nil` stands for a public address.
    package var nats: [SimulatedNAT?] = []
    /// The routers take what comes to themselves, and the machines may open further ports.
    package var routersAcceptInput = false
    /// The machines may open streams to those with a public address.
    package var usesStreams = false
    /// The machines may try many ports of each other's NATs, and open as many.
    package var guessesPorts = false
    /// Machines start at random moments of this span.
    package var startSpread: Duration = .seconds(3)
    /// How long a machine's processor is at work on one datagram, during which others wait.
    package var serviceTime: Duration = .zero
    package var faults = FaultPlan()
    /// Folds every node's whole state into the trace after each step: slow, and finds the first
    /// step in which two runs differ.
    package var hashesEveryStep = false
    /// Every node writes its founding log.
    package var keepsLogs = false
    /// At least so long are the grants of the datastore; real ones take several messages.
    package var grantBytes = 0

    /// More machines have the founding token than may ever vote: everybody must raise an alarm.
    package var expectsAlarm: Bool {
        policy.map { machines - growth - agents > $0.identityLimit } ?? false
    }

    static let storyLimit = 20_000

    package init(seed: UInt64, machines: Int, policy: GenesisPolicy? = nil) {
        self.seed = seed
        self.machines = machines
        self.policy = policy
    }
}

extension SimulationOptions {
    /// A world that the seed alone describes: its size, its policy and everything that goes wrong.
    package static func hostile(seed: UInt64) -> SimulationOptions {
        var dice = SeededGenerator(seed: seed ^ 0x0DD_D1CE)
        func oneIn(_ count: UInt64) -> Bool { dice.next(upperBound: count) == 0 }
        func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &dice) }

        let machines = number(3...6)
        let servers = machines >= 4 && oneIn(2) ? 3 : oneIn(3) ? 1 : 3
        let policy = GenesisPolicy(voterLimit: machines, servers: servers)
        var options = SimulationOptions(seed: seed, machines: machines, policy: policy)
        // As many agents as leave a quorum of voters.
        if oneIn(3) { options.agents = min(number(1...2), machines - policy.quorum) }
        if oneIn(3) { options.ipv4Plan = IPPrefix(.v4(0x0A01_0000), length: 28) }
        options.usesLocalDiscovery = !oneIn(4)
        options.startSpread = oneIn(3) ? .zero : .seconds(number(1...20))

        var faults = FaultPlan()
        faults.loss = [0, 0.05, 0.2, 0.4][number(0...3)]
        faults.duplication = [0, 0.1, 0.3][number(0...2)]
        faults.delay = .milliseconds(1)...(.milliseconds([3, 50, 400][number(0...2)]))
        if oneIn(2) { faults.partitionInterval = .seconds(number(15...60)) }
        if oneIn(3) {
            faults.beginsSplit = true
            faults.partitionLength = .seconds(10)...(.seconds(60))
        }
        if !oneIn(3) { faults.crashInterval = .seconds(number(20...120)) }
        faults.orderlyStop = oneIn(2) ? 0 : 0.3
        if oneIn(3) {
            faults.diskLoss = 0.3
            faults.diskLossLimit = policy.diskLosses
        }
        faults.wallClockError = oneIn(2) ? 0 : 100 * 365 * 86_400
        faults.clockDrift = oneIn(2) ? 0 : 0.2
        if options.usesLocalDiscovery, oneIn(3) { faults.moveInterval = .seconds(number(20...90)) }
        faults.hostFailure = oneIn(2) ? 0 : 0.2
        faults.writeInterval = .seconds(number(5...30))
        options.faults = faults
        return options
    }
}

/// The token of a simulated mesh, made from the simulation's own randomness.
struct SimulationToken {
    private(set) var token: NetworkToken
    private let rootKey: SigningKey

    init(options: SimulationOptions, random: inout SeededGenerator) {
        var request = TokenRequest()
        request.name = "sim"
        request.policy = options.policy
        request.ipv4Plan = options.ipv4Plan
        guard let made = try? NetworkToken.make(request, random: &random) else {
            preconditionFailure("the simulation's token request is valid")
        }
        token = made.token
        rootKey = made.rootKey
    }

    /// Gives the mesh root's word that a machine may vote, as mode `voters` asks for.
    mutating func name(voter node: NodeID) {
        guard let granted = try? token.granting(voter: node, rootKey: rootKey) else {
            preconditionFailure("a policy's voters find room in its token")
        }
        token = granted
    }
}
