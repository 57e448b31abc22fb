import MeshBase
import NetAddress

/// Measures the handshake work of the last second and, under load, limits each source.
///
/// It is a meter of work done, so even refused messages move it; no fingerprint includes it.
struct HandshakeLoad: Sendable {
    private let threshold: Int
    private var windowStart: BootInstant = .zero
    private var counted = 0
    private var loadedUntil: BootInstant = .zero
    private var buckets: [IPAddress: Bucket] = [:]
    private var sweptAt: BootInstant = .zero

    private struct Bucket {
        var tokens: Int
        var refilledAt: BootInstant
    }

    /// - Parameter threshold: messages a second above which ``isUnderLoad(at:)`` turns true.
    init(threshold: Int) {
        self.threshold = threshold
    }

    /// Counts one message with a valid mac1. Load lasts for one second after the last excess.
    mutating func count(at now: BootInstant) {
        if now - windowStart >= .seconds(1) {
            windowStart = now
            counted = 0
        }
        counted += 1
        if counted > threshold { loadedUntil = now + .seconds(1) }
    }

    func isUnderLoad(at now: BootInstant) -> Bool {
        now < loadedUntil
    }

    /// Whether `source`, whose address a cookie has proven, may have one more handshake now.
    mutating func admits(_ source: IPAddress, at now: BootInstant) -> Bool {
        sweep(at: now)
        let key = source.unmapped.limiterKey
        var bucket =
            buckets[key] ?? Bucket(tokens: HandshakePolicy.sourceBurst, refilledAt: now)
        guard buckets[key] != nil || buckets.count < HandshakePolicy.maximumSources else {
            return false
        }
        let interval = HandshakePolicy.sourceInterval.clampedNanoseconds
        let earned = (now - bucket.refilledAt).clampedNanoseconds / interval
        if bucket.tokens + Int(earned) >= HandshakePolicy.sourceBurst {
            bucket.tokens = HandshakePolicy.sourceBurst
            bucket.refilledAt = now
        } else {
            bucket.tokens += Int(earned)
            bucket.refilledAt = bucket.refilledAt + .nanoseconds(earned * interval)
        }
        let isAdmitted = bucket.tokens > 0
        if isAdmitted { bucket.tokens -= 1 }
        buckets[key] = bucket
        return isAdmitted
    }

    /// Forgets sources whose bucket has long been full again.
    private mutating func sweep(at now: BootInstant) {
        guard now - sweptAt >= .seconds(1) else { return }
        sweptAt = now
        let refill = HandshakePolicy.sourceInterval * HandshakePolicy.sourceBurst
        buckets = buckets.filter { now - $0.value.refilledAt < refill }
    }
}

extension IPAddress {
    /// What one subscriber holds: an IPv4 address, or a /64 of IPv6.
    fileprivate var limiterKey: IPAddress {
        if case .v6(let high, _) = self { .v6(high, 0) } else { self }
    }
}
