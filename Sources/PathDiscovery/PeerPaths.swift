import MeshBase

/// The paths to all members, and when the first of them wants to be looked after. That is asked with
/// every datagram, and there may be a thousand members.
struct PeerPaths {
    private var paths: [NodeID: PeerPath] = [:]
    /// Those that want nothing are missing.
    private var dues: [NodeID: BootInstant] = [:]
    private(set) var firstDue: BootInstant?

    var keys: Dictionary<NodeID, PeerPath>.Keys { paths.keys }
    var values: Dictionary<NodeID, PeerPath>.Values { paths.values }

    subscript(node: NodeID) -> PeerPath? {
        get { paths[node] }
        // In place: with `set` every change would copy the member's ways.
        _modify {
            defer { noteDue(of: node) }
            yield &paths[node]
        }
    }

    /// In node order.
    func due(at now: BootInstant) -> [NodeID] {
        guard let firstDue, firstDue <= now else { return [] }
        return dues.filter { $0.value <= now }.keys.sorted()
    }

    /// It changes no due time.
    mutating func noteActivity(_ node: NodeID, sent: BootInstant?, received: BootInstant?) {
        paths[node]?.noteActivity(sent: sent, received: received)
    }

    private mutating func noteDue(of node: NodeID) {
        let due = paths[node]?.currentDue() ?? nil
        let former = dues[node]
        guard due != former else { return }
        dues[node] = due
        if let due, firstDue.map({ due < $0 }) ?? true {
            firstDue = due
        } else if former == firstDue {
            firstDue = dues.values.min()
        }
        assert(firstDue == dues.values.min())
    }
}

extension PeerPaths: Sequence {
    func makeIterator() -> Dictionary<NodeID, PeerPath>.Iterator { paths.makeIterator() }
}

extension PeerPath {
    /// Mutating, so that a look into a dictionary copies nothing.
    fileprivate mutating func currentDue() -> BootInstant? {
        earlier(nextCheck, punch?.nextSend)
    }

    fileprivate mutating func noteActivity(sent: BootInstant?, received: BootInstant?) {
        lastSent = sent
        lastReceived = received
    }
}
