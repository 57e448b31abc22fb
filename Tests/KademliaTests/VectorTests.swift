import Cryptography
import Kademlia
import MeshBase
import NetAddress
import Testing

@Suite("Published vectors of BEP 5, 42 and 44")
struct PublishedVectorTests {
    /// The table of BEP 42: address, last byte, the first bytes of the name.
    @Test(
        arguments: [
            ("124.31.75.21", 1, "5fbfbf"), ("21.75.31.124", 86, "5a3ce9"),
            ("65.23.51.170", 22, "a5d432"),
            ("84.124.73.14", 65, "1b0321"), ("43.213.53.83", 90, "e56f6c"),
        ] as [(String, UInt8, String)])
    func namesThatAddressesEarn(_ text: String, _ seed: UInt8, _ beginning: String) throws {
        let ip = try #require(IPAddress(text))
        var random = SeededGenerator(seed: 1)
        let id = KademliaID(for: ip, seed: seed, random: &random)
        let expected = try hex(beginning)
        #expect(id.bytes[0] == expected[0])
        #expect(id.bytes[1] == expected[1])
        #expect(id.bytes[2] & 0xF8 == expected[2] & 0xF8)
        #expect(id.bytes[19] == seed)
        #expect(id.isEarned(by: ip))
        var other = id.bytes
        other[2] ^= 8
        #expect(KademliaID(other)?.isEarned(by: ip) == false)
    }

    @Test(arguments: [
        "10.1.2.3", "172.31.0.1", "192.168.0.9", "169.254.7.7", "127.0.0.1", "fd00::1",
    ])
    func addressesThatNobodyReachesMayBearAnyName(_ text: String) throws {
        var random = SeededGenerator(seed: 2)
        #expect(KademliaID(random: &random).isEarned(by: try #require(IPAddress(text))))
    }

    @Test func namesOfIPv6AddressesComeFromTheirFirstHalf() throws {
        let ip = try #require(IPAddress("2001:db8:1:2::99"))
        let sibling = try #require(IPAddress("2001:db8:1:2:ffff::1"))
        let stranger = try #require(IPAddress("2001:db8:1:3::99"))
        var random = SeededGenerator(seed: 3)
        let id = KademliaID(for: ip, seed: 7, random: &random)
        #expect(id.isEarned(by: ip) && id.isEarned(by: sibling) && !id.isEarned(by: stranger))
    }

    /// RFC 3720 appendix B.4, in the byte order of the register.
    @Test func castagnoli() {
        #expect(crc32c([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(crc32c([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(crc32c((0..<32).map { UInt8($0) }) == 0x46DD_794E)
        #expect(crc32c(Array("123456789".utf8)) == 0xE306_9283)
    }

    private let key = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"

    /// BEP 44, test 1 and test 2: without salt and with it.
    @Test(arguments: [
        (
            "", "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
                + "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
        ),
        (
            "foobar", "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
                + "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
        ),
    ])
    func signedValues(_ salt: String, _ target: String, _ signature: String) throws {
        let owner = NodeID(try #require(Bytes32(try hex(key))))
        let item = MutableItem(
            key: owner, salt: Array(salt.utf8), sequence: 1, value: Array("12:Hello World!".utf8),
            signature: try hex(signature))
        #expect(item.target.description == target)
        #expect(item.isAuthentic)
        var changed = item
        changed.sequence = 2
        #expect(!changed.isAuthentic)
        changed = item
        changed.value[4] ^= 1
        #expect(!changed.isAuthentic)
        changed = item
        changed.salt += [1]
        #expect(!changed.isAuthentic)
    }

    /// BEP 44, test 3.
    @Test func unsignedValues() {
        let value = StoredValue.immutable(Array("12:Hello World!".utf8))
        #expect(value.target.description == "e5f96f6f38320f0f33959cb4d3d656452117aadb")
    }

    /// The seed is ours, the signature is what RFC 8032 makes of it.
    @Test func whatWeSignIsAuthentic() {
        let signer = SigningKey(seed: SecretBytes(copying: [UInt8](repeating: 7, count: 32)))
        let item = MutableItem(
            signing: .text("hello"), with: signer, salt: [1, 2], sequence: 5)
        #expect(item.isAuthentic)
        #expect(item.value == Array("5:hello".utf8))
    }

    /// The examples of BEP 5, byte by byte.
    @Test(arguments: [
        "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        "d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
        "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
        "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
    ])
    func examplesOfTheDocument(_ text: String) throws {
        let bytes = Array(text.utf8)
        #expect(try KRPCMessage(decoding: bytes).encoded == bytes)
    }
}
