import Cryptography
import MeshBase
import NetAddress
import PathDiscovery

/// A member made from its number.
func testConfiguration(
    _ number: UInt8, discovery: UInt8 = 1, mesh: [UInt8] = [UInt8](repeating: 9, count: 16)
) -> PathConfiguration {
    let secret = { (tag: UInt8) in SecretBytes(copying: [UInt8](repeating: tag, count: 32)) }
    let signing = SigningKey(seed: secret(number))
    let staticKey = StaticPrivateKey(secret(number + 100))
    let credential = signing.publicKey.bytes.bytes + staticKey.publicKey.bytes.bytes
    return PathConfiguration(
        meshID: mesh, discoverySecret: secret(discovery), admissionSecret: secret(2),
        signingKey: signing, staticKey: staticKey, credential: credential, suites: 1,
        capabilities: 0, bootNonce: UInt64(number) + 1,
        verifyCredential: { bytes in
            guard bytes.count == 64, let node = Bytes32(bytes.prefix(32)),
                let key = Bytes32(bytes.suffix(32))
            else { return nil }
            return PeerCredential(node: NodeID(node), staticKey: StaticPublicKey(key))
        })
}
