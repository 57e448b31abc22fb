import MeshBase
import Testing

/// Key streams for a zero nonce: RFC 8439 appendix A.1, test vectors 1 to 4. The first 32 bytes
/// of block 0 become the next key and are never output.
private let zeroKeyBlock0 = """
    76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
    da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586
    """
private let zeroKeyBlock1 = """
    9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
    29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f
    """
private let oneKeyBlock1 = """
    3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a\
    8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0
    """
private let ffKeyBlock2 = """
    72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca\
    13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096
    """

private func generator(key: [UInt8]) throws -> SeededGenerator {
    SeededGenerator(seed: try #require(Bytes32(key)))
}

@Test func outputIsTheChaCha20KeyStreamBehindTheNextKey() throws {
    var zero = SeededGenerator(seed: Bytes32.zero)
    let expected = String(zeroKeyBlock0.dropFirst(64)) + zeroKeyBlock1
    #expect(zero.bytes(96).hex == expected)

    var one = try generator(key: [UInt8](repeating: 0, count: 31) + [1])
    _ = one.bytes(32)
    #expect(one.bytes(64).hex == oneKeyBlock1)

    var ff = try generator(key: [0, 0xFF] + [UInt8](repeating: 0, count: 30))
    _ = ff.bytes(96)
    #expect(ff.bytes(64).hex == ffKeyBlock2)
}

@Test func theKeyIsErasedWithEveryRefill() throws {
    var zero = SeededGenerator(seed: Bytes32.zero)
    _ = zero.bytes(224)
    let next = try #require([UInt8](hex: String(zeroKeyBlock0.prefix(64))))
    var successor = try generator(key: next)
    #expect(zero.bytes(300) == successor.bytes(300))
}

@Test func numbersAreTheSameStream() {
    var first = SeededGenerator(seed: 42)
    var second = SeededGenerator(seed: 42)
    let bytes = second.bytes(8)
    #expect(first.next() == bytes.reduce(0) { $0 << 8 | UInt64($1) })
    #expect(first.bytes32().bytes == second.bytes(32))
    var third = SeededGenerator(seed: 43)
    #expect(third.bytes(8) != bytes)
}

@Test func freshEntropyChangesEverythingAfterIt() {
    var plain = SeededGenerator(seed: 1)
    var stirred = plain
    var stirredOtherwise = plain
    stirred.stir(Bytes32(word0: 0, word1: 0, word2: 0, word3: 1))
    stirredOtherwise.stir(Bytes32(word0: 0, word1: 0, word2: 0, word3: 2))
    let outputs = [plain.bytes(32), stirred.bytes(32), stirredOtherwise.bytes(32)]
    #expect(Set(outputs).count == 3)
}

@Test func durationsStayInTheirRange() {
    var random = SeededGenerator(seed: 5)
    var seen: Set<Duration> = []
    for _ in 0..<200 {
        let drawn = random.duration(in: .milliseconds(-3)...(.milliseconds(9)))
        #expect(drawn >= .milliseconds(-3) && drawn <= .milliseconds(9))
        seen.insert(drawn)
    }
    #expect(seen.count > 150)
    #expect(random.duration(in: .seconds(2)...(.seconds(2))) == .seconds(2))
}
