import ClusterPlan
import MeshBase

/// What a machine needs to join K3s: the secret of its ``DatastoreGrant``.
///
/// Layout: version (1) = 1, an agent's own token or the secret that all share; for a server then the servers' secret and the
/// founder's critical settings (each behind two bytes of length).
struct K3sSecrets {
    var agent: String
    var server: Server?

    struct Server {
        /// Administers the cluster.
        var secret: String
        /// Not secret.
        var settings: String
    }

    private static let version: UInt8 = 1
    private static let secretLimit = 256

    init(agent: String, server: Server?) {
        self.agent = agent
        self.server = server
    }

    var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 1024)
        writer.write(K3sSecrets.version)
        writer.write(long: Array(agent.utf8))
        if let server {
            writer.write(long: Array(server.secret.utf8))
            writer.write(long: Array(server.settings.utf8))
        }
        return writer.bytes
    }

    init(decoding bytes: [UInt8], role: DatastoreRole) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == K3sSecrets.version else { throw .field("version") }
        agent = try K3sSecrets.readSecret(&reader)
        if role == .server {
            let secret = try K3sSecrets.readSecret(&reader)
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
}
