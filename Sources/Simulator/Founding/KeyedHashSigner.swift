import Consensus
import MeshBase

/// Stands in for Ed25519 in worlds of cores alone: a keyed hash that any instance can check. It is
/// a hundred times faster, and the worlds' nodes do not forge.
package struct KeyedHashSigner: FoundingSigner {
    package let node: NodeID

    package init(node: NodeID) {
        self.node = node
    }

    package func sign(_ bytes: [UInt8]) -> [UInt8] {
        var tag = [UInt8](repeating: 0, count: 64)
        let value = Self.hash(bytes, node)
        for index in 0..<8 { tag[index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
        return tag
    }

    package func verify(_ signature: [UInt8], _ bytes: [UInt8], by signer: NodeID) -> Bool {
        guard signature.count == 64 else { return false }
        let value = Self.hash(bytes, signer)
        for index in 0..<8
        where signature[index] != UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) {
            return false
        }
        return signature[8...].allSatisfy { $0 == 0 }
    }

    private static func hash(_ bytes: [UInt8], _ node: NodeID) -> UInt64 {
        // FNV-1a (Fowler, Noll, Vo), and a last stir so that every bit counts.
        var value = 0xcbf2_9ce4_8422_2325 ^ node.bytes.prefix64
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return (value ^ value >> 29) &* 0xbf58_476d_1ce4_e5b9
    }
}
