import Cryptography
import MeshBase
import NetAddress

/// The overlay's IPv6 addresses: computed by everyone, agreed on by nobody.
package enum MeshAddressing {
    /// Bytes in a mesh id.
    package static let meshIDCount = 16

    /// The mesh's /48: fd, then 40 bits of a hash of the mesh id (RFC 4193 section 3.2.2 with the
    /// mesh id as the source of randomness).
    package static func prefix(meshID: [UInt8]) -> IPPrefix {
        let high = networkBits(meshID: meshID)
        guard let prefix = IPPrefix(.v6(high, 0), length: 48) else {
            preconditionFailure("48 is a length of IPv6 prefixes")
        }
        return prefix
    }

    /// The address of `node`: the /48 of the mesh, then 80 bits of a hash of the node key as
    /// subnet and interface identifier.
    package static func address(of node: NodeID, meshID: [UInt8]) -> IPAddress {
        let digest = labelledHash("node address", node.bytes.bytes).bytes
        let subnet = UInt64(digest[0]) << 8 | UInt64(digest[1])
        var interface: UInt64 = 0
        for byte in digest[2..<10] { interface = interface << 8 | UInt64(byte) }
        return .v6(networkBits(meshID: meshID) | subnet, interface)
    }

    private static func networkBits(meshID: [UInt8]) -> UInt64 {
        precondition(meshID.count == meshIDCount, "a mesh id has 16 bytes")
        let digest = labelledHash("mesh prefix", meshID).prefix64
        return 0xFD << 56 | (digest >> 24) << 16
    }

    private static func labelledHash(_ label: String, _ bytes: [UInt8]) -> Bytes32 {
        var writer = ByteWriter()
        writer.write(shortText: "edgevpn-swift \(label)")
        writer.write(raw: bytes)
        return sha256(writer.bytes)
    }
}
