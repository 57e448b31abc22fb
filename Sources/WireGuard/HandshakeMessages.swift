import Cryptography
import MeshBase

// The three datagrams of the handshake ("WireGuard", section 5.4). Numbers are little-endian.
// Types 5 and 6 are types 1 and 2 of a handshake that agrees on AES-256-GCM for its packets.

/// The first byte of a datagram; the next three are zero.
enum MessageType: UInt8 {
    case initiation = 1
    case response = 2
    case cookieReply = 3
    case initiationAES = 5
    case responseAES = 6
}

/// Message 1, 148 bytes.
struct InitiationMessage {
    static let count = 148
    let suite: PacketSuite
    let sender: UInt32
    let ephemeral: StaticPublicKey
    let sealedStatic: [UInt8]
    let sealedTimestamp: [UInt8]

    /// The 116 bytes before the two authenticators.
    func encode() -> [UInt8] {
        let type: MessageType = suite == .aes256GCM ? .initiationAES : .initiation
        var writer = ByteWriter(capacity: InitiationMessage.count)
        writer.write(raw: [type.rawValue, 0, 0, 0])
        writer.write(raw: littleEndian(sender))
        writer.write(ephemeral.bytes)
        writer.write(raw: sealedStatic)
        writer.write(raw: sealedTimestamp)
        return writer.bytes
    }

    init(
        suite: PacketSuite, sender: UInt32, ephemeral: StaticPublicKey, sealedStatic: [UInt8],
        sealedTimestamp: [UInt8]
    ) {
        self.suite = suite
        self.sender = sender
        self.ephemeral = ephemeral
        self.sealedStatic = sealedStatic
        self.sealedTimestamp = sealedTimestamp
    }

    init(_ datagram: [UInt8], suite: PacketSuite) throws(DecodingFailure) {
        guard datagram.count == InitiationMessage.count else { throw .field("length") }
        var reader = ByteReader(datagram)
        _ = try reader.readBytes(4)
        self.suite = suite
        sender = try reader.readUInt32().byteSwapped
        ephemeral = StaticPublicKey(try reader.readBytes32())
        sealedStatic = try reader.readBytes(48)
        sealedTimestamp = try reader.readBytes(TAI64N.byteCount + 16)
    }
}

/// Message 2, 92 bytes.
struct ResponseMessage {
    static let count = 92
    let suite: PacketSuite
    let sender: UInt32
    let receiver: UInt32
    let ephemeral: StaticPublicKey
    let sealedEmpty: [UInt8]

    /// The 60 bytes before the two authenticators.
    func encode() -> [UInt8] {
        let type: MessageType = suite == .aes256GCM ? .responseAES : .response
        var writer = ByteWriter(capacity: ResponseMessage.count)
        writer.write(raw: [type.rawValue, 0, 0, 0])
        writer.write(raw: littleEndian(sender))
        writer.write(raw: littleEndian(receiver))
        writer.write(ephemeral.bytes)
        writer.write(raw: sealedEmpty)
        return writer.bytes
    }

    init(
        suite: PacketSuite, sender: UInt32, receiver: UInt32, ephemeral: StaticPublicKey,
        sealedEmpty: [UInt8]
    ) {
        self.suite = suite
        self.sender = sender
        self.receiver = receiver
        self.ephemeral = ephemeral
        self.sealedEmpty = sealedEmpty
    }

    init(_ datagram: [UInt8], suite: PacketSuite) throws(DecodingFailure) {
        guard datagram.count == ResponseMessage.count else { throw .field("length") }
        var reader = ByteReader(datagram)
        _ = try reader.readBytes(4)
        self.suite = suite
        sender = try reader.readUInt32().byteSwapped
        receiver = try reader.readUInt32().byteSwapped
        ephemeral = StaticPublicKey(try reader.readBytes32())
        sealedEmpty = try reader.readBytes(16)
    }
}

/// Message 3, 64 bytes: the cookie that a loaded responder demands.
struct CookieReplyMessage {
    static let count = 64
    let receiver: UInt32
    let nonce: [UInt8]
    let sealedCookie: [UInt8]

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: CookieReplyMessage.count)
        writer.write(raw: [MessageType.cookieReply.rawValue, 0, 0, 0])
        writer.write(raw: littleEndian(receiver))
        writer.write(raw: nonce)
        writer.write(raw: sealedCookie)
        return writer.bytes
    }

    init(receiver: UInt32, nonce: [UInt8], sealedCookie: [UInt8]) {
        self.receiver = receiver
        self.nonce = nonce
        self.sealedCookie = sealedCookie
    }

    init(_ datagram: [UInt8]) throws(DecodingFailure) {
        guard datagram.count == CookieReplyMessage.count else { throw .field("length") }
        var reader = ByteReader(datagram)
        _ = try reader.readBytes(4)
        receiver = try reader.readUInt32().byteSwapped
        nonce = try reader.readBytes(XChaCha20Poly1305.nonceCount)
        sealedCookie = try reader.readBytes(32)
    }
}

private func littleEndian(_ value: UInt32) -> [UInt8] {
    [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> $0) }
}
