import MeshBase

/// What lets one agent in, and only until it is deleted: a bootstrap token of Kubernetes (its
/// documentation, "Authenticating with Bootstrap Tokens").
package struct K3sBootstrapToken: Hashable, Sendable {
    /// `[a-z0-9]{6}.[a-z0-9]{16}`. Secret.
    package let text: String

    /// `nil` for anything else; K3s' full form, `K10<hash>::<token>`, is accepted.
    package init?(_ text: some StringProtocol) {
        var rest = Substring(text)
        if rest.hasPrefix("K10"), let colons = rest.firstRange(of: "::") {
            rest = rest[colons.upperBound...]
        }
        let parts = rest.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        let isFine = parts.allSatisfy { part in
            part.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            }
        }
        guard parts.map(\.count) == [6, 16], isFine else { return nil }
        self.text = String(rest)
    }

    /// What a token is described as, so that it is found when its machine goes.
    package static func description(of node: String) -> String { "edgevpn-swift agent \(node)" }
}

extension K3sToken {
    /// What an agent's token file holds.
    ///
    /// - Parameter secret: a bootstrap token, or what all agents of an older K3s share.
    package static func agents(caHash: Bytes32, secret: String) -> String {
        K3sBootstrapToken(secret) == nil
            ? K3sToken(caHash: caHash, user: "node", secret: secret).text
            : "K10\(caHash)::\(secret)"
    }
}
