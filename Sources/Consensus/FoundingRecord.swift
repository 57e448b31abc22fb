import MeshBase

/// What a node remembers about the founding for as long as it has its identity.
///
/// The store keeps it whole and checksummed. A store that finds it damaged must say so
/// (``FoundingConfiguration/isAmnesiac``): a voter that forgot its votes may not vote again.
///
///     size       field
///     1          layout version, 2; 1 had no reset
///     1 + n      mesh id
///     32         node
///     32         policy hash
///     4          generation
///     1          flags: 1 amnesiac, 2 contradiction seen
///     4          generation whose datastore was started here, 0 = none
///     n          claim register, then outcome register
///     2 + n      certificate of the former generation's `abandoned`
///     0 or 68    from layout version 2 on, behind its length (2): the reset that began this one
///     1          count of voter identities, then 32 bytes each, in the order they were met
package struct FoundingRecord: Hashable, Sendable {
    var meshID: [UInt8]
    var node: NodeID
    var policyHash: Bytes32
    package internal(set) var generation: UInt32 = 1
    /// Set for ever once the store lost or damaged the record.
    var isAmnesiac = false
    /// Two proofs or two votes contradicted each other: the assumptions do not hold here.
    var hasContradiction = false
    /// The generation in which this node started the datastore; the data is on disk since.
    var startedGeneration: UInt32 = 0
    package internal(set) var claim = WriteOnceRegister()
    package internal(set) var outcome = WriteOnceRegister()
    /// Why this generation may exist, when it is not the first.
    package internal(set) var abandonment: DecisionCertificate?
    /// The operator's word by which this generation exists.
    package internal(set) var reset: FoundingReset?
    /// Voter identities in the order they were met, at most T + f + 1.
    package internal(set) var voters: [NodeID] = []

    package var voterCount: Int { voters.count }

    /// T + f + 1 for the largest policy.
    static let voterLimit = 129
    private static let layoutVersion: UInt8 = 2

    init(meshID: [UInt8], node: NodeID, policyHash: Bytes32) {
        self.meshID = meshID
        self.node = node
        self.policyHash = policyHash
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 1_024)
        writer.write(Self.layoutVersion)
        writer.write(short: meshID)
        writer.write(node)
        writer.write(policyHash)
        writer.write(generation)
        writer.write(UInt8((isAmnesiac ? 1 : 0) | (hasContradiction ? 2 : 0)))
        writer.write(startedGeneration)
        claim.encode(into: &writer)
        outcome.encode(into: &writer)
        writer.write(long: abandonment?.encoded ?? [])
        writer.write(long: reset?.encoded ?? [])
        writer.write(UInt8(voters.count))
        for voter in voters { writer.write(voter) }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        let version = try reader.readByte()
        guard (1...Self.layoutVersion).contains(version) else { throw .field("layout version") }
        meshID = try reader.readShortBytes()
        node = try reader.readNodeID()
        policyHash = try reader.readBytes32()
        generation = try reader.readUInt32()
        guard generation > 0, generation <= FoundingMessage.generationLimit + 1 else {
            throw .field("generation")
        }
        let flags = try reader.readByte()
        guard flags < 4 else { throw .field("record flags") }
        isAmnesiac = flags & 1 != 0
        hasContradiction = flags & 2 != 0
        startedGeneration = try reader.readUInt32()
        claim = try WriteOnceRegister(from: &reader)
        outcome = try WriteOnceRegister(from: &reader)
        let proof = try reader.readLongBytes(limit: DecisionCertificate.encodedLimit)
        if !proof.isEmpty { abandonment = try DecisionCertificate(decoding: proof) }
        if version > 1 {
            let word = try reader.readLongBytes(limit: FoundingReset.encodedCount)
            if !word.isEmpty { reset = try FoundingReset(decoding: word) }
        }
        let count = Int(try reader.readByte())
        guard count <= Self.voterLimit else { throw .field("voter count") }
        for _ in 0..<count { voters.append(try reader.readNodeID()) }
        try reader.finish()
    }
}
