import MeshBase

/// The word of the mesh root that everything that was founded before `generation` is void: the
/// operator's way out when too many voters are lost, or when a cluster is to be made anew.
///
/// It overrides every decision of earlier generations, also `ready`. So only the key that signed
/// the policy can make one, and it is in no token.
///
///     size  field
///     4     the generation that begins, 2...2^31-1
///     64    signature of the root over the label, the mesh id behind its length, the policy hash
///           and the generation
package struct FoundingReset: Hashable, Sendable {
    package let generation: UInt32
    /// 64 bytes.
    let signature: [UInt8]

    package static let encodedCount = 68

    /// - Parameters:
    ///   - generation: one more than the generation that is to end.
    ///   - sign: signs bytes with the root key.
    package init(
        generation: UInt32, meshID: [UInt8], policyHash: Bytes32, sign: ([UInt8]) -> [UInt8]
    ) {
        precondition((2...FoundingMessage.generationLimit).contains(generation))
        self.generation = generation
        signature = sign(
            Self.signedBytes(generation: generation, meshID: meshID, policyHash: policyHash))
        precondition(signature.count == 64, "a signature has 64 bytes")
    }

    func isValid(
        meshID: [UInt8], policyHash: Bytes32, root: NodeID, signer: any FoundingSigner
    ) -> Bool {
        let bytes = Self.signedBytes(
            generation: generation, meshID: meshID, policyHash: policyHash)
        return signer.verify(signature, bytes, by: root)
    }

    private static func signedBytes(
        generation: UInt32, meshID: [UInt8], policyHash: Bytes32
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(shortText: "edgevpn-swift founding reset v1")
        writer.write(short: meshID)
        writer.write(policyHash)
        writer.write(generation)
        return writer.bytes
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedCount)
        encode(into: &writer)
        return writer.bytes
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(generation)
        writer.write(raw: signature)
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        try self.init(from: &reader)
        try reader.finish()
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        generation = try reader.readUInt32()
        guard (2...FoundingMessage.generationLimit).contains(generation) else {
            throw .field("generation")
        }
        signature = try reader.readBytes(64)
    }
}

extension Founding {
    /// A reset was found elsewhere than in a message: in the ledger, or given by an operator.
    ///
    /// - Parameter encoded: what ``FoundingReset/encoded`` gave.
    package mutating func resetFound(
        _ encoded: [UInt8], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) {
        guard policy != nil else {
            actions.append(.dropped(.noPolicy))
            return
        }
        do throws(DecodingFailure) {
            receiveReset(try FoundingReset(decoding: encoded), at: now, into: &actions)
        } catch {
            actions.append(.dropped(.malformed(error)))
            return
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// `cluster reset`: the same, with words for the operator when it is not taken.
    package mutating func operatorReset(
        _ encoded: [UInt8], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [FoundingAction]
    ) throws(FoundingRefusal) {
        if policy == nil { throw FoundingRefusal(votingProblem ?? "there is no policy") }
        if let recordProblem { throw FoundingRefusal(recordProblem) }
        guard let reset = try? FoundingReset(decoding: encoded) else {
            throw FoundingRefusal("this is not a reset")
        }
        guard reset.generation > record.generation else {
            throw FoundingRefusal(
                "generation \(reset.generation) has begun already; this node is in generation "
                    + "\(record.generation)")
        }
        guard isGenuine(reset) else {
            throw FoundingRefusal("the reset is not signed by this mesh's root key")
        }
        receiveReset(reset, at: now, into: &actions)
        advance(at: now, random: &random, into: &actions)
    }

    private func isGenuine(_ reset: FoundingReset) -> Bool {
        guard let root = configuration.root else { return false }
        return reset.isValid(
            meshID: configuration.meshID, policyHash: policyHash, root: root, signer: signer)
    }

    mutating func receiveReset(
        _ reset: FoundingReset, at now: BootInstant, into actions: inout [FoundingAction]
    ) {
        guard reset.generation > record.generation else {
            actions.append(.dropped(.stale))
            return
        }
        guard isGenuine(reset) else {
            actions.append(.dropped(.badVote))
            return
        }
        if start != nil { stopDatastore(reason: "the founding was reset", into: &actions) }
        enter(generation: reset.generation, proof: nil, at: now)
        record.reset = reset
        // The operator has looked: that is what a contradiction waits for.
        record.hasContradiction = false
        tally.removeAll(before: record.generation)
        save(into: &actions)
        actions.append(.reset(reset))
        fenceIfDue(at: now, into: &actions)
    }

    /// Until when a voter lets no claim into a generation that began with a reset: a founder of
    /// the former one may run under a hold that was granted here, or was and is forgotten.
    var resetBarrier: BootInstant? {
        guard record.reset != nil, rules.honoursHolds else { return nil }
        return max(grantedUntil, startBarrier)
    }
}
