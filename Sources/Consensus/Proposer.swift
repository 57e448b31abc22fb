import MeshBase

/// One attempt to write a register (Lamport, "Paxos Made Simple", section 2.2): ask for promises,
/// go on with the newest value that they report, ask for acceptance.
package struct Proposer: Hashable, Sendable {
    package enum Stage: Hashable, Sendable {
        case preparing
        case accepting
    }

    package let generation: UInt32
    package let ballot: Ballot
    /// What is proposed if the register is still free.
    package let wanted: RegisterValue
    package private(set) var stage = Stage.preparing
    /// What is proposed now: ``wanted``, or what an earlier attempt left behind.
    package private(set) var value: RegisterValue
    private var newest: AcceptedValue?
    /// Voters accepted two values under the newest ballot: its proposer ran twice, or its disk went
    /// back to before it used the ballot. One of the values may be chosen, and nobody can tell
    /// which, so this attempt proposes neither.
    package private(set) var isContradicted = false
    private var promises: Set<NodeID> = []
    private var votes: [NodeID: [UInt8]] = [:]
    private let quorum: Int

    package init(generation: UInt32, ballot: Ballot, wanted: RegisterValue, quorum: Int) {
        self.generation = generation
        self.ballot = ballot
        self.wanted = wanted
        self.quorum = quorum
        value = wanted
    }

    package var register: RegisterKind { wanted.register }

    /// Whether `node` has answered the question of this stage.
    package func hasAnswer(of node: NodeID) -> Bool {
        switch stage {
        case .preparing: promises.contains(node)
        case .accepting: votes[node] != nil
        }
    }

    /// Counts a promise.
    ///
    /// - Returns: whether it was the one that completes the quorum: now ask for acceptance. Never
    ///   while the attempt ``isContradicted``.
    package mutating func promised(
        by voter: NodeID, accepted: AcceptedValue?, rules: FoundingRules
    ) -> Bool {
        guard stage == .preparing else { return false }
        promises.insert(voter)
        if let accepted {
            if let newest, newest.ballot >= accepted.ballot {
                let isRival = newest.ballot == accepted.ballot && newest.value != accepted.value
                if isRival, rules.noticesRivals { isContradicted = true }
            } else {
                newest = accepted
                isContradicted = false
            }
        }
        guard promises.count >= quorum, !isContradicted else { return false }
        stage = .accepting
        if let newest, rules.adoptsAcceptedValues { value = newest.value }
        return true
    }

    /// Counts a verified vote.
    ///
    /// - Returns: the certificate, once the quorum is complete.
    package mutating func accepted(by voter: NodeID, vote: [UInt8]) -> DecisionCertificate? {
        guard stage == .accepting else { return nil }
        votes[voter] = vote
        guard votes.count >= quorum else { return nil }
        let sorted = votes.sorted { $0.key < $1.key }
        return DecisionCertificate(
            statement: statement,
            votes: sorted.prefix(quorum).map { Vote(voter: $0.key, signature: $0.value) })
    }

    package var statement: VoteStatement {
        VoteStatement(generation: generation, ballot: ballot, value: value)
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        var writer = ByteWriter()
        writer.write(generation)
        ballot.encode(into: &writer)
        value.encode(into: &writer)
        fingerprint.mix(writer.bytes)
        fingerprint.mix(stage == .accepting)
        fingerprint.mix(isContradicted)
        for node in promises.sorted() { fingerprint.mix(node) }
        for node in votes.keys.sorted() { fingerprint.mix(node) }
    }
}
