import MeshBase

/// Everything that can happen to a ``ClusterCoordinator``, as a value: so it can be written down
/// and fed again.
package enum ClusterInput: Hashable, Sendable {
    case founding(FoundingSummary)
    case peers([ClusterPeer])
    case fact(owner: NodeID, key: String, value: [UInt8]?)
    case message([UInt8], from: NodeID)
    case report(HostReport)
    case leave
    case remove(machine: String)
    case timeout
}

/// Why an operator's wish is not granted.
package enum ClusterRefusal: Error, Hashable, Sendable {
    case leaving(ClusterLeaveProblem)
    case removing(ClusterRemoveProblem)

    package var text: String {
        switch self {
        case .leaving(let problem): problem.text
        case .removing(let problem): problem.text
        }
    }
}

extension ClusterCoordinator {
    /// - Returns: what a machine that is removed is called in the datastore.
    /// - Throws: why an operator's wish is not granted; nothing changed then.
    @discardableResult package mutating func take(
        _ input: ClusterInput, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) throws(ClusterRefusal) -> String? {
        switch input {
        case .founding(let summary):
            foundingChanged(summary, at: now, random: &random, into: &actions)
        case .peers(let peers):
            membershipChanged(peers, at: now, random: &random, into: &actions)
        case .fact(let owner, let key, let value):
            factChanged(
                owner: owner, key: key, value: value, at: now, random: &random, into: &actions)
        case .message(let bytes, let sender):
            receive(bytes, from: sender, at: now, random: &random, into: &actions)
        case .report(let report):
            hostReported(report, at: now, random: &random, into: &actions)
        case .leave:
            do throws(ClusterLeaveProblem) {
                try leave(at: now, random: &random, into: &actions)
            } catch {
                throw .leaving(error)
            }
        case .remove(let machine):
            do throws(ClusterRemoveProblem) {
                return try remove(machine: machine, at: now, random: &random, into: &actions)
            } catch {
                throw .removing(error)
            }
        case .timeout: timeout(at: now, random: &random, into: &actions)
        }
        return nil
    }
}

// MARK: - Without secrets

/// Sealed grants are for one machine's eyes; the planner looks at nothing but their length. So zeros
/// in their place change no step.
extension ClusterInput {
    package var withoutSecrets: ClusterInput {
        switch self {
        case .message(let bytes, let sender):
            // What is no message says nothing, and what it is nobody knows.
            .message(
                (try? JoinMessage(decoding: bytes))?.withoutSecrets.encoded ?? [], from: sender)
        case .report(.admitted(let joiner, let nonce, let role, let sealed)):
            .report(
                .admitted(joiner: joiner, nonce: nonce, role: role, sealed: zeros(like: sealed)))
        default: self
        }
    }
}

extension JoinMessage {
    package var withoutSecrets: JoinMessage {
        guard case .part(var part) = self else { return self }
        part.bytes = zeros(like: part.bytes)
        return .part(part)
    }
}

extension ClusterCoordinator {
    package var withoutSecrets: ClusterCoordinator {
        guard case .requesting(var attempt) = stage else { return self }
        attempt.parts = attempt.parts.map { part in part.map { zeros(like: $0) } }
        var plain = self
        plain.stage = .requesting(attempt)
        return plain
    }
}

private func zeros(like bytes: [UInt8]) -> [UInt8] {
    Array(repeating: 0, count: bytes.count)
}
