import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// What an admitted machine receives, sealed to its own key.
///
/// Layout: version (1), role (1), nonce (16), node (32), generation (4), authority's certificate
/// and own certificate (DER, each behind two bytes of length), count and IPv4 addresses of the
/// members; for a server then its member id (8), the initial cluster (two bytes of length) and
/// the authority's key (32).
struct JoinGrant {
    var role: DatastoreRole
    /// Of the request that this grant answers.
    var nonce: [UInt8]
    var node: NodeID
    var generation: UInt32
    var authority: [UInt8]
    var certificate: [UInt8]
    var endpoints: [IPAddress]
    var server: Server?

    struct Server {
        var memberID: UInt64
        var initialCluster: String
        /// Secret.
        var authorityKey: [UInt8]
    }

    private static let version: UInt8 = 1

    /// - Returns: `nil` when the recipient's key is not one that can be sealed to.
    func sealed(to recipient: StaticPublicKey) -> [UInt8]? {
        var writer = ByteWriter(capacity: 2048)
        writer.write(JoinGrant.version)
        writer.write(role.rawValue)
        writer.write(raw: nonce)
        writer.write(node)
        writer.write(generation)
        writer.write(long: authority)
        writer.write(long: certificate)
        writer.write(UInt8(endpoints.count))
        for endpoint in endpoints { writer.write(raw: endpoint.bytes) }
        if let server {
            writer.write(server.memberID)
            writer.write(long: Array(server.initialCluster.utf8))
            writer.write(raw: server.authorityKey)
        }
        var bytes = writer.bytes
        defer { zeroize(&bytes) }
        return SealedBox.seal(bytes, to: recipient)
    }

    /// Opens a grant and checks that it is for this machine, this request and the certified
    /// cluster. The sender needs no further proof: only the certified authority's certificate has
    /// the hash.
    static func open(
        _ delivery: GrantDelivery, role: DatastoreRole, with key: StaticPrivateKey
    ) throws(HostFailure) -> JoinGrant {
        let grant = try delivery.unseal(with: key) { bytes throws(DecodingFailure) in
            try JoinGrant(decoding: bytes)
        }
        guard grant.role == role, grant.nonce == delivery.nonce,
            grant.node == delivery.identity.node,
            grant.generation == delivery.cluster.generation
        else { throw HostFailure("the grant answers another request") }
        guard sha256(grant.authority) == delivery.cluster.caHash else {
            throw HostFailure("the grant's authority is not the certified one")
        }
        return grant
    }

    private init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == JoinGrant.version else { throw .field("version") }
        guard let role = DatastoreRole(rawValue: try reader.readByte()) else {
            throw .field("role")
        }
        self.role = role
        nonce = try reader.readBytes(JoinMessage.nonceCount)
        node = try reader.readNodeID()
        generation = try reader.readUInt32()
        authority = try reader.readLongBytes()
        certificate = try reader.readLongBytes()
        let count = Int(try reader.readByte())
        guard count <= EtcdPlan.memberLimit else { throw .field("endpoints") }
        endpoints = []
        for _ in 0..<count { endpoints.append(.v4(try reader.readUInt32())) }
        if role == .server {
            let memberID = try reader.readUInt64()
            let raw = try reader.readLongBytes()
            guard let cluster = String(validating: raw, as: UTF8.self),
                !cluster.utf8.contains(where: { $0 < 32 })
            else { throw .field("cluster") }
            server = Server(
                memberID: memberID, initialCluster: cluster,
                authorityKey: try reader.readBytes(32))
        }
        try reader.finish()
    }

    init(
        role: DatastoreRole, admission: Admission, authority: [UInt8], certificate: [UInt8],
        endpoints: [IPAddress], server: Server?
    ) {
        self.role = role
        nonce = admission.nonce
        node = admission.joiner.node
        generation = admission.cluster.generation
        self.authority = authority
        self.certificate = certificate
        self.endpoints = endpoints
        self.server = server
    }
}
