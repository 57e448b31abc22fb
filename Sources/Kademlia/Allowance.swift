import MeshBase
import NetAddress

/// A token bucket: so much per second, so much at once.
struct Allowance: Sendable {
    private let rate: Double
    private let burst: Double
    private var level: Double
    private var updatedAt: BootInstant

    init(rate: Double, burst: Double, at now: BootInstant) {
        self.rate = rate
        self.burst = burst
        level = burst
        updatedAt = now
    }

    private func refilled(at now: BootInstant) -> Double {
        min(burst, level + max(0, (now - updatedAt).inSeconds) * rate)
    }

    func isFull(at now: BootInstant) -> Bool { refilled(at: now) >= burst }

    func isLow(at now: BootInstant) -> Bool { refilled(at: now) < burst / 2 }

    mutating func spend(_ amount: Double, at now: BootInstant) -> Bool {
        let available = refilled(at: now)
        guard available >= amount else { return false }
        level = available - amount
        updatedAt = now
        return true
    }
}

/// What strangers may ask of us: per source network, and all of them together.
struct QueryLimiter: Sendable {
    private let rules: DHTRules
    private var sources: [IPAddress: Allowance] = [:]
    /// Shared by the sources beyond the table.
    private var others: Allowance
    private var replies: Allowance

    /// More sources than ask within the seconds that a bucket takes to fill again.
    static let sourceLimit = 1_024

    init(rules: DHTRules, at now: BootInstant) {
        self.rules = rules
        others = Allowance(rate: rules.sourceRate, burst: rules.sourceBurst, at: now)
        replies = Allowance(rate: rules.replyRate, burst: rules.replyBurst, at: now)
    }

    mutating func admitsQuery(from ip: IPAddress, at now: BootInstant) -> Bool {
        let source = rules.limitsNeighbourhoods ? ip.neighbourhood : ip
        if sources[source] == nil, sources.count >= Self.sourceLimit {
            sources = sources.filter { !$0.value.isFull(at: now) }
            guard sources.count < Self.sourceLimit else { return others.spend(1, at: now) }
        }
        var allowance =
            sources[source]
            ?? Allowance(rate: rules.sourceRate, burst: rules.sourceBurst, at: now)
        defer { sources[source] = allowance }
        return allowance.spend(1, at: now)
    }

    /// Whether answers had better be short, so that there are some for all.
    func isStrained(at now: BootInstant) -> Bool { replies.isLow(at: now) }

    mutating func admitsReply(of count: Int, at now: BootInstant) -> Bool {
        replies.spend(Double(count), at: now)
    }
}
