/// Datagrams in a stream: two bytes of length, then the datagram (docs/protocols/paths.md).
package struct StreamFraming {
    private var input: [UInt8] = []
    /// Where in `input` the next frame begins.
    private var position = 0
    /// The longest datagram that is taken.
    package var limit: Int

    /// What somebody may send before this node has answered: a hello (docs/protocols/envelope.md).
    package static let strangerLimit = 1_232
    /// What UDP carries (RFC 768), so that nothing depends on the way.
    package static let memberLimit = 65_507

    package init(limit: Int) {
        self.limit = limit
    }

    package mutating func append(_ bytes: [UInt8]) {
        if position > 0 {
            input.removeFirst(position)
            position = 0
        }
        input += bytes
    }

    package enum Outcome: Equatable {
        case datagram([UInt8])
        case incomplete
        /// No frame that a member would send.
        case broken
    }

    package mutating func next() -> Outcome {
        guard input.count - position >= 2 else { return .incomplete }
        let length = Int(input[position]) << 8 | Int(input[position + 1])
        guard length > 0, length <= limit else { return .broken }
        let end = position + 2 + length
        guard input.count >= end else { return .incomplete }
        defer { position = end }
        return .datagram(Array(input[position + 2..<end]))
    }

    package static func frame(_ datagram: [UInt8]) -> [UInt8] {
        [UInt8(truncatingIfNeeded: datagram.count >> 8), UInt8(truncatingIfNeeded: datagram.count)]
            + datagram
    }
}
