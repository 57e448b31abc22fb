import MeshBase

/// Decides, once for the life of a mesh, which node founds its cluster.
///
/// 1. Observe: probe the others, learn what is decided (Founding+Observation).
/// 2. Claim: write `claim[g]` with a quorum of durable voters (Founding+Proposing, +Voting).
/// 3. Hold: the owner gathers q fresh grants, starts its datastore and stops it by itself when the
///    deadline passes (Founding+Ownership).
/// 4. Outcome: write `outcome[g]`: ready, which is final, or abandoned, which opens g + 1.
/// 5. Prove: a decision travels as q signatures that anyone can check (Founding+Certificates).
///
/// Any two quorums share a voter that remembers, so a register has one value; a granter of a hold
/// keeps `abandoned` out for longer than the owner's datastore runs. The rules and their limits
/// are in docs/protocols/founding.md.
package struct Founding: Sendable {
    package internal(set) var configuration: FoundingConfiguration
    let policy: GenesisPolicy?
    let policyHash: Bytes32
    let signer: any FoundingSigner
    var record: FoundingRecord
    /// Set when the restored record is not about this mesh, node and policy: it is then neither
    /// used nor overwritten.
    let recordProblem: String?
    var hasSaved = false
    /// The votes that the disk holds.
    var savedAcceptors: [RegisterKind: Acceptor] = [:]
    /// The time of the last call, for the view.
    var latest: BootInstant

    // Observation
    var observingSince: BootInstant
    /// Ascending; nodes that can be talked to now.
    var reachable: [NodeID] = []
    var reports: [NodeID: PeerReport] = [:]
    var lastProbe: BootInstant?
    var nextProbe: BootInstant
    /// Where the next round of probes to non-voters begins.
    var probeCursor = 0
    /// Voters that came after the alarm about too many; only for checking signatures.
    var furtherVoters: Set<NodeID> = []
    /// Voters whose policy differs, each alarmed once.
    var foreignVoters: [NodeID] = []
    var tally = VoteTally()

    // Voting
    /// Until then this voter keeps `abandoned` out: it granted a hold.
    var grantedUntil: BootInstant
    /// Until then it does so because it may have granted one in an earlier life.
    let startBarrier: BootInstant

    // Proposing
    var proposal: ActiveProposal?
    var proposalDue: BootInstant?
    /// Another's turn, or a pause after a failed attempt.
    var quietUntil: BootInstant = .zero
    var failures = 0
    var highestRound: UInt32 = 0
    var operatorWantsInit = false
    var operatorWantsTakeover = false

    // Ownership
    var hold: HoldRequest?
    var start: DatastoreStart?
    var restUntil: BootInstant = .zero
    /// Somebody accepted `abandoned`: the owner helps to finish what it cannot prevent.
    var heardAbandonment = false
    var ownerHeardAt: BootInstant
    var fenceRequested = false
    var wasFenced = false
    var lastFailure: String?

    /// - Parameters:
    ///   - restored: the record that was persisted last; `nil` on the first start.
    ///   - now: the time of the start; until 2L later this voter lets no claim be abandoned.
    package init(
        configuration: FoundingConfiguration, restored: FoundingRecord?, at now: BootInstant,
        signer: any FoundingSigner
    ) {
        self.configuration = configuration
        self.signer = signer
        policy = configuration.policy.flatMap { $0.problems.isEmpty ? $0 : nil }
        policyHash = policy?.hash ?? .zero
        let fresh = FoundingRecord(
            meshID: configuration.meshID, node: configuration.node, policyHash: policyHash)
        recordProblem = restored.flatMap { Founding.problem(of: $0, expected: fresh) }
        record = recordProblem == nil ? restored ?? fresh : fresh
        if configuration.isAmnesiac { record.isAmnesiac = true }
        if configuration.isVoter, !record.voters.contains(configuration.node) {
            record.voters.append(configuration.node)
        }
        latest = now
        observingSince = now
        nextProbe = now
        grantedUntil = now
        ownerHeardAt = now
        startBarrier =
            configuration.rules.waitsAfterStart ? now + configuration.timing.hold * 2 : now
        if restored != nil, recordProblem == nil { noteSavedVotes() }
    }

    /// As above, from the bytes that ``FoundingAction/persist(_:)`` gave. Bytes that are there and
    /// cannot be read make the node an amnesiac.
    package init(
        configuration: FoundingConfiguration, restoring bytes: [UInt8]?, at now: BootInstant,
        signer: any FoundingSigner
    ) {
        var configuration = configuration
        let record = bytes.flatMap { try? FoundingRecord(decoding: $0) }
        if bytes != nil, record == nil { configuration.isAmnesiac = true }
        self.init(configuration: configuration, restored: record, at: now, signer: signer)
    }

    private static func problem(of record: FoundingRecord, expected: FoundingRecord) -> String? {
        if record.meshID != expected.meshID {
            return "the state directory belongs to another mesh"
        }
        if record.node != expected.node {
            return "the founding record belongs to another node's identity"
        }
        if record.policyHash != expected.policyHash {
            return "the state directory was made under another founding policy"
        }
        return nil
    }

    var node: NodeID { configuration.node }
    var rules: FoundingRules { configuration.rules }
    var timing: FoundingTiming { configuration.timing }

    var quorum: Int { (policy?.quorum ?? .max) + (policy == nil ? 0 : rules.quorumOffset) }

    /// The owner of the current generation's certified claim.
    var claimOwner: NodeID? {
        if case .claim(let claim) = record.claim.value { claim.owner } else { nil }
    }

    var isOwner: Bool { claimOwner == node }
    var isReady: Bool { record.outcome.value?.isReady ?? false }

    var hasTooManyVoters: Bool {
        guard let policy else { return false }
        return record.voters.count > policy.identityLimit
    }

    /// Why this node does not vote at all, if so.
    var votingProblem: String? {
        if policy == nil {
            return "the token has no founding policy; make one with `token new --nodes T`"
        }
        if let recordProblem { return recordProblem }
        if record.isAmnesiac {
            return "the founding record is damaged: this node does not remember its votes and "
                + "never votes again under this identity"
        }
        if record.hasContradiction {
            return "two founding decisions contradict each other; do not trust either before "
                + "a person has looked; `cluster reset` with the admin key begins anew"
        }
        if hasTooManyVoters, let policy {
            return "more than \(policy.identityLimit) voter identities have been seen where "
                + "\(policy.voterLimit) machines and \(policy.diskLosses) disk losses are the "
                + "limit; later machines need the token of `token grow`"
        }
        if !configuration.isVoter {
            return policy?.mode == .voters
                ? "this node is no voter; `token voter ID` with the admin key makes a token that "
                    + "names it one" : "this node is no voter"
        }
        if !configuration.isDurable {
            return "the state directory does not survive a power cut, so this node never votes"
        }
        return nil
    }

    var canVote: Bool { votingProblem == nil && !isReady }

    /// Data of a datastore that this node's founding did not make.
    var hasForeignData: Bool {
        configuration.hasLocalData && record.startedGeneration == 0
    }

    /// Data of a generation that is over, waiting to be renamed.
    var hasDataToFence: Bool {
        record.startedGeneration != 0 && record.startedGeneration < record.generation
    }

    func isVoter(_ node: NodeID) -> Bool {
        record.voters.contains(node) || furtherVoters.contains(node)
    }

    /// When to call ``timeout(at:random:into:)`` next; `nil` when only input can change anything.
    package var deadline: BootInstant? {
        guard policy != nil else { return nil }
        if !hasSaved || (hasDataToFence && !fenceRequested) { return latest }
        if isReady { return nil }
        var next = rules.obeysDeadline ? start?.deadline : nil
        if !reachable.isEmpty { next = earlier(next, nextProbe) }
        next = earlier(next, hold.map { min($0.resendAt, $0.endsAt) })
        next = earlier(next, proposal.map { min($0.resendAt, $0.endsAt) })
        next = earlier(next, proposalDue)
        next = earlier(
            next, [observationEnd, restUntil, resetBarrier ?? .zero].filter { $0 > latest }.min())
        if let due = takeoverDue, due > latest { next = earlier(next, due) }
        let lastHold = max(grantedUntil, startBarrier)
        if operatorWantsTakeover, lastHold > latest { next = earlier(next, lastHold) }
        return next
    }

    var observationEnd: BootInstant { observingSince + timing.observation }

    /// Time passed.
    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        advance(at: now, random: &random, into: &actions)
    }

    /// Does everything that is due. Every verb ends here.
    mutating func advance(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        latest = now
        guard policy != nil else { return }
        if !hasSaved {
            save(into: &actions)
            // Whatever an earlier life of this daemon left running has no fresh holds.
            if isOwner, !isReady, record.startedGeneration == record.generation {
                actions.append(.stopDatastore(reason: "the daemon started anew"))
            }
        }
        fenceIfDue(at: now, into: &actions)
        guard !isReady else { return }
        probeIfDue(at: now, random: &random, into: &actions)
        stepProposal(at: now, random: &random, into: &actions)
        stepHold(at: now, random: &random, into: &actions)
        // A refused hold makes the owner propose; a decided claim makes it ask for holds.
        if proposal == nil, !isReady { stepProposal(at: now, random: &random, into: &actions) }
        holdInvariants()
    }

    mutating func save(into actions: inout [FoundingAction]) {
        hasSaved = true
        noteSavedVotes()
        if recordProblem == nil { actions.append(.persist(record.encoded)) }
    }

    private mutating func noteSavedVotes() {
        for register in RegisterKind.allCases {
            savedAcceptors[register] = self[register].acceptor
        }
    }

    func send(
        _ body: FoundingMessage.Body, to peer: NodeID, into actions: inout [FoundingAction]
    ) {
        holdDurability(of: body)
        let message = FoundingMessage(
            policyHash: policyHash, generation: record.generation, body: body)
        actions.append(
            .send(to: peer, message.encode(meshID: configuration.meshID, signer: signer)))
    }
}

// MARK: - What the operator says

extension Founding {
    /// `cluster init` on this node: found here, without waiting for the others' turns. It still
    /// takes a quorum of voters.
    package mutating func operatorInit(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) throws(FoundingRefusal) {
        if isReady { throw FoundingRefusal("the cluster exists already") }
        if let problem = votingProblem { throw FoundingRefusal(problem) }
        if let owner = claimOwner, owner != node {
            throw FoundingRefusal("node \(owner.short) has the claim to found")
        }
        if let problem = foundingProblem { throw FoundingRefusal(problem) }
        operatorWantsInit = true
        advance(at: now, random: &random, into: &actions)
    }

    /// `cluster takeover`: give up on the present owner. It takes a quorum of voters none of which
    /// has granted the owner a hold within twice its length.
    package mutating func operatorTakeover(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) throws(FoundingRefusal) {
        if isReady { throw FoundingRefusal("the cluster is ready; there is nothing to take over") }
        if let problem = votingProblem { throw FoundingRefusal(problem) }
        guard claimOwner != nil else { throw FoundingRefusal("nobody has the claim to found") }
        if let problem = takeoverProblem { throw FoundingRefusal(problem) }
        operatorWantsTakeover = true
        if start != nil { stopDatastore(reason: "the operator gives up on it", into: &actions) }
        if !rules.requiresAbandonment {
            operatorWantsInit = true
            enter(generation: record.generation + 1, proof: nil, at: now)
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// Where q = T the owner itself would have to agree.
    var takeoverProblem: String? {
        guard let policy, policy.quorum < policy.voterLimit else {
            return "all \(policy?.voterLimit ?? 0) voters must agree, the owner included; if it is "
                + "lost, reset the founding with the admin key"
        }
        return nil
    }
}
