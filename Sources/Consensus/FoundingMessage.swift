import MeshBase

/// What founding cores say to each other. The byte tables are in docs/protocols/founding.md.
///
///     size  field
///     1     layout version, 1
///     1     kind
///     32    policy hash
///     4     generation that the sender is in
///     n     body
///     64    signature over label, mesh id and everything above
package struct FoundingMessage: Hashable, Sendable {
    package var policyHash: Bytes32
    package var generation: UInt32
    package var body: Body

    package init(policyHash: Bytes32, generation: UInt32, body: Body) {
        self.policyHash = policyHash
        self.generation = generation
        self.body = body
    }

    package enum Body: Hashable, Sendable {
        /// How things stand here; please tell the same.
        case probe(PeerStatus)
        case status(PeerStatus)
        case prepare(RegisterKind, Ballot)
        case promise(RegisterKind, Ballot, accepted: AcceptedValue?)
        case accept(Ballot, RegisterValue)
        case accepted(RegisterKind, Ballot, valueHash: Bytes32, vote: [UInt8])
        case refusal(RegisterKind, Ballot, Refusal)
        /// The owner asks to keep `abandoned` out for twice `milliseconds`.
        case hold(nonce: UInt64, milliseconds: UInt32)
        case holdGrant(nonce: UInt64)
        /// The voter has accepted `abandoned` already.
        case holdRefusal(nonce: UInt64)
        /// Verified votes for a statement; a part of a certificate.
        case votes(VoteStatement, [Vote])
        /// The mesh root began a generation.
        case reset(FoundingReset)
    }

    package enum Refusal: Hashable, Sendable {
        case promisedHigher(Ballot)
        /// A hold, or the wait after a start, keeps `abandoned` out.
        case held
    }

    /// Everything fits one control frame.
    package static let encodedLimit = 1_200
    /// 9 x 96 bytes of votes, 172 of statement and count and 102 around them are 1,138 bytes.
    package static let votesPerMessage = 9
    private static let layoutVersion: UInt8 = 1
    private static let signatureCount = 64
}

/// What a node says about itself; a hint, never a vote.
package struct PeerStatus: Hashable, Sendable {
    package var votes: Bool
    package var mayFound: Bool
    package var hasLocalData: Bool
    package var knowsClaim: Bool
    package var knowsOutcome: Bool

    var bits: UInt8 {
        let flags = [votes, mayFound, hasLocalData, knowsClaim, knowsOutcome]
        return flags.enumerated().reduce(0) { $0 | ($1.element ? 1 << UInt8($1.offset) : 0) }
    }

    init(
        votes: Bool, mayFound: Bool, hasLocalData: Bool, knowsClaim: Bool, knowsOutcome: Bool
    ) {
        self.votes = votes
        self.mayFound = mayFound
        self.hasLocalData = hasLocalData
        self.knowsClaim = knowsClaim
        self.knowsOutcome = knowsOutcome
    }

    init(bits: UInt8) throws(DecodingFailure) {
        guard bits < 32 else { throw .field("status bits") }
        votes = bits & 1 != 0
        mayFound = bits & 2 != 0
        hasLocalData = bits & 4 != 0
        knowsClaim = bits & 8 != 0
        knowsOutcome = bits & 16 != 0
    }
}

extension FoundingMessage {
    /// The message with its signature, at most ``encodedLimit`` bytes.
    package func encode(meshID: [UInt8], signer: any FoundingSigner) -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(Self.layoutVersion)
        writer.write(kind)
        writer.write(policyHash)
        writer.write(generation)
        encodeBody(into: &writer)
        let signature = signer.sign(Self.signedBytes(writer.bytes, meshID: meshID))
        precondition(signature.count == Self.signatureCount, "a signature has 64 bytes")
        writer.write(raw: signature)
        precondition(writer.count <= Self.encodedLimit, "a message fits one control frame")
        return writer.bytes
    }

    /// Parses without checking the signature; see ``isSigned(_:meshID:signer:by:)``.
    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count <= Self.encodedLimit else { throw .field("message length") }
        guard bytes.count > Self.signatureCount else { throw .truncated }
        var reader = ByteReader(bytes.dropLast(Self.signatureCount))
        guard try reader.readByte() == Self.layoutVersion else { throw .field("layout version") }
        let kind = try reader.readByte()
        policyHash = try reader.readBytes32()
        generation = try reader.readUInt32()
        guard (1...Self.generationLimit).contains(generation) else { throw .field("generation") }
        body = try Self.body(kind: kind, from: &reader)
        try reader.finish()
    }

    /// A mesh that abandons a founding every second gets here after 68 years.
    static let generationLimit: UInt32 = 0x7FFF_FFFF

    /// Whether `node` signed these bytes for this mesh.
    static func isSigned(
        _ bytes: [UInt8], meshID: [UInt8], signer: any FoundingSigner, by node: NodeID
    ) -> Bool {
        guard bytes.count > signatureCount else { return false }
        let signed = signedBytes(Array(bytes.dropLast(signatureCount)), meshID: meshID)
        return signer.verify(Array(bytes.suffix(signatureCount)), signed, by: node)
    }

    private static func signedBytes(_ fields: [UInt8], meshID: [UInt8]) -> [UInt8] {
        Array("edgevpn-swift founding message v1".utf8) + [UInt8(meshID.count)] + meshID + fields
    }

    private var kind: UInt8 {
        switch body {
        case .probe: 1
        case .status: 2
        case .prepare: 3
        case .promise: 4
        case .accept: 5
        case .accepted: 6
        case .refusal: 7
        case .hold: 8
        case .holdGrant: 9
        case .holdRefusal: 10
        case .votes: 11
        case .reset: 12
        }
    }

    private func encodeBody(into writer: inout ByteWriter) {
        switch body {
        case .probe(let status), .status(let status):
            writer.write(status.bits)
        case .prepare(let register, let ballot):
            writer.write(register.rawValue)
            ballot.encode(into: &writer)
        case .promise(let register, let ballot, let accepted):
            writer.write(register.rawValue)
            ballot.encode(into: &writer)
            writer.write(UInt8(accepted == nil ? 0 : 1))
            accepted?.ballot.encode(into: &writer)
            accepted?.value.encode(into: &writer)
        case .accept(let ballot, let value):
            ballot.encode(into: &writer)
            value.encode(into: &writer)
        case .accepted(let register, let ballot, let valueHash, let vote):
            writer.write(register.rawValue)
            ballot.encode(into: &writer)
            writer.write(valueHash)
            writer.write(raw: vote)
        case .refusal(let register, let ballot, let refusal):
            writer.write(register.rawValue)
            ballot.encode(into: &writer)
            switch refusal {
            case .promisedHigher(let higher):
                writer.write(UInt8(1))
                higher.encode(into: &writer)
            case .held: writer.write(UInt8(2))
            }
        case .hold(let nonce, let milliseconds):
            writer.write(nonce)
            writer.write(milliseconds)
        case .holdGrant(let nonce), .holdRefusal(let nonce):
            writer.write(nonce)
        case .votes(let statement, let votes):
            statement.encode(into: &writer)
            writer.write(UInt8(votes.count))
            for vote in votes { vote.encode(into: &writer) }
        case .reset(let reset): reset.encode(into: &writer)
        }
    }

    private static func body(kind: UInt8, from reader: inout ByteReader) throws(DecodingFailure)
        -> Body
    {
        switch kind {
        case 1: return .probe(try PeerStatus(bits: try reader.readByte()))
        case 2: return .status(try PeerStatus(bits: try reader.readByte()))
        case 3: return .prepare(try register(from: &reader), try Ballot(from: &reader))
        case 4:
            let register = try register(from: &reader)
            let ballot = try Ballot(from: &reader)
            return .promise(register, ballot, accepted: try acceptedValue(register, from: &reader))
        case 5:
            let ballot = try Ballot(from: &reader)
            return .accept(ballot, try RegisterValue(from: &reader))
        case 6:
            let register = try register(from: &reader)
            let ballot = try Ballot(from: &reader)
            let valueHash = try reader.readBytes32()
            let vote = try reader.readBytes(64)
            return .accepted(register, ballot, valueHash: valueHash, vote: vote)
        case 7:
            let register = try register(from: &reader)
            let ballot = try Ballot(from: &reader)
            switch try reader.readByte() {
            case 1: return .refusal(register, ballot, .promisedHigher(try Ballot(from: &reader)))
            case 2: return .refusal(register, ballot, .held)
            default: throw .field("refusal")
            }
        case 8:
            let nonce = try reader.readUInt64()
            return .hold(nonce: nonce, milliseconds: try reader.readUInt32())
        case 9: return .holdGrant(nonce: try reader.readUInt64())
        case 10: return .holdRefusal(nonce: try reader.readUInt64())
        case 11: return try votesBody(from: &reader)
        case 12: return .reset(try FoundingReset(from: &reader))
        default: throw .field("message kind")
        }
    }

    private static func register(from reader: inout ByteReader) throws(DecodingFailure)
        -> RegisterKind
    {
        guard let register = RegisterKind(rawValue: try reader.readByte()) else {
            throw .field("register")
        }
        return register
    }

    private static func acceptedValue(_ register: RegisterKind, from reader: inout ByteReader)
        throws(DecodingFailure) -> AcceptedValue?
    {
        switch try reader.readByte() {
        case 0: return nil
        case 1:
            let ballot = try Ballot(from: &reader)
            let value = try RegisterValue(from: &reader)
            guard value.register == register else { throw .field("register of the value") }
            return AcceptedValue(ballot: ballot, value: value)
        default: throw .field("accepted flag")
        }
    }

    private static func votesBody(from reader: inout ByteReader) throws(DecodingFailure) -> Body {
        let statement = try VoteStatement(from: &reader)
        let count = Int(try reader.readByte())
        guard (1...votesPerMessage).contains(count) else { throw .field("vote count") }
        var votes: [Vote] = []
        for _ in 0..<count { votes.append(try Vote(from: &reader)) }
        return .votes(statement, votes)
    }
}
