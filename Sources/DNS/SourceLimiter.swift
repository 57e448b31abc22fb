import MeshBase
import NetAddress

/// Bounds what one source may ask per second, so that one broken program does not take the server
/// from the others and a forged source is not flooded with answers.
struct SourceLimiter {
    /// Queries per second, and at once after a second of quiet; 0 for no limit.
    let rate: Int
    private var slots: [Slot] = []
    private var index: [Source: Int] = [:]
    private var hand = 0

    /// An IPv4 address or a /64, which one machine can fill on its own.
    private struct Source: Hashable {
        let network: IPAddress
        /// With a valid cookie: forgers of the address do not spend its share.
        let isVerified: Bool
    }

    private struct Slot {
        let source: Source
        var tokens: Double
        var at: BootInstant
    }

    /// More sources than a mesh has machines; about 300 kB.
    static let maximumSources = 4096

    init(rate: Int) {
        self.rate = rate
    }

    var count: Int { slots.count }

    /// Whether a query of `address` may be answered; counts it.
    mutating func admit(_ address: IPAddress, isVerified: Bool, at now: BootInstant) -> Bool {
        // What the machine asks itself cannot be forged from outside.
        guard rate > 0, !address.isLoopback else { return true }
        var network = address.unmapped
        if case .v6(let high, _) = network { network = .v6(high, 0) }
        let source = Source(network: network, isVerified: isVerified)
        let full = Double(rate)
        guard let position = index[source] else {
            add(Slot(source: source, tokens: full - 1, at: now))
            return true
        }
        let elapsed = Double((now - slots[position].at).clampedNanoseconds) / 1e9
        let tokens = min(full, slots[position].tokens + max(0, elapsed) * full)
        guard tokens >= 1 else { return false }
        slots[position].at = now
        slots[position].tokens = tokens - 1
        return true
    }

    /// In a full table the entries are replaced in turn: to forget a flooding source early costs
    /// at most one second's worth of answers.
    private mutating func add(_ slot: Slot) {
        if slots.count < SourceLimiter.maximumSources {
            index[slot.source] = slots.count
            slots.append(slot)
            return
        }
        index[slots[hand].source] = nil
        index[slot.source] = hand
        slots[hand] = slot
        hand = (hand + 1) % slots.count
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(slots.count)
        fingerprint.mix(hand)
        for slot in slots {
            fingerprint.mix(slot.source.network.mappedBytes)
            fingerprint.mix(slot.at)
            fingerprint.mix(slot.tokens.bitPattern)
        }
    }
}
