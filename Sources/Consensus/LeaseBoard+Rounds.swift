import MeshBase

/// One attempt to change a register: ask the voters for promises, go on with the newest value that
/// they report, ask them to accept what follows from it.
struct Round: Hashable, Sendable {
    enum Intent: Hashable, Sendable {
        /// Become the holder under the next number.
        case acquire(session: UInt64)
        case release(session: UInt64)
        /// Write what is there under the present voters.
        case settle
        case change([NodeID])
    }

    let key: LeaseMessage.Key
    let intent: Intent
    let ballot: Ballot
    let epoch: UInt32
    var promises: Set<NodeID> = []
    var newest: (mark: LeaseMessage.Mark, value: LeaseMessage.Value)?
    /// Set once a majority has promised: what they are asked to accept.
    var value: LeaseMessage.Value?
    var votes: [NodeID: [UInt8]] = [:]
    var resendAt: BootInstant
    var endsAt: BootInstant

    static func == (left: Round, right: Round) -> Bool {
        left.ballot == right.ballot && left.key == right.key
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(ballot)
        hasher.combine(key)
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        var writer = ByteWriter()
        key.encode(into: &writer)
        ballot.encode(into: &writer)
        value?.encode(into: &writer)
        fingerprint.mix(writer.bytes)
        for node in promises.sorted() { fingerprint.mix(node) }
        for node in votes.keys.sorted() { fingerprint.mix(node) }
        fingerprint.mix(resendAt)
        fingerprint.mix(endsAt)
    }
}

extension LeaseBoard {
    mutating func begin(
        _ intent: Round.Intent, on key: LeaseMessage.Key, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        guard rounds[key] == nil, rounds.count < Self.sessionLimit else { return }
        let known: Ballot? =
            switch key {
            case .lease(let name): record?.slots[name]?.promised
            case .voters: record?.voters.promised
            }
        let round = max(highestRound, known?.round ?? 0)
        guard round < Ballot.roundLimit else { return }
        highestRound = round + 1
        let ballot = Ballot(round: highestRound, node: node)
        rounds[key] = Round(
            key: key, intent: intent, ballot: ballot, epoch: epoch,
            resendAt: now + timing.resend, endsAt: now + timing.attempt)
        sendVoters(.prepare(key, ballot), into: &actions)
        guard isVoter else { return }
        if case .promise(_, _, let accepted, let value) = promise(key, ballot, into: &actions) {
            promised(key, by: node, accepted, value, at: now, into: &actions)
        }
    }

    mutating func stepRounds(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        let timing = self.timing
        for (key, round) in rounds.sorted(by: { $0.value.ballot < $1.value.ballot }) {
            if round.epoch != epoch || now >= round.endsAt {
                rounds[key] = nil
                pause(key, at: now, random: &random)
            } else if now >= round.resendAt {
                rounds[key]?.resendAt = now + timing.resend
                ask(round, into: &actions)
            }
        }
    }

    private func ask(_ round: Round, into actions: inout [LeaseAction]) {
        for voter in voters where voter != node {
            if let value = round.value {
                guard round.votes[voter] == nil else { continue }
                send(.accept(round.key, round.ballot, value), to: voter, into: &actions)
            } else if !round.promises.contains(voter) {
                send(.prepare(round.key, round.ballot), to: voter, into: &actions)
            }
        }
    }

    /// An answer to something that this node asked.
    mutating func take(
        _ body: LeaseMessage.Body, from peer: NodeID, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        switch body {
        case .seen(let name, let state, let isFree):
            seen(name, state, isFree: isFree, by: peer, at: now, into: &actions)
        case .promise(let key, let ballot, let accepted, let value):
            guard rounds[key]?.ballot == ballot else { return }
            promised(key, by: peer, accepted, value, at: now, into: &actions)
        case .accepted(let key, let ballot, let vote):
            guard rounds[key]?.ballot == ballot else { return }
            accepted(key, by: peer, vote, at: now, into: &actions)
        case .refusal(let key, let ballot, let refusal):
            guard rounds[key]?.ballot == ballot else { return }
            refused(key, refusal, at: now, random: &random)
        case .holdGrant(let name, let nonce):
            granted(name, nonce: nonce, by: peer, at: now)
        case .holdRefusal(let name, let nonce):
            holdRefused(name, nonce: nonce, at: now)
        case .look, .prepare, .accept, .settled, .hold, .want, .voters: break
        }
    }

    private mutating func refused(
        _ key: LeaseMessage.Key, _ refusal: LeaseMessage.Refusal, at now: BootInstant,
        random: inout SeededGenerator
    ) {
        switch refusal {
        case .promisedHigher(let higher): highestRound = max(highestRound, higher.round)
        case .held, .full: break
        case .unsettled(let name): unsettled.insert(name)
        }
        // One refusal is not the majority's, but a fresh attempt later costs little.
        guard refusal != .held || rounds[key]?.intent != .settle else { return }
        rounds[key] = nil
        pause(key, at: now, random: &random)
    }

    private mutating func promised(
        _ key: LeaseMessage.Key, by voter: NodeID, _ accepted: LeaseMessage.Mark?,
        _ value: LeaseMessage.Value?, at now: BootInstant, into actions: inout [LeaseAction]
    ) {
        guard var round = rounds[key], round.value == nil else { return }
        round.promises.insert(voter)
        if let accepted, let value, round.newest.map({ accepted > $0.mark }) ?? true {
            round.newest = (accepted, value)
        }
        guard round.promises.count >= chain?.quorum ?? .max else {
            rounds[key] = round
            return
        }
        guard let next = next(of: round) else {
            rounds[key] = nil
            return
        }
        round.value = next
        round.resendAt = now + timing.resend
        round.endsAt = now + timing.attempt
        rounds[key] = round
        ask(round, into: &actions)
        guard isVoter else { return }
        let answer = accept(key, round.ballot, next, at: now, into: &actions)
        if case .accepted(_, _, let vote) = answer {
            self.accepted(key, by: node, vote, at: now, into: &actions)
        } else if case .refusal(_, _, .unsettled(let name)) = answer {
            unsettled.insert(name)
            rounds[key] = nil
        }
    }

    /// What a round writes, given what is there; `nil` when there is nothing to do.
    private func next(of round: Round) -> LeaseMessage.Value? {
        let newest = rules.adoptsNewest ? round.newest?.value : nil
        switch round.intent {
        case .change(let members): return newest ?? .voters(members)
        case .settle, .acquire, .release:
            var state = firstState
            if case .lease(let known) = newest { state = known }
            switch round.intent {
            case .acquire(let session):
                let holder = LeaseHolder(node: node, session: session)
                if state.holder != holder {
                    state = LeaseState(number: state.number + 1, holder: holder)
                }
            case .release(let session):
                guard state.holder == LeaseHolder(node: node, session: session) else { return nil }
                state.holder = nil
            case .settle, .change: break
            }
            return .lease(state)
        }
    }

    private mutating func accepted(
        _ key: LeaseMessage.Key, by voter: NodeID, _ vote: [UInt8], at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        guard var round = rounds[key], let value = round.value else { return }
        if case .voters(let members) = value, !isVote(vote, of: voter, for: members, round.ballot) {
            actions.append(.dropped(.badVote))
            return
        }
        round.votes[voter] = vote
        rounds[key] = round
        guard round.votes.count >= chain?.quorum ?? .max else { return }
        rounds[key] = nil
        switch (key, value) {
        case (.lease(let name), .lease(let state)):
            sendVoters(.settled(name, round.ballot), into: &actions)
            if isVoter { settle(name, round.ballot, into: &actions) }
            unsettled.remove(name)
            chosen(name, state, by: round.intent, at: now, into: &actions)
        case (.voters, .voters(let members)):
            let votes = round.votes.sorted { $0.key < $1.key }
                .map { Vote(voter: $0.key, signature: $0.value) }
            learn(
                CertifiedVoters(
                    epoch: epoch + 1, members: members, ballot: round.ballot, votes: votes),
                at: now, into: &actions)
        case (.lease, .voters), (.voters, .lease): break
        }
    }
}
