import Cryptography
import MeshBase

/// A proposal with its timers.
struct ActiveProposal: Hashable, Sendable {
    var proposer: Proposer
    var resendAt: BootInstant
    var endsAt: BootInstant
}

extension Founding {
    /// Why this node will not found, whatever the others do.
    var foundingProblem: String? {
        guard let policy else { return votingProblem }
        if !configuration.mayFound { return "this node may not found a cluster" }
        if hasForeignData {
            return "there is data of a datastore on this machine already; move it away or join "
                + "the cluster that it belongs to"
        }
        if hasDataToFence { return "the data of an abandoned founding is not moved away yet" }
        if case .designated(let only) = policy.mode, only != node {
            return "only node \(only.short) may found"
        }
        return nil
    }

    /// Why this node does not propose itself now; `nil` when it should.
    func claimObstacle(at now: BootInstant) -> String? {
        if let problem = votingProblem ?? foundingProblem { return problem }
        guard let policy else { return nil }
        if !policy.foundsFromTokenAlone, !operatorWantsInit {
            return "the policy founds only where an operator says `cluster init`"
        }
        if let barrier = resetBarrier, now < barrier {
            return "the founding was reset; a founder of before may still run, so the voters wait "
                + "\(Int((barrier - now).inSeconds)) s"
        }
        let answering = answering(at: now)
        if answering < quorum {
            return "\(answering) of \(policy.voterLimit) voters answer, \(quorum) have to agree"
        }
        if answering < policy.voterLimit, now < observationEnd, !operatorWantsInit {
            return "\(answering) of \(policy.voterLimit) voters answer, waiting for the others"
        }
        let occupied = freshReports(at: now).first { $0.status.hasLocalData }
        if let occupied, !operatorWantsInit {
            return "node \(occupied.node.short) has data of a datastore already; a person has to "
                + "decide"
        }
        return nil
    }

    /// What this node wants written now.
    func wantedValue(at now: BootInstant) -> RegisterValue? {
        guard canVote else { return nil }
        guard let owner = claimOwner else {
            return claimObstacle(at: now) == nil ? .claim(Claim(owner: node)) : nil
        }
        if owner == node, !operatorWantsTakeover {
            if let report = start?.report {
                return .outcome(
                    .ready(owner: node, caHash: report.caHash, facts: report.facts))
            }
            return start == nil && heardAbandonment ? .outcome(.abandoned(by: node)) : nil
        }
        let isDue = takeoverDue.map { now >= $0 } ?? false
        guard operatorWantsTakeover || isDue else { return nil }
        let abandoned = RegisterValue.outcome(.abandoned(by: node))
        // The promise to itself would keep the owner out, too.
        return owner != node && keepsOut(abandoned, at: now) ? nil : abandoned
    }

    /// When this node gives up on a silent owner by itself.
    var takeoverDue: BootInstant? {
        guard case .minutes(let minutes) = policy?.takeover, takeoverProblem == nil,
            let owner = claimOwner, owner != node, !isReady
        else { return nil }
        return ownerHeardAt + max(.seconds(60 * minutes), timing.hold * 2)
    }

    mutating func stepProposal(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        let wanted = wantedValue(at: now)
        if let active = proposal {
            if active.proposer.wanted != wanted
                || active.proposer.generation != record.generation
            {
                proposal = nil
            } else if now >= active.endsAt {
                failProposal(at: now, random: &random)
            } else if now >= active.resendAt {
                let next = now + timing.resendInterval
                proposal?.resendAt = next
                ask(into: &actions)
            }
        }
        guard proposal == nil else { return }
        guard let wanted else {
            proposalDue = nil
            return
        }
        let due = proposalDue ?? now + turnDelay(for: wanted, at: now, random: &random)
        proposalDue = max(due, quietUntil)
        if now >= max(due, quietUntil) {
            propose(wanted, at: now, random: &random, into: &actions)
        }
    }

    /// Rendezvous hashing gives every generation another order of turns, the same on every node.
    /// It only avoids collisions; the register decides.
    private func turnDelay(
        for value: RegisterValue, at now: BootInstant, random: inout SeededGenerator
    ) -> Duration {
        let jitter = random.duration(in: .zero ... .milliseconds(200))
        guard value.register == .claim, !operatorWantsInit else { return jitter }
        let rivals = freshReports(at: now).filter { $0.status.mayFound }.map(\.node)
        let own = rendezvousWeight(of: node)
        let rank = rivals.count { rendezvousWeight(of: $0) < own }
        return timing.rankDelay * rank + jitter
    }

    private func rendezvousWeight(of node: NodeID) -> Bytes32 {
        var writer = ByteWriter(capacity: 64)
        writer.write(short: configuration.meshID)
        writer.write(record.generation)
        writer.write(node)
        return sha256(writer.bytes)
    }

    private mutating func propose(
        _ wanted: RegisterValue, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        let register = wanted.register
        let promised = self[register].acceptor.promised?.round ?? 0
        let round = max(promised, highestRound)
        guard round < Ballot.roundLimit else {
            quietUntil = .distantFuture
            actions.append(.alarm("the founding ran out of ballots"))
            return
        }
        let ballot = Ballot(round: round + 1, node: node)
        proposalDue = nil
        proposal = ActiveProposal(
            proposer: Proposer(
                generation: record.generation, ballot: ballot, wanted: wanted, quorum: quorum),
            resendAt: now + timing.resendInterval, endsAt: now + timing.attempt)
        highestRound = ballot.round
        // The promise to itself makes sure that the ballot is never used again.
        guard self[register].acceptor.prepare(ballot) == .yes else { return }
        saveVote(into: &actions)
        let accepted = self[register].acceptor.accepted
        ask(into: &actions)
        notePromise(by: node, accepted: accepted, at: now, into: &actions)
    }

    /// Sends the question of the present stage to everyone who has not answered it.
    private func ask(into actions: inout [FoundingAction]) {
        guard let proposer = proposal?.proposer else { return }
        for voter in reachableVoters where !proposer.hasAnswer(of: voter) {
            switch proposer.stage {
            case .preparing:
                send(.prepare(proposer.register, proposer.ballot), to: voter, into: &actions)
            case .accepting:
                send(.accept(proposer.ballot, proposer.value), to: voter, into: &actions)
            }
        }
    }

    private mutating func notePromise(
        by voter: NodeID, accepted: AcceptedValue?, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        guard var active = proposal else { return }
        let isComplete = active.proposer.promised(by: voter, accepted: accepted, rules: rules)
        if isComplete {
            active.resendAt = now + timing.resendInterval
            active.endsAt = now + timing.attempt
        }
        proposal = active
        if active.proposer.isContradicted {
            giveUpOnRivals(active.proposer, at: now, into: &actions)
        }
        guard isComplete else { return }
        let proposer = active.proposer
        // What an earlier attempt left behind may be the end of this node's own founding.
        if proposer.value.isAbandoned, start != nil {
            heardAbandonment = true
            stopDatastore(reason: "the claim is being abandoned", into: &actions)
        }
        acceptOwn(proposer, at: now, into: &actions)
        ask(into: &actions)
    }

    /// A later attempt may hear of a newer ballot, which settles it; until then a person has to know.
    private mutating func giveUpOnRivals(
        _ proposer: Proposer, at now: BootInstant, into actions: inout [FoundingAction]
    ) {
        proposal = nil
        quietUntil = max(quietUntil, now + timing.backoffLimit)
        actions.append(
            .alarm(
                "two values were accepted under one ballot for \(proposer.register) of generation "
                    + "\(proposer.generation): a machine runs twice, or its disk went back in time; if the "
                    + "founding does not go on, reset it with the admin key"))
    }

    private mutating func acceptOwn(
        _ proposer: Proposer, at now: BootInstant, into actions: inout [FoundingAction]
    ) {
        guard isAllowed(proposer.value), !keepsOut(proposer.value, at: now) else { return }
        let answer = self[proposer.register].acceptor.accept(
            proposer.ballot, proposer.value, rules: rules)
        guard answer == .yes else { return }
        saveVote(into: &actions)
        let signature = vote(for: proposer.statement)
        let voter = node
        if let certificate = proposal?.proposer.accepted(by: voter, vote: signature) {
            publish(certificate, at: now, into: &actions)
        }
    }

    mutating func receiveAnswer(
        _ message: FoundingMessage, from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        guard isVoter(peer) else {
            actions.append(.dropped(.notAVoter))
            return
        }
        guard let proposer = proposal?.proposer, message.generation == proposer.generation,
            proposer.generation == record.generation,
            message.body.answers(proposer)
        else {
            actions.append(.dropped(.stale))
            return
        }
        switch message.body {
        case .promise(_, _, let accepted):
            notePromise(by: peer, accepted: accepted, at: now, into: &actions)
        case .accepted(_, _, let valueHash, let signature):
            let signed = proposer.statement.signedBytes(
                meshID: configuration.meshID, policyHash: policyHash)
            guard valueHash == proposer.value.hash, signer.verify(signature, signed, by: peer)
            else {
                actions.append(.dropped(.badVote))
                return
            }
            if let certificate = proposal?.proposer.accepted(by: peer, vote: signature) {
                publish(certificate, at: now, into: &actions)
            }
        case .refusal(_, _, .promisedHigher(let higher)):
            highestRound = max(highestRound, higher.round)
            failProposal(at: now, random: &random)
        default: break
        }
    }

    private mutating func failProposal(at now: BootInstant, random: inout SeededGenerator) {
        proposal = nil
        failures = min(failures + 1, 8)
        let pause = min(Duration.seconds(1 << failures) / 2, timing.backoffLimit)
        quietUntil = max(quietUntil, now + pause * Double.random(in: 0.5...1, using: &random))
    }
}

extension FoundingMessage.Body {
    /// Whether this answers what `proposer` asks now.
    fileprivate func answers(_ proposer: Proposer) -> Bool {
        switch self {
        case .promise(let register, let ballot, _):
            register == proposer.register && ballot == proposer.ballot
                && proposer.stage == .preparing
        case .accepted(let register, let ballot, _, _):
            register == proposer.register && ballot == proposer.ballot
                && proposer.stage == .accepting
        case .refusal(let register, let ballot, let refusal):
            register == proposer.register && ballot == proposer.ballot && refusal.isSensible(ballot)
        default: false
        }
    }
}

extension FoundingMessage.Refusal {
    fileprivate func isSensible(_ ballot: Ballot) -> Bool {
        switch self {
        case .promisedHigher(let higher): higher > ballot
        case .held: true
        }
    }
}
