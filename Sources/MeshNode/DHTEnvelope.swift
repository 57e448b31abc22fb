import Cryptography
import MeshBase

/// KRPC among members, sealed so that strangers neither read nor get an answer.
///
///     offset  size  field
///     0       4     EB 56, version 1, kind 0x44
///     4       24    nonce, random
///     28            XChaCha20-Poly1305 under a key that every holder of the token derives; the
///                   bytes before it are associated data. Inside:
///                   2 bytes length, the KRPC message, zeros
///
/// The zeros let a question make room for its answer: no node answers with more than it was sent.
package struct DHTEnvelope: Sendable {
    private let key: SecretBytes

    static let kind: UInt8 = 0x44
    private static let header: [UInt8] = [0xEB, 0x56, 1, kind]

    package init(discoverySecret: SecretBytes) {
        key = deriveKey(from: discoverySecret, label: "dht")
    }

    package static func matches(_ datagram: [UInt8]) -> Bool { datagram.starts(with: header) }

    /// - Parameter room: the size to which the message is padded.
    package func seal(_ message: [UInt8], room: Int, random: inout SeededGenerator) -> [UInt8] {
        var writer = ByteWriter(capacity: 2 + max(room, message.count))
        writer.write(long: message)
        writer.pad(to: 2 + room)
        let nonce = random.bytes(XChaCha20Poly1305.nonceCount)
        let header = Self.header + nonce
        return header
            + XChaCha20Poly1305.seal(
                writer.bytes, key: key, nonce: nonce, associatedData: header)
    }

    /// The message, and how long an answer may be.
    package func open(_ datagram: [UInt8]) -> (message: [UInt8], room: Int)? {
        let start = Self.header.count + XChaCha20Poly1305.nonceCount
        guard Self.matches(datagram), datagram.count >= start + XChaCha20Poly1305.tagCount,
            let plain = XChaCha20Poly1305.open(
                Array(datagram[start...]), key: key,
                nonce: Array(datagram[Self.header.count..<start]),
                associatedData: Array(datagram[..<start]))
        else { return nil }
        var reader = ByteReader(plain)
        guard let message = try? reader.readLongBytes() else { return nil }
        return (message, plain.count - 2)
    }
}
