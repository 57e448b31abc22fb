import CSodium
import MeshBase

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): a 24-byte nonce that may be drawn at random.
package enum XChaCha20Poly1305 {
    package static let nonceCount = 24
    package static let tagCount = 16

    /// The ciphertext with its 16-byte tag behind it.
    package static func seal(
        _ plaintext: [UInt8], key: SecretBytes, nonce: [UInt8], associatedData: [UInt8] = []
    ) -> [UInt8] {
        precondition(nonce.count == nonceCount)
        var output = [UInt8](repeating: 0, count: plaintext.count + tagCount)
        let status = key.withBytes {
            crypto_aead_xchacha20poly1305_ietf_encrypt(
                &output, nil, plaintext, UInt64(plaintext.count), associatedData,
                UInt64(associatedData.count), nil, nonce, $0)
        }
        precondition(status == 0, "sealing cannot fail")
        return output
    }

    /// The plaintext, or `nil` when anything was changed.
    package static func open(
        _ ciphertext: [UInt8], key: SecretBytes, nonce: [UInt8], associatedData: [UInt8] = []
    ) -> [UInt8]? {
        guard nonce.count == nonceCount, ciphertext.count >= tagCount else { return nil }
        var output = [UInt8](repeating: 0, count: ciphertext.count - tagCount)
        let status = key.withBytes {
            crypto_aead_xchacha20poly1305_ietf_decrypt(
                &output, nil, nil, ciphertext, UInt64(ciphertext.count), associatedData,
                UInt64(associatedData.count), nonce, $0)
        }
        return status == 0 ? output : nil
    }
}

/// ChaCha20-Poly1305 (RFC 8439) for handshakes; packets have their own back ends.
package enum ChaCha20Poly1305 {
    package static let tagCount = 16

    /// - Parameter counter: the 64-bit little-endian counter behind four zero bytes, as Noise
    ///   builds the nonce.
    package static func seal(
        _ plaintext: [UInt8], key: [UInt8], counter: UInt64, associatedData: [UInt8]
    ) -> [UInt8] {
        precondition(key.count == 32)
        startSodium()
        var output = [UInt8](repeating: 0, count: plaintext.count + tagCount)
        let status = crypto_aead_chacha20poly1305_ietf_encrypt(
            &output, nil, plaintext, UInt64(plaintext.count), associatedData,
            UInt64(associatedData.count), nil, nonce(counter), key)
        precondition(status == 0, "sealing cannot fail")
        return output
    }

    /// The plaintext, or `nil` when anything was changed.
    package static func open(
        _ ciphertext: [UInt8], key: [UInt8], counter: UInt64, associatedData: [UInt8]
    ) -> [UInt8]? {
        guard ciphertext.count >= tagCount, key.count == 32 else { return nil }
        startSodium()
        var output = [UInt8](repeating: 0, count: ciphertext.count - tagCount)
        let status = crypto_aead_chacha20poly1305_ietf_decrypt(
            &output, nil, nil, ciphertext, UInt64(ciphertext.count), associatedData,
            UInt64(associatedData.count), nonce(counter), key)
        return status == 0 ? output : nil
    }

    private static func nonce(_ counter: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 12)
        for index in 0..<8 {
            bytes[4 + index] = UInt8(truncatingIfNeeded: counter >> UInt64(8 * index))
        }
        return bytes
    }
}

/// A message that only the owner of one X25519 key can open (libsodium's sealed box: an ephemeral
/// key, X25519, XSalsa20-Poly1305).
package enum SealedBox {
    package static func seal(_ message: [UInt8], to recipient: StaticPublicKey) -> [UInt8]? {
        startSodium()
        var output = [UInt8](repeating: 0, count: message.count + Int(crypto_box_sealbytes()))
        let status = crypto_box_seal(
            &output, message, UInt64(message.count), recipient.bytes.bytes)
        return status == 0 ? output : nil
    }

    package static func open(_ sealed: [UInt8], with key: StaticPrivateKey) -> [UInt8]? {
        startSodium()
        let overhead = Int(crypto_box_sealbytes())
        guard sealed.count >= overhead else { return nil }
        var output = [UInt8](repeating: 0, count: sealed.count - overhead)
        let status = key.secret.withBytes {
            crypto_box_seal_open(
                &output, sealed, UInt64(sealed.count), key.publicKey.bytes.bytes, $0)
        }
        return status == 0 ? output : nil
    }
}
