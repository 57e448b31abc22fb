import MeshBase

/// BLAKE2s (RFC 7693), the hash of WireGuard's handshake. libsodium has only BLAKE2b.
///
/// Streaming: `update` any number of times, then `finalize` once.
package struct BLAKE2s {
    private var state: [UInt32]
    private var buffer: [UInt8] = []
    private var counter: UInt64 = 0
    private let outputCount: Int

    /// - Parameters:
    ///   - outputCount: digest length, 1...32 bytes.
    ///   - key: up to 32 bytes; an empty key makes the plain hash.
    package init(outputCount: Int = 32, key: [UInt8] = []) {
        precondition((1...32).contains(outputCount) && key.count <= 32)
        self.outputCount = outputCount
        state = BLAKE2s.initialVector
        state[0] ^= 0x0101_0000 ^ UInt32(key.count) << 8 ^ UInt32(outputCount)
        if !key.isEmpty {
            buffer = key + [UInt8](repeating: 0, count: 64 - key.count)
        }
    }

    package mutating func update(_ bytes: [UInt8]) {
        for byte in bytes {
            if buffer.count == 64 {
                counter += 64
                compress(isLast: false)
                buffer.removeAll(keepingCapacity: true)
            }
            buffer.append(byte)
        }
    }

    package consuming func finalize() -> [UInt8] {
        counter += UInt64(buffer.count)
        buffer.append(contentsOf: repeatElement(0, count: 64 - buffer.count))
        compress(isLast: true)
        var output = [UInt8]()
        output.reserveCapacity(32)
        for word in state {
            for shift in stride(from: UInt32(0), to: 32, by: 8) {
                output.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return Array(output.prefix(outputCount))
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

    private mutating func compress(isLast: Bool) {
        let initial = BLAKE2s.initialVector
        var work = state + initial
        work[12] ^= UInt32(truncatingIfNeeded: counter)
        work[13] ^= UInt32(truncatingIfNeeded: counter >> 32)
        if isLast { work[14] = ~work[14] }
        let block = buffer
        let message = (0..<16).map { loadLittleEndian32(block, at: 4 * $0) }
        work.withUnsafeMutableBufferPointer { work in
            func mix(_ a: Int, _ b: Int, _ c: Int, _ d: Int, _ x: UInt32, _ y: UInt32) {
                work[a] = work[a] &+ work[b] &+ x
                work[d] = rotateRight(work[d] ^ work[a], 16)
                work[c] = work[c] &+ work[d]
                work[b] = rotateRight(work[b] ^ work[c], 12)
                work[a] = work[a] &+ work[b] &+ y
                work[d] = rotateRight(work[d] ^ work[a], 8)
                work[c] = work[c] &+ work[d]
                work[b] = rotateRight(work[b] ^ work[c], 7)
            }
            for row in BLAKE2s.sigma {
                mix(0, 4, 8, 12, message[row[0]], message[row[1]])
                mix(1, 5, 9, 13, message[row[2]], message[row[3]])
                mix(2, 6, 10, 14, message[row[4]], message[row[5]])
                mix(3, 7, 11, 15, message[row[6]], message[row[7]])
                mix(0, 5, 10, 15, message[row[8]], message[row[9]])
                mix(1, 6, 11, 12, message[row[10]], message[row[11]])
                mix(2, 7, 8, 13, message[row[12]], message[row[13]])
                mix(3, 4, 9, 14, message[row[14]], message[row[15]])
            }
        }
        for index in 0..<8 { state[index] ^= work[index] ^ work[index + 8] }
    }

    private static let initialVector: [UInt32] = [
        0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A,
        0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19,
    ]

    /// The message schedule of RFC 7693 section 2.7.
    private static let sigma: [[Int]] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ]
}

private func rotateRight(_ value: UInt32, _ count: UInt32) -> UInt32 {
    value >> count | value << (32 - count)
}
