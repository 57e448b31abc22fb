import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// What a machine that joins K3s receives, sealed to its own key.
///
/// Layout: version (1) = 2, role (1), nonce (16), node (32), generation (4), authority's hash (32),
/// count and IPv4 addresses of ready servers, the agent's secret; for a server then the servers'
/// secret and the founder's critical settings (each behind two bytes of length).
struct K3sGrant {
    var role: DatastoreRole
    /// Of the request that this grant answers.
    var nonce: [UInt8]
    var node: NodeID
    var cluster: ClusterIdentity
    var endpoints: [IPAddress]
    /// Secret.
    var agentSecret: String
    var server: Server?

    struct Server {
        /// Secret: administers the cluster.
        var secret: String
        var settings: String
    }

    private static let version: UInt8 = 2
    private static let secretLimit = 256

    /// - Returns: `nil` when the recipient's key is not one that can be sealed to.
    func sealed(to recipient: StaticPublicKey) -> [UInt8]? {
        var writer = ByteWriter(capacity: 1024)
        writer.write(K3sGrant.version)
        writer.write(role.rawValue)
        writer.write(raw: nonce)
        writer.write(node)
        writer.write(cluster.generation)
        writer.write(cluster.caHash)
        writer.write(UInt8(endpoints.count))
        for endpoint in endpoints { writer.write(raw: endpoint.bytes) }
        writer.write(long: Array(agentSecret.utf8))
        if let server {
            writer.write(long: Array(server.secret.utf8))
            writer.write(long: Array(server.settings.utf8))
        }
        var bytes = writer.bytes
        defer { zeroize(&bytes) }
        return SealedBox.seal(bytes, to: recipient)
    }

    /// Opens a grant and checks that it is for this machine, this request and the certified
    /// cluster. K3s itself compares the authority's hash before it sends a secret anywhere.
    static func open(
        _ delivery: GrantDelivery, role: DatastoreRole, with key: StaticPrivateKey
    ) throws(HostFailure) -> K3sGrant {
        guard var bytes = SealedBox.open(delivery.sealed, with: key) else {
            throw HostFailure("the grant is not sealed to this machine")
        }
        defer { zeroize(&bytes) }
        let grant: K3sGrant
        do throws(DecodingFailure) {
            grant = try K3sGrant(decoding: bytes)
        } catch {
            throw HostFailure("the grant is malformed")
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
        guard try reader.readByte() == K3sGrant.version else { throw .field("version") }
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
        agentSecret = try K3sGrant.readSecret(&reader)
        if role == .server {
            let secret = try K3sGrant.readSecret(&reader)
            let raw = try reader.readLongBytes(limit: K3sPlan.settingsLimit)
            guard let settings = String(validating: raw, as: UTF8.self),
                K3sPlan.settings(granted: settings) != nil
            else { throw .field("settings") }
            server = Server(secret: secret, settings: settings)
        }
        try reader.finish()
    }

    /// Printable without spaces: it becomes a line of a file.
    private static func readSecret(_ reader: inout ByteReader) throws(DecodingFailure) -> String {
        let raw = try reader.readLongBytes(limit: secretLimit)
        guard !raw.isEmpty, raw.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw .field("secret")
        }
        return String(decoding: raw, as: UTF8.self)
    }

    init(
        role: DatastoreRole, admission: Admission, endpoints: [IPAddress], agentSecret: String,
        server: Server?
    ) {
        self.role = role
        nonce = admission.nonce
        node = admission.joiner.node
        cluster = admission.cluster
        self.endpoints = endpoints
        self.agentSecret = agentSecret
        self.server = server
    }
}
