import Cryptography
import MeshBase

/// What a certificate allows its holder to be. Unknown bits are refused, never ignored: a role
/// that this release does not know cannot be checked by it.
package struct MembershipRoles: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// May open tunnels and write its own ledger entries.
    package static let member = MembershipRoles(rawValue: 1 << 0)
    /// May vote on who founds the cluster.
    package static let voter = MembershipRoles(rawValue: 1 << 1)

    /// In a delegation only: the issuer may certify itself and nobody else. With it the mesh root
    /// names a voter without handing out a key that could name others.
    package static let personal = MembershipRoles(rawValue: 1 << 2)

    package static let all: MembershipRoles = [.member, .voter]

    var isWellFormed: Bool { !isEmpty && isSubset(of: .all) }
    /// What a delegation may say.
    var isDelegable: Bool { subtracting(.personal).isWellFormed }
}

/// The mesh root's word that `issuer` may issue certificates with `roles`.
///
///     size  field
///     32    issuer, an Ed25519 public key
///     1     roles that the issuer may grant, and whether to itself only
///     4     epoch
///     64    signature of the root over the label, the mesh id and the fields above
package struct IssuerDelegation: Hashable, Sendable {
    package let issuer: NodeID
    package let roles: MembershipRoles
    /// Raised by the root to leave every earlier issuer behind.
    package let epoch: UInt32
    package let rootSignature: Signature

    package static let encodedCount = 101

    package static func issue(
        issuer: NodeID, roles: MembershipRoles, epoch: UInt32, meshID: [UInt8], rootKey: SigningKey
    ) -> IssuerDelegation {
        precondition(roles.isDelegable, "a delegation grants known roles")
        let message = signedBytes(issuer: issuer, roles: roles, epoch: epoch, meshID: meshID)
        return IssuerDelegation(
            issuer: issuer, roles: roles, epoch: epoch, rootSignature: rootKey.sign(message))
    }

    package func isValid(meshID: [UInt8], root: NodeID) -> Bool {
        let message = Self.signedBytes(issuer: issuer, roles: roles, epoch: epoch, meshID: meshID)
        return roles.isDelegable && rootSignature.isValid(for: message, by: root)
    }

    /// Whether the issuer may certify this node at all.
    package func mayCertify(_ node: NodeID) -> Bool {
        !roles.contains(.personal) || node == issuer
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(issuer)
        writer.write(roles.rawValue)
        writer.write(epoch)
        writer.write(raw: rootSignature.bytes)
    }

    package init(from reader: inout ByteReader) throws(DecodingFailure) {
        issuer = try reader.readNodeID()
        roles = MembershipRoles(rawValue: try reader.readByte())
        guard roles.isDelegable else { throw .field("delegated roles") }
        epoch = try reader.readUInt32()
        rootSignature = try reader.readSignature()
    }

    private init(issuer: NodeID, roles: MembershipRoles, epoch: UInt32, rootSignature: Signature) {
        self.issuer = issuer
        self.roles = roles
        self.epoch = epoch
        self.rootSignature = rootSignature
    }

    private static func signedBytes(
        issuer: NodeID, roles: MembershipRoles, epoch: UInt32, meshID: [UInt8]
    ) -> [UInt8] {
        var writer = signedObject("issuer delegation", meshID: meshID)
        writer.write(issuer)
        writer.write(roles.rawValue)
        writer.write(epoch)
        return writer.bytes
    }
}

/// Begins the bytes of a signature: the label of the kind of object and the mesh id, so that a
/// signature means one thing in one mesh only.
func signedObject(_ kind: String, meshID: [UInt8]) -> ByteWriter {
    precondition(meshID.count == MeshAddressing.meshIDCount, "a mesh id has 16 bytes")
    var writer = ByteWriter()
    writer.write(shortText: "edgevpn-swift \(kind) 1")
    writer.write(raw: meshID)
    return writer
}

extension ByteReader {
    mutating func readSignature() throws(DecodingFailure) -> Signature {
        guard let signature = Signature(try readBytes(64)) else { throw .truncated }
        return signature
    }
}
