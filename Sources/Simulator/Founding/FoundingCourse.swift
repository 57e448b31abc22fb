import Consensus
import MeshBase

/// What a world of foundings goes through: who is there, and how much goes wrong.
package struct FoundingCourse: Sendable {
    package var policy: GenesisPolicy
    package var rules = FoundingRules()
    package var timing = FoundingCourse.quickTiming
    /// Machines with a token of `token grow`: they join and never vote.
    package var growth = 0
    /// Machines beyond T with the founding token, which breaks the first assumption.
    package var excess = 0

    // At most f of these three together, as the protocol promises no more.
    /// Disks that are lost, each of which makes a new identity.
    package var diskLosses = 0
    /// Disks that go back: to a snapshot, or by acknowledged writes that were lost.
    package var rollbacks = 0
    /// Machines that run twice from copied disks.
    package var clones = 0

    /// Records that are torn beyond use once.
    package var amnesias = 0
    package var crashes = 0
    /// Changes of who can send to whom; many are one-way.
    package var cuts = 0
    /// Machines that sleep, as a laptop does, with everything on them.
    package var sleeps = 0
    /// Wall clocks that jump by up to a hundred years.
    package var wallJumps = 0
    /// Hasty words of operators: take over, found here.
    package var takeovers = 0
    package var inits = 0
    /// Resets signed by the mesh root.
    package var resets = 0

    package var loss = 0.0
    package var duplication = 0.0
    /// Of messages that take seconds, so that others overtake them.
    package var slowness = 0.0
    /// Paths on which everything waits for a while and then comes at once.
    package var clogs: [Clog] = []
    /// Chance that a machine dies in the middle of a list of actions.
    package var crashMidway = 0.0
    package var hostFailure = 0.0
    /// Boot clocks run this much too fast or too slow at most.
    package var drift = 0.1
    /// How long the faults last.
    package var troubled: Duration = .seconds(40)

    // What a broken world looks like, for tests of the world itself.
    /// Nodes measure time with a clock that jumps with the wall.
    package var poisonsClock = false
    /// In mode `voters` nobody else becomes a server.
    package var guardsServers = true
    /// Each vote is compared with the disk before it leaves.
    package var checksDurability = true

    package init(policy: GenesisPolicy) {
        self.policy = policy
    }

    package struct Clog: Hashable, Sendable {
        /// Of machines.
        package var from: Int
        package var to: Int
        /// Milliseconds of true time.
        package var span: Range<Int>
    }

    /// L is 8 s instead of 600 s, and the rest in proportion, so that a takeover, which waits for
    /// 2L, fits a world of a minute.
    package static var quickTiming: FoundingTiming {
        var timing = FoundingTiming()
        timing.hold = .seconds(8)
        timing.observation = .seconds(3)
        timing.probeInterval = .milliseconds(1_500)
        timing.slowProbeInterval = .seconds(3)
        timing.statusLifetime = .seconds(8)
        timing.rankDelay = .milliseconds(500)
        timing.attempt = .seconds(2)
        timing.backoffLimit = .seconds(4)
        return timing
    }

    /// From healing to READY on every machine.
    package static let decisionLimit = Duration.seconds(60)
    /// From READY everywhere to a datastore with all its members and agents: they are admitted one
    /// after the other, and a machine that was turned away waits up to 40 s.
    package static let completionLimit = Duration.seconds(400)

    /// A varied course from a number.
    package static func varied(_ seed: UInt64) -> FoundingCourse {
        var dice = Dice(seed ^ 0xC0FFEE)
        let voters = [1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7][dice.pick(0..<11)]
        let losses = dice.pick(0..<min(voters, 3))
        let servers = voters >= 3 && dice.chance(0.7) ? 3 : 1
        var course = FoundingCourse(
            policy: GenesisPolicy(voterLimit: voters, diskLosses: losses, servers: servers))
        if dice.chance(0.2) { course.policy.takeover = .minutes(1) }
        // A mode in which one voter is enough founds only where it is told.
        if voters == 1 { course.policy.mode = .single }
        if voters > 1, dice.chance(0.1) { course.policy.mode = .external }
        if voters > 1, dice.chance(0.1) {
            course.policy.mode = .designated(FoundingWorld.node(dice.pick(0..<voters)))
        }
        course.growth = dice.pick(0..<3)
        for _ in 0..<dice.pick(0..<losses + 1) {
            switch dice.pick(0..<4) {
            case 0: course.rollbacks += 1
            case 1: course.clones += 1
            default: course.diskLosses += 1
            }
        }
        if dice.chance(0.15) { course.amnesias = 1 }
        if dice.chance(0.1) { course.excess = dice.pick(1..<3) }
        course.crashes = dice.pick(0..<6)
        course.cuts = dice.pick(0..<6)
        course.sleeps = dice.pick(0..<3)
        course.wallJumps = dice.pick(0..<3)
        course.takeovers = dice.chance(0.6) ? dice.pick(0..<4) : 0
        course.inits = dice.chance(0.3) ? dice.pick(0..<3) : 0
        course.resets = dice.chance(0.15) ? 1 : 0
        course.loss = dice.number(0...0.3)
        course.duplication = dice.number(0...0.2)
        course.slowness = dice.number(0...0.1)
        course.crashMidway = dice.number(0...0.01)
        course.hostFailure = dice.number(0...0.3)
        course.troubled = dice.pause(15_000...50_000)
        if dice.chance(0.3) { course.makeStormy() }
        course.clogPaths(seed)
        return course
    }

    /// Dice of its own, so that a seed without clogs tells the story that it told before.
    private mutating func clogPaths(_ seed: UInt64) {
        var dice = Dice(seed ^ 0x12F)
        guard dice.chance(0.25) else { return }
        let machines = policy.voterLimit + growth + excess
        for _ in 0..<dice.pick(1..<12) {
            let begin = dice.span(0...40_000)
            clogs.append(
                Clog(
                    from: dice.pick(0..<machines), to: dice.pick(0..<machines),
                    span: begin..<begin + dice.span(200...5_000)))
        }
        duplication = max(duplication, dice.number(0...0.5))
    }

    /// Crashes and cuts all the time.
    package mutating func makeStormy() {
        crashes += 25
        cuts += 20
        takeovers += 6
        crashMidway += 0.02
    }
}
