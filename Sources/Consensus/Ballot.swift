import Cryptography
import MeshBase

/// One attempt to decide a register: rounds order attempts, the proposer breaks ties (Lamport,
/// "Paxos Made Simple", section 2.2).
///
/// A proposer never uses a ballot twice, since it promises each one to itself, durably, first.
package struct Ballot: Hashable, Comparable, Sendable {
    package let round: UInt32
    package let node: NodeID

    /// Leaves room above every round that a parser lets in.
    package static let roundLimit: UInt32 = 0x7FFF_FFFF
    static let encodedCount = 36

    package init(round: UInt32, node: NodeID) {
        self.round = round
        self.node = node
    }

    package static func < (lhs: Ballot, rhs: Ballot) -> Bool {
        (lhs.round, lhs.node) < (rhs.round, rhs.node)
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(round)
        writer.write(node)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        round = try reader.readUInt32()
        node = try reader.readNodeID()
        guard (1...Self.roundLimit).contains(round) else { throw .field("ballot round") }
    }
}

/// The two questions of a generation, each answered once.
package enum RegisterKind: UInt8, Hashable, Sendable, CaseIterable {
    /// Who founds.
    case claim = 1
    /// How it ended.
    case outcome = 2
}

/// The answer of `claim[g]`.
package struct Claim: Hashable, Sendable {
    /// The one node that may start a new datastore in this generation.
    package let owner: NodeID

    package init(owner: NodeID) {
        self.owner = owner
    }
}

/// The answer of `outcome[g]`.
package enum Outcome: Hashable, Sendable {
    /// The datastore runs; `caHash` names its certificate authority. `facts` is up to
    /// ``factsLimit`` bytes which the founder wants fixed for ever, such as its IPv4 address.
    case ready(owner: NodeID, caHash: Bytes32, facts: [UInt8])
    /// The claim is void and the next generation may begin.
    case abandoned(by: NodeID)

    package static let factsLimit = 64

    var isAbandoned: Bool {
        if case .abandoned = self { true } else { false }
    }
}

/// What a register can hold.
package enum RegisterValue: Hashable, Sendable {
    case claim(Claim)
    case outcome(Outcome)

    /// Tag, owner, certificate authority, facts and their length.
    static let encodedLimit = 1 + 32 + 32 + 1 + Outcome.factsLimit

    package var register: RegisterKind {
        switch self {
        case .claim: .claim
        case .outcome: .outcome
        }
    }

    package var isAbandoned: Bool {
        if case .outcome(.abandoned) = self { true } else { false }
    }

    package var isReady: Bool {
        if case .outcome(.ready) = self { true } else { false }
    }

    package var hash: Bytes32 { sha256(encoded) }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedLimit)
        switch self {
        case .claim(let claim):
            writer.write(UInt8(1))
            writer.write(claim.owner)
        case .outcome(.ready(let owner, let caHash, let facts)):
            precondition(facts.count <= Outcome.factsLimit, "facts have a bound")
            writer.write(UInt8(2))
            writer.write(owner)
            writer.write(caHash)
            writer.write(short: facts)
        case .outcome(.abandoned(let node)):
            writer.write(UInt8(3))
            writer.write(node)
        }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        switch try reader.readByte() {
        case 1: self = .claim(Claim(owner: try reader.readNodeID()))
        case 2:
            let owner = try reader.readNodeID()
            let caHash = try reader.readBytes32()
            let facts = try reader.readShortBytes()
            guard facts.count <= Outcome.factsLimit else { throw .field("facts") }
            self = .outcome(.ready(owner: owner, caHash: caHash, facts: facts))
        case 3: self = .outcome(.abandoned(by: try reader.readNodeID()))
        default: throw .field("value tag")
        }
        try reader.finish()
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(short: encoded)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        try self.init(decoding: try reader.readShortBytes())
    }
}

/// A value together with the ballot under which an acceptor accepted it.
package struct AcceptedValue: Hashable, Sendable {
    package let ballot: Ballot
    package let value: RegisterValue

    package init(ballot: Ballot, value: RegisterValue) {
        self.ballot = ballot
        self.value = value
    }
}
