import Cryptography
import MeshBase

/// The sealed envelope in which nodes speak outside of tunnels.
///
///     offset  size  field
///     0       2     EB 56
///     2       1     version, 1
///     3       1     kind
///     4       24    nonce, random
///     28      8     sender hint (pair kinds only), masked
///     ...           XChaCha20-Poly1305 ciphertext and tag; the bytes before it are associated data
///
/// First-contact kinds are sealed under a key that every token holder derives; pair kinds under
/// the static-static X25519 secret of the two nodes mixed with the admission secret. Without the
/// token nothing opens, so strangers get no answer at all. The hint names the sender to token
/// holders only: it is the first eight bytes of the node id, masked by a MAC of the nonce.
package enum EnvelopeKind: UInt8, Sendable {
    case hello = 1
    case welcome = 2
    case member = 3

    var isFirstContact: Bool { self != .member }
}

package enum EnvelopeFormat {
    package static let magic: [UInt8] = [0xEB, 0x56]
    package static let version: UInt8 = 1
    static let headerCount = 28
    static let hintCount = 8

    /// The largest datagram that a node sends in an envelope: fits the IPv6 minimum MTU.
    package static let maximumCount = 1_232

    /// Whether a datagram claims to be an envelope of ours.
    package static func matches(_ datagram: [UInt8]) -> Bool {
        datagram.count >= headerCount + XChaCha20Poly1305.tagCount && datagram[0] == magic[0]
            && datagram[1] == magic[1]
    }
}

/// Keys of the first contact, the same on every holder of the token.
package struct ContactKeys: Sendable {
    let hello: SecretBytes
    let mask: SecretBytes

    package init(discoverySecret: SecretBytes) {
        hello = deriveKey(from: discoverySecret, label: "hello")
        mask = deriveKey(from: discoverySecret, label: "hint mask")
    }

    package func sealContact(_ kind: EnvelopeKind, _ body: [UInt8], random: inout SeededGenerator)
        -> [UInt8]
    {
        let nonce = random.bytes(XChaCha20Poly1305.nonceCount)
        let header = ContactKeys.header(kind, nonce)
        return header
            + XChaCha20Poly1305.seal(body, key: hello, nonce: nonce, associatedData: header)
    }

    func openContact(_ datagram: [UInt8]) -> [UInt8]? {
        let header = Array(datagram[..<EnvelopeFormat.headerCount])
        return XChaCha20Poly1305.open(
            Array(datagram[EnvelopeFormat.headerCount...]), key: hello,
            nonce: Array(header[4...]), associatedData: header)
    }

    func sealMember(
        _ body: [UInt8], from sender: NodeID, pairKey: SecretBytes, random: inout SeededGenerator
    ) -> [UInt8] {
        let nonce = random.bytes(XChaCha20Poly1305.nonceCount)
        var writer = ByteWriter()
        writer.write(raw: ContactKeys.header(.member, nonce))
        writer.write(sender.bytes.prefix64 ^ hintMask(nonce))
        let header = writer.bytes
        return header
            + XChaCha20Poly1305.seal(body, key: pairKey, nonce: nonce, associatedData: header)
    }

    /// The sender's first eight id bytes, as a token holder sees them; not yet authenticated.
    func senderHint(_ datagram: [UInt8]) -> UInt64? {
        let start = EnvelopeFormat.headerCount
        guard datagram.count >= start + EnvelopeFormat.hintCount + XChaCha20Poly1305.tagCount else {
            return nil
        }
        var hint: UInt64 = 0
        for byte in datagram[start..<start + EnvelopeFormat.hintCount] {
            hint = hint << 8 | UInt64(byte)
        }
        return hint ^ hintMask(Array(datagram[4..<start]))
    }

    func openMember(_ datagram: [UInt8], pairKey: SecretBytes) -> [UInt8]? {
        let end = EnvelopeFormat.headerCount + EnvelopeFormat.hintCount
        let header = Array(datagram[..<end])
        return XChaCha20Poly1305.open(
            Array(datagram[end...]), key: pairKey,
            nonce: Array(header[4..<EnvelopeFormat.headerCount]), associatedData: header)
    }

    private func hintMask(_ nonce: [UInt8]) -> UInt64 {
        var key = mask.exposedCopy()
        defer { zeroize(&key) }
        return hmacSHA256(key: key, nonce).prefix64
    }

    private static func header(_ kind: EnvelopeKind, _ nonce: [UInt8]) -> [UInt8] {
        EnvelopeFormat.magic + [EnvelopeFormat.version, kind.rawValue] + nonce
    }
}
