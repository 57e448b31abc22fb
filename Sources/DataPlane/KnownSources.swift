import CLinux
import LinuxIO

/// Where peers are, as a set of 64-bit digests: 8 KiB, asked only during a flood.
struct KnownSources: ~Copyable {
    /// As many as the kernel tells apart; the set is at most half full.
    static let capacity = DatagramSampling.knownCapacity
    private static let places = 2 * capacity

    private let digests: UnsafeMutablePointer<UInt64>
    private var count = 0
    /// Nobody outside can choose an address that counts as another one.
    private let multiplier: UInt64

    init(seed: UInt64) {
        multiplier = seed | 1
        digests = PacketMemory.touched(KnownSources.places, of: 0)
    }

    deinit {
        digests.deallocate()
    }

    mutating func removeAll() {
        digests.update(repeating: 0, count: KnownSources.places)
        count = 0
    }

    /// Ignores what exceeds ``capacity``.
    mutating func insert(_ source: clinux_address) {
        guard count < KnownSources.capacity, !contains(source) else { return }
        let digest = digest(of: source)
        var place = firstPlace(of: digest)
        while digests[place] != 0 { place = (place + 1) % KnownSources.places }
        digests[place] = digest
        count += 1
    }

    func contains(_ source: clinux_address) -> Bool {
        let digest = digest(of: source)
        var place = firstPlace(of: digest)
        while digests[place] != 0 {
            if digests[place] == digest { return true }
            place = (place + 1) % KnownSources.places
        }
        return false
    }

    private func firstPlace(of digest: UInt64) -> Int {
        Int(truncatingIfNeeded: digest >> 32) % KnownSources.places
    }

    private func digest(of source: clinux_address) -> UInt64 {
        let (high, low) = source.halves
        var mixed = (high ^ multiplier) &* 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 29 ^ low) &* multiplier
        mixed = (mixed ^ mixed >> 32 ^ UInt64(source.port)) &* 0xBF58_476D_1CE4_E5B9
        // 0 marks an empty place.
        return (mixed ^ mixed >> 31) | 1
    }
}
