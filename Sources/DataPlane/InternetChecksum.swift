import CChecksum

/// The Internet checksum (RFC 1071), summed in native byte order: the sum does not depend on it,
/// and a folded sum stored natively has its bytes in network order.
package enum InternetChecksum {
    /// Adds `count` bytes to `sum`. An odd last byte is followed by a zero.
    @inline(__always)
    package static func add(_ bytes: UnsafePointer<UInt8>, count: Int, to sum: UInt64) -> UInt64 {
        let raw = UnsafeRawPointer(bytes)
        var total = sum
        var offset = 0
        if count >= wideCount {
            offset = count & ~3
            total = checksum_add_words(bytes, offset, total)
        }
        while offset &+ 4 <= count {
            total &+= UInt64(raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            offset &+= 4
        }
        if offset &+ 2 <= count {
            total &+= UInt64(raw.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            offset &+= 2
        }
        if offset < count {
            total &+= UInt64(UInt16(bytes[offset]).littleEndian)
        }
        return total
    }

    /// From here on a call to the wide loop is worth it.
    private static var wideCount: Int { 64 }

    /// The sum in 16 bits with carries folded in; not complemented.
    @inline(__always)
    package static func fold(_ sum: UInt64) -> UInt16 {
        var value = (sum & 0xFFFF_FFFF) &+ sum >> 32
        value = (value & 0xFFFF) &+ value >> 16
        value = (value & 0xFFFF) &+ value >> 16
        value = (value & 0xFFFF) &+ value >> 16
        return UInt16(truncatingIfNeeded: value)
    }

    /// The sum of the pseudo header: addresses from the IP header at `packet`, protocol, and the
    /// length of the transport part (RFC 9293 section 3.1, RFC 8200 section 8.1).
    @inline(__always)
    package static func pseudoHeader(
        _ packet: UnsafePointer<UInt8>, isIPv6: Bool, transport: UInt8, count: Int
    ) -> UInt64 {
        let addresses =
            isIPv6 ? add(packet + 8, count: 32, to: 0) : add(packet + 12, count: 8, to: 0)
        let fields = UInt64(UInt16(transport).bigEndian)
        let length = UInt32(truncatingIfNeeded: count).bigEndian
        return addresses &+ fields &+ UInt64(length & 0xFFFF) &+ UInt64(length >> 16)
    }

    /// Recomputes the header checksum of an IPv4 header of `count` bytes.
    @inline(__always)
    static func writeIPv4Header(_ packet: UnsafeMutablePointer<UInt8>, count: Int) {
        packet.storeNetwork(UInt16(0), at: 10)
        let sum = fold(add(packet, count: count, to: 0))
        UnsafeMutableRawPointer(packet).storeBytes(of: ~sum, toByteOffset: 10, as: UInt16.self)
    }
}

extension UnsafePointer<UInt8> {
    @inline(__always)
    func network16(_ offset: Int) -> Int {
        Int(UInt16(bigEndian: UnsafeRawPointer(self + offset).loadUnaligned(as: UInt16.self)))
    }

    @inline(__always)
    func network32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: UnsafeRawPointer(self + offset).loadUnaligned(as: UInt32.self))
    }

    @inline(__always)
    func network128(_ offset: Int) -> UInt128 {
        let raw = UnsafeRawPointer(self + offset)
        let high = UInt64(bigEndian: raw.loadUnaligned(as: UInt64.self))
        let low = UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        return UInt128(high) << 64 | UInt128(low)
    }

    /// Whether the next `count` bytes are the same; `count` is a multiple of 4.
    @inline(__always)
    func equals(_ other: UnsafePointer<UInt8>, at offset: Int, count: Int) -> Bool {
        let first = UnsafeRawPointer(self + offset)
        let second = UnsafeRawPointer(other + offset)
        var position = 0
        var difference: UInt32 = 0
        while position < count {
            difference |=
                first.loadUnaligned(fromByteOffset: position, as: UInt32.self)
                ^ second.loadUnaligned(fromByteOffset: position, as: UInt32.self)
            position &+= 4
        }
        return difference == 0
    }
}

extension UnsafeMutablePointer<UInt8> {
    @inline(__always)
    func storeNetwork(_ value: UInt16, at offset: Int) {
        UnsafeMutableRawPointer(self + offset).storeBytes(of: value.bigEndian, as: UInt16.self)
    }

    @inline(__always)
    func storeNetwork(_ value: UInt32, at offset: Int) {
        UnsafeMutableRawPointer(self + offset).storeBytes(of: value.bigEndian, as: UInt32.self)
    }
}
