import MeshBase

/// What lease boards say to each other inside tunnels. The byte table is in
/// docs/protocols/leases.md.
///
///     size  field
///     1     layout version, 1
///     1     kind
///     4     generation of the founding
///     4     epoch of the voters that the sender knows
///     n     body
struct LeaseMessage: Hashable, Sendable {
    var generation: UInt32
    var epoch: UInt32
    var body: Body

    /// What a round is about.
    enum Key: Hashable, Sendable {
        case lease(String)
        /// Who votes after the present voters.
        case voters
    }

    /// When a value was accepted: under later voters counts more than under a higher ballot, since
    /// whoever wrote under later voters has seen what was chosen before.
    struct Mark: Hashable, Comparable, Sendable {
        var epoch: UInt32
        var ballot: Ballot

        static func < (left: Mark, right: Mark) -> Bool {
            (left.epoch, left.ballot) < (right.epoch, right.ballot)
        }
    }

    enum Value: Hashable, Sendable {
        case lease(LeaseState)
        case voters([NodeID])
    }

    enum Refusal: Hashable, Sendable {
        case promisedHigher(Ballot)
        /// A hold, or the wait after a start or a change of voters, keeps the value out.
        case held
        /// This name must be written under the present voters first.
        case unsettled(String)
        /// There are as many names as a voter remembers.
        case full
    }

    enum Body: Hashable, Sendable {
        /// How does the lease stand? Nothing is remembered.
        case look(String)
        case seen(String, LeaseState, isFree: Bool)
        case prepare(Key, Ballot)
        case promise(Key, Ballot, accepted: Mark?, Value?)
        case accept(Key, Ballot, Value)
        /// For voters with the signature that makes the certificate.
        case accepted(Key, Ballot, vote: [UInt8])
        case refusal(Key, Ballot, Refusal)
        /// The value of this ballot was chosen.
        case settled(String, Ballot)
        /// Keep later holders out for twice `milliseconds`.
        case hold(String, number: UInt64, nonce: UInt64, milliseconds: UInt32)
        case holdGrant(String, nonce: UInt64)
        case holdRefusal(String, nonce: UInt64)
        /// Who follows the voters that you know.
        case voters(CertifiedVoters)
        /// Tell me the voters after my epoch.
        case want
    }

    static let encodedLimit = 1_200

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(UInt8(1))
        writer.write(kind)
        writer.write(generation)
        writer.write(epoch)
        encodeBody(into: &writer)
        precondition(writer.count <= Self.encodedLimit, "a message fits one control frame")
        return writer.bytes
    }

    private var kind: UInt8 {
        switch body {
        case .look: 1
        case .seen: 2
        case .prepare: 3
        case .promise: 4
        case .accept: 5
        case .accepted: 6
        case .refusal: 7
        case .settled: 8
        case .hold: 9
        case .holdGrant: 10
        case .holdRefusal: 11
        case .voters: 12
        case .want: 13
        }
    }

    private func encodeBody(into writer: inout ByteWriter) {
        switch body {
        case .look(let name): writer.write(shortText: name)
        case .seen(let name, let state, let isFree):
            writer.write(shortText: name)
            state.encode(into: &writer)
            writer.write(UInt8(isFree ? 1 : 0))
        case .prepare(let key, let ballot):
            key.encode(into: &writer)
            ballot.encode(into: &writer)
        case .promise(let key, let ballot, let accepted, let value):
            key.encode(into: &writer)
            ballot.encode(into: &writer)
            writer.write(UInt8(accepted == nil ? 0 : 1))
            if let accepted {
                writer.write(accepted.epoch)
                accepted.ballot.encode(into: &writer)
            }
            value?.encode(into: &writer)
        case .accept(let key, let ballot, let value):
            key.encode(into: &writer)
            ballot.encode(into: &writer)
            value.encode(into: &writer)
        case .accepted(let key, let ballot, let vote):
            key.encode(into: &writer)
            ballot.encode(into: &writer)
            writer.write(short: vote)
        case .refusal(let key, let ballot, let refusal):
            key.encode(into: &writer)
            ballot.encode(into: &writer)
            switch refusal {
            case .promisedHigher(let higher):
                writer.write(UInt8(1))
                higher.encode(into: &writer)
            case .held: writer.write(UInt8(2))
            case .unsettled(let name):
                writer.write(UInt8(3))
                writer.write(shortText: name)
            case .full: writer.write(UInt8(4))
            }
        case .settled(let name, let ballot):
            writer.write(shortText: name)
            ballot.encode(into: &writer)
        case .hold(let name, let number, let nonce, let milliseconds):
            writer.write(shortText: name)
            writer.write(number)
            writer.write(nonce)
            writer.write(milliseconds)
        case .holdGrant(let name, let nonce), .holdRefusal(let name, let nonce):
            writer.write(shortText: name)
            writer.write(nonce)
        case .voters(let link): link.encode(into: &writer)
        case .want: break
        }
    }

    init(generation: UInt32, epoch: UInt32, body: Body) {
        self.generation = generation
        self.epoch = epoch
        self.body = body
    }

    init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count <= Self.encodedLimit else { throw .field("message length") }
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("layout version") }
        let kind = try reader.readByte()
        generation = try reader.readUInt32()
        epoch = try reader.readUInt32()
        guard (1...Ballot.roundLimit).contains(epoch) else { throw .field("epoch") }
        body = try Self.body(kind, from: &reader)
        try reader.finish()
    }

    private static func body(_ kind: UInt8, from reader: inout ByteReader) throws(DecodingFailure)
        -> Body
    {
        switch kind {
        case 1: return .look(try name(from: &reader))
        case 2:
            let name = try name(from: &reader)
            let state = try LeaseState(from: &reader)
            return .seen(name, state, isFree: try flag(from: &reader))
        case 3:
            let key = try Key(from: &reader)
            return .prepare(key, try Ballot(from: &reader))
        case 4:
            let key = try Key(from: &reader)
            let ballot = try Ballot(from: &reader)
            guard try flag(from: &reader) else { return .promise(key, ballot, accepted: nil, nil) }
            let epoch = try reader.readUInt32()
            let accepted = Mark(epoch: epoch, ballot: try Ballot(from: &reader))
            return .promise(
                key, ballot, accepted: accepted, try Value(of: key, from: &reader))
        case 5:
            let key = try Key(from: &reader)
            let ballot = try Ballot(from: &reader)
            return .accept(key, ballot, try Value(of: key, from: &reader))
        case 6:
            let key = try Key(from: &reader)
            let ballot = try Ballot(from: &reader)
            let vote = try reader.readShortBytes()
            guard vote.count == (key == .voters ? 64 : 0) else { throw .field("vote") }
            return .accepted(key, ballot, vote: vote)
        case 7:
            let key = try Key(from: &reader)
            let ballot = try Ballot(from: &reader)
            switch try reader.readByte() {
            case 1: return .refusal(key, ballot, .promisedHigher(try Ballot(from: &reader)))
            case 2: return .refusal(key, ballot, .held)
            case 3: return .refusal(key, ballot, .unsettled(try name(from: &reader)))
            case 4: return .refusal(key, ballot, .full)
            default: throw .field("refusal")
            }
        case 8:
            let name = try name(from: &reader)
            return .settled(name, try Ballot(from: &reader))
        case 9:
            let name = try name(from: &reader)
            let number = try reader.readUInt64()
            let nonce = try reader.readUInt64()
            return .hold(
                name, number: number, nonce: nonce, milliseconds: try reader.readUInt32())
        case 10:
            let name = try name(from: &reader)
            return .holdGrant(name, nonce: try reader.readUInt64())
        case 11:
            let name = try name(from: &reader)
            return .holdRefusal(name, nonce: try reader.readUInt64())
        case 12: return .voters(try CertifiedVoters(from: &reader))
        case 13: return .want
        default: throw .field("message kind")
        }
    }

    fileprivate static func name(from reader: inout ByteReader) throws(DecodingFailure) -> String {
        let name = try reader.readShortText()
        guard LeaseRecord.isName(name) else { throw .field("name") }
        return name
    }

    private static func flag(from reader: inout ByteReader) throws(DecodingFailure) -> Bool {
        let byte = try reader.readByte()
        guard byte < 2 else { throw .field("flag") }
        return byte == 1
    }
}

extension LeaseMessage.Key {
    func encode(into writer: inout ByteWriter) {
        switch self {
        case .lease(let name): writer.write(shortText: name)
        case .voters: writer.write(UInt8(0))
        }
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        let name = try reader.readShortText()
        guard name.isEmpty || LeaseRecord.isName(name) else { throw .field("name") }
        self = name.isEmpty ? .voters : .lease(name)
    }
}

extension LeaseMessage.Value {
    func encode(into writer: inout ByteWriter) {
        switch self {
        case .lease(let state): state.encode(into: &writer)
        case .voters(let members):
            writer.write(UInt8(members.count))
            for member in members { writer.write(member) }
        }
    }

    init(of key: LeaseMessage.Key, from reader: inout ByteReader) throws(DecodingFailure) {
        switch key {
        case .lease: self = .lease(try LeaseState(from: &reader))
        case .voters: self = .voters(try CertifiedVoters.readMembers(from: &reader))
        }
    }
}
