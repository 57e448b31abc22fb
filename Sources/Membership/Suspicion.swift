import MeshBase

/// A member's last chance: it ends sooner the more members accuse independently (Lifeguard,
/// section IV-B of arXiv 1707.00788).
struct Suspicion: Hashable, Sendable {
    var start: BootInstant
    let minimum: Duration
    let maximum: Duration
    /// Accusers beyond the first that bring the timeout down to `minimum`.
    let confirmationsWanted: Int
    /// In the order of their accusation, the first included; at most `confirmationsWanted` + 1.
    private(set) var accusers: [NodeID]

    init(
        start: BootInstant, minimum: Duration, maximum: Duration, confirmationsWanted: Int,
        accuser: NodeID
    ) {
        self.start = start
        self.minimum = minimum
        self.maximum = maximum
        self.confirmationsWanted = confirmationsWanted
        accusers = [accuser]
    }

    var deadline: BootInstant {
        start
            + Suspicion.timeout(
                confirmations: accusers.count - 1, wanted: confirmationsWanted, minimum: minimum,
                maximum: maximum)
    }

    /// Returns whether the accusation was news.
    mutating func confirm(by accuser: NodeID) -> Bool {
        guard accusers.count <= confirmationsWanted, !accusers.contains(accuser) else {
            return false
        }
        accusers.append(accuser)
        return true
    }

    /// max - (max - min) * log(n + 1) / log(k + 1), in whole milliseconds. The ratio of the
    /// logarithms comes from integers, so every machine computes the same.
    static func timeout(
        confirmations: Int, wanted: Int, minimum: Duration, maximum: Duration
    ) -> Duration {
        guard wanted > 0, confirmations < wanted else { return minimum }
        let low = minimum.clampedNanoseconds / 1_000_000
        let high = maximum.clampedNanoseconds / 1_000_000
        let progress = binaryLogarithm(confirmations + 1) * 65_536 / binaryLogarithm(wanted + 1)
        let milliseconds = high - (high - low) * Int64(progress) / 65_536
        return .milliseconds(max(low, milliseconds))
    }
}

/// log2(`number`) in units of 1/65,536, by repeated squaring; 0 for numbers below 2.
func binaryLogarithm(_ number: Int) -> Int {
    guard number > 1 else { return 0 }
    let whole = Int.bitWidth - 1 - number.leadingZeroBitCount
    var result = whole << 16
    // The mantissa in [1, 2) with 30 fractional bits: its square fits 64 bits.
    var mantissa = (UInt64(number) << 30) >> UInt64(whole)
    for bit in stride(from: 15, through: 0, by: -1) {
        mantissa = mantissa * mantissa >> 30
        if mantissa >= 2 << 30 {
            mantissa >>= 1
            result += 1 << bit
        }
    }
    return result
}

/// max(1, log10(`members` + 1)) in thousandths, the scale of every size-dependent number in SWIM:
/// 1 up to nine members, 2 at 99, 3 at 999.
func meshScale(members: Int) -> Int {
    max(1_000, 1_000 * binaryLogarithm(members + 1) / binaryLogarithm(10))
}
