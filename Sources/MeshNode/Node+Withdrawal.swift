import Ledger
import Membership
import MeshBase
import PathDiscovery
import WireGuard

/// What the mesh's root takes back: certificates of machines, of an issuer, of earlier epochs.
extension Node {
    /// Takes in an entry that an operator signed with the root key.
    ///
    /// - Returns: why it was refused; nothing changed then.
    package mutating func adopt(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) -> LedgerDropReason? {
        guard entry.bucket == LedgerBucket.policy else { return .policy }
        var problem: LedgerDropReason?
        withLedger(at: now, into: &actions) { ledger, random, results in
            problem = ledger.adopt(entry, at: now.boot, random: &random, into: &results)
        }
        return problem
    }

    /// Whether the root took this machine's own certificate back.
    package var isWithdrawn: Bool { withdrawn.covers(configuration.certificate) }

    /// Whether another machine has this one's key.
    private var isCloned: Bool { ledger.isCloned || paths.hasTwin }

    /// Tells once for the log.
    mutating func noteClone(into actions: inout [NodeAction]) {
        guard isCloned, !hasToldClone else { return }
        hasToldClone = true
        actions.append(.log(.error, Node.cloneWarning))
    }

    static let cloneWarning =
        "another machine runs with a copy of this machine's identity: stop one of them, and give "
        + "it an empty state directory"

    /// What is wrong with this node's membership, in words for a person.
    package var warnings: [String] {
        var result: [String] = []
        if isWithdrawn {
            result.append("this machine's certificate was withdrawn by the mesh's root")
        }
        if isCloned { result.append(Node.cloneWarning) }
        return result
    }

    /// Acts upon the root's word: whoever is covered is a stranger from this moment on. The ledger
    /// checked the signature.
    mutating func withdraw(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) {
        guard entry.owner == configuration.token.root, !entry.isTombstone,
            let list = try? RevocationList(decoding: entry.value)
        else { return }
        let former = withdrawn
        withdrawn.formUnion(list)
        guard withdrawn != former else { return }
        let verify = Node.certificateVerifier(configuration.token, withdrawn)
        let credential: @Sendable ([UInt8]) -> PeerCredential? = { bytes in
            verify(bytes).map { PeerCredential(node: $0.nodeID, staticKey: $0.staticKey) }
        }
        let covered = members.keys.sorted().filter { node in
            members[node].map { withdrawn.covers($0.certificate) } ?? false
        }
        paths.forget(id, verifyingWith: credential)
        for node in covered {
            actions.append(.log(.notice, "member \(node.short) was withdrawn by the mesh's root"))
            paths.forget(node, verifyingWith: credential)
            forget(node, at: now, into: &actions)
        }
        withLedger(at: now, into: &actions) { ledger, _, results in
            ledger.reverify(with: { verify($0)?.nodeID }, into: &results)
        }
        if isWithdrawn {
            actions.append(
                .log(.error, "this machine's certificate was withdrawn by the mesh's root"))
        }
        weighClaims(at: now, into: &actions)
        membershipChanged(at: now, into: &actions)
        rebuildNames(into: &actions)
    }

    /// Ends the membership of a node: sessions, paths, liveness, names.
    private mutating func forget(_ node: NodeID, at now: Now, into actions: inout [NodeAction]) {
        guard let key = members[node]?.certificate.staticKey else { return }
        withTunnels(at: now, into: &actions) { tunnels, _, results in
            tunnels.removePeer(key, into: &results)
        }
        disconnected(node, at: now, into: &actions)
        swim.expel(node)
        membersByKey[key] = nil
        members[node] = nil
        actions.append(.forwardingChanged)
    }
}
