import MeshBase

/// A control message between two members inside their tunnel.
///
/// It travels as a tunnel payload whose first nibble is neither 4 nor 6, so it is never written to
/// the TUN device:
///
///     size  field
///     1     0x10 | kind
///     4     request id
///     2     body length, at most 1,200
///     n     body
///     ...   zeros from the tunnel's padding to 16 bytes
package struct ControlFrame: Hashable, Sendable {
    package enum Kind: UInt8, Sendable, CaseIterable {
        case ledger = 0
        case founding = 1
        case cluster = 2
        case ping = 3
        case pong = 4
        /// As long as the datagram whose passage it tests; the answer repeats the request id.
        case pathProbe = 5
        case pathAnswer = 6
    }

    package var kind: Kind
    package var requestID: UInt32
    package var body: [UInt8]

    /// Fits the IPv6 minimum MTU together with every header around it.
    package static let bodyLimit = 1_200
    /// A probe is as long as a packet of the device. The packet threads report 1,900 bytes.
    package static let probeBodyLimit = 1_850
    static let headerCount = 7
    private static let marker: UInt8 = 0x10

    package init(kind: Kind, requestID: UInt32 = 0, body: [UInt8]) {
        self.kind = kind
        self.requestID = requestID
        self.body = body
    }

    package func encode() -> [UInt8] {
        precondition(body.count <= kind.bodyLimit, "a control frame fits one datagram")
        var writer = ByteWriter(capacity: body.count + 7)
        writer.write(Self.marker | kind.rawValue)
        writer.write(requestID)
        writer.write(long: body)
        return writer.bytes
    }

    /// Parses a decrypted tunnel payload; padding after the body must be zero.
    package init(decoding payload: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(payload)
        let first = try reader.readByte()
        guard first & 0xF0 == Self.marker, let kind = Kind(rawValue: first & 0x0F) else {
            throw .field("frame kind")
        }
        self.kind = kind
        requestID = try reader.readUInt32()
        body = try reader.readLongBytes(limit: kind.bodyLimit)
        guard reader.remaining < 16, reader.readRest().allSatisfy({ $0 == 0 }) else {
            throw .trailingBytes
        }
    }
}

extension ControlFrame.Kind {
    package var bodyLimit: Int {
        self == .pathProbe ? ControlFrame.probeBodyLimit : ControlFrame.bodyLimit
    }
}
