import MeshBase
import NetAddress

/// What members say to each other about paths; the body of a sealed member message.
///
///     size  field
///     1     kind, 0x80 or above: lower ones belong to the liveness protocol
///     ...   by kind:
///     0x80  ping           8 id
///     0x81  pong           8 id of the ping, 7 or 19 where the ping came from
///     0x82  call me        1 flags (1 = an answer, 2 = has yours), 1 port step, 1 count,
///                          addresses
///     0x83  open a relay   32 node id of the other end
///     0x84  relay opened   32 node id of the other end, 4 channel
///     0x85  relay refused  32 node id of the other end
///     0x86  birthday       1 step (0 offer, 1 accept, 2 ready), 7 address of the sender
///
/// A pong is not longer than 18 bytes more than its ping and goes only to a member that proved its
/// key with a message that is no replay.
package enum ProbeMessage: Hashable {
    case ping(id: UInt64)
    case pong(id: UInt64, observed: SocketAddress)
    case callMe(CallMe)
    case openRelay(to: NodeID)
    case relayOpened(to: NodeID, channel: UInt32)
    case relayRefused(to: NodeID)
    case birthday(BirthdayStep, SocketAddress)

    /// What the two ends of an attempt with many ports say to each other.
    package enum BirthdayStep: UInt8, Hashable, Sendable, CaseIterable {
        case offer, accept, ready
    }

    /// Where the sender may be reached, for both ends to knock at once.
    package struct CallMe: Hashable {
        /// Wants no answer.
        package var isAnswer: Bool
        /// The sender has a call of the receiver's, and has opened its own NAT for it.
        package var hasHeard: Bool
        /// By how much the sender's NAT counts ports up from flow to flow; 0 if it is not known to.
        package var portStep: Int8
        package var candidates: [SocketAddress]

        package init(
            isAnswer: Bool, hasHeard: Bool, portStep: Int8, candidates: [SocketAddress]
        ) {
            self.isAnswer = isAnswer
            self.hasHeard = hasHeard
            self.portStep = portStep
            self.candidates = candidates
        }

        /// A machine with more addresses names its likeliest ones.
        static let limit = 16
    }

    package static func isProbe(_ body: [UInt8]) -> Bool { body.first.map { $0 >= 0x80 } ?? false }

    /// What a member message is about, for people who count.
    static func name(of body: [UInt8]) -> String {
        switch body.first {
        case 0x80: "path probe"
        case 0x81: "path answer"
        case 0x82: "call"
        case 0x83, 0x84, 0x85: "relay request"
        case 0x86: "birthday"
        default: "liveness"
        }
    }

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        switch self {
        case .ping(let id):
            writer.write(UInt8(0x80))
            writer.write(id)
        case .pong(let id, let observed):
            writer.write(UInt8(0x81))
            writer.write(id)
            observed.encode(into: &writer)
        case .callMe(let call):
            writer.write(UInt8(0x82))
            writer.write(UInt8((call.isAnswer ? 1 : 0) | (call.hasHeard ? 2 : 0)))
            writer.write(UInt8(bitPattern: call.portStep))
            writer.write(UInt8(call.candidates.count))
            for candidate in call.candidates { candidate.encode(into: &writer) }
        case .openRelay(let node):
            writer.write(UInt8(0x83))
            writer.write(node)
        case .relayOpened(let node, let channel):
            writer.write(UInt8(0x84))
            writer.write(node)
            writer.write(channel)
        case .relayRefused(let node):
            writer.write(UInt8(0x85))
            writer.write(node)
        case .birthday(let step, let address):
            writer.write(UInt8(0x86))
            writer.write(step.rawValue)
            address.encode(into: &writer)
        }
        return writer.bytes
    }

    /// - Throws: on anything that ``encode()`` does not write.
    package init(decoding body: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(body)
        switch try reader.readByte() {
        case 0x80:
            self = .ping(id: try reader.readUInt64())
        case 0x81:
            self = .pong(
                id: try reader.readUInt64(), observed: try SocketAddress(from: &reader))
        case 0x82:
            let flags = try reader.readByte()
            guard flags <= 3 else { throw .field("flags") }
            let step = Int8(bitPattern: try reader.readByte())
            let count = try reader.readByte()
            guard count <= CallMe.limit else { throw .field("address count") }
            var candidates: [SocketAddress] = []
            for _ in 0..<count { candidates.append(try SocketAddress(from: &reader)) }
            self = .callMe(
                CallMe(
                    isAnswer: flags & 1 != 0, hasHeard: flags & 2 != 0, portStep: step,
                    candidates: candidates))
        case 0x83:
            self = .openRelay(to: try reader.readNodeID())
        case 0x84:
            self = .relayOpened(
                to: try reader.readNodeID(), channel: try reader.readUInt32())
        case 0x85:
            self = .relayRefused(to: try reader.readNodeID())
        case 0x86:
            guard let step = BirthdayStep(rawValue: try reader.readByte()) else {
                throw .field("step")
            }
            self = .birthday(step, try SocketAddress(from: &reader))
        default:
            throw .field("probe kind")
        }
        try reader.finish()
    }
}
