import MeshBase

/// What may go wrong in a simulated world, and how often.
package struct FaultPlan: Sendable {
    /// 0...1: each datagram is lost with this probability.
    package var loss = 0.0
    /// 0...1: each delivered datagram arrives a second time with this probability.
    package var duplication = 0.0
    /// One-way delay of each datagram, drawn evenly; a wide range reorders.
    package var delay: ClosedRange<Duration> = .milliseconds(1)...(.milliseconds(3))
    /// Mean time between two partitions of the network; `nil` for none.
    package var partitionInterval: Duration?
    package var partitionLength: ClosedRange<Duration> = .seconds(2)...(.seconds(30))
    /// Mean time between two crashes of one machine; `nil` for none.
    package var crashInterval: Duration?
    package var downTime: ClosedRange<Duration> = .seconds(1)...(.seconds(20))
    /// 0...1: a crash happens in the middle of a list of actions, so that the write under way is
    /// lost and nothing after it was carried out.
    package var crashMidway = 0.5
    /// 0...1: a crashed machine comes back without its disk, as a new identity.
    package var diskLoss = 0.0
    /// How many machines may lose their disk in one run; the policy's `f`.
    package var diskLossLimit = 0
    /// Wall clocks start anywhere within this many seconds of the truth.
    package var wallClockError: Int64 = 0

    package init() {}
}
