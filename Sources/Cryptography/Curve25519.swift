import CSodium
import MeshBase

/// An X25519 public key (RFC 7748), as WireGuard uses it for handshakes.
package struct StaticPublicKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let bytes: Bytes32

    package init(_ bytes: Bytes32) {
        self.bytes = bytes
    }

    package static func < (lhs: StaticPublicKey, rhs: StaticPublicKey) -> Bool {
        lhs.bytes < rhs.bytes
    }

    /// Standard base64, the spelling of WireGuard's tools.
    package var description: String { bytes.bytes.base64 }
}

/// An X25519 private key and its public key.
package struct StaticPrivateKey: Sendable {
    package let secret: SecretBytes
    package let publicKey: StaticPublicKey

    package init(_ secret: SecretBytes) {
        self.secret = secret
        var output = [UInt8](repeating: 0, count: 32)
        let status = secret.withBytes { crypto_scalarmult_base(&output, $0) }
        precondition(status == 0, "X25519 with the base point cannot fail")
        publicKey = StaticPublicKey(Bytes32(output).unsafelyUnwrapped)
    }

    /// The shared secret with `peer`, or `nil` for a low-order point (an all-zero result,
    /// RFC 7748 section 6.1).
    package func sharedSecret(with peer: StaticPublicKey) -> SecretBytes? {
        var output = [UInt8](repeating: 0, count: 32)
        defer { zeroize(&output) }
        let status = secret.withBytes { crypto_scalarmult(&output, $0, peer.bytes.bytes) }
        return status == 0 ? SecretBytes(copying: output) : nil
    }
}

/// A 64-byte Ed25519 signature (RFC 8032).
package struct Signature: Hashable, Sendable {
    package let first: Bytes32
    package let second: Bytes32

    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 64, let first = Bytes32(bytes.prefix(32)),
            let second = Bytes32(bytes.dropFirst(32))
        else { return nil }
        self.first = first
        self.second = second
    }

    package var bytes: [UInt8] { first.bytes + second.bytes }
}

/// An Ed25519 signing key made from a 32-byte seed; its public key is a ``NodeID``.
package struct SigningKey: Sendable {
    package let seed: SecretBytes
    package let publicKey: NodeID

    package init(seed: SecretBytes) {
        self.seed = seed
        startSodium()
        var publicBytes = [UInt8](repeating: 0, count: 32)
        var secretBytes = [UInt8](repeating: 0, count: 64)
        defer { zeroize(&secretBytes) }
        let status = seed.withBytes { crypto_sign_seed_keypair(&publicBytes, &secretBytes, $0) }
        precondition(status == 0, "deriving an Ed25519 key cannot fail")
        publicKey = NodeID(Bytes32(publicBytes).unsafelyUnwrapped)
    }

    package func sign(_ message: [UInt8]) -> Signature {
        var publicBytes = [UInt8](repeating: 0, count: 32)
        var secretBytes = [UInt8](repeating: 0, count: 64)
        var signature = [UInt8](repeating: 0, count: 64)
        defer { zeroize(&secretBytes) }
        let derived = seed.withBytes { crypto_sign_seed_keypair(&publicBytes, &secretBytes, $0) }
        let status = crypto_sign_detached(
            &signature, nil, message, UInt64(message.count), secretBytes)
        precondition(derived == 0 && status == 0, "signing cannot fail")
        return Signature(signature).unsafelyUnwrapped
    }
}

extension Signature {
    /// Whether `signer` made this signature over `message`. libsodium rejects small-order keys
    /// and non-canonical scalars.
    package func isValid(for message: [UInt8], by signer: NodeID) -> Bool {
        startSodium()
        return crypto_sign_verify_detached(
            bytes, message, UInt64(message.count), signer.bytes.bytes) == 0
    }
}
