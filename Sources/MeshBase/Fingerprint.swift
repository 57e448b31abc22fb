/// A running 64-bit hash of a state, the same in every process (unlike `Hasher`).
///
/// Every core folds its whole state into one with `fingerprint(into:)`. The simulator chains them
/// into its trace hash, and the "rejected input changes nothing" tests compare them.
package struct Fingerprint: Sendable {
    package private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    package mutating func mix(_ number: UInt64) {
        var mixed = value ^ number
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        value = mixed ^ mixed >> 31
    }

    package mutating func mix(_ number: Int) {
        mix(UInt64(bitPattern: Int64(number)))
    }

    package mutating func mix(_ flag: Bool) {
        mix(UInt64(flag ? 1 : 2))
    }

    package mutating func mix(_ bytes: some Collection<UInt8>) {
        // The top bit keeps a length apart from a number.
        mix(UInt64(bytes.count) | 1 << 63)
        var word: UInt64 = 0
        var filled = 0
        for byte in bytes {
            word = word << 8 | UInt64(byte)
            filled += 1
            if filled == 8 {
                mix(word)
                word = 0
                filled = 0
            }
        }
        if filled > 0 { mix(word) }
    }

    package mutating func mix(_ text: String) {
        mix(Array(text.utf8))
    }

    package mutating func mix(_ node: NodeID) {
        mix(node.bytes.bytes)
    }

    package mutating func mix(_ instant: BootInstant?) {
        guard let instant else { return mix(UInt64.max) }
        mix(UInt64.max - 1)
        mix(instant.nanoseconds)
    }
}
