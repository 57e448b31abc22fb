import CSodium
import MeshBase

/// SHA-256 of `bytes` (FIPS 180-4).
package func sha256(_ bytes: [UInt8]) -> Bytes32 {
    var output = [UInt8](repeating: 0, count: 32)
    crypto_hash_sha256(&output, bytes, UInt64(bytes.count))
    return Bytes32(output).unsafelyUnwrapped
}

/// HMAC-SHA256 (RFC 2104) with a key of any length.
package func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> Bytes32 {
    var state = crypto_auth_hmacsha256_state()
    var output = [UInt8](repeating: 0, count: 32)
    crypto_auth_hmacsha256_init(&state, key, key.count)
    crypto_auth_hmacsha256_update(&state, message, UInt64(message.count))
    crypto_auth_hmacsha256_final(&state, &output)
    sodium_memzero(&state, MemoryLayout.size(ofValue: state))
    return Bytes32(output).unsafelyUnwrapped
}

/// HKDF-SHA256 (RFC 5869) with an empty salt: every key that the project derives from a secret
/// comes from here, with a label of its own.
///
/// - Parameters:
///   - secret: the input keying material.
///   - label: what the key is for; different labels give independent keys.
///   - context: further bytes that the key is bound to.
package func deriveKey(from secret: SecretBytes, label: String, context: [UInt8] = [])
    -> SecretBytes
{
    var material = secret.exposedCopy()
    defer { zeroize(&material) }
    var pseudorandomKey = hmacSHA256(key: [UInt8](repeating: 0, count: 32), material).bytes
    defer { zeroize(&pseudorandomKey) }
    let text = Array("edgevpn-swift \(label)".utf8)
    var info = ByteWriter()
    info.write(short: text)
    info.write(raw: context)
    info.write(UInt8(1))
    return SecretBytes(hmacSHA256(key: pseudorandomKey, info.bytes))
}
