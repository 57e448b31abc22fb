import MeshBase
import NetAddress

/// Nodes that answer but not to `get`: many programs know nothing of BEP 44, and some of them are
/// silent instead of refusing. Walks ask them for nodes only, so that nobody waits.
struct MuteNodes: Sendable {
    private var silences: [SocketAddress: Silence] = [:]

    private struct Silence: Sendable {
        var count: Int
        var at: BootInstant
    }

    /// As many as the walks of a whole round ask.
    static let limit = 512
    /// One lost exchange proves nothing.
    static let threshold = 2
    /// Long enough to spare the rounds between, short enough for loss that passes.
    static let lifetime = Duration.seconds(10 * 60)

    func contains(_ address: SocketAddress, at now: BootInstant) -> Bool {
        guard let silence = silences[address], now - silence.at < Self.lifetime else {
            return false
        }
        return silence.count >= Self.threshold
    }

    /// A `get` was not answered; `false` when there is no room to remember that.
    mutating func noteSilence(of address: SocketAddress, at now: BootInstant) -> Bool {
        if silences[address] == nil, silences.count >= Self.limit {
            silences = silences.filter { now - $0.value.at < Self.lifetime }
            guard silences.count < Self.limit else { return false }
        }
        silences[address] = Silence(count: (silences[address]?.count ?? 0) + 1, at: now)
        return true
    }

    mutating func answered(_ address: SocketAddress) {
        silences[address] = nil
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        for address in silences.keys.sorted(by: { $0.compact.hex < $1.compact.hex }) {
            fingerprint.mix(address.compact)
            fingerprint.mix(silences[address]?.count ?? 0)
        }
    }
}
