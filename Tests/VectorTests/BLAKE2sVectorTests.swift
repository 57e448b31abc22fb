import Cryptography
import MeshBase
import Testing

/// Parses hexadecimal; a test file with a typing error must not pass for an empty input.
func hex(_ text: String) throws -> [UInt8] {
    try #require([UInt8](hex: text.filter { !$0.isWhitespace }))
}

func secret(_ text: String) throws -> SecretBytes {
    SecretBytes(copying: try hex(text))
}

func publicKey(_ text: String) throws -> StaticPublicKey {
    StaticPublicKey(try #require(Bytes32(try hex(text))))
}

@Suite("BLAKE2s against RFC 7693")
struct BLAKE2sVectorTests {
    @Test("appendix B: abc")
    func appendixB() {
        #expect(
            BLAKE2s.hash(Array("abc".utf8)).hex
                == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
    }

    /// The self-test of appendix E: four digest lengths, six input lengths, with and without key.
    @Test("appendix E: digest, input and key lengths")
    func appendixE() {
        func sequence(_ count: Int, seed: UInt32) -> [UInt8] {
            var a: UInt32 = 0xDEAD_4BAD &* seed
            var b: UInt32 = 1
            return (0..<count).map { _ in
                let sum = a &+ b
                a = b
                b = sum
                return UInt8(truncatingIfNeeded: sum >> 24)
            }
        }
        var all = BLAKE2s()
        for digestCount in [16, 20, 28, 32] {
            for inputCount in [0, 3, 64, 65, 255, 1024] {
                let input = sequence(inputCount, seed: UInt32(inputCount))
                all.update(BLAKE2s.hash(input, outputCount: digestCount))
                let key = sequence(digestCount, seed: UInt32(digestCount))
                all.update(BLAKE2s.hash(input, outputCount: digestCount, key: key))
            }
        }
        #expect(
            all.finalize().hex
                == "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe")
    }

    @Test("keyed, empty input: the first vector of the reference set")
    func keyedEmpty() {
        #expect(
            BLAKE2s.hash([], key: Array(0..<32)).hex
                == "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49")
    }

    /// Expected values: CPython's hashlib over the same 256 inputs.
    @Test("keyed digests of all input lengths up to 255, as WireGuard's mac1 and with full size")
    func keyedLengths() {
        var full = BLAKE2s()
        var short = BLAKE2s()
        for count in 0..<256 {
            let input = (0..<count).map { UInt8($0) }
            full.update(BLAKE2s.hash(input, key: Array(0..<32)))
            short.update(BLAKE2s.hash(input, outputCount: 16, key: Array(0..<16)))
        }
        #expect(
            full.finalize().hex
                == "2582f7b18a91f66ef22aa9455384ada69b2590306a6470ee8588df75ee982f02")
        #expect(
            short.finalize().hex
                == "a85e30602a24f073fbd46c1c6ed305c0b180224dd385214f9f8e8a0292c4269e")
    }

    @Test("pieces of any size give the digest of the whole")
    func pieces() {
        let input = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
        let whole = BLAKE2s.hash(input)
        for size in [1, 7, 63, 64, 65, 128, 299] {
            var hasher = BLAKE2s()
            for start in stride(from: 0, to: 300, by: size) {
                hasher.update(Array(input[start..<min(300, start + size)]))
            }
            #expect(hasher.finalize() == whole, "pieces of \(size)")
        }
    }

    /// Expected values: CPython's hmac module over hashlib.blake2s.
    @Test("HMAC with short and long keys")
    func hmac() {
        let message = Array("message".utf8)
        #expect(
            BLAKE2s.hmac(key: Array("key".utf8), message).hex
                == "bba8fa28708ae80d249e317318c95c859f3f77512be23910d5094d9110454d6f")
        #expect(
            BLAKE2s.hmac(key: [UInt8](repeating: 0x6B, count: 100), message).hex
                == "a13ba17e4e17ff37d880c23fa2b68ceedd52ae33eeab90f65020ba2911b2be93")
    }
}
