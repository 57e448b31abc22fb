import Cryptography
import MeshBase
import NetAddress

/// How K3s is configured and read: pure text in and out. Facts are from K3s' documentation and
/// source; what differs between versions is noted where it matters.
package enum K3sPlan {
    /// Port of the supervisor and of the Kubernetes API.
    package static let apiPort = 6443
    /// The file in `config.yaml.d` that belongs to this program; every other one is the operator's.
    package static let dropInName = "90-edgevpn.yaml"

    /// What ``DropIn`` is made of besides the role.
    package struct DropIn: Hashable, Sendable {
        package var role: DatastoreRole
        /// Only between the claim and the certified outcome.
        package var isFounding = false
        /// `https://host:6443` of a server to join; `nil` while founding.
        package var server: String?
        package var identity: HostIdentity
        package var interface: String
        /// `nil` for K3s' own default.
        package var dataDirectory: String?
        package var kubeconfig: String?
        package var tokenFile: String
        /// Of servers only.
        package var agentTokenFile: String?
        /// Further names and addresses of the API, for its certificate.
        package var names: [String] = []
        /// Lines of the form `key: value`, the founder's critical settings.
        package var settings: [String] = []

        package init(
            role: DatastoreRole, identity: HostIdentity, interface: String, tokenFile: String
        ) {
            self.role = role
            self.identity = identity
            self.interface = interface
            self.tokenFile = tokenFile
        }

        /// The file's text. It names files with secrets and holds none.
        package var text: String {
            var lines = ["# Written by edgevpn-swift; changes here are lost."]
            if isFounding { lines.append("cluster-init: true") }
            if let server { lines.append("server: \(quoted(server))") }
            lines.append("token-file: \(quoted(tokenFile))")
            if let agentTokenFile { lines.append("agent-token-file: \(quoted(agentTokenFile))") }
            lines.append("node-name: \(quoted(identity.name))")
            lines.append("node-ip: \(quoted("\(identity.ipv4)"))")
            lines.append("flannel-iface: \(quoted(interface))")
            if let dataDirectory { lines.append("data-dir: \(quoted(dataDirectory))") }
            if role == .server {
                lines.append("advertise-address: \(quoted("\(identity.ipv4)"))")
                lines.append("tls-san:")
                let own = ["\(identity.ipv4)", "\(identity.ipv6)", identity.dnsName]
                lines += (own + names).map { "  - \(quoted($0))" }
                if let kubeconfig { lines.append("write-kubeconfig: \(quoted(kubeconfig))") }
                lines += settings
            }
            return lines.joined(separator: "\n") + "\n"
        }
    }

    package static func serverURL(_ address: IPAddress) -> String {
        "https://\(address):\(apiPort)"
    }

    /// A YAML single-quoted scalar.
    private static func quoted(_ text: String) -> String {
        var result = "'"
        for character in text {
            if character == "'" { result.append("'") }
            result.append(character)
        }
        return result + "'"
    }
}

/// A join token of K3s: `K10<sha256 of the CA>::<user>:<secret>`.
package struct K3sToken: Hashable, Sendable {
    package var caHash: Bytes32
    /// `server` or `node`.
    package var user: String
    /// Secret.
    package var secret: String

    package init(caHash: Bytes32, user: String, secret: String) {
        self.caHash = caHash
        self.user = user
        self.secret = secret
    }

    /// `nil` for anything but the full form.
    package init?(_ text: String) {
        guard text.hasPrefix("K10"), text.utf8.count > 70 else { return nil }
        let hex = text.dropFirst(3).prefix(64)
        let rest = text.dropFirst(67)
        guard rest.hasPrefix("::"), let bytes = [UInt8](hex: hex), let hash = Bytes32(bytes),
            let colon = rest.dropFirst(2).firstIndex(of: ":")
        else { return nil }
        let user = String(rest.dropFirst(2)[..<colon])
        let secret = String(rest[rest.index(after: colon)...])
        guard !user.isEmpty, !secret.isEmpty, secret.utf8.allSatisfy({ $0 > 32 && $0 < 127 })
        else { return nil }
        self.init(caHash: hash, user: user, secret: secret)
    }

    package var text: String { "K10\(caHash)::\(user):\(secret)" }
}
