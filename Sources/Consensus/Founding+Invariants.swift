import MeshBase

/// What must be true of one node after every step, whatever it was told (the invariants of
/// docs/protocols/founding.md, as far as one node can see them). A node that finds one broken
/// stops: going on could found a second cluster.
extension Founding {
    /// The one that is broken, in words.
    package var brokenInvariant: String? {
        if start != nil, claimOwner != node || record.startedGeneration != record.generation {
            return "I2: a datastore runs here without the claim"
        }
        if isReady, let owner = claimOwner,
            case .outcome(.ready(let founder, _, _)) = record.outcome.value, founder != owner
        {
            return "I3: ready names another owner than the claim"
        }
        if record.generation > 1, !isReady, record.reset?.generation != record.generation,
            record.abandonment?.statement.generation != record.generation - 1
        {
            return "I4: generation \(record.generation) has no reason to exist"
        }
        if isReady, proposal != nil || hold != nil || start != nil {
            return "I5: the founding goes on after ready"
        }
        if let start, start.deadline <= latest {
            return "I7: a datastore runs past its deadline"
        }
        if let policy, record.voters.count > policy.identityLimit, canVote {
            return "I8: a node votes that has seen too many voters"
        }
        return nil
    }

    /// I6: what a vote says is what the disk holds.
    func holdDurability(of body: FoundingMessage.Body) {
        guard rules == FoundingRules() else { return }
        switch body {
        case .promise(let register, _, _), .accepted(let register, _, _, _):
            precondition(
                savedAcceptors[register] == self[register].acceptor,
                "I6: a vote leaves before it is durable")
        case .probe, .status, .prepare, .accept, .refusal, .hold, .holdGrant, .holdRefusal,
            .votes, .reset:
            break
        }
    }

    /// The simulation breaks rules on purpose and wants to see what follows; nobody else does.
    func holdInvariants() {
        guard rules == FoundingRules() else { return }
        if let brokenInvariant { preconditionFailure(brokenInvariant) }
    }
}
