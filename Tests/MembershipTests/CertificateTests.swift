import Cryptography
import MeshBase
import Membership
import NetAddress
import Testing

@Suite("Certificates")
struct CertificateTests {
    let meshID = [UInt8](0..<16)
    let root = testKey(1)
    let issuer = testKey(2)
    let node = testKey(3)
    let staticKey = StaticPublicKey(Bytes32(word0: 9, word1: 8, word2: 7, word3: 6))

    func delegation(_ roles: MembershipRoles = .all, epoch: UInt32 = 4) -> IssuerDelegation {
        .issue(
            issuer: issuer.publicKey, roles: roles, epoch: epoch, meshID: meshID, rootKey: root)
    }

    func certificate(
        _ roles: MembershipRoles = .member, under delegation: IssuerDelegation? = nil
    ) throws -> MembershipCertificate {
        try .issue(
            nodeID: node.publicKey, staticKey: staticKey, roles: roles, serial: 5,
            meshID: meshID, delegation: delegation ?? self.delegation(), issuerKey: issuer)
    }

    @Test("What was issued verifies, and survives its encoding")
    func roundTrip() throws {
        let issued = try certificate([.member, .voter])
        let bytes = issued.encode()
        #expect(bytes.count == MembershipCertificate.encodedCount)
        let decoded = try MembershipCertificate(decoding: bytes)
        #expect(decoded == issued)
        try decoded.verify(meshID: meshID, root: root.publicKey)
    }

    @Test("Every single flipped bit is noticed")
    func flippedBits() throws {
        let bytes = try certificate().encode()
        for index in bytes.indices {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[index] ^= 1 << UInt8(bit)
                #expect(throws: CertificateProblem.self, "byte \(index) bit \(bit)") {
                    try MembershipCertificate(decoding: flipped)
                        .verify(meshID: meshID, root: root.publicKey)
                }
            }
        }
    }

    @Test("Short and long encodings are refused")
    func lengths() throws {
        let bytes = try certificate().encode()
        for count in 0..<bytes.count {
            #expect(throws: CertificateProblem.self) {
                try MembershipCertificate(decoding: Array(bytes[..<count]))
            }
        }
        #expect(throws: CertificateProblem.malformed(.trailingBytes)) {
            try MembershipCertificate(decoding: bytes + [0])
        }
    }

    @Test("Another mesh and another root do not accept it")
    func foreignMesh() throws {
        let issued = try certificate()
        #expect(throws: CertificateProblem.delegation) {
            try issued.verify(meshID: meshID, root: issuer.publicKey)
        }
        #expect(throws: CertificateProblem.address) {
            try issued.verify(meshID: meshID.reversed(), root: root.publicKey)
        }
        #expect(!delegation().isValid(meshID: meshID.reversed(), root: root.publicKey))
    }

    @Test("An issuer of members cannot make a voter, and only the issuer issues")
    func roles() throws {
        #expect(throws: CertificateProblem.roles) {
            try certificate(.voter, under: delegation(.member))
        }
        #expect(throws: CertificateProblem.roles) { try certificate([]) }
        #expect(throws: CertificateProblem.issuer) {
            try MembershipCertificate.issue(
                nodeID: node.publicKey, staticKey: staticKey, roles: .member, serial: 1,
                meshID: meshID, delegation: delegation(), issuerKey: root)
        }
    }

    @Test("A voter's certificate spliced onto a member issuer's delegation is refused")
    func splicedDelegation() throws {
        var bytes = try certificate(.voter).encode()
        var writer = ByteWriter()
        delegation(.member).encode(into: &writer)
        let start = bytes.count - 64 - IssuerDelegation.encodedCount
        bytes.replaceSubrange(start..<start + IssuerDelegation.encodedCount, with: writer.bytes)
        let spliced = try MembershipCertificate(decoding: bytes)
        #expect(throws: CertificateProblem.roles) {
            try spliced.verify(meshID: meshID, root: root.publicKey)
        }
    }

    @Test("Revocation by node and serial, by issuer, by epoch")
    func revocation() throws {
        let issued = try certificate()
        func verify(_ list: RevocationList) throws {
            try issued.verify(meshID: meshID, root: root.publicKey, revocations: list)
        }
        var older = RevocationList()
        older.revoke(node.publicKey, throughSerial: 4)
        older.raiseMinimumEpoch(to: 4)
        try verify(older)
        var exact = RevocationList()
        exact.revoke(node.publicKey, throughSerial: 5)
        exact.revoke(node.publicKey, throughSerial: 2)
        #expect(throws: CertificateProblem.revoked) { try verify(exact) }
        var withdrawn = RevocationList()
        withdrawn.withdraw(issuer: issuer.publicKey)
        #expect(throws: CertificateProblem.revoked) { try verify(withdrawn) }
        var newEpoch = RevocationList()
        newEpoch.raiseMinimumEpoch(to: 5)
        #expect(throws: CertificateProblem.revoked) { try verify(newEpoch) }
    }

    @Test("Addresses are ULAs of the mesh's /48 and differ between nodes")
    func addresses() {
        let prefix = MeshAddressing.prefix(meshID: meshID)
        #expect(prefix.length == 48)
        #expect(prefix.address.bytes[0] == 0xFD)
        let addresses = (1...50).map {
            MeshAddressing.address(of: testKey($0).publicKey, meshID: meshID)
        }
        #expect(addresses.allSatisfy { prefix.contains($0) })
        #expect(Set(addresses).count == 50)
        let other = MeshAddressing.prefix(meshID: meshID.reversed())
        #expect(!other.overlaps(prefix))
    }
}

func testKey(_ number: UInt64) -> SigningKey {
    SigningKey(seed: SecretBytes(Bytes32(word0: number, word1: 1, word2: 2, word3: 3)))
}
