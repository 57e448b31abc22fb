import MeshBase

/// Who should vote, as the node sees its mesh. Hints: the present voters decide.
struct VoterWishes: Hashable, Sendable {
    /// In order of preference; all are there now.
    var candidates: [NodeID] = []
    /// Since when a voter is away.
    var absent: [NodeID: BootInstant] = [:]
    var nextTry = BootInstant.zero
    /// When a server is asked for voters that this node does not know.
    var nextQuestion = BootInstant.zero

    func fingerprint(into fingerprint: inout Fingerprint) {
        for node in candidates { fingerprint.mix(node) }
        for node in absent.keys.sorted() {
            fingerprint.mix(node)
            fingerprint.mix(absent[node])
        }
        fingerprint.mix(nextTry)
        fingerprint.mix(nextQuestion)
    }
}

extension LeaseBoard {
    /// Who could vote, and who can be talked to.
    ///
    /// - Parameters:
    ///   - candidates: ready servers with durable state, the best first.
    ///   - alive: every node that seems to be there, this one included.
    package mutating func companyChanged(
        candidates: [NodeID], alive: Set<NodeID>, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        guard chain != nil else { return }
        wishes.candidates = Array(candidates.filter(alive.contains).prefix(64))
        for voter in voters {
            if alive.contains(voter) {
                wishes.absent[voter] = nil
            } else if wishes.absent[voter] == nil {
                wishes.absent[voter] = now
            }
        }
        wishes.absent = wishes.absent.filter { voters.contains($0.key) }
        advance(at: now, random: &random, into: &actions)
    }

    /// The voters that this node would have next; `nil` when all is well.
    private func wantedVoters(at now: BootInstant) -> [NodeID]? {
        // The first voter that is there does it, so that two do not get into each other's way.
        guard isVoter, voters.first(where: { wishes.absent[$0] == nil }) == node,
            let chain, !chain.isFull
        else { return nil }
        let members = chain.members
        if members.count < CertifiedVoters.memberLimit,
            let newcomer = wishes.candidates.first(where: { !members.contains($0) })
        {
            return (members + [newcomer]).sorted()
        }
        let gone = members.first { member in
            wishes.absent[member].map { now >= $0 + timing.absence } ?? false
        }
        guard let gone, members.count > 1 else { return nil }
        return members.filter { $0 != gone }
    }

    /// From then on this voter may agree to others: whatever was granted under the voters before
    /// the present ones has passed.
    private var voterBarrier: BootInstant {
        rules.honoursHolds ? max(votersSince + timing.hold * 2, startBarrier) : .zero
    }

    var nextVoterStep: BootInstant? {
        guard isVoter else { return nil }
        var next: BootInstant?
        if wantedVoters(at: latest) != nil { next = max(voterBarrier, wishes.nextTry) }
        for since in wishes.absent.values where since + timing.absence > latest {
            next = earlier(next, since + timing.absence)
        }
        return next
    }

    mutating func stepVoters(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        guard let wanted = wantedVoters(at: now), now >= max(voterBarrier, wishes.nextTry) else {
            return
        }
        wishes.nextTry = now + timing.look * Double.random(in: 0.5...1.5, using: &random)
        guard rounds[.voters] == nil else { return }
        let names = unsettled.union(ownUnsettled).sorted().prefix(8)
        if names.isEmpty || !rules.settlesFirst {
            begin(.change(wanted), on: .voters, at: now, into: &actions)
        }
        for name in names { begin(.settle, on: .lease(name), at: now, into: &actions) }
    }

    /// Voters tell each other. Whoever is none asks a server now and then: all voters that it knows of
    /// may have been replaced.
    mutating func stepInquiry(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [LeaseAction]
    ) {
        guard let next = nextInquiry, now >= next else { return }
        let others = wishes.candidates.filter { $0 != node }
        guard let server = others.randomElement(using: &random) else { return }
        wishes.nextQuestion = now + timing.inquiry * Double.random(in: 0.5...1.5, using: &random)
        send(.want, to: server, into: &actions)
    }

    var nextInquiry: BootInstant? {
        guard rules.asksForVoters, wishes.candidates.contains(where: { $0 != node }) else {
            return nil
        }
        return wishes.nextQuestion
    }

    /// Names whose value here was not yet written under the present voters.
    private var ownUnsettled: [String] {
        (record?.slots ?? [:]).filter { $0.value.accepted != nil && $0.value.settledEpoch < epoch }
            .map(\.key)
    }

    mutating func resetVoterSlot() {
        let present = epoch
        guard record?.voterEpoch != present else { return }
        record?.voterEpoch = present
        record?.voters = VoterSlot()
    }

    mutating func accept(
        _ members: [NodeID], _ ballot: Ballot, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) -> LeaseMessage.Body {
        resetVoterSlot()
        if let promised = record?.voters.promised, promised > ballot {
            return .refusal(.voters, ballot, .promisedHigher(promised))
        }
        guard CertifiedVoters.isOneStep(from: voters, to: members), chain?.isFull == false else {
            return .refusal(.voters, ballot, .full)
        }
        if now < voterBarrier { return .refusal(.voters, ballot, .held) }
        if rules.settlesFirst, let name = ownUnsettled.min() {
            return .refusal(.voters, ballot, .unsettled(name))
        }
        if let accepted = record?.voters.accepted, accepted.ballot == ballot,
            accepted.members != members
        {
            return .refusal(.voters, ballot, .held)
        }
        record?.voters.promised = ballot
        record?.voters.accepted = VoterSlot.Accepted(ballot: ballot, members: members)
        persist(into: &actions)
        let bytes = signedVoters(members, ballot)
        return .accepted(.voters, ballot, vote: signer.sign(bytes))
    }

    private func signedVoters(_ members: [NodeID], _ ballot: Ballot) -> [UInt8] {
        CertifiedVoters.signedBytes(
            meshID: configuration.meshID, generation: chain?.generation ?? 0, epoch: epoch + 1,
            members: members, ballot: ballot)
    }

    func isVote(
        _ vote: [UInt8], of voter: NodeID, for members: [NodeID], _ ballot: Ballot
    ) -> Bool {
        signer.verify(vote, signedVoters(members, ballot), by: voter)
    }

    mutating func receive(
        _ link: CertifiedVoters, from peer: NodeID, at now: BootInstant,
        into actions: inout [LeaseAction]
    ) {
        guard let chain, link.epoch > chain.epoch else {
            actions.append(.dropped(.stale))
            return
        }
        guard link.epoch == chain.epoch + 1 else {
            actions.append(.dropped(.otherEpoch))
            send(.want, to: peer, into: &actions)
            return
        }
        guard
            link.isValid(
                after: (chain.epoch, chain.members), meshID: configuration.meshID,
                generation: chain.generation, signer: signer)
        else {
            actions.append(.dropped(.badVote))
            return
        }
        learn(link, at: now, into: &actions)
        // There may be more of them than one answer holds.
        wishes.nextQuestion = min(wishes.nextQuestion, now + timing.resend)
    }

    /// Takes a valid link to heart: whatever was under way belongs to the former voters.
    mutating func learn(
        _ link: CertifiedVoters, at now: BootInstant, into actions: inout [LeaseAction]
    ) {
        let former = voters
        chain?.append(link)
        rounds = [:]
        unsettled = []
        votersSince = now
        wishes.absent = wishes.absent.filter { link.members.contains($0.key) }
        resetVoterSlot()
        persistVoters(into: &actions)
        persist(into: &actions)
        let concerned = Set(former).union(link.members)
        if concerned.contains(node) {
            for voter in concerned.sorted() where voter != node {
                send(.voters(link), to: voter, into: &actions)
            }
        }
        actions.append(.votersChanged(epoch: epoch, voters))
    }

    /// Eight links bring a newcomer on in a few messages.
    func sendLinks(after epoch: UInt32, to peer: NodeID, into actions: inout [LeaseAction]) {
        for link in (chain?.links(after: epoch) ?? []).prefix(8) {
            send(.voters(link), to: peer, into: &actions)
        }
    }
}
