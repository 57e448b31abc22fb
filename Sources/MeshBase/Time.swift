/// A point on the machine's boot clock (`CLOCK_BOOTTIME`), in nanoseconds since boot.
///
/// It never jumps and it counts suspended time, so every timeout and every deadline of every core
/// is expressed with it. Values of different boots must not be compared.
package struct BootInstant: Hashable, Comparable, Sendable, CustomStringConvertible {
    package var nanoseconds: UInt64

    package init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    package static let zero = BootInstant(nanoseconds: 0)
    package static let distantFuture = BootInstant(nanoseconds: .max)

    package static func < (lhs: BootInstant, rhs: BootInstant) -> Bool {
        lhs.nanoseconds < rhs.nanoseconds
    }

    /// Adds a duration; saturates at both ends instead of trapping.
    package static func + (instant: BootInstant, duration: Duration) -> BootInstant {
        let delta = duration.clampedNanoseconds
        if delta >= 0 {
            let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(UInt64(delta))
            return BootInstant(nanoseconds: overflow ? .max : sum)
        }
        let (difference, underflow) =
            instant.nanoseconds.subtractingReportingOverflow(delta.magnitude)
        return BootInstant(nanoseconds: underflow ? 0 : difference)
    }

    package static func - (instant: BootInstant, duration: Duration) -> BootInstant {
        instant + (.zero - duration)
    }

    /// The time from `other` to `self`; negative when `other` is later.
    package static func - (instant: BootInstant, other: BootInstant) -> Duration {
        if instant.nanoseconds >= other.nanoseconds {
            let delta = instant.nanoseconds - other.nanoseconds
            return .nanoseconds(Int64(clamping: delta))
        }
        return .nanoseconds(-Int64(clamping: other.nanoseconds - instant.nanoseconds))
    }

    /// The first multiple of a period after this instant. Timers that need no exact time share one
    /// wake-up there, however many there are.
    ///
    /// - Parameter period: Positive.
    package func nextMultiple(of period: Duration) -> BootInstant {
        let step = UInt64(max(period.clampedNanoseconds, 1))
        let (next, overflow) = (nanoseconds / step * step).addingReportingOverflow(step)
        return overflow ? .distantFuture : BootInstant(nanoseconds: next)
    }

    package var description: String {
        let milliseconds = nanoseconds / 1_000_000
        let fraction = String(milliseconds % 1000)
        let padded = String(repeating: "0", count: 3 - fraction.count) + fraction
        return "\(milliseconds / 1000).\(padded)s"
    }
}

extension Duration {
    /// The duration in nanoseconds, clamped to what `Int64` holds (about 292 years).
    package var clampedNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, sumOverflow) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        if sumOverflow { return seconds < 0 ? .min : .max }
        return sum
    }

    /// The duration in seconds, for display and for ratios.
    package var inSeconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }
}

/// Civil time as the machine believes it: seconds and nanoseconds since 1970-01-01 UTC.
///
/// It may be wrong by any amount. It is used for TAI64N stamps, DHT epochs and display, never for
/// a decision that must be correct.
package struct WallTime: Hashable, Comparable, Sendable {
    package var seconds: Int64
    package var nanoseconds: UInt32

    package init(seconds: Int64, nanoseconds: UInt32 = 0) {
        precondition(nanoseconds < 1_000_000_000)
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    package static func < (lhs: WallTime, rhs: WallTime) -> Bool {
        (lhs.seconds, lhs.nanoseconds) < (rhs.seconds, rhs.nanoseconds)
    }
}

/// The two clocks of one moment, read together by an interpreter and handed to a core.
package struct Now: Hashable, Sendable {
    package var boot: BootInstant
    package var wall: WallTime

    package init(boot: BootInstant, wall: WallTime) {
        self.boot = boot
        self.wall = wall
    }
}

/// The earlier of two optional deadlines; `nil` means "no deadline".
package func earlier(_ first: BootInstant?, _ second: BootInstant?) -> BootInstant? {
    switch (first, second) {
    case (nil, let only), (let only, nil): only
    case (let first?, let second?): min(first, second)
    }
}
