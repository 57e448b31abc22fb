import MeshBase
import NetAddress

/// Nodes that answer but not to `get`: many programs know nothing of BEP 44, and some of them are
/// silent instead of refusing. Walks ask them for nodes only, so that nobody waits.
///
/// Busy nodes are silent, too. So silence counts only when the node answers a question for nodes
/// right afterwards, never once it answered a `get`, and at first not for long.
struct MuteNodes: Sendable {
    private var nodes: [SocketAddress: Knowledge] = [:]

    private enum Knowledge: Hashable, Sendable {
        /// It answered a `get`, at that time last.
        case answers(at: BootInstant)
        /// So many were in vain, the last at that time.
        case silent(count: Int, at: BootInstant)
    }

    /// As many as the walks of a whole round ask.
    static let limit = 512
    /// One lost exchange proves nothing.
    static let threshold = 2
    /// What is older than this is forgotten.
    static let lifetime = Duration.seconds(30 * 60)

    /// A minute, doubled with each `get` in vain up to a quarter of an hour.
    private static func pause(after count: Int) -> Duration {
        .seconds(min(16, 1 << max(0, min(4, count - threshold))) * 60)
    }

    func contains(_ address: SocketAddress, at now: BootInstant) -> Bool {
        guard case .silent(let count, let at) = nodes[address], count >= Self.threshold else {
            return false
        }
        return now - at < Self.pause(after: count)
    }

    /// A `get` was in vain and a question for nodes was not.
    mutating func noteSilence(of address: SocketAddress, at now: BootInstant) {
        switch nodes[address] {
        case .answers: return
        case .silent(let count, _): nodes[address] = .silent(count: count + 1, at: now)
        case nil where hasRoom(at: now): nodes[address] = .silent(count: 1, at: now)
        case nil: return
        }
    }

    mutating func answered(_ address: SocketAddress, at now: BootInstant) {
        guard nodes[address] != nil || hasRoom(at: now) else { return }
        nodes[address] = .answers(at: now)
    }

    private mutating func hasRoom(at now: BootInstant) -> Bool {
        if nodes.count < Self.limit { return true }
        nodes = nodes.filter {
            switch $0.value {
            case .answers(let at), .silent(_, let at): now - at < Self.lifetime
            }
        }
        return nodes.count < Self.limit
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        for address in nodes.keys.sorted(by: { $0.compact.hex < $1.compact.hex }) {
            fingerprint.mix(address.compact)
            fingerprint.mix("\(nodes[address] ?? .answers(at: .distantFuture))")
        }
    }
}
