import MeshBase

/// Everything that can happen to a ``Founding``, as a value: so it can be written down and fed
/// again.
package enum FoundingInput: Hashable, Sendable {
    case message([UInt8], from: NodeID)
    /// A certificate that was found in the ledger.
    case certificate([UInt8])
    /// A reset that was found in the ledger.
    case reset([UInt8])
    case voterSeen(NodeID)
    /// Who can be talked to now.
    case reachable([NodeID])
    case datastoreReady(caHash: Bytes32, facts: [UInt8] = [])
    case datastoreFailed(reason: String)
    case datastoreFenced
    case operatorInit
    case operatorTakeover
    case operatorReset([UInt8])
    case timeout
}

extension Founding {
    /// - Throws: why an operator's wish is not granted; nothing changed then.
    package mutating func take(
        _ input: FoundingInput, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) throws(FoundingRefusal) {
        switch input {
        case .message(let bytes, let peer):
            receive(bytes, from: peer, at: now, random: &random, into: &actions)
        case .certificate(let bytes):
            certificateFound(bytes, at: now, random: &random, into: &actions)
        case .reset(let bytes): resetFound(bytes, at: now, random: &random, into: &actions)
        case .voterSeen(let voter): voterSeen(voter, at: now, random: &random, into: &actions)
        case .reachable(let nodes):
            setReachable(nodes)
            timeout(at: now, random: &random, into: &actions)
        case .datastoreReady(let caHash, let facts):
            datastoreReady(caHash: caHash, facts: facts, at: now, random: &random, into: &actions)
        case .datastoreFailed(let reason):
            datastoreFailed(reason: reason, at: now, random: &random, into: &actions)
        case .datastoreFenced: datastoreFenced(at: now, random: &random, into: &actions)
        case .operatorInit: try operatorInit(at: now, random: &random, into: &actions)
        case .operatorTakeover: try operatorTakeover(at: now, random: &random, into: &actions)
        case .operatorReset(let bytes):
            try operatorReset(bytes, at: now, random: &random, into: &actions)
        case .timeout: timeout(at: now, random: &random, into: &actions)
        }
    }
}
