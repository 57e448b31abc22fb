import CLinux
import LinuxIO

/// How many datagrams of unproven source go on to control.
///
/// A core answers some five thousand handshakes a second; more would only take the CPU from
/// packets. One network gets a part of that, so that a flood from one leaves room for the others.
package struct HandshakeLimiter: ~Copyable {
    /// Datagrams a second, and how many may come at once.
    package struct Rate: Sendable {
        let interval: UInt64
        let room: UInt64

        package init(perSecond: UInt64, burst: UInt64) {
            interval = 1_000_000_000 / perSecond
            room = interval * (burst - 1)
        }
    }

    package struct Limits: Sendable {
        let perNetwork: Rate
        let total: Rate

        /// A site that restarts brings a few hundred at once.
        package static let handshakes = Limits(
            perNetwork: Rate(perSecond: 1000, burst: 256),
            total: Rate(perSecond: 5000, burst: 512))
        /// First contact, knocks and the DHT: two or three where a handshake is one.
        package static let envelopes = Limits(
            perNetwork: Rate(perSecond: 2000, burst: 512),
            total: Rate(perSecond: 5000, burst: 2048))
        /// From where no peer is, while a flood lasts: a hundredth of a core.
        package static let strangers = Limits(
            perNetwork: Rate(perSecond: 100, burst: 32), total: Rate(perSecond: 500, burst: 64))
        /// From where peers are, while a flood lasts. Sources can be forged.
        package static let peers = Limits(
            perNetwork: Rate(perSecond: 100, burst: 64), total: Rate(perSecond: 1000, burst: 512))
    }

    private let limits: Limits
    /// Networks that share a place share its rate.
    private static let places = 1024

    /// When each place, and last the whole, would be empty again: 8 KiB, whoever sends.
    private let filled: UnsafeMutablePointer<UInt64>
    /// Nobody outside can choose who shares a place with whom.
    private let multiplier: UInt64

    /// - Parameter seed: Spreads the networks over the places.
    package init(_ limits: Limits, seed: UInt64) {
        self.limits = limits
        multiplier = seed | 1
        filled = PacketMemory.touched(HandshakeLimiter.places + 1, of: 0)
    }

    deinit {
        filled.deallocate()
    }

    /// Whether a datagram from `source` may go on at `now` (nanoseconds).
    package func admits(_ source: clinux_address, at now: UInt64) -> Bool {
        let (high, low) = source.halves
        // What one subscriber holds: an IPv4 address, or a /64 of IPv6.
        let network = high == 0 ? low : high
        let place = Int(truncatingIfNeeded: (network &* multiplier) >> 54)
        return HandshakeLimiter.take(filled + place, limits.perNetwork, now)
            && HandshakeLimiter.take(filled + HandshakeLimiter.places, limits.total, now)
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
