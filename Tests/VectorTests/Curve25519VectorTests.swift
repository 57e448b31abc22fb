import Cryptography
import MeshBase
import Testing

@Suite("X25519 against RFC 7748")
struct X25519VectorTests {
    @Test("section 5.2: two scalars and coordinates")
    func scalarMultiplication() throws {
        let rows = [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"
            ),
        ]
        for (scalar, coordinate, expected) in rows {
            let shared = StaticPrivateKey(try secret(scalar)).sharedSecret(
                with: try publicKey(coordinate))
            #expect(shared?.exposedCopy().hex == expected)
        }
    }

    @Test("section 5.2: iterated once and a thousand times")
    func iterated() throws {
        let base = "0900000000000000000000000000000000000000000000000000000000000000"
        var scalar = try hex(base)
        var coordinate = scalar
        for round in 1...1000 {
            let key = StaticPrivateKey(SecretBytes(copying: scalar))
            let point = StaticPublicKey(try #require(Bytes32(coordinate)))
            let result = try #require(key.sharedSecret(with: point)).exposedCopy()
            coordinate = scalar
            scalar = result
            if round == 1 {
                #expect(
                    scalar.hex
                        == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
            }
        }
        #expect(
            scalar.hex == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
    }

    @Test("section 6.1: both ends get the same secret")
    func agreement() throws {
        let alice = StaticPrivateKey(
            try secret("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
        let bob = StaticPrivateKey(
            try secret("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
        #expect(
            alice.publicKey.bytes.description
                == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        #expect(
            bob.publicKey.bytes.description
                == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
        let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        #expect(alice.sharedSecret(with: bob.publicKey)?.exposedCopy().hex == shared)
        #expect(bob.sharedSecret(with: alice.publicKey)?.exposedCopy().hex == shared)
    }

    /// Coordinates at and above 2^255 - 19 are reduced, and the top bit is ignored (section 5).
    /// Expected values: OpenSSL through Python's cryptography package.
    @Test(
        "coordinates that are not canonical",
        arguments: [
            ("02" + zeros(31), "4dabb5bf454153bd3ce9744707773731f5ada164858964984eb8e43dec4b840c"),
            ("09" + zeros(31), "cb4e48837bd6b7abe645806087521a2d39708004e6e9bfe448c1e22cef46c21f"),
            (
                "09" + zeros(30) + "80",
                "cb4e48837bd6b7abe645806087521a2d39708004e6e9bfe448c1e22cef46c21f"
            ),
            (
                "ef" + ones(30) + "7f",
                "4dabb5bf454153bd3ce9744707773731f5ada164858964984eb8e43dec4b840c"
            ),
            (
                "ff" + ones(30) + "7f",
                "4b6739326be050140fbcd027094ef1923715160fdb9b65aec8f9b8f29e39a771"
            ),
            (
                "f2" + ones(31),
                "fbcee91b812d586a7a080d6cb5418dfcd11cb1bfb25678dddadfd2b0e7268714"
            ),
        ])
    func nonCanonical(coordinate: String, expected: String) throws {
        let key = StaticPrivateKey(
            try secret("95342e3d03f10bdd80c9081f6170de53df6884dd39b1569ddb667ad7016057ae"))
        let shared = key.sharedSecret(with: try publicKey(coordinate))
        #expect(shared?.exposedCopy().hex == expected)
    }

    /// The points whose order divides 8, in every spelling: their product is zero (section 6.1).
    @Test(
        "low-order points give no secret",
        arguments: [
            zeros(32), "01" + zeros(31), "ec" + ones(30) + "7f", "ed" + ones(30) + "7f",
            "ee" + ones(30) + "7f", zeros(31) + "80",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ])
    func lowOrder(coordinate: String) throws {
        let key = StaticPrivateKey(SecretBytes(copying: [UInt8](repeating: 0x42, count: 32)))
        #expect(key.sharedSecret(with: try publicKey(coordinate)) == nil)
    }
}

private func zeros(_ count: Int) -> String { String(repeating: "00", count: count) }
private func ones(_ count: Int) -> String { String(repeating: "ff", count: count) }

@Suite("Ed25519 against RFC 8032")
struct Ed25519VectorTests {
    static let rows = [
        (
            seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", message: "",
            key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                + "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        (
            seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            message: "72",
            key: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
        (
            seed: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            message: "af82",
            key: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            signature: "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                + "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ]

    @Test("section 7.1: tests 1 to 3")
    func signatures() throws {
        for row in Ed25519VectorTests.rows {
            let key = SigningKey(seed: try secret(row.seed))
            let message = try hex(row.message)
            let signature = key.sign(message)
            #expect(key.publicKey.description == row.key)
            #expect(signature.bytes.hex == row.signature)
            #expect(signature.isValid(for: message, by: key.publicKey))
            #expect(!signature.isValid(for: message + [0], by: key.publicKey))
        }
    }

    @Test("one flipped bit anywhere makes a signature invalid")
    func flippedBits() throws {
        let row = Ed25519VectorTests.rows[1]
        let key = SigningKey(seed: try secret(row.seed))
        let message = try hex(row.message)
        for index in 0..<64 {
            var bytes = try hex(row.signature)
            bytes[index] ^= 1 << UInt8(index % 8)
            let signature = try #require(Signature(bytes))
            #expect(!signature.isValid(for: message, by: key.publicKey), "byte \(index)")
        }
    }

    /// Section 5.1.7: S must be below the group order, or anyone could make a second valid
    /// signature from a first.
    @Test("the group order added to S is refused")
    func malleability() throws {
        let row = Ed25519VectorTests.rows[1]
        let first = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        let second = "f52db7415978abc61b2c2eb6aeebfca0387b2eaeb4302aeeb00d291612bb0c10"
        let signature = try #require(Signature(try hex(first + second)))
        let signer = NodeID(try #require(Bytes32(try hex(row.key))))
        #expect(!signature.isValid(for: try hex(row.message), by: signer))
    }

    @Test("a small-order key signs nothing")
    func smallOrder() throws {
        let identity = [UInt8(1)] + [UInt8](repeating: 0, count: 31)
        let signature = try #require(Signature(identity + [UInt8](repeating: 0, count: 32)))
        let signer = NodeID(try #require(Bytes32(identity)))
        #expect(!signature.isValid(for: Array("anything".utf8), by: signer))
    }
}
