/// A random number generator that a 32-byte seed determines: the ChaCha20 block function
/// (RFC 8439 section 2.3) with fast key erasure after every refill.
///
/// The interpreter seeds it from the kernel and stirs fresh kernel bytes in with ``stir(_:)``; the
/// simulator seeds it from its own number, so a run can be repeated. Past output cannot be computed
/// from the current state.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var key: [UInt32]
    private var buffer: [UInt8]
    private var position: Int

    package init(seed: Bytes32) {
        key = SeededGenerator.words(seed.bytes)
        buffer = []
        position = 0
    }

    /// A generator for tests and simulations, from a small number.
    package init(seed: UInt64) {
        self.init(seed: Bytes32(word0: seed, word1: 0, word2: 0, word3: 0))
    }

    /// Mixes fresh entropy into the state: the new key depends on the old key and on `entropy`.
    package mutating func stir(_ entropy: Bytes32) {
        let words = SeededGenerator.words(entropy.bytes)
        for index in 0..<8 { key[index] ^= words[index] }
        refill()
    }

    package mutating func next() -> UInt64 {
        var value: UInt64 = 0
        for _ in 0..<8 { value = value << 8 | UInt64(nextByte()) }
        return value
    }

    package mutating func bytes(_ count: Int) -> [UInt8] {
        var result = [UInt8]()
        result.reserveCapacity(count)
        for _ in 0..<count { result.append(nextByte()) }
        return result
    }

    package mutating func bytes32() -> Bytes32 {
        Bytes32(word0: next(), word1: next(), word2: next(), word3: next())
    }

    /// A duration drawn evenly from `range`.
    package mutating func duration(in range: ClosedRange<Duration>) -> Duration {
        let low = range.lowerBound.clampedNanoseconds
        let high = range.upperBound.clampedNanoseconds
        return .nanoseconds(Int64.random(in: low...high, using: &self))
    }

    private mutating func nextByte() -> UInt8 {
        if position == buffer.count { refill() }
        defer {
            buffer[position] = 0
            position += 1
        }
        return buffer[position]
    }

    /// Four blocks: the first 32 bytes become the next key, the rest is output.
    private mutating func refill() {
        var output = [UInt8]()
        output.reserveCapacity(256)
        for counter in 0..<4 {
            SeededGenerator.appendBlock(key: key, counter: UInt32(counter), to: &output)
        }
        key = SeededGenerator.words(Array(output[0..<32]))
        for index in 0..<32 { output[index] = 0 }
        buffer = output
        position = 32
    }

    private static func words(_ bytes: [UInt8]) -> [UInt32] {
        stride(from: 0, to: 32, by: 4).map { loadLittleEndian32(bytes, at: $0) }
    }

    private static func appendBlock(key: [UInt32], counter: UInt32, to output: inout [UInt8]) {
        let initial: [UInt32] =
            [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574] + key + [counter, 0, 0, 0]
        var state = initial
        func quarterRound(_ a: Int, _ b: Int, _ c: Int, _ d: Int) {
            state[a] &+= state[b]
            state[d] = rotateLeft(state[d] ^ state[a], 16)
            state[c] &+= state[d]
            state[b] = rotateLeft(state[b] ^ state[c], 12)
            state[a] &+= state[b]
            state[d] = rotateLeft(state[d] ^ state[a], 8)
            state[c] &+= state[d]
            state[b] = rotateLeft(state[b] ^ state[c], 7)
        }
        for _ in 0..<10 {
            quarterRound(0, 4, 8, 12)
            quarterRound(1, 5, 9, 13)
            quarterRound(2, 6, 10, 14)
            quarterRound(3, 7, 11, 15)
            quarterRound(0, 5, 10, 15)
            quarterRound(1, 6, 11, 12)
            quarterRound(2, 7, 8, 13)
            quarterRound(3, 4, 9, 14)
        }
        for index in 0..<16 {
            let word = state[index] &+ initial[index]
            for shift in stride(from: UInt32(0), to: 32, by: 8) {
                output.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
    }
}

private func rotateLeft(_ value: UInt32, _ count: UInt32) -> UInt32 {
    value << count | value >> (32 - count)
}
