import MeshBase

/// BLAKE2s (RFC 7693), the hash of WireGuard's handshake. libsodium has only BLAKE2b.
///
/// Streaming: `update` any number of times, then `finalize` once.
package struct BLAKE2s {
    /// The chained state, words 0 to 3 and 4 to 7.
    private var low: SIMD4<UInt32>
    private var high: SIMD4<UInt32>
    private var block = InlineArray<64, UInt8>(repeating: 0)
    private var filled = 0
    private var counter: UInt64 = 0
    private let outputCount: Int

    /// - Parameters:
    ///   - outputCount: digest length, 1...32 bytes.
    ///   - key: up to 32 bytes; an empty key makes the plain hash.
    package init(outputCount: Int = 32, key: [UInt8] = []) {
        precondition((1...32).contains(outputCount) && key.count <= 32)
        self.outputCount = outputCount
        low = BLAKE2s.initialLow
        high = BLAKE2s.initialHigh
        low[0] ^= 0x0101_0000 ^ UInt32(key.count) << 8 ^ UInt32(outputCount)
        if !key.isEmpty {
            update(key)
            filled = 64
        }
    }

    package mutating func update(_ bytes: [UInt8]) {
        for byte in bytes {
            if filled == 64 {
                counter += 64
                compress(isLast: false)
                filled = 0
            }
            block[filled] = byte
            filled += 1
        }
    }

    package consuming func finalize() -> [UInt8] {
        counter += UInt64(filled)
        for index in filled..<64 { block[index] = 0 }
        compress(isLast: true)
        return [UInt8](unsafeUninitializedCapacity: outputCount) { output, count in
            for index in 0..<outputCount {
                let word = index < 16 ? low[index / 4] : high[index / 4 - 4]
                output[index] = UInt8(truncatingIfNeeded: word >> UInt32(index % 4 * 8))
            }
            count = outputCount
        }
    }

    /// The digest of the concatenation of `parts`.
    package static func hash(_ parts: [UInt8]..., outputCount: Int = 32, key: [UInt8] = [])
        -> [UInt8]
    {
        var hasher = BLAKE2s(outputCount: outputCount, key: key)
        for part in parts { hasher.update(part) }
        return hasher.finalize()
    }

    /// HMAC (RFC 2104) over BLAKE2s with its 64-byte block, as Noise's HKDF needs it. Not the
    /// same as keyed BLAKE2s.
    package static func hmac(key: [UInt8], _ parts: [UInt8]...) -> [UInt8] {
        let short = key.count > 64 ? hash(key) : key
        let padded = short + [UInt8](repeating: 0, count: 64 - short.count)
        var inner = BLAKE2s()
        inner.update(padded.map { $0 ^ 0x36 })
        for part in parts { inner.update(part) }
        return hash(padded.map { $0 ^ 0x5C }, inner.finalize())
    }

    /// The 4x4 state by rows: a round mixes its columns, then its diagonals (RFC 7693 section
    /// 3.2).
    private mutating func compress(isLast: Bool) {
        var message = InlineArray<16, UInt32>(repeating: 0)
        for index in 0..<16 {
            message[index] =
                UInt32(block[4 * index]) | UInt32(block[4 * index + 1]) << 8
                | UInt32(block[4 * index + 2]) << 16 | UInt32(block[4 * index + 3]) << 24
        }
        var a = low
        var b = high
        var c = BLAKE2s.initialLow
        var d = BLAKE2s.initialHigh
        d[0] ^= UInt32(truncatingIfNeeded: counter)
        d[1] ^= UInt32(truncatingIfNeeded: counter >> 32)
        if isLast { d[2] = ~d[2] }
        for round in 0..<10 {
            mix(&a, &b, &c, &d, message, round * 16)
            b = SIMD4(b[1], b[2], b[3], b[0])
            c = SIMD4(c[2], c[3], c[0], c[1])
            d = SIMD4(d[3], d[0], d[1], d[2])
            mix(&a, &b, &c, &d, message, round * 16 + 8)
            b = SIMD4(b[3], b[0], b[1], b[2])
            c = SIMD4(c[2], c[3], c[0], c[1])
            d = SIMD4(d[1], d[2], d[3], d[0])
        }
        low ^= a ^ c
        high ^= b ^ d
    }

    @inline(__always)
    private func mix(
        _ a: inout SIMD4<UInt32>, _ b: inout SIMD4<UInt32>, _ c: inout SIMD4<UInt32>,
        _ d: inout SIMD4<UInt32>, _ message: InlineArray<16, UInt32>, _ position: Int
    ) {
        let x = BLAKE2s.words(message, at: position)
        let y = BLAKE2s.words(message, at: position + 1)
        a = a &+ b &+ x
        d = rotateRight(d ^ a, 16)
        c = c &+ d
        b = rotateRight(b ^ c, 12)
        a = a &+ b &+ y
        d = rotateRight(d ^ a, 8)
        c = c &+ d
        b = rotateRight(b ^ c, 7)
    }

    /// Every second word of the schedule from `position` on.
    @inline(__always)
    private static func words(
        _ message: InlineArray<16, UInt32>, at position: Int
    ) -> SIMD4<UInt32> {
        SIMD4(
            message[Int(sigma[position])], message[Int(sigma[position + 2])],
            message[Int(sigma[position + 4])], message[Int(sigma[position + 6])])
    }

    private static var initialLow: SIMD4<UInt32> {
        SIMD4(0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A)
    }

    private static var initialHigh: SIMD4<UInt32> {
        SIMD4(0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19)
    }

    /// The message schedule of RFC 7693 section 2.7, ten rows.
    private static let sigma: InlineArray<160, UInt8> = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3,
        11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4,
        7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8,
        9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13,
        2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9,
        12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11,
        13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10,
        6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5,
        10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0,
    ]
}

@inline(__always)
private func rotateRight(_ value: SIMD4<UInt32>, _ count: UInt32) -> SIMD4<UInt32> {
    value &>> count | value &<< (32 - count)
}
