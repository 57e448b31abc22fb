import MeshBase

/// What may go wrong in a simulated world, and how often.
package struct FaultPlan: Sendable {
    /// 0...1: each datagram is lost with this probability.
    package var loss = 0.0
    /// The first handshake initiation from each machine to each other one is lost.
    package var losesFirstInitiations = false
    /// 0...1: each delivered datagram arrives a second time with this probability.
    package var duplication = 0.0
    /// One-way delay of each datagram, drawn evenly; a wide range reorders.
    package var delay: ClosedRange<Duration> = .milliseconds(1)...(.milliseconds(3))
    /// Mean time between two partitions of the network; `nil` for none.
    package var partitionInterval: Duration?
    /// The machines start in two halves that cannot see each other.
    package var beginsSplit = false
    package var partitionLength: ClosedRange<Duration> = .seconds(2)...(.seconds(30))
    /// Mean time between two crashes of one machine; `nil` for none.
    package var crashInterval: Duration?
    package var downTime: ClosedRange<Duration> = .seconds(1)...(.seconds(20))
    /// 0...1: a crash happens in the middle of a list of actions, so that the write under way is
    /// lost and nothing after it was carried out.
    package var crashMidway = 0.5
    /// 0...1: the machine says goodbye before it stops.
    package var orderlyStop = 0.0
    /// 0...1: a crashed machine comes back without its disk, as a new identity.
    package var diskLoss = 0.0
    /// How many machines may lose their disk in one run; the policy's `f`.
    package var diskLossLimit = 0
    /// Wall clocks are anywhere within this many seconds of the truth, anew in every life.
    package var wallClockError: Int64 = 0
    /// 0..<1: boot clocks run this much too fast or too slow at most.
    package var clockDrift = 0.0
    /// Mean time until a machine gets another address; `nil` for never.
    package var moveInterval: Duration?
    /// 0...1: a step on a machine's datastore fails.
    package var hostFailure = 0.0
    /// Mean time between two entries that a user of one machine writes; `nil` for none. Not a
    /// fault, but what faults must not lose.
    package var writeInterval: Duration?

    package init() {}
}
