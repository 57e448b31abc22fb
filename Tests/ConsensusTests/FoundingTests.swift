import Consensus
import Cryptography
import MeshBase
import Simulator
import Testing

/// How a founding goes when the network is kind.
@Suite struct FoundingTests {
    static let three = GenesisPolicy(voterLimit: 3)

    @Test(arguments: [2, 3, 5]) func oneOfThemFoundsAndAllCanProveIt(voters: Int) throws {
        let policy = GenesisPolicy(voterLimit: voters)
        var mesh = Mesh(policy: policy)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let owner = try #require(mesh.view(0)?.owner)
        let known = Set(mesh.nodes)
        for node in mesh.nodes {
            let member = try #require(mesh.members[node])
            let view = member.founding.view
            #expect(view.phase == .ready)
            #expect(view.owner == owner)
            #expect(view.isOwner == (node == owner))
            #expect(view.ready?.caHash == owner.bytes)
            #expect(view.ready?.facts == [10, 1, 0, 1])
            #expect(member.founding.readyFacts == [10, 1, 0, 1])
            #expect(member.starts == (node == owner ? 1 : 0))
            #expect(member.alarms.isEmpty)
            #expect(member.founding.deadline == nil)
            for certificate in [view.claimCertificate, view.readyCertificate] {
                let certificate = try #require(certificate)
                #expect(certificate.votes.count == policy.quorum)
                #expect(
                    certificate.isValid(
                        meshID: testMesh, policy: policy, signer: KeyedHashSigner(node: node),
                        isVoter: { known.contains($0) }))
            }
        }
    }

    @Test func certificateProvesNothingElsewhere() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let certificate = try #require(mesh.view(0)?.readyCertificate)
        let signer = KeyedHashSigner(node: nodeID(0))
        func isValid(
            _ certificate: DecisionCertificate, mesh: [UInt8] = testMesh,
            policy: GenesisPolicy = Self.three, isVoter: (NodeID) -> Bool = { _ in true }
        ) -> Bool {
            certificate.isValid(meshID: mesh, policy: policy, signer: signer, isVoter: isVoter)
        }
        #expect(isValid(certificate))
        #expect(!isValid(certificate, mesh: [1]))
        #expect(!isValid(certificate, policy: GenesisPolicy(voterLimit: 3, servers: 1)))
        #expect(!isValid(certificate) { $0 != nodeID(1) })
        var bytes = certificate.encoded
        bytes[bytes.count - 1] ^= 1
        bytes[bytes.count - 60] ^= 1
        #expect(!isValid(try DecisionCertificate(decoding: bytes)))
        let fewer = try DecisionCertificate(
            decoding: Array(certificate.encoded.dropLast(96)).replacingVoteCount(3, by: 2))
        #expect(!isValid(fewer))
    }

    @Test func realSignaturesWorkToo() throws {
        let keys = (0..<3).map { number in
            SigningKey(seed: SecretBytes(copying: [UInt8](repeating: UInt8(number), count: 32)))
        }
        let signers = Dictionary(
            uniqueKeysWithValues: keys.map { ($0.publicKey, NodeKeySigner($0)) })
        let fallback = NodeKeySigner(keys[0])
        var mesh = Mesh { signers[$0] ?? fallback }
        for key in keys { mesh.add(key.publicKey, policy: Self.three) }
        mesh.announceAll()
        mesh.run(seconds: 8)
        for node in mesh.nodes {
            #expect(mesh.members[node]?.founding.view.phase == .ready)
        }
    }

    @Test func largeMeshesSendCertificatesInParts() throws {
        let policy = GenesisPolicy(voterLimit: 64)
        var mesh = Mesh(policy: policy) { $0.timing.probeInterval = .seconds(5) }
        mesh.announceAll()
        mesh.run(seconds: 15)
        for node in mesh.nodes {
            #expect(mesh.members[node]?.founding.view.phase == .ready)
        }
        #expect(mesh.view(0)?.readyCertificate?.votes.count == 33)
        #expect(mesh.sent.allSatisfy { $0.bytes.count <= 1_200 })
    }

    @Test func minorityAtBirthWaitsAndSaysWhy() {
        var mesh = Mesh(policy: Self.three)
        mesh.unreachable = [nodeID(2)]
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .waiting)
        #expect(mesh.view(0)?.reason == "2 of 3 voters answer, 3 have to agree")
        mesh.unreachable = []
        mesh.refresh()
        mesh.run(seconds: 10)
        #expect(mesh.view(2)?.phase == .ready)
    }

    @Test func quorumIsContentAfterTenSeconds() throws {
        var mesh = Mesh(policy: GenesisPolicy(voterLimit: 5))
        mesh.unreachable = [nodeID(4)]
        mesh.announceAll()
        mesh.run(seconds: 9)
        #expect(mesh.view(0)?.phase == .waiting)
        #expect(mesh.view(0)?.reason == "4 of 5 voters answer, waiting for the others")
        mesh.run(seconds: 12)
        #expect(mesh.view(0)?.phase == .ready)
    }

    @Test func latecomerLearnsWithoutVoting() {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        mesh.add(nodeID(9), policy: Self.three) {
            $0.isVoter = false
            $0.mayFound = false
        }
        mesh.announceVotersOnly(to: nodeID(9))
        mesh.run(seconds: 8)
        #expect(mesh.view(9)?.phase == .ready)
        #expect(mesh.view(9)?.owner == mesh.view(0)?.owner)
    }

    @Test func unknownVotersInAProofAreAskedFor() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let proof = try #require(mesh.view(0)?.readyCertificate)
        mesh.add(nodeID(9), policy: Self.three) { $0.isVoter = false }
        let message = FoundingMessage(
            policyHash: Self.three.hash, generation: 1, body: .votes(proof.statement, proof.votes))
        let bytes = message.encode(
            meshID: testMesh, signer: KeyedHashSigner(node: nodeID(0)))
        var asked: [NodeID] = []
        var founding = try #require(mesh.members[nodeID(9)]?.founding)
        var actions: [FoundingAction] = []
        var random = SeededGenerator(seed: 1)
        founding.receive(bytes, from: nodeID(0), at: mesh.now, random: &random, into: &actions)
        for case .voterUnknown(let voter) in actions { asked.append(voter) }
        #expect(asked == [nodeID(0), nodeID(1), nodeID(2)])
        #expect(founding.view.phase != .ready)
    }

    @Test func proofFromTheLedgerIsAsGoodAsAMessage() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let proof = try #require(mesh.view(0)?.readyCertificate).encoded
        let newcomer = nodeID(9)
        mesh.unreachable = [newcomer]
        mesh.add(newcomer, policy: Self.three) { $0.isVoter = false }
        mesh.announceVotersOnly(to: newcomer)
        var forged = proof
        forged[forged.count - 60] ^= 1
        for bytes in [forged, Array(proof.dropLast()), [], proof] {
            #expect(mesh.view(9)?.phase != .ready)
            mesh.step(newcomer) { founding, at, random, actions in
                founding.certificateFound(bytes, at: at, random: &random, into: &actions)
            }
        }
        #expect(mesh.view(9)?.phase == .ready)
        #expect(mesh.members[newcomer]?.drops.count == 3)
    }

    @Test func designatedNodeAloneFounds() {
        let policy = GenesisPolicy(mode: .designated(nodeID(2)), voterLimit: 3)
        var mesh = Mesh(policy: policy)
        mesh.announceAll()
        mesh.run(seconds: 15)
        #expect(mesh.view(0)?.owner == nodeID(2))
        #expect(mesh.view(0)?.phase == .ready)
    }

    @Test func singleNodeFoundsOnlyWhenTold() throws {
        let policy = GenesisPolicy(mode: .single, voterLimit: 1)
        var mesh = Mesh(policy: policy)
        mesh.run(seconds: 120)
        #expect(mesh.view(0)?.phase == .refused)
        #expect(mesh.view(0)?.reason.contains("cluster init") == true)
        try mesh.step(nodeID(0)) { founding, at, random, actions in
            try founding.operatorInit(at: at, random: &random, into: &actions)
        }
        mesh.run(seconds: 5)
        #expect(mesh.view(0)?.phase == .ready)
    }

    @Test func designatedSingleNodeFoundsByItself() {
        let policy = GenesisPolicy(mode: .designated(nodeID(0)), voterLimit: 1)
        var mesh = Mesh(policy: policy)
        mesh.run(seconds: 15)
        #expect(mesh.view(0)?.phase == .ready)
    }

    @Test func externalModeWaitsForTheOperator() throws {
        let policy = GenesisPolicy(mode: .external, voterLimit: 3)
        var mesh = Mesh(policy: policy)
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(1)?.phase == .refused)
        try mesh.step(nodeID(1)) { founding, at, random, actions in
            try founding.operatorInit(at: at, random: &random, into: &actions)
        }
        mesh.run(seconds: 5)
        #expect(mesh.view(0)?.owner == nodeID(1))
        #expect(throws: FoundingRefusal.self) {
            try mesh.step(nodeID(0)) { founding, at, random, actions in
                try founding.operatorInit(at: at, random: &random, into: &actions)
            }
        }
    }

    @Test func withoutPolicyNothingIsFounded() {
        var mesh = Mesh()
        mesh.add(nodeID(0), policy: nil)
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .refused)
        #expect(mesh.view(0)?.reason.contains("--nodes") == true)
        #expect(mesh.members[nodeID(0)]?.disk == nil)
    }
}

extension [UInt8] {
    /// The byte before the votes of a certificate with 96 bytes each.
    fileprivate func replacingVoteCount(_ old: UInt8, by new: UInt8) -> [UInt8] {
        var copy = self
        let index = count - Int(new) * 96 - 1
        precondition(copy[index] == old)
        copy[index] = new
        return copy
    }
}

extension Mesh {
    mutating func announceVotersOnly(to node: NodeID) {
        for other in nodes where other != node {
            step(node) { founding, at, random, actions in
                founding.voterSeen(other, at: at, random: &random, into: &actions)
            }
        }
        refresh()
    }
}
