import MeshBase

extension Founding {
    /// A message arrived from `peer`, whom the tunnel has authenticated. Bytes that are not
    /// exactly a message of a member of this mesh change nothing.
    package mutating func receive(
        _ bytes: [UInt8], from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        let message: FoundingMessage
        do throws(DecodingFailure) {
            message = try FoundingMessage(decoding: bytes)
        } catch {
            actions.append(.dropped(.malformed(error)))
            return
        }
        guard policy != nil else {
            actions.append(.dropped(.noPolicy))
            return
        }
        guard
            FoundingMessage.isSigned(
                bytes, meshID: configuration.meshID, signer: signer, by: peer)
        else {
            actions.append(.dropped(.badSignature))
            return
        }
        guard message.policyHash == policyHash else {
            noteForeignPolicy(of: peer, into: &actions)
            return
        }
        // From here on the message is a member's.
        if peer == claimOwner { ownerHeardAt = now }
        fenceIfDue(at: now, into: &actions)
        handle(message, from: peer, at: now, random: &random, into: &actions)
        advance(at: now, random: &random, into: &actions)
    }

    private mutating func noteForeignPolicy(
        of peer: NodeID, into actions: inout [FoundingAction]
    ) {
        actions.append(.dropped(.foreignPolicy))
        // Sixteen alarms are enough to make somebody look.
        guard !foreignVoters.contains(peer), foreignVoters.count < 16 else { return }
        foreignVoters.append(peer)
        actions.append(
            .alarm("node \(peer.short) works with another founding policy; its votes are refused"))
    }

    private mutating func handle(
        _ message: FoundingMessage, from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [FoundingAction]
    ) {
        let generation = message.generation
        switch message.body {
        case .probe(let status):
            receiveStatus(
                status, generation: generation, isProbe: true, from: peer, at: now,
                into: &actions)
        case .status(let status):
            receiveStatus(
                status, generation: generation, isProbe: false, from: peer, at: now,
                into: &actions)
        case .prepare(let register, let ballot):
            guard isBallot(ballot, of: peer, in: generation, register, at: now, into: &actions)
            else { return }
            answerPrepare(register, ballot, at: now, into: &actions)
        case .accept(let ballot, let value):
            guard
                isBallot(
                    ballot, of: peer, in: generation, value.register, at: now, into: &actions)
            else { return }
            answerAccept(ballot, value, at: now, into: &actions)
        case .promise, .accepted, .refusal:
            receiveAnswer(message, from: peer, at: now, random: &random, into: &actions)
        case .hold(let nonce, let milliseconds):
            answerHold(
                nonce: nonce, length: .milliseconds(Int64(milliseconds)), generation: generation,
                from: peer, at: now, into: &actions)
        case .holdGrant(let nonce):
            receiveGrant(nonce: nonce, from: peer, at: now, into: &actions)
        case .holdRefusal(let nonce):
            receiveHoldRefusal(nonce: nonce, from: peer, into: &actions)
        case .votes(let statement, let votes):
            receiveVotes(statement, votes, at: now, into: &actions)
        case .reset(let reset):
            receiveReset(reset, at: now, into: &actions)
        }
    }

    /// Whether this voter may answer a request about `register` of `generation`.
    private mutating func isBallot(
        _ ballot: Ballot, of peer: NodeID, in generation: UInt32, _ register: RegisterKind,
        at now: BootInstant, into actions: inout [FoundingAction]
    ) -> Bool {
        guard ballot.node == peer, isVoter(peer) else {
            actions.append(.dropped(ballot.node == peer ? .notAVoter : .forbidden))
            return false
        }
        if generation > record.generation, !rules.requiresAbandonment, canVote {
            enter(generation: generation, proof: nil, at: now)
        }
        return canVote(about: register, in: generation, asked: peer, at: now, into: &actions)
    }

    /// Sends the proof that makes a request pointless, or asks for the one that is missing here.
    mutating func canVote(
        about register: RegisterKind, in generation: UInt32, asked peer: NodeID,
        at now: BootInstant, into actions: inout [FoundingAction]
    ) -> Bool {
        let isDecided = register == .claim ? record.claim.certificate != nil : isReady
        if generation < record.generation || (generation == record.generation && isDecided) {
            actions.append(.dropped(.stale))
            pushCertificates(
                to: peer, generation: generation, knowsClaim: register == .outcome,
                knowsOutcome: false, into: &actions)
            return false
        }
        let lacksClaim = register == .outcome && record.claim.certificate == nil
        if generation > record.generation || lacksClaim {
            actions.append(.dropped(.ahead))
            hurryProbe(at: now)
            return false
        }
        guard canVote else {
            actions.append(.dropped(.notVoting))
            return false
        }
        return true
    }

    private mutating func answerPrepare(
        _ register: RegisterKind, _ ballot: Ballot, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        // Only the owner has something to write while it may not be given up on. Rivals that cannot
        // succeed yet would keep it from getting there.
        if register == .outcome, ballot.node != claimOwner,
            keepsOut(.outcome(.abandoned(by: ballot.node)), at: now)
        {
            send(.refusal(register, ballot, .held), to: ballot.node, into: &actions)
            return
        }
        switch self[register].acceptor.prepare(ballot) {
        case .promisedHigher(let higher):
            send(
                .refusal(register, ballot, .promisedHigher(higher)), to: ballot.node, into: &actions
            )
            return
        case .contradiction: return
        case .yes:
            saveVote(into: &actions)
            yield(to: ballot, at: now)
        case .again: break
        }
        let accepted = self[register].acceptor.accepted
        send(.promise(register, ballot, accepted: accepted), to: ballot.node, into: &actions)
    }

    private mutating func answerAccept(
        _ ballot: Ballot, _ value: RegisterValue, at now: BootInstant,
        into actions: inout [FoundingAction]
    ) {
        let register = value.register
        guard isAllowed(value) else {
            actions.append(.dropped(.forbidden))
            return
        }
        if keepsOut(value, at: now) {
            send(.refusal(register, ballot, .held), to: ballot.node, into: &actions)
            return
        }
        switch self[register].acceptor.accept(ballot, value, rules: rules) {
        case .promisedHigher(let higher):
            send(
                .refusal(register, ballot, .promisedHigher(higher)), to: ballot.node, into: &actions
            )
            return
        case .contradiction:
            actions.append(.dropped(.forbidden))
            actions.append(
                .alarm("node \(ballot.node.short) proposed two values in one ballot: a clone?"))
            return
        case .yes:
            saveVote(into: &actions)
            yield(to: ballot, at: now)
        case .again: break
        }
        send(
            .accepted(
                register, ballot, valueHash: value.hash,
                vote: vote(
                    for: VoteStatement(
                        generation: record.generation, ballot: ballot, value: value))),
            to: ballot.node, into: &actions)
    }

    subscript(register: RegisterKind) -> WriteOnceRegister {
        get { register == .claim ? record.claim : record.outcome }
        set {
            switch register {
            case .claim: record.claim = newValue
            case .outcome: record.outcome = newValue
            }
        }
    }

    /// What the policy and the certified claim let into a register.
    func isAllowed(_ value: RegisterValue) -> Bool {
        switch value {
        case .claim(let claim):
            if case .designated(let only) = policy?.mode { claim.owner == only } else { true }
        case .outcome(.ready(let owner, _, _)): owner == claimOwner
        case .outcome(.abandoned): claimOwner != nil
        }
    }

    /// Whether a hold, given or possibly forgotten, keeps the value out now.
    func keepsOut(_ value: RegisterValue, at now: BootInstant) -> Bool {
        if case .claim = value { return resetBarrier.map { now < $0 } ?? false }
        return value.isAbandoned && rules.honoursHolds && now < max(grantedUntil, startBarrier)
    }

    func vote(for statement: VoteStatement) -> [UInt8] {
        signer.sign(
            statement.signedBytes(meshID: configuration.meshID, policyHash: policyHash))
    }

    mutating func saveVote(into actions: inout [FoundingAction]) {
        if rules.persistsVotes { save(into: &actions) }
    }

    /// Leaves the floor to a proposer that got somewhere.
    private mutating func yield(to ballot: Ballot, at now: BootInstant) {
        highestRound = max(highestRound, ballot.round)
        if ballot.node != node { quietUntil = max(quietUntil, now + timing.attempt) }
    }

    private mutating func answerHold(
        nonce: UInt64, length: Duration, generation: UInt32, from peer: NodeID,
        at now: BootInstant, into actions: inout [FoundingAction]
    ) {
        guard length <= Self.holdLimit else {
            actions.append(.dropped(.forbidden))
            return
        }
        guard isVoter(peer) else {
            actions.append(.dropped(.notAVoter))
            return
        }
        guard canVote(about: .outcome, in: generation, asked: peer, at: now, into: &actions)
        else { return }
        guard claimOwner == peer else {
            actions.append(.dropped(.forbidden))
            return
        }
        let granted = grant(length, at: now)
        send(
            granted ? .holdGrant(nonce: nonce) : .holdRefusal(nonce: nonce), to: peer,
            into: &actions)
    }

    /// One hour: no owner may keep the others from giving up on it for longer.
    private static let holdLimit = Duration.seconds(3_600)

    /// Promises to keep `abandoned` out for twice `length`, unless it is accepted here already.
    mutating func grant(_ length: Duration, at now: BootInstant) -> Bool {
        if record.outcome.acceptor.accepted?.value.isAbandoned ?? false { return false }
        grantedUntil = max(grantedUntil, now + max(length, timing.hold) * 2)
        return true
    }
}
