import Cryptography
import MeshBase

/// Ed25519 with the node's own key.
package struct NodeKeySigner: FoundingSigner {
    private let key: SigningKey

    package init(_ key: SigningKey) {
        self.key = key
    }

    package func sign(_ bytes: [UInt8]) -> [UInt8] {
        key.sign(bytes).bytes
    }

    package func verify(_ signature: [UInt8], _ bytes: [UInt8], by node: NodeID) -> Bool {
        Signature(signature)?.isValid(for: bytes, by: node) ?? false
    }
}
