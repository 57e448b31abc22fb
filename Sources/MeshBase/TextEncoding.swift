/// Hexadecimal and base64url (RFC 4648 sections 5 and 8), without Foundation.

extension Collection where Element == UInt8 {
    /// Lower-case hexadecimal digits.
    package var hex: String {
        String(unsafeUninitializedCapacity: 2 * count) { text in
            var place = 0
            for byte in self {
                text[place] = hexDigit(byte >> 4)
                text[place + 1] = hexDigit(byte & 15)
                place += 2
            }
            return place
        }
    }

    /// Base64 with the URL-safe alphabet and no padding (RFC 4648 section 5).
    package var base64URL: String {
        encodeBase64(self, alphabet: base64URLAlphabet, padded: false)
    }

    /// Base64 with the standard alphabet and padding (RFC 4648 section 4), as WireGuard keys use.
    package var base64: String {
        encodeBase64(self, alphabet: base64Alphabet, padded: true)
    }
}

extension [UInt8] {
    /// Parses hexadecimal digits of either case; `nil` for an odd count or another character.
    package init?(hex text: some StringProtocol) {
        let digits = Swift.Array(text.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        self = []
        reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = hexValue(digits[index]), let low = hexValue(digits[index + 1]) else {
                return nil
            }
            append(high << 4 | low)
        }
    }

    /// Parses unpadded base64url; `nil` for a foreign character, a dangling digit or non-zero
    /// left-over bits, so that every value has exactly one spelling.
    package init?(base64URL text: some StringProtocol) {
        guard let bytes = decodeBase64(Swift.Array(text.utf8), alphabet: base64URLAlphabet) else {
            return nil
        }
        self = bytes
    }

    /// Parses padded standard base64 in its canonical spelling only.
    package init?(base64 text: some StringProtocol) {
        var digits = Swift.Array(text.utf8)
        guard digits.count.isMultiple(of: 4) else { return nil }
        var padding = 0
        while digits.last == UInt8(ascii: "="), padding < 2 {
            digits.removeLast()
            padding += 1
        }
        guard (digits.count + padding).isMultiple(of: 4),
            let bytes = decodeBase64(digits, alphabet: base64Alphabet)
        else { return nil }
        self = bytes
    }
}

/// The digit of a number below 16.
private func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") - 10 + value
}
private let base64Common = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
private let base64URLAlphabet = Array((base64Common + "-_").utf8)
private let base64Alphabet = Array((base64Common + "+/").utf8)

private func hexValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
}

private func encodeBase64(
    _ bytes: some Collection<UInt8>, alphabet: [UInt8], padded: Bool
) -> String {
    var digits = [UInt8]()
    digits.reserveCapacity((bytes.count + 2) / 3 * 4)
    var accumulator: UInt32 = 0
    var bits = 0
    for byte in bytes {
        accumulator = accumulator << 8 | UInt32(byte)
        bits += 8
        while bits >= 6 {
            bits -= 6
            digits.append(alphabet[Int(accumulator >> UInt32(bits) & 63)])
        }
    }
    if bits > 0 {
        digits.append(alphabet[Int(accumulator << UInt32(6 - bits) & 63)])
    }
    while padded, !digits.count.isMultiple(of: 4) {
        digits.append(UInt8(ascii: "="))
    }
    return String(decoding: digits, as: UTF8.self)
}

private func decodeBase64(_ digits: [UInt8], alphabet: [UInt8]) -> [UInt8]? {
    var result = [UInt8]()
    result.reserveCapacity(digits.count * 3 / 4)
    var accumulator: UInt32 = 0
    var bits = 0
    for digit in digits {
        guard let value = alphabet.firstIndex(of: digit) else { return nil }
        accumulator = accumulator << 6 | UInt32(value)
        bits += 6
        if bits >= 8 {
            bits -= 8
            result.append(UInt8(truncatingIfNeeded: accumulator >> UInt32(bits)))
        }
    }
    guard bits < 6, accumulator & ((1 << UInt32(bits)) - 1) == 0 else { return nil }
    return result
}
