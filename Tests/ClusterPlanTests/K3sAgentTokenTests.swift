import ClusterPlan
import MeshBase
import Testing

/// Bootstrap tokens as Kubernetes documents them, and K3s' full form of them.
@Suite struct K3sAgentTokenTests {
    private let hash = Bytes32(word0: 1, word1: 2, word2: 3, word3: 4)

    @Test func aBootstrapTokenIsToldFromASecret() {
        let token = "abc123.0123456789abcdef"
        #expect(K3sBootstrapToken(token)?.text == token)
        #expect(K3sBootstrapToken("K10\(hash)::\(token)")?.text == token)
        for text in [
            "", ".", "abc12.0123456789abcdef", "abc123.0123456789abcde", "Abc123.0123456789abcdef",
            "abc123.0123456789abcdeF", "abc123.0123456789abcdef.x", "abc123:0123456789abcdef",
            String(repeating: "a", count: 64), "K10\(hash)::node:\(token)",
        ] {
            #expect(K3sBootstrapToken(text) == nil, "\(text)")
        }
    }

    @Test func anAgentsTokenFileHasK3sFullForm() {
        let own = K3sToken.agents(caHash: hash, secret: "abc123.0123456789abcdef")
        #expect(own == "K10\(hash)::abc123.0123456789abcdef")
        let shared = String(repeating: "0", count: 64)
        #expect(K3sToken.agents(caHash: hash, secret: shared) == "K10\(hash)::node:\(shared)")
    }
}
