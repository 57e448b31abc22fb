/// Which of the latest packet counters have been seen: the sliding bitmap of RFC 6479.
///
/// 8,192 bits in 128 words. One word is always being reused, so a counter may be up to 8,128 behind
/// the greatest; wide enough for the reordering that several receiving queues cause.
@frozen public struct ReplayWindow: Sendable {
    @usableFromInline var greatest: UInt64
    @usableFromInline var words: InlineArray<128, UInt64>

    @inlinable
    public init() {
        greatest = 0
        words = InlineArray(repeating: 0)
    }

    /// How far behind the greatest counter a packet may be.
    public static var reach: UInt64 { 127 * 64 }

    /// Marks `counter` as seen. Call it for authentic packets only.
    ///
    /// - Returns: Whether it was new. A repeated counter, or one too old to tell, changes nothing.
    @inlinable
    public mutating func accept(_ counter: UInt64) -> Bool {
        let word = counter >> 6
        if counter > greatest {
            let current = greatest >> 6
            var stale = min(word &- current, 128)
            while stale > 0 {
                words[Int(truncatingIfNeeded: (current &+ stale) & 127)] = 0
                stale &-= 1
            }
            greatest = counter
        } else if greatest &- counter > 127 * 64 {
            return false
        }
        let index = Int(truncatingIfNeeded: word & 127)
        let bit = UInt64(1) &<< (counter & 63)
        if words[index] & bit != 0 { return false }
        words[index] |= bit
        return true
    }
}
