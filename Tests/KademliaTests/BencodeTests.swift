import Kademlia
import MeshBase
import Testing

@Suite("Bencode, as BEP 3 writes it")
struct BencodeTests {
    @Test(arguments: [
        "i0e", "i-3e", "i9223372036854775807e", "i-9223372036854775808e", "0:", "4:spam", "le",
        "l4:spami42ee", "de", "d3:cow3:moo4:spam4:eggse", "d1:ad2:id0:e1:q4:pinge",
    ])
    func whatIsCanonicalComesBackAsItWas(_ text: String) throws {
        let bytes = Array(text.utf8)
        #expect(try Bencode(decoding: bytes).encoded == bytes)
    }

    @Test(arguments: [
        ("", BencodeFailure.truncated), ("i", .truncated), ("i12", .truncated),
        ("ie", .badNumber), ("i-e", .badNumber), ("i-0e", .badNumber), ("i03e", .badNumber),
        ("i1x2e", .badNumber), ("i9223372036854775808e", .badNumber), ("5:spam", .truncated),
        ("01:x", .badNumber), ("l", .truncated), ("d", .truncated), ("d1:a", .truncated),
        ("di1ei2ee", .badNumber), ("d1:bi1e1:ai1ee", .unsortedKeys),
        ("d1:ai1e1:ai1ee", .unsortedKeys), ("i1ei2e", .trailingBytes), ("x", .unknownKind),
        ("99999999999999999999:", .badNumber), ("4294967296:", .truncated),
    ])
    func everythingElseIsRefused(_ text: String, _ expected: BencodeFailure) {
        #expect(throws: expected) { try Bencode(decoding: Array(text.utf8)) }
    }

    @Test func depthAndNumberAreBounded() {
        let deep = [UInt8](repeating: UInt8(ascii: "l"), count: 2_000)
        #expect(throws: BencodeFailure.tooDeep) { try Bencode(decoding: deep) }
        let wide = Array("l".utf8) + (0..<2_000).flatMap { _ in Array("le".utf8) } + Array("e".utf8)
        #expect(throws: BencodeFailure.tooManyValues) { try Bencode(decoding: wide) }
    }
}
