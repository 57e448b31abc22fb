import Cryptography
import MeshBase

/// A token of edgevpn or Kairos, taken as the seed of a mesh of this program.
///
/// Such a token is the base64 text of a YAML file with two one-time-password keys and three names.
/// Every machine that has it derives the same mesh: the same keys, also the root's. So nobody has an
/// admin key, and everybody could have it. Nothing of edgevpn's wire is understood.
package enum PredecessorToken {
    /// What `token new` makes of it; two machines with other requests are in one mesh, and votes
    /// under another policy are refused as ever.
    ///
    /// - Returns: `nil` for a text that is no such token.
    package static func token(
        from text: String, request: TokenRequest = TokenRequest()
    ) throws(TokenProblem) -> NetworkToken? {
        guard var seed = seed(of: text) else { return nil }
        defer { zeroize(&seed) }
        let secret = SecretBytes(copying: seed)
        guard let start = Bytes32(deriveKey(from: secret, label: "predecessor").exposedCopy())
        else {
            return nil
        }
        var random = SeededGenerator(seed: start)
        var token = try NetworkToken.make(request, random: &random).token
        token.isDerived = true
        return token
    }

    /// 43 letters and digits in every token; a shorter key is no secret.
    private static let keyLength = 32

    /// The hash of the YAML file, when it is one and holds both keys.
    private static func seed(of text: String) -> [UInt8]? {
        let digits = text.filter { !$0.isWhitespace }
        guard digits.utf8.count <= NetworkToken.textLimit, !digits.hasPrefix(NetworkToken.prefix),
            let bytes = [UInt8](base64: digits),
            let yaml = String(validating: bytes, as: UTF8.self)
        else { return nil }
        let lines = yaml.split(separator: "\n").map { line in
            line.split(separator: ":", maxSplits: 1).map { $0.filter { $0 != " " && $0 != "\"" } }
        }
        let keys = lines.filter {
            $0.count == 2 && $0[0] == "key" && $0[1].utf8.count >= keyLength
        }
        guard lines.contains(["otp", ""]) || lines.contains(["otp"]), keys.count == 2 else {
            return nil
        }
        return sha256(bytes).bytes
    }
}
