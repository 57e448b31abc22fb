import Cryptography
import MeshBase
import NetAddress

/// Why a certificate gives no membership.
package enum CertificateProblem: Error, Hashable, Sendable {
    case malformed(DecodingFailure)
    /// The root did not sign the delegation for this mesh.
    case delegation
    /// The issuer did not sign the certificate for this mesh.
    case signature
    /// The certificate names roles that the issuer may not grant.
    case roles
    /// The certificate and its delegation belong to different epochs.
    case epoch
    /// The address is not the one that the node key gives.
    case address
    /// Withdrawn: the node up to this serial, its issuer, or its epoch.
    case revoked
    /// The key at hand is not the delegated issuer's, or the issuer may certify only itself.
    case issuer
}

/// Binds a machine's two keys to its address and its roles.
///
/// It has no expiry. That the holder owns the node key shows in the first thing that it signs (a
/// hello, a ledger entry), that it owns the static key shows in the handshake.
///
///     size  field
///     1     layout version, 1
///     32    node id, an Ed25519 public key
///     32    static key, an X25519 public key
///     16    IPv6 address
///     1     roles
///     8     serial
///     4     epoch
///     101   delegation
///     64    signature of the issuer over the label, the mesh id and everything above
package struct MembershipCertificate: Hashable, Sendable {
    package let nodeID: NodeID
    package let staticKey: StaticPublicKey
    package let ipv6: IPAddress
    package let roles: MembershipRoles
    /// Tells certificates of one node apart; a revocation covers every serial up to its own.
    package let serial: UInt64
    package let epoch: UInt32
    package let delegation: IssuerDelegation
    package let signature: Signature

    package static let encodedCount = 259
    private static let layoutVersion: UInt8 = 1

    /// Issues a certificate in the epoch of `delegation`.
    ///
    /// - Throws: `.roles` or `.issuer` when the delegation does not cover the request.
    package static func issue(
        nodeID: NodeID, staticKey: StaticPublicKey, roles: MembershipRoles, serial: UInt64,
        meshID: [UInt8], delegation: IssuerDelegation, issuerKey: SigningKey
    ) throws(CertificateProblem) -> MembershipCertificate {
        guard roles.isWellFormed, roles.isSubset(of: delegation.roles) else { throw .roles }
        guard issuerKey.publicKey == delegation.issuer, delegation.mayCertify(nodeID) else {
            throw .issuer
        }
        let ipv6 = MeshAddressing.address(of: nodeID, meshID: meshID)
        var writer = signedObject(kind, meshID: meshID)
        encodeFields(
            nodeID: nodeID, staticKey: staticKey, ipv6: ipv6, roles: roles, serial: serial,
            epoch: delegation.epoch, delegation: delegation, into: &writer)
        return MembershipCertificate(
            nodeID: nodeID, staticKey: staticKey, ipv6: ipv6, roles: roles, serial: serial,
            epoch: delegation.epoch, delegation: delegation,
            signature: issuerKey.sign(writer.bytes))
    }

    /// Checks the chain to `root`, the roles, the epoch, the address and the revocations, the
    /// cheap checks first.
    package func verify(
        meshID: [UInt8], root: NodeID, revocations: RevocationList = RevocationList()
    ) throws(CertificateProblem) {
        guard roles.isWellFormed, roles.isSubset(of: delegation.roles) else { throw .roles }
        guard delegation.mayCertify(nodeID) else { throw .issuer }
        guard epoch == delegation.epoch else { throw .epoch }
        guard ipv6 == MeshAddressing.address(of: nodeID, meshID: meshID) else { throw .address }
        guard !revocations.covers(self) else { throw .revoked }
        guard delegation.isValid(meshID: meshID, root: root) else { throw .delegation }
        var writer = signedObject(Self.kind, meshID: meshID)
        encodeFields(into: &writer)
        guard signature.isValid(for: writer.bytes, by: delegation.issuer) else { throw .signature }
    }

    /// 259 bytes.
    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedCount)
        encodeFields(into: &writer)
        writer.write(raw: signature.bytes)
        return writer.bytes
    }

    /// Reads the layout; nothing is verified yet.
    package init(decoding bytes: [UInt8]) throws(CertificateProblem) {
        do throws(DecodingFailure) {
            var reader = ByteReader(bytes)
            guard try reader.readByte() == Self.layoutVersion else {
                throw .field("layout version")
            }
            nodeID = try reader.readNodeID()
            staticKey = StaticPublicKey(try reader.readBytes32())
            guard let ipv6 = IPAddress(bytes: try reader.readBytes(16)) else { throw .truncated }
            self.ipv6 = ipv6
            roles = MembershipRoles(rawValue: try reader.readByte())
            guard roles.isWellFormed else { throw .field("roles") }
            serial = try reader.readUInt64()
            epoch = try reader.readUInt32()
            delegation = try IssuerDelegation(from: &reader)
            signature = try reader.readSignature()
            try reader.finish()
        } catch {
            throw .malformed(error)
        }
    }

    private init(
        nodeID: NodeID, staticKey: StaticPublicKey, ipv6: IPAddress, roles: MembershipRoles,
        serial: UInt64, epoch: UInt32, delegation: IssuerDelegation, signature: Signature
    ) {
        self.nodeID = nodeID
        self.staticKey = staticKey
        self.ipv6 = ipv6
        self.roles = roles
        self.serial = serial
        self.epoch = epoch
        self.delegation = delegation
        self.signature = signature
    }

    private static let kind = "membership certificate"

    private func encodeFields(into writer: inout ByteWriter) {
        Self.encodeFields(
            nodeID: nodeID, staticKey: staticKey, ipv6: ipv6, roles: roles, serial: serial,
            epoch: epoch, delegation: delegation, into: &writer)
    }

    private static func encodeFields(
        nodeID: NodeID, staticKey: StaticPublicKey, ipv6: IPAddress, roles: MembershipRoles,
        serial: UInt64, epoch: UInt32, delegation: IssuerDelegation,
        into writer: inout ByteWriter
    ) {
        writer.write(layoutVersion)
        writer.write(nodeID)
        writer.write(staticKey.bytes)
        writer.write(raw: ipv6.bytes)
        writer.write(roles.rawValue)
        writer.write(serial)
        writer.write(epoch)
        delegation.encode(into: &writer)
    }
}
