import Cryptography
import MeshBase
import NetAddress

/// A 160-bit name of a node or a value on the DHT (BEP 5); the distance of two is their XOR.
package struct KademliaID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Big-endian words, so that comparing words compares bytes.
    private let high, middle: UInt64
    private let low: UInt32

    package static let count = 20

    private init(high: UInt64, middle: UInt64, low: UInt32) {
        (self.high, self.middle, self.low) = (high, middle, low)
    }

    /// Takes exactly 20 bytes; `nil` for any other count.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == Self.count else { return nil }
        var reader = ByteReader(Array(bytes))
        guard let high = try? reader.readUInt64(), let middle = try? reader.readUInt64(),
            let low = try? reader.readUInt32()
        else { return nil }
        self.init(high: high, middle: middle, low: low)
    }

    /// The name of a value: its SHA-1.
    package init(hashing bytes: [UInt8]) {
        var reader = ByteReader(sha1(bytes))
        high = (try? reader.readUInt64()) ?? 0
        middle = (try? reader.readUInt64()) ?? 0
        low = (try? reader.readUInt32()) ?? 0
    }

    package init(random: inout SeededGenerator) {
        high = random.next()
        middle = random.next()
        low = UInt32(truncatingIfNeeded: random.next())
    }

    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: Self.count)
        writer.write(high)
        writer.write(middle)
        writer.write(low)
        return writer.bytes
    }

    package var description: String { bytes.hex }

    package static func < (lhs: KademliaID, rhs: KademliaID) -> Bool {
        (lhs.high, lhs.middle, lhs.low) < (rhs.high, rhs.middle, rhs.low)
    }

    package static func ^ (lhs: KademliaID, rhs: KademliaID) -> KademliaID {
        KademliaID(
            high: lhs.high ^ rhs.high, middle: lhs.middle ^ rhs.middle, low: lhs.low ^ rhs.low)
    }

    /// This name, or a distance, as a part of the whole space.
    var fraction: Double { Double(high) / 0x1p64 }

    /// How many leading bits two names share: 0...160.
    package func sharedBits(with other: KademliaID) -> Int {
        let distance = self ^ other
        if distance.high != 0 { return distance.high.leadingZeroBitCount }
        if distance.middle != 0 { return 64 + distance.middle.leadingZeroBitCount }
        return 128 + distance.low.leadingZeroBitCount
    }

    /// A random name that shares exactly `bits` leading bits with this one.
    func neighbour(sharing bits: Int, random: inout SeededGenerator) -> KademliaID {
        var result = bytes
        let noise = random.bytes(Self.count)
        for bit in bits..<160 {
            let mask = UInt8(0x80) >> UInt8(bit % 8)
            let source = bit == bits ? ~result[bit / 8] : noise[bit / 8]
            result[bit / 8] = result[bit / 8] & ~mask | source & mask
        }
        return KademliaID(result) ?? self
    }
}

// MARK: - BEP 42: names that an address earns

extension KademliaID {
    /// A name that `address` may bear: its first 21 bits come from a CRC of the masked address.
    ///
    /// - Parameter seed: the last byte; its low three bits enter the CRC.
    package init(for address: IPAddress, seed: UInt8, random: inout SeededGenerator) {
        let checksum = KademliaID.checksum(of: address, seed: seed)
        var bytes = random.bytes(Self.count)
        bytes[0] = UInt8(truncatingIfNeeded: checksum >> 24)
        bytes[1] = UInt8(truncatingIfNeeded: checksum >> 16)
        bytes[2] = UInt8(truncatingIfNeeded: checksum >> 8) & 0xF8 | bytes[2] & 7
        bytes[19] = seed
        self = KademliaID(bytes) ?? KademliaID(random: &random)
    }

    /// Whether this name fits `address`. Addresses that nobody can reach from outside may bear
    /// any name.
    package func isEarned(by address: IPAddress) -> Bool {
        if address.isExemptFromSecureNames { return true }
        let checksum = KademliaID.checksum(of: address, seed: UInt8(truncatingIfNeeded: low))
        return (UInt32(truncatingIfNeeded: high >> 32) ^ checksum) >> 11 == 0
    }

    private static func checksum(of address: IPAddress, seed: UInt8) -> UInt32 {
        let mask: [UInt8] =
            address.isIPv4
            ? [0x03, 0x0F, 0x3F, 0xFF] : [0x01, 0x03, 0x07, 0x0F, 0x1F, 0x3F, 0x7F, 0xFF]
        var masked = zip(address.bytes, mask).map { $0 & $1 }
        masked[0] |= (seed & 7) << 5
        return crc32c(masked)
    }
}

extension IPAddress {
    /// The blocks of BEP 42 without a rule, and their counterparts of IPv6.
    package var isExemptFromSecureNames: Bool {
        if isLoopback || isLinkLocal { return true }
        switch self {
        case .v4(let value):
            return value >> 24 == 10 || value >> 20 == 0xAC1 || value >> 16 == 0xC0A8
        case .v6(let high, _):
            return high >> 57 == 0xFC >> 1
        }
    }

    /// Whether the world's routers know it.
    var isPublic: Bool {
        guard !isExemptFromSecureNames, !isUnspecified, !isMulticast else { return false }
        // Carriers' own addresses (RFC 6598).
        if case .v4(let value) = self { return value >> 22 != 0x6440_0000 >> 22 }
        return true
    }

    /// The block whose addresses count as one source: the /24, or the /64 of IPv6.
    package var neighbourhood: IPAddress { masked(to: isIPv4 ? 24 : 64) }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a few bytes a few times a second.
package func crc32c(_ bytes: [UInt8]) -> UInt32 {
    var remainder = ~UInt32(0)
    for byte in bytes {
        remainder ^= UInt32(byte)
        for _ in 0..<8 {
            remainder = remainder & 1 == 1 ? remainder >> 1 ^ 0x82F6_3B78 : remainder >> 1
        }
    }
    return ~remainder
}
