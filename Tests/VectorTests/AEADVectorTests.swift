import Cryptography
import MeshBase
import Testing

@Suite("ChaCha20-Poly1305 against RFC 8439")
struct ChaCha20Poly1305VectorTests {
    static let ciphertext =
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2"
        + "4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf"
        + "332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
        + "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4"
        + "b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e"
        + "af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
        + "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10"
        + "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29"
        + "a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38"

    /// The only AEAD vector of the RFC whose nonce begins with four zeros, as Noise needs it.
    @Test("appendix A.5")
    func appendixA5() throws {
        let key = try hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
        let data = try hex("f33388860000000000004e91")
        let text =
            "Internet-Drafts are draft documents valid for a maximum of six months and may be "
            + "updated, replaced, or obsoleted by other documents at any time. It is "
            + "inappropriate to use Internet-Drafts as reference material or to cite them other "
            + "than as /\u{201C}work in progress./\u{201D}"
        let sealed = ChaCha20Poly1305.seal(
            Array(text.utf8), key: key, counter: 0x0807_0605_0403_0201, associatedData: data)
        #expect(sealed.hex == ChaCha20Poly1305VectorTests.ciphertext)
        let opened = ChaCha20Poly1305.open(
            sealed, key: key, counter: 0x0807_0605_0403_0201, associatedData: data)
        #expect(opened == Array(text.utf8))
    }

    @Test("every flipped byte, a wrong counter, other data and a short text are refused")
    func refusals() {
        let key = [UInt8](repeating: 7, count: 32)
        let sealed = ChaCha20Poly1305.seal([1, 2, 3], key: key, counter: 5, associatedData: [9])
        for index in sealed.indices {
            var bytes = sealed
            bytes[index] ^= 0x80
            #expect(
                ChaCha20Poly1305.open(bytes, key: key, counter: 5, associatedData: [9]) == nil)
        }
        #expect(ChaCha20Poly1305.open(sealed, key: key, counter: 6, associatedData: [9]) == nil)
        #expect(ChaCha20Poly1305.open(sealed, key: key, counter: 5, associatedData: []) == nil)
        for count in 0..<sealed.count {
            let short = Array(sealed.prefix(count))
            #expect(
                ChaCha20Poly1305.open(short, key: key, counter: 5, associatedData: [9]) == nil)
        }
        #expect(
            ChaCha20Poly1305.open(sealed, key: key, counter: 5, associatedData: [9]) == [1, 2, 3])
    }
}

@Suite("XChaCha20-Poly1305 against draft-irtf-cfrg-xchacha-03")
struct XChaCha20Poly1305VectorTests {
    @Test("appendix A.3.1")
    func appendixA31() throws {
        let key = try secret("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")
        let nonce = try hex("404142434445464748494a4b4c4d4e4f5051525354555657")
        let data = try hex("50515253c0c1c2c3c4c5c6c7")
        let text =
            "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
            + "the future, sunscreen would be it."
        let expected =
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
            + "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
            + "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
            + "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
        let sealed = XChaCha20Poly1305.seal(
            Array(text.utf8), key: key, nonce: nonce, associatedData: data)
        #expect(sealed.hex == expected)
        #expect(
            XChaCha20Poly1305.open(sealed, key: key, nonce: nonce, associatedData: data)
                == Array(text.utf8))
        for index in sealed.indices {
            var bytes = sealed
            bytes[index] ^= 1
            #expect(
                XChaCha20Poly1305.open(bytes, key: key, nonce: nonce, associatedData: data) == nil)
        }
    }
}

@Suite("SHA-256 constructions")
struct SHA256VectorTests {
    @Test("RFC 4231 test case 1")
    func hmac() {
        let key = [UInt8](repeating: 0x0B, count: 20)
        #expect(
            hmacSHA256(key: key, Array("Hi There".utf8)).description
                == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    }

    /// RFC 5869 appendix A.1, with extract and expand spelled out.
    @Test("RFC 5869 test case 1")
    func hkdf() throws {
        let material = [UInt8](repeating: 0x0B, count: 22)
        let extracted = hmacSHA256(key: try hex("000102030405060708090a0b0c"), material)
        #expect(
            extracted.description
                == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
        let info = try hex("f0f1f2f3f4f5f6f7f8f9")
        #expect(
            hmacSHA256(key: extracted.bytes, info + [1]).description
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")
    }

    /// Expected value: the same formula in Python's hmac module.
    @Test("the project's labelled derivation")
    func labelled() {
        let key = deriveKey(
            from: SecretBytes(copying: Array(0..<32)), label: "test", context: Array("ctx".utf8))
        #expect(
            key.exposedCopy().hex
                == "e5416082e86020aed7853aa4666d691e03b7283b6edad8732af545a56381411e")
    }
}
