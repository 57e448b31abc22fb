import MeshBase

extension Founding {
    /// A quorum accepted: remember it and tell every voter.
    mutating func publish(
        _ certificate: DecisionCertificate, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        proposal = nil
        learn(certificate, at: now, into: &actions)
        for voter in reachableVoters { sendCertificate(certificate, to: voter, into: &actions) }
    }

    /// A certificate was found elsewhere than in a message, such as in the ledger. It counts only
    /// for what it proves.
    ///
    /// - Parameter encoded: what ``DecisionCertificate/encoded`` gave.
    package mutating func certificateFound(
        _ encoded: [UInt8], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        guard policy != nil else {
            actions.append(.dropped(.noPolicy))
            return
        }
        do throws(DecodingFailure) {
            let certificate = try DecisionCertificate(decoding: encoded)
            receiveVotes(certificate.statement, certificate.votes, at: now, into: &actions)
        } catch {
            actions.append(.dropped(.malformed(error)))
            return
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// Votes for a statement, verified one by one.
    mutating func receiveVotes(
        _ statement: VoteStatement, _ votes: [Vote], at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        if let drop = reasonToIgnore(statement) {
            actions.append(.dropped(drop))
            return
        }
        let signed = statement.signedBytes(
            meshID: configuration.meshID, policyHash: policyHash)
        guard votes.allSatisfy({ signer.verify($0.signature, signed, by: $0.voter) }) else {
            actions.append(.dropped(.badVote))
            return
        }
        let known = votes.filter { isVoter($0.voter) }
        for vote in votes where !isVoter(vote.voter) {
            actions.append(.voterUnknown(vote.voter))
        }
        guard !known.isEmpty else { return }
        if let certificate = tally.add(known, for: statement, quorum: quorum) {
            learn(certificate, at: now, into: &actions)
        }
    }

    private func reasonToIgnore(_ statement: VoteStatement) -> FoundingDrop? {
        switch statement.value {
        case .claim:
            if statement.generation > record.generation, rules.requiresAbandonment {
                return .ahead
            }
            if statement.generation < record.generation { return .stale }
            return record.claim.value == statement.value ? .stale : nil
        case .outcome(let outcome):
            let isEarlier = statement.generation < record.generation
            if isEarlier, outcome.isAbandoned || record.reset != nil { return .stale }
            return record.outcome.value == statement.value ? .stale : nil
        }
    }

    /// Takes a valid certificate to heart.
    private mutating func learn(
        _ certificate: DecisionCertificate, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        let statement = certificate.statement
        if let contradiction = contradiction(of: statement) {
            noteContradiction(contradiction, into: &actions)
            return
        }
        switch statement.value {
        case .claim:
            guard record.claim.certificate == nil else { return }
            if statement.generation > record.generation {
                enter(generation: statement.generation, proof: nil, at: now)
            }
            record.claim.certificate = certificate
            ownerHeardAt = now
            failures = 0
        case .outcome(.ready):
            guard !isReady else { return }
            if statement.generation > record.generation {
                enter(generation: statement.generation, proof: nil, at: now)
            }
            record.outcome.certificate = certificate
            // The datastore keeps running; from now on it needs no deadline.
            start = nil
        case .outcome(.abandoned):
            if start != nil { stopDatastore(reason: "the claim is abandoned", into: &actions) }
            enter(generation: statement.generation + 1, proof: certificate, at: now)
        }
        if proposal?.proposer.register == statement.register { proposal = nil }
        hold = nil
        proposalDue = nil
        quietUntil = now
        tally.removeAll(before: record.generation)
        save(into: &actions)
        actions.append(.decided(certificate))
        fenceIfDue(at: now, into: &actions)
    }

    /// Leaves the registers of the former generation behind: nothing here votes on them again.
    mutating func enter(
        generation: UInt32, proof: DecisionCertificate?, at now: BootInstant
    ) {
        record.generation = generation
        record.claim = WriteOnceRegister()
        record.outcome = WriteOnceRegister()
        record.abandonment = proof
        record.reset = nil
        proposal = nil
        proposalDue = nil
        hold = nil
        highestRound = 0
        failures = 0
        heardAbandonment = false
        operatorWantsTakeover = false
        if rules.requiresAbandonment { operatorWantsInit = false }
        observingSince = now
        hurryProbe(at: now)
    }

    private func contradiction(of statement: VoteStatement) -> String? {
        let generation = statement.generation
        if isReady, generation >= record.generation, statement.value.register == .outcome,
            record.outcome.value != statement.value
        {
            return "two certified outcomes for generation \(generation)"
        }
        // A reset voids whatever was decided before it.
        if record.reset != nil, generation < record.generation { return nil }
        if statement.value.isReady, generation < record.generation {
            return "generation \(generation) is certified as abandoned and as ready"
        }
        guard generation == record.generation else { return nil }
        switch statement.value {
        case .claim(let claim):
            if case .outcome(.ready(let owner, _, _)) = record.outcome.value, owner != claim.owner {
                return "generation \(generation) is ready under an owner that has no claim"
            }
            guard let known = record.claim.value, known != statement.value else { return nil }
            return "two certified owners for generation \(generation)"
        case .outcome(.ready(let owner, _, _)):
            guard let known = claimOwner, known != owner else { return nil }
            return "generation \(generation) is ready under an owner that has no claim"
        case .outcome(.abandoned): return nil
        }
    }

    mutating func noteContradiction(_ text: String, into actions: inout [FoundingAction]) {
        record.hasContradiction = true
        save(into: &actions)
        abortEverything(reason: text, into: &actions)
        actions.append(.alarm(text))
    }

    /// Sends what a peer in `generation` lacks, oldest first.
    func pushCertificates(
        to peer: NodeID, generation: UInt32, knowsClaim: Bool, knowsOutcome: Bool,
        into actions: inout [FoundingAction]
    ) {
        let isBehind = generation < record.generation
        guard generation <= record.generation else { return }
        if isBehind, let proof = record.abandonment {
            sendCertificate(proof, to: peer, into: &actions)
        }
        if isBehind, let reset = record.reset { send(.reset(reset), to: peer, into: &actions) }
        if isBehind || !knowsClaim, let claim = record.claim.certificate {
            sendCertificate(claim, to: peer, into: &actions)
        }
        if isBehind || !knowsOutcome, let outcome = record.outcome.certificate {
            sendCertificate(outcome, to: peer, into: &actions)
        }
    }

    private func sendCertificate(
        _ certificate: DecisionCertificate, to peer: NodeID,
        into actions: inout [FoundingAction]
    ) {
        let size = FoundingMessage.votesPerMessage
        for first in stride(from: 0, to: certificate.votes.count, by: size) {
            let part = certificate.votes[first..<min(first + size, certificate.votes.count)]
            send(.votes(certificate.statement, Array(part)), to: peer, into: &actions)
        }
    }
}
