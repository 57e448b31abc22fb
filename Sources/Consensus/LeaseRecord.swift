import MeshBase

/// One voter's memory of one name (Rystsov, "CASPaxos: Replicated State Machines without Logs").
struct LeaseSlot: Hashable, Sendable {
    var promised: Ballot?
    var accepted: Accepted?
    /// The newest epoch under whose voters a value of this name is known to be chosen.
    var settledEpoch: UInt32 = 0

    struct Accepted: Hashable, Sendable {
        var ballot: Ballot
        var epoch: UInt32
        var state: LeaseState
    }
}

/// One voter's memory of who the next voters are; it belongs to one epoch.
struct VoterSlot: Hashable, Sendable {
    var promised: Ballot?
    var accepted: Accepted?

    struct Accepted: Hashable, Sendable {
        var ballot: Ballot
        var members: [NodeID]
    }
}

/// What a voter remembers about leases. Names never leave it, since their numbers must not.
///
///     size   field
///     1      layout version, 1
///     4      generation of the founding
///     4      epoch to which the slot of the next voters belongs
///     n      that slot: flags (1: 1 promised, 2 accepted), ballot, ballot and members
///     2      count of names, at most 256
///     each   name (1 + n), flags, promised ballot, accepted ballot, its epoch (4) and state,
///            settled epoch (4)
package struct LeaseRecord: Hashable, Sendable {
    var generation: UInt32
    var voterEpoch: UInt32 = 1
    var voters = VoterSlot()
    var slots: [String: LeaseSlot] = [:]

    /// 256 names of 64 bytes with all their fields are below 62 KB, which one slot of the disk
    /// format holds.
    static let nameLimit = 256
    package static let nameByteLimit = 64

    /// Whether nothing was said yet.
    var isEmpty: Bool { self == LeaseRecord(generation: generation) }

    init(generation: UInt32) {
        self.generation = generation
    }

    package static func isName(_ name: String) -> Bool {
        (1...nameByteLimit).contains(name.utf8.count)
            && name.utf8.allSatisfy { $0 > 32 && $0 != 127 }
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 1_024)
        writer.write(UInt8(1))
        writer.write(generation)
        writer.write(voterEpoch)
        writer.write(UInt8((voters.promised == nil ? 0 : 1) | (voters.accepted == nil ? 0 : 2)))
        voters.promised?.encode(into: &writer)
        if let accepted = voters.accepted {
            accepted.ballot.encode(into: &writer)
            writer.write(UInt8(accepted.members.count))
            for member in accepted.members { writer.write(member) }
        }
        writer.write(UInt16(slots.count))
        for (name, slot) in slots.sorted(by: { $0.key < $1.key }) {
            writer.write(shortText: name)
            writer.write(UInt8((slot.promised == nil ? 0 : 1) | (slot.accepted == nil ? 0 : 2)))
            slot.promised?.encode(into: &writer)
            if let accepted = slot.accepted {
                accepted.ballot.encode(into: &writer)
                writer.write(accepted.epoch)
                accepted.state.encode(into: &writer)
            }
            writer.write(slot.settledEpoch)
        }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("layout version") }
        generation = try reader.readUInt32()
        voterEpoch = try reader.readUInt32()
        let flags = try reader.readByte()
        guard flags < 4 else { throw .field("flags") }
        if flags & 1 != 0 { voters.promised = try Ballot(from: &reader) }
        if flags & 2 != 0 {
            let ballot = try Ballot(from: &reader)
            voters.accepted = VoterSlot.Accepted(
                ballot: ballot, members: try CertifiedVoters.readMembers(from: &reader))
        }
        let count = Int(try reader.readUInt16())
        guard count <= Self.nameLimit else { throw .field("name count") }
        for _ in 0..<count {
            let name = try reader.readShortText()
            guard Self.isName(name) else { throw .field("name") }
            var slot = LeaseSlot()
            let flags = try reader.readByte()
            guard flags < 4 else { throw .field("flags") }
            if flags & 1 != 0 { slot.promised = try Ballot(from: &reader) }
            if flags & 2 != 0 {
                let ballot = try Ballot(from: &reader)
                let epoch = try reader.readUInt32()
                slot.accepted = LeaseSlot.Accepted(
                    ballot: ballot, epoch: epoch, state: try LeaseState(from: &reader))
            }
            slot.settledEpoch = try reader.readUInt32()
            slots[name] = slot
        }
        try reader.finish()
    }
}
