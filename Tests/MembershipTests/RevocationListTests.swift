import Membership
import MeshBase
import Testing

@Suite("What the root takes back")
struct RevocationListTests {
    @Test("A list survives its encoding, and lists add up")
    func coding() throws {
        var generator = SeededGenerator(seed: 4)
        var list = RevocationList()
        for number in 0..<UInt64(40) {
            list.revoke(NodeID(generator.bytes32()), throughSerial: number)
        }
        list.withdraw(issuer: NodeID(generator.bytes32()))
        list.raiseMinimumEpoch(to: 3)
        let bytes = list.encode()
        #expect(try RevocationList(decoding: bytes) == list)
        var other = RevocationList()
        other.raiseMinimumEpoch(to: 2)
        other.formUnion(list)
        #expect(other == list)
    }

    @Test("Damaged lists are refused, and none traps")
    func damage() throws {
        var generator = SeededGenerator(seed: 5)
        var list = RevocationList()
        for _ in 0..<3 { list.revoke(NodeID(generator.bytes32()), throughSerial: .max) }
        let bytes = list.encode()
        for count in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) {
                _ = try RevocationList(decoding: Array(bytes.prefix(count)))
            }
        }
        #expect(throws: DecodingFailure.self) { _ = try RevocationList(decoding: bytes + [0]) }
        // Two spellings of one list would be two entries.
        let swapped = Array(bytes[0..<3] + bytes[43..<83] + bytes[3..<43] + bytes[83...])
        #expect(throws: DecodingFailure.self) { _ = try RevocationList(decoding: swapped) }
    }
}
