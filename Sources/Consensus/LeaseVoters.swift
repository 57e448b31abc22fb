import MeshBase

/// The nodes whose majority decides about leases, and the proof that they are the ones.
///
/// The first voters of a generation are its founder alone, which the ready certificate names. Each
/// later set differs by one node from the one before and carries the signatures of a majority of
/// that one; so whoever knows the founder can check the whole chain.
///
///     size      field
///     4         epoch, from 2 on
///     1 + 32 n  members, ascending, at most 7
///     36        ballot
///     1         count of votes
///     96 each   voter, signature
package struct CertifiedVoters: Hashable, Sendable {
    let epoch: UInt32
    let members: [NodeID]
    let ballot: Ballot
    let votes: [Vote]

    /// Seven voters survive three losses; more make every decision slower.
    static let memberLimit = 7
    /// One change takes at least 2L, and a voter is replaced after minutes of absence: years.
    static let chainLimit = 1_024

    static func signedBytes(
        meshID: [UInt8], generation: UInt32, epoch: UInt32, members: [NodeID], ballot: Ballot
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: 384)
        writer.write(shortText: "edgevpn-swift lease voters v1")
        writer.write(short: meshID)
        writer.write(generation)
        writer.write(epoch)
        writer.write(UInt8(members.count))
        for member in members { writer.write(member) }
        ballot.encode(into: &writer)
        return writer.bytes
    }

    /// Whether `members` is `former` with one node more or one less.
    static func isOneStep(from former: [NodeID], to members: [NodeID]) -> Bool {
        (1...memberLimit).contains(members.count) && members == Set(members).sorted()
            && Set(former).symmetricDifference(members).count == 1
    }

    func isValid(
        after former: (epoch: UInt32, members: [NodeID]), meshID: [UInt8], generation: UInt32,
        signer: any FoundingSigner
    ) -> Bool {
        guard epoch == former.epoch + 1, Self.isOneStep(from: former.members, to: members),
            votes.count > former.members.count / 2,
            Set(votes.map(\.voter)).count == votes.count
        else { return false }
        let bytes = Self.signedBytes(
            meshID: meshID, generation: generation, epoch: epoch, members: members,
            ballot: ballot)
        return votes.allSatisfy {
            former.members.contains($0.voter) && signer.verify($0.signature, bytes, by: $0.voter)
        }
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(epoch)
        writer.write(UInt8(members.count))
        for member in members { writer.write(member) }
        ballot.encode(into: &writer)
        writer.write(UInt8(votes.count))
        for vote in votes { vote.encode(into: &writer) }
    }

    init(epoch: UInt32, members: [NodeID], ballot: Ballot, votes: [Vote]) {
        self.epoch = epoch
        self.members = members
        self.ballot = ballot
        self.votes = votes
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        epoch = try reader.readUInt32()
        members = try Self.readMembers(from: &reader)
        ballot = try Ballot(from: &reader)
        let count = try reader.readByte()
        guard count <= Self.memberLimit else { throw .field("vote count") }
        var votes: [Vote] = []
        for _ in 0..<count { votes.append(try Vote(from: &reader)) }
        self.votes = votes
    }

    static func readMembers(from reader: inout ByteReader) throws(DecodingFailure) -> [NodeID] {
        let count = try reader.readByte()
        guard (1...memberLimit).contains(Int(count)) else { throw .field("member count") }
        var members: [NodeID] = []
        for _ in 0..<count { members.append(try reader.readNodeID()) }
        guard members == Set(members).sorted() else { throw .field("member order") }
        return members
    }
}

/// All voters that ever were, from the founder on.
struct VoterChain: Hashable, Sendable {
    let generation: UInt32
    let founder: NodeID
    private(set) var links: [CertifiedVoters] = []

    init(generation: UInt32, founder: NodeID) {
        self.generation = generation
        self.founder = founder
    }

    var epoch: UInt32 { links.last?.epoch ?? 1 }
    var members: [NodeID] { links.last?.members ?? [founder] }
    var quorum: Int { members.count / 2 + 1 }
    var isFull: Bool { links.count >= CertifiedVoters.chainLimit }

    /// Appends a link that was checked.
    mutating func append(_ link: CertifiedVoters) {
        precondition(link.epoch == epoch + 1, "voters follow each other")
        links.append(link)
    }

    /// The links after `epoch`, oldest first.
    func links(after epoch: UInt32) -> ArraySlice<CertifiedVoters> {
        epoch < 1 ? [] : links.dropFirst(Int(epoch) - 1)
    }

    var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 256 + links.count * 640)
        writer.write(UInt8(1))
        writer.write(generation)
        writer.write(founder)
        writer.write(UInt16(links.count))
        for link in links { link.encode(into: &writer) }
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("layout version") }
        generation = try reader.readUInt32()
        founder = try reader.readNodeID()
        let count = Int(try reader.readUInt16())
        guard count <= CertifiedVoters.chainLimit else { throw .field("link count") }
        for _ in 0..<count {
            let link = try CertifiedVoters(from: &reader)
            guard link.epoch == epoch + 1 else { throw .field("epoch") }
            links.append(link)
        }
        try reader.finish()
    }
}
