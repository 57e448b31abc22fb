import MeshBase

/// Signs as this node and checks the signatures of others.
///
/// Real Ed25519 in production (``NodeKeySigner``), a keyed hash in the simulator.
package protocol FoundingSigner: Sendable {
    /// - Returns: 64 bytes.
    func sign(_ bytes: [UInt8]) -> [UInt8]
    func verify(_ signature: [UInt8], _ bytes: [UInt8], by node: NodeID) -> Bool
}

/// What a voter says when it accepts: this value, under this ballot, in this register.
package struct VoteStatement: Hashable, Sendable {
    package let generation: UInt32
    package let ballot: Ballot
    package let value: RegisterValue

    package init(generation: UInt32, ballot: Ballot, value: RegisterValue) {
        self.generation = generation
        self.ballot = ballot
        self.value = value
    }

    package var register: RegisterKind { value.register }

    /// The bytes under a vote's signature: label, mesh id behind its length, policy hash,
    /// generation, register, ballot and the hash of the value.
    func signedBytes(meshID: [UInt8], policyHash: Bytes32) -> [UInt8] {
        var writer = ByteWriter(capacity: 192)
        writer.write(shortText: "edgevpn-swift founding vote v1")
        writer.write(short: meshID)
        writer.write(policyHash)
        writer.write(generation)
        writer.write(register.rawValue)
        ballot.encode(into: &writer)
        writer.write(value.hash)
        return writer.bytes
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(generation)
        ballot.encode(into: &writer)
        value.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        generation = try reader.readUInt32()
        guard (1...FoundingMessage.generationLimit).contains(generation) else {
            throw .field("generation")
        }
        ballot = try Ballot(from: &reader)
        value = try RegisterValue(from: &reader)
    }
}

/// One voter's signature under a statement.
package struct Vote: Hashable, Sendable {
    package let voter: NodeID
    /// 64 bytes.
    package let signature: [UInt8]

    package init(voter: NodeID, signature: [UInt8]) {
        self.voter = voter
        self.signature = signature
    }

    static let encodedCount = 96

    func encode(into writer: inout ByteWriter) {
        writer.write(voter)
        writer.write(raw: signature)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        voter = try reader.readNodeID()
        signature = try reader.readBytes(64)
    }
}

/// The proof that a register is decided: one statement and the votes of q voters.
///
///     size       field
///     4          generation
///     36         ballot: round, proposer
///     1 + n      value, n <= 130
///     1          count of votes, at most 64
///     96 each    voter, signature; ascending by voter
package struct DecisionCertificate: Hashable, Sendable {
    package let statement: VoteStatement
    /// Ascending by voter, without repetition.
    package let votes: [Vote]

    static let encodedLimit =
        4 + Ballot.encodedCount + 1 + RegisterValue.encodedLimit + 1
        + GenesisPolicy.voterLimitMaximum * Vote.encodedCount

    init(statement: VoteStatement, votes: [Vote]) {
        self.statement = statement
        self.votes = votes.sorted { $0.voter < $1.voter }
    }

    /// Whether the certificate proves its statement to somebody who knows the policy.
    ///
    /// - Parameters:
    ///   - isVoter: whether a valid membership certificate with the voter bit names this node.
    package func isValid(
        meshID: [UInt8], policy: GenesisPolicy, signer: some FoundingSigner,
        isVoter: (NodeID) -> Bool
    ) -> Bool {
        guard votes.count >= policy.quorum else { return false }
        for (earlier, later) in zip(votes, votes.dropFirst()) where earlier.voter >= later.voter {
            return false
        }
        let bytes = statement.signedBytes(meshID: meshID, policyHash: policy.hash)
        return votes.allSatisfy {
            isVoter($0.voter) && signer.verify($0.signature, bytes, by: $0.voter)
        }
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 256 + votes.count * Vote.encodedCount)
        statement.encode(into: &writer)
        writer.write(UInt8(votes.count))
        for vote in votes { vote.encode(into: &writer) }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        statement = try VoteStatement(from: &reader)
        let count = Int(try reader.readByte())
        guard (1...GenesisPolicy.voterLimitMaximum).contains(count) else {
            throw .field("vote count")
        }
        var votes: [Vote] = []
        for _ in 0..<count {
            let vote = try Vote(from: &reader)
            if let last = votes.last, last.voter >= vote.voter { throw .field("vote order") }
            votes.append(vote)
        }
        self.votes = votes
        try reader.finish()
    }
}

/// Verified votes for statements that are not proven yet.
///
/// A certificate of more votes than one message holds arrives in parts, in any order and from
/// anybody: each signature counts for itself.
struct VoteTally: Sendable {
    private(set) var pending: [(statement: VoteStatement, votes: [Vote])] = []

    /// One per register of this and the next generation, under two rival ballots. More can only
    /// come from voters that keep proposing; the oldest then leaves and is asked for again.
    static let statementLimit = 8

    /// Adds verified votes; returns the certificate once there are `quorum`.
    mutating func add(
        _ votes: [Vote], for statement: VoteStatement, quorum: Int
    ) -> DecisionCertificate? {
        var collected: [Vote] = []
        if let index = pending.firstIndex(where: { $0.statement == statement }) {
            collected = pending.remove(at: index).votes
        }
        for vote in votes where !collected.contains(where: { $0.voter == vote.voter }) {
            collected.append(vote)
        }
        if collected.count >= quorum {
            return DecisionCertificate(statement: statement, votes: Array(collected.prefix(quorum)))
        }
        if pending.count == Self.statementLimit { pending.removeFirst() }
        pending.append((statement, collected))
        return nil
    }

    mutating func removeAll(before generation: UInt32) {
        pending.removeAll { $0.statement.generation < generation }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        for (statement, votes) in pending {
            fingerprint.mix(DecisionCertificate(statement: statement, votes: votes).encoded)
        }
    }
}
