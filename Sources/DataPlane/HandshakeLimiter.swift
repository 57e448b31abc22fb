import CLinux
import LinuxIO

/// How many handshake messages of unproven source go on to control.
///
/// A core answers some five thousand handshakes a second; more would only take the CPU from
/// packets. One network gets a part of that, so that a flood from one leaves room for the others.
package struct HandshakeLimiter: ~Copyable {
    /// Messages a second, and how many may come at once. A site that restarts brings a few hundred.
    package static let perNetwork = Rate(perSecond: 1000, burst: 256)
    package static let total = Rate(perSecond: 5000, burst: 512)
    /// Networks that share a place share its rate.
    private static let places = 1024

    /// When each place, and last the whole, would be empty again: 8 KiB, whoever sends.
    private let filled: UnsafeMutablePointer<UInt64>
    /// Nobody outside can choose who shares a place with whom.
    private let multiplier: UInt64

    package struct Rate: Sendable {
        let interval: UInt64
        let room: UInt64

        fileprivate init(perSecond: UInt64, burst: UInt64) {
            interval = 1_000_000_000 / perSecond
            room = interval * (burst - 1)
        }
    }

    /// - Parameter seed: Spreads the networks over the places.
    package init(seed: UInt64) {
        multiplier = seed | 1
        filled = PacketMemory.touched(HandshakeLimiter.places + 1, of: 0)
    }

    deinit {
        filled.deallocate()
    }

    /// Whether a message from `source` may go on at `now` (nanoseconds).
    package func admits(_ source: clinux_address, at now: UInt64) -> Bool {
        let (high, low) = source.halves
        // What one subscriber holds: an IPv4 address, or a /64 of IPv6.
        let network = high == 0 ? low : high
        let place = Int(truncatingIfNeeded: (network &* multiplier) >> 54)
        return HandshakeLimiter.take(filled + place, HandshakeLimiter.perNetwork, now)
            && HandshakeLimiter.take(filled + HandshakeLimiter.places, HandshakeLimiter.total, now)
    }

    @inline(__always)
    private static func take(
        _ filled: UnsafeMutablePointer<UInt64>, _ rate: Rate, _ now: UInt64
    ) -> Bool {
        let before = max(filled.pointee, now)
        guard before &- now <= rate.room else { return false }
        filled.pointee = before &+ rate.interval
        return true
    }
}
