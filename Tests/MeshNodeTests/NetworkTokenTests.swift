import Consensus
import Cryptography
import Membership
import MeshBase
import MeshNode
import NetAddress
import Testing

private func makeToken(
    seed: UInt64 = 1, policy: GenesisPolicy? = GenesisPolicy(voterLimit: 3)
) throws -> (token: NetworkToken, rootKey: SigningKey) {
    var request = TokenRequest()
    request.name = "test-mesh"
    request.policy = policy
    request.mtu = 1_400
    request.dht = .private
    request.peerHints = ["vpn.example:41641", "[fd00::1]:7"]
    var random = SeededGenerator(seed: seed)
    return try NetworkToken.make(request, random: &random)
}

@Test func aTokenComesBackFromItsText() throws {
    let (token, rootKey) = try makeToken()
    let text = token.text
    #expect(text.hasPrefix("evpn1"))
    #expect(text.utf8.allSatisfy { $0 > 32 && $0 < 127 })
    let parsed = try NetworkToken(parsing: text)
    #expect(parsed.text == text)
    #expect(parsed.name == "test-mesh")
    #expect(parsed.root == rootKey.publicKey)
    #expect(parsed.mtu == 1_400)
    #expect(parsed.dht == .private)
    #expect(parsed.peerHints == ["vpn.example:41641", "[fd00::1]:7"])
    #expect(parsed.policy == GenesisPolicy(voterLimit: 3))
    #expect(parsed.ipv4Plan.description == "10.1.0.0/16")
    #expect(parsed.discoverySecret.exposedCopy() == token.discoverySecret.exposedCopy())
    #expect(parsed.admissionSecret.exposedCopy() == token.admissionSecret.exposedCopy())
    #expect(try NetworkToken(parsing: "\n \(text)\t\n").text == text)
    #expect(try NetworkToken(parsing: try makeToken(policy: nil).token.text).policy == nil)
}

@Test func noTwoMeshesShareASecret() throws {
    let first = try makeToken(seed: 1).token
    let second = try makeToken(seed: 2).token
    #expect(first.meshID != second.meshID)
    #expect(first.discoverySecret.exposedCopy() != second.discoverySecret.exposedCopy())
    #expect(first.admissionSecret.exposedCopy() != second.admissionSecret.exposedCopy())
    #expect(first.discoverySecret.exposedCopy() != first.admissionSecret.exposedCopy())
    #expect(first.root != second.root)
}

@Test func everyChangedByteIsRefused() throws {
    let bytes = Array(try makeToken().token.text.utf8)
    for position in bytes.indices {
        for flip in [UInt8(1), 0x20, 0x80] {
            var changed = bytes
            changed[position] ^= flip
            let text = String(decoding: changed, as: UTF8.self)
            #expect(throws: TokenProblem.self, "byte \(position)") {
                _ = try NetworkToken(parsing: text)
            }
        }
    }
}

@Test func everyTruncationAndExtensionIsRefused() throws {
    let text = try makeToken().token.text
    for count in 0..<text.utf8.count {
        #expect(throws: TokenProblem.self, "\(count) characters") {
            _ = try NetworkToken(parsing: String(text.prefix(count)))
        }
    }
    for tail in ["A", "AA", "AAAA", "=", " x", text] {
        #expect(throws: TokenProblem.self) { _ = try NetworkToken(parsing: text + tail) }
    }
}

@Test(arguments: [
    "", " ", "evpn1", "evpn1AAAA", "evpn1AAAAAAAA", "evpn2AAAA", "EVPN1AAAA", "b3RwOgo=",
    "evpn1" + String(repeating: "A", count: 20_000), "evpn1\u{0}", "evpn1é",
]) func hostileTextIsNoToken(text: String) {
    #expect(throws: TokenProblem.self) { _ = try NetworkToken(parsing: text) }
}

/// Whoever has a token can write a fitting checksum, but not the root's signature.
@Test func whatTheRootDidNotSignIsRefused() throws {
    let (token, _) = try makeToken()
    let (foreign, foreignRoot) = try makeToken(seed: 2)

    var otherPolicy = token
    otherPolicy.policy = GenesisPolicy(voterLimit: 5)
    #expect(throws: TokenProblem.badSignature("founding policy")) {
        _ = try NetworkToken(parsing: otherPolicy.text)
    }

    var otherMesh = token
    otherMesh.meshID = foreign.meshID
    #expect(throws: TokenProblem.badSignature("issuer")) {
        _ = try NetworkToken(parsing: otherMesh.text)
    }

    var otherRoot = token
    otherRoot.root = foreignRoot.publicKey
    #expect(throws: TokenProblem.badSignature("issuer")) {
        _ = try NetworkToken(parsing: otherRoot.text)
    }

    var otherKey = token
    otherKey.issuers[0].key = foreign.issuers[0].key
    #expect(throws: TokenProblem.badSignature("issuer")) {
        _ = try NetworkToken(parsing: otherKey.text)
    }

    // A member issuer that promotes itself to issuer of voters.
    var promoted = token.grown()
    let key = promoted.issuers[0].key
    promoted.issuers[0].delegation = IssuerDelegation.issue(
        issuer: key.publicKey, roles: [.member, .voter], epoch: 0, meshID: token.meshID,
        rootKey: foreignRoot)
    #expect(throws: TokenProblem.badSignature("issuer")) {
        _ = try NetworkToken(parsing: promoted.text)
    }

    var noIssuer = token
    noIssuer.issuers = []
    #expect(throws: TokenProblem.badField("list of issuers")) {
        _ = try NetworkToken(parsing: noIssuer.text)
    }
}

@Test func aGrownTokenMakesMembersThatNeverVote() throws {
    let (token, _) = try makeToken()
    #expect(token.grantsVoters)
    let grown = try NetworkToken(parsing: token.grown().text)
    #expect(!grown.grantsVoters)
    #expect(grown.issuer(for: [.member, .voter]) == nil)
    let issuer = try #require(grown.issuer(for: .member))
    #expect(issuer.delegation.roles == .member)
    #expect(grown.policy == token.policy)
    // Even with the grown token's key, nobody can issue himself a vote.
    #expect(grown.issuers.allSatisfy { !$0.delegation.roles.contains(.voter) })
    let founding = try #require(token.issuer(for: [.member, .voter]))
    for grownIssuer in grown.issuers {
        #expect(grownIssuer.key.publicKey != founding.key.publicKey)
    }
}

@Test func aDescriptionHoldsNoSecret() throws {
    let (token, rootKey) = try makeToken()
    var secrets = [
        token.discoverySecret.exposedCopy(), token.admissionSecret.exposedCopy(),
        rootKey.seed.exposedCopy(), Array(token.text.utf8.dropFirst(5)),
    ]
    secrets += token.issuers.map { $0.key.seed.exposedCopy() }
    for text in [
        "\(token)", String(describing: token), String(reflecting: token.issuers),
        String(reflecting: token.discoverySecret), "\(token.issuers)",
    ] {
        for secret in secrets {
            for spelling in [secret.hex, secret.base64, secret.base64URL, "\(secret)"] {
                #expect(!text.contains(spelling))
            }
        }
    }
    #expect("\(token)".contains("test-mesh"))
}

@Test func impossibleRequestsAreRefused() {
    func problem(_ change: (inout TokenRequest) -> Void) -> TokenProblem? {
        var request = TokenRequest()
        change(&request)
        var random = SeededGenerator(seed: 1)
        do throws(TokenProblem) {
            _ = try NetworkToken.make(request, random: &random)
            return nil
        } catch {
            return error
        }
    }
    #expect(problem { _ in } == nil)
    for name in ["", "-a", "a-", "A", "a.b", "a b", "ä", String(repeating: "a", count: 33)] {
        #expect(problem { $0.name = name } == .badField("name"), "\(name)")
    }
    for plan in ["10.0.0.0/7", "10.0.0.0/29", "fd00::/16", "127.0.0.0/8", "224.0.0.0/8"] {
        #expect(problem { $0.ipv4Plan = IPPrefix(plan) } == .badField("IPv4 plan"), "\(plan)")
    }
    #expect(problem { $0.ipv4Plan = nil } == .badField("IPv4 plan"))
    for mtu in [UInt16(0), 1_279, 9_001, .max] {
        #expect(problem { $0.mtu = mtu } == .badField("MTU"), "\(mtu)")
    }
    for hint in ["vpn.example", "", String(repeating: "a", count: 300) + ":1"] {
        #expect(problem { $0.peerHints = [hint] } == .badField("peer hints"), "\(hint)")
    }
    let many = [String](repeating: "a:1", count: 17)
    #expect(problem { $0.peerHints = many } == .badField("peer hints"))
}
