import MeshBase
import Testing

/// RFC 4648 section 10.
private let vectors: [(bytes: String, base64: String, hex: String)] = [
    ("", "", ""),
    ("f", "Zg==", "66"),
    ("fo", "Zm8=", "666f"),
    ("foo", "Zm9v", "666f6f"),
    ("foob", "Zm9vYg==", "666f6f62"),
    ("fooba", "Zm9vYmE=", "666f6f6261"),
    ("foobar", "Zm9vYmFy", "666f6f626172"),
]

@Test(arguments: vectors.indices) func textFormsMatchTheStandard(index: Int) {
    let (text, base64, hex) = vectors[index]
    let bytes = Array(text.utf8)
    #expect(bytes.base64 == base64)
    #expect(bytes.hex == hex)
    #expect([UInt8](base64: base64) == bytes)
    #expect([UInt8](hex: hex) == bytes)
    #expect([UInt8](hex: hex.uppercased()) == bytes)
    let bare = base64.filter { $0 != "=" }
    #expect(bytes.base64URL == bare)
    #expect([UInt8](base64URL: bare) == bytes)
}

@Test func everyByteAndEveryLengthComesBack() {
    var random = SeededGenerator(seed: 1)
    #expect([UInt8](0...255).base64URL.contains("_") && [UInt8](0...255).base64URL.contains("-"))
    for count in 0..<100 {
        let bytes = random.bytes(count)
        #expect([UInt8](hex: bytes.hex) == bytes)
        #expect([UInt8](base64: bytes.base64) == bytes)
        #expect([UInt8](base64URL: bytes.base64URL) == bytes)
    }
}

@Test(arguments: [
    "Zg", "Zg=", "Zg===", "Zm8", "Zm9v=", "Zm9v====", "=", "====", "Zh==", "Zm9=", "Zm 8=",
    "Zm8=\n", "Zm-_", "Zm9vYg==Zg==", "Z===", "Zgé=",
]) func paddedBase64HasOneSpelling(text: String) {
    #expect([UInt8](base64: text) == nil)
}

@Test(arguments: ["Z", "Zg==", "Zh", "Zm9", "Zm+v", "Zm/v", "Zm 9", "Zm9vY", "Zm9v\0"])
func base64URLHasOneSpelling(text: String) {
    #expect([UInt8](base64URL: text) == nil)
}

@Test(arguments: ["0", "abc", "0g", "0x00", " 00", "00 ", "é0", "+1", "-1"])
func hexTakesDigitsOnly(text: String) {
    #expect([UInt8](hex: text) == nil)
}

/// Of all strings of two digits exactly those spell a byte whose left-over bits are zero.
@Test func noTwoTextsMeanTheSameByte() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    var meanings: [[UInt8]: Int] = [:]
    for first in alphabet {
        for second in alphabet {
            if let bytes = [UInt8](base64URL: "\(first)\(second)") {
                meanings[bytes, default: 0] += 1
            }
        }
    }
    #expect(meanings.count == 256)
    #expect(meanings.values.allSatisfy { $0 == 1 })
}
