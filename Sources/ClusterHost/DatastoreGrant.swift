import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// What a machine that joins K3s, or a datastore with a ``DatastoreDriver``, receives, sealed to its
/// own key.
///
/// Layout: version (1) = 3, role (1), nonce (16), node (32), generation (4), authority's hash (32),
/// count and IPv4 addresses of ready servers, a secret behind two bytes of length: ``K3sSecrets``,
/// or what the driver made.
struct DatastoreGrant {
    var role: DatastoreRole
    /// Of the request that this grant answers.
    var nonce: [UInt8]
    var node: NodeID
    var cluster: ClusterIdentity
    var endpoints: [IPAddress]
    /// Opaque here.
    var secret: [UInt8]

    private static let version: UInt8 = 3
    /// A join token of k0s has some 2,000; a grant travels in at most eight parts.
    static let secretLimit = 4096

    init(role: DatastoreRole, admission: Admission, endpoints: [IPAddress], secret: [UInt8]) {
        self.role = role
        nonce = admission.nonce
        node = admission.joiner.node
        cluster = admission.cluster
        self.endpoints = endpoints
        self.secret = secret
    }

    /// - Returns: `nil` when the recipient's key is not one that can be sealed to.
    func sealed(to recipient: StaticPublicKey) -> [UInt8]? {
        var writer = ByteWriter(capacity: 256 + secret.count)
        writer.write(DatastoreGrant.version)
        writer.write(role.rawValue)
        writer.write(raw: nonce)
        writer.write(node)
        writer.write(cluster.generation)
        writer.write(cluster.caHash)
        writer.write(UInt8(endpoints.count))
        for endpoint in endpoints { writer.write(raw: endpoint.bytes) }
        writer.write(long: secret)
        var bytes = writer.bytes
        defer { zeroize(&bytes) }
        return SealedBox.seal(bytes, to: recipient)
    }

    /// Opens a grant and checks that it is for this machine, this request and the certified
    /// cluster.
    static func open(
        _ delivery: GrantDelivery, role: DatastoreRole, with key: StaticPrivateKey
    ) throws(HostFailure) -> DatastoreGrant {
        let grant = try delivery.unseal(with: key) { bytes throws(DecodingFailure) in
            try DatastoreGrant(decoding: bytes)
        }
        guard grant.role == role, grant.nonce == delivery.nonce,
            grant.node == delivery.identity.node
        else { throw HostFailure("the grant answers another request") }
        guard grant.cluster == delivery.cluster else {
            throw HostFailure("the grant's cluster is not the certified one")
        }
        guard !grant.endpoints.isEmpty else { throw HostFailure("the grant names no server") }
        return grant
    }

    private init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == DatastoreGrant.version else { throw .field("version") }
        guard let role = DatastoreRole(rawValue: try reader.readByte()) else {
            throw .field("role")
        }
        self.role = role
        nonce = try reader.readBytes(JoinMessage.nonceCount)
        node = try reader.readNodeID()
        let generation = try reader.readUInt32()
        cluster = ClusterIdentity(generation: generation, caHash: try reader.readBytes32())
        let count = Int(try reader.readByte())
        guard count <= EtcdPlan.memberLimit else { throw .field("endpoints") }
        endpoints = []
        for _ in 0..<count { endpoints.append(.v4(try reader.readUInt32())) }
        secret = try reader.readLongBytes(limit: DatastoreGrant.secretLimit)
        try reader.finish()
    }
}

extension GrantDelivery {
    /// Opens what was sealed to this machine and reads it; the clear bytes do not outlive this.
    func unseal<Grant>(
        with key: StaticPrivateKey, _ decode: ([UInt8]) throws(DecodingFailure) -> Grant
    ) throws(HostFailure) -> Grant {
        guard var bytes = SealedBox.open(sealed, with: key) else {
            throw HostFailure("the grant is not sealed to this machine")
        }
        defer { zeroize(&bytes) }
        do throws(DecodingFailure) {
            return try decode(bytes)
        } catch {
            throw HostFailure("the grant is malformed")
        }
    }
}
