import Cryptography
import MeshBase

/// What both ends of a Noise handshake have mixed so far: the chaining key and the transcript
/// hash (Noise Protocol Framework, revision 34, section 5.2), over BLAKE2s and ChaCha20-Poly1305.
///
/// Every message key is used once, so the cipher's counter is always 0.
struct NoiseTranscript: Sendable {
    private(set) var chainingKey: [UInt8]
    private(set) var hash: [UInt8]

    /// - Parameters:
    ///   - protocolName: longer than 32 bytes, therefore hashed to the first chaining key.
    ///   - prologue: bytes that both ends must agree on.
    init(protocolName: String, prologue: [UInt8]) {
        chainingKey = BLAKE2s.hash(Array(protocolName.utf8))
        hash = BLAKE2s.hash(chainingKey, prologue)
    }

    mutating func mixHash(_ bytes: [UInt8]) {
        hash = BLAKE2s.hash(hash, bytes)
    }

    /// Mixes an ephemeral public key: IKpsk2 hashes it and, as every psk pattern does, also
    /// feeds it to the chaining key (section 9.2).
    mutating func mixEphemeral(_ key: StaticPublicKey) {
        let bytes = key.bytes.bytes
        mixHash(bytes)
        chainingKey = expand(bytes, count: 1)[0]
    }

    /// Mixes a Diffie-Hellman result; the returned message key is the caller's to zero.
    mutating func mixKey(_ secret: SecretBytes) -> [UInt8] {
        var input = secret.exposedCopy()
        defer { zeroize(&input) }
        var outputs = expand(input, count: 2)
        zeroize(&chainingKey)
        chainingKey = outputs.removeFirst()
        return outputs.removeFirst()
    }

    /// Mixes the preshared key, or 32 zero bytes without one (section 9.2, MixKeyAndHash).
    mutating func mixPresharedKey(_ secret: SecretBytes?) -> [UInt8] {
        var input = secret?.exposedCopy() ?? [UInt8](repeating: 0, count: 32)
        defer { zeroize(&input) }
        let outputs = expand(input, count: 3)
        zeroize(&chainingKey)
        chainingKey = outputs[0]
        mixHash(outputs[1])
        return outputs[2]
    }

    /// Encrypts one field under a message key, zeroes the key and hashes the ciphertext.
    mutating func seal(_ plaintext: [UInt8], key: consuming [UInt8]) -> [UInt8] {
        let sealed = ChaCha20Poly1305.seal(plaintext, key: key, counter: 0, associatedData: hash)
        zeroize(&key)
        mixHash(sealed)
        return sealed
    }

    /// Opens one field; `nil` when it does not authenticate.
    mutating func open(_ sealed: [UInt8], key: consuming [UInt8]) -> [UInt8]? {
        let plaintext = ChaCha20Poly1305.open(sealed, key: key, counter: 0, associatedData: hash)
        zeroize(&key)
        mixHash(sealed)
        return plaintext
    }

    /// The two transport keys, the initiator's sending key first (section 5.2, Split).
    consuming func split() -> TransportKeys {
        var outputs = expand([], count: 2)
        defer {
            zeroize(&chainingKey)
            zeroize(&outputs[0])
            zeroize(&outputs[1])
        }
        return TransportKeys(
            initiatorToResponder: SecretBytes(copying: outputs[0]),
            responderToInitiator: SecretBytes(copying: outputs[1]))
    }

    /// Noise's HKDF (section 4.3): `count` outputs of 32 bytes from the chaining key.
    private func expand(_ input: [UInt8], count: Int) -> [[UInt8]] {
        var extracted = BLAKE2s.hmac(key: chainingKey, input)
        defer { zeroize(&extracted) }
        var outputs: [[UInt8]] = []
        var previous: [UInt8] = []
        for index in 1...count {
            previous = BLAKE2s.hmac(key: extracted, previous, [UInt8(index)])
            outputs.append(previous)
        }
        return outputs
    }
}

/// The result of a handshake.
package struct TransportKeys: Sendable {
    package let initiatorToResponder: SecretBytes
    package let responderToInitiator: SecretBytes
}

/// What both ends agree on before the first byte.
package struct NoiseParameters: Sendable {
    let start: NoiseTranscript

    package init(prologue: [UInt8]) {
        start = NoiseTranscript(
            protocolName: WireGuardSpecification.construction, prologue: prologue)
    }
}
