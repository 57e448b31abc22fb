import Consensus
import Cryptography
import Membership
import MeshBase
import MeshNode
import Testing

/// Mode `voters`: the mesh root names each voter, and no key in the token can.
@Suite struct VoterGrantTests {
    private static func key(_ number: UInt8) -> SigningKey {
        SigningKey(seed: SecretBytes(copying: [UInt8](repeating: number, count: 32)))
    }

    private static func makeToken() throws -> (token: NetworkToken, rootKey: SigningKey) {
        var request = TokenRequest()
        request.policy = GenesisPolicy(mode: .voters, voterLimit: 3)
        var random = SeededGenerator(seed: 5)
        return try NetworkToken.make(request, random: &random)
    }

    @Test func theTokenAloneNamesNobody() throws {
        let (token, _) = try Self.makeToken()
        #expect(!token.grantsVoters)
        #expect(token.issuer(for: [.member, .voter], of: Self.key(1)) == nil)
        #expect(token.issuer(for: .member, of: Self.key(1)) != nil)
    }

    @Test func theNamedMachineVotesAndNobodyElse() throws {
        let (token, rootKey) = try Self.makeToken()
        let granted = try token.granting(voter: Self.key(1).publicKey, rootKey: rootKey)
        let read = try NetworkToken(parsing: granted.text)
        #expect(read.text == granted.text)
        let issuer = try #require(read.issuer(for: [.member, .voter], of: Self.key(1)))
        let machine = StaticPrivateKey(SecretBytes(copying: [UInt8](repeating: 9, count: 32)))
            .publicKey
        func issue(to node: NodeID, by issuer: TokenIssuer) throws -> MembershipCertificate {
            try MembershipCertificate.issue(
                nodeID: node, staticKey: machine, roles: [.member, .voter], serial: 1,
                meshID: read.meshID, delegation: issuer.delegation, issuerKey: issuer.key)
        }
        let certificate = try issue(to: Self.key(1).publicKey, by: issuer)
        try certificate.verify(meshID: read.meshID, root: read.root)
        // The named machine cannot name another one, and another one cannot use its grant.
        #expect(throws: CertificateProblem.issuer) {
            try issue(to: Self.key(2).publicKey, by: issuer)
        }
        #expect(read.issuer(for: [.member, .voter], of: Self.key(2)) == nil)
        var forged = certificate.encode()
        forged.replaceSubrange(1..<33, with: Self.key(2).publicKey.bytes.bytes)
        let other = try MembershipCertificate(decoding: forged)
        #expect(throws: CertificateProblem.issuer) {
            try other.verify(meshID: read.meshID, root: read.root)
        }
        // Later machines get a token that names nobody.
        #expect(try NetworkToken(parsing: read.grown().text).voterGrants.isEmpty)
    }

    @Test func anotherMeshsRootNamesNobodyHere() throws {
        let (token, rootKey) = try Self.makeToken()
        #expect(throws: TokenProblem.badSignature("voter")) {
            try token.granting(voter: Self.key(1).publicKey, rootKey: Self.key(7))
        }
        var forged = token
        forged.voterGrants = [
            IssuerDelegation.issue(
                issuer: Self.key(1).publicKey, roles: [.member, .voter, .personal], epoch: 0,
                meshID: token.meshID, rootKey: Self.key(7))
        ]
        #expect(throws: TokenProblem.badSignature("voter")) {
            try NetworkToken(parsing: forged.text)
        }
        // A key in the token that could name voters is what the mode promises not to have.
        let open = Self.key(3)
        forged.voterGrants = []
        forged.issuers.append(
            TokenIssuer(
                delegation: IssuerDelegation.issue(
                    issuer: open.publicKey, roles: [.member, .voter], epoch: 0,
                    meshID: token.meshID, rootKey: rootKey), key: open))
        #expect(throws: TokenProblem.badField("list of issuers")) {
            try NetworkToken(parsing: forged.text)
        }
    }
}
