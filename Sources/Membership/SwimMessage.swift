import MeshBase

/// One claim about one member.
struct Rumor: Hashable, Sendable {
    /// `.alive`, `.suspect`, `.dead` or `.left`.
    var state: MemberState
    var subject: NodeID
    var incarnation: UInt32
    /// Who says so; independent accusers shorten a suspicion.
    var accuser: NodeID

    var encodedCount: Int { carriesAccuser ? 69 : 37 }
    private var carriesAccuser: Bool { state == .suspect }

    func encode(into writer: inout ByteWriter) {
        writer.write(state.rawValue)
        writer.write(subject)
        writer.write(incarnation)
        if carriesAccuser { writer.write(accuser) }
    }

    init(state: MemberState, subject: NodeID, incarnation: UInt32, accuser: NodeID) {
        self.state = state
        self.subject = subject
        self.incarnation = incarnation
        self.accuser = accuser
    }

    init(from reader: inout ByteReader, sender: NodeID) throws(DecodingFailure) {
        guard let state = MemberState(rawValue: try reader.readByte()), state != .unknown else {
            throw .field("member state")
        }
        self.state = state
        subject = try reader.readNodeID()
        incarnation = try reader.readUInt32()
        accuser = sender
        if carriesAccuser { accuser = try reader.readNodeID() }
    }
}

/// A SWIM message; the channel authenticates the sender.
///
///     size  field
///     1     kind
///     4     the sender's incarnation
///     4     sequence (none in a gossip)
///     32    target (ping request only)
///     1     number of rumors
///     ...   rumors: state, subject, incarnation, and for a suspicion its accuser
struct SwimMessage: Hashable, Sendable {
    enum Kind: Hashable, Sendable {
        case ping(sequence: UInt32)
        case ack(sequence: UInt32)
        /// The helper's target has not answered in time.
        case nack(sequence: UInt32)
        case pingRequest(sequence: UInt32, target: NodeID)
        case gossip
    }

    var kind: Kind
    var incarnation: UInt32
    var rumors: [Rumor] = []

    /// Bytes before the rumors.
    var headerCount: Int {
        switch kind {
        case .ping, .ack, .nack: 10
        case .pingRequest: 42
        case .gossip: 6
        }
    }

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: SwimLimits.messageBytes)
        switch kind {
        case .ping(let sequence): writeHead(1, sequence, into: &writer)
        case .ack(let sequence): writeHead(2, sequence, into: &writer)
        case .nack(let sequence): writeHead(3, sequence, into: &writer)
        case .pingRequest(let sequence, let target):
            writeHead(4, sequence, into: &writer)
            writer.write(target)
        case .gossip: writeHead(5, nil, into: &writer)
        }
        writer.write(UInt8(rumors.count))
        for rumor in rumors { rumor.encode(into: &writer) }
        return writer.bytes
    }

    init(kind: Kind, incarnation: UInt32) {
        self.kind = kind
        self.incarnation = incarnation
    }

    init(decoding bytes: [UInt8], sender: NodeID) throws(DecodingFailure) {
        guard bytes.count <= SwimLimits.messageBytes else { throw .field("length") }
        var reader = ByteReader(bytes)
        let tag = try reader.readByte()
        incarnation = try reader.readUInt32()
        switch tag {
        case 1: kind = .ping(sequence: try reader.readUInt32())
        case 2: kind = .ack(sequence: try reader.readUInt32())
        case 3: kind = .nack(sequence: try reader.readUInt32())
        case 4:
            kind = .pingRequest(
                sequence: try reader.readUInt32(), target: try reader.readNodeID())
        case 5: kind = .gossip
        default: throw .field("message kind")
        }
        for _ in 0..<(try reader.readByte()) {
            rumors.append(try Rumor(from: &reader, sender: sender))
        }
        try reader.finish()
    }

    private func writeHead(_ tag: UInt8, _ sequence: UInt32?, into writer: inout ByteWriter) {
        writer.write(tag)
        writer.write(incarnation)
        if let sequence { writer.write(sequence) }
    }
}
