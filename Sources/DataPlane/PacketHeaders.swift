/// The kernel's header in front of every packet of a TUN device (virtio 1.2 section 5.1.6.2,
/// legacy layout, native byte order).
enum VirtioHeader {
    static let count = 10

    static let needsChecksum: UInt8 = 1
    static let none: UInt8 = 0
    static let tcp4: UInt8 = 1
    static let tcp6: UInt8 = 4
    static let udp: UInt8 = 5
    /// Set beside the type when the first segment carries CWR.
    static let ecn: UInt8 = 0x80

    @inline(__always)
    static func segmentSize(_ header: UnsafePointer<UInt8>) -> Int {
        Int(UnsafeRawPointer(header + 4).loadUnaligned(as: UInt16.self))
    }

    @inline(__always)
    static func checksumStart(_ header: UnsafePointer<UInt8>) -> Int {
        Int(UnsafeRawPointer(header + 6).loadUnaligned(as: UInt16.self))
    }

    @inline(__always)
    static func checksumOffset(_ header: UnsafePointer<UInt8>) -> Int {
        Int(UnsafeRawPointer(header + 8).loadUnaligned(as: UInt16.self))
    }

    /// Writes a header that leaves the last checksum step and the segmentation to the kernel.
    @inline(__always)
    static func write(
        _ header: UnsafeMutablePointer<UInt8>, type: UInt8, headerCount: Int, segmentSize: Int,
        checksumStart: Int, checksumOffset: Int
    ) {
        let raw = UnsafeMutableRawPointer(header)
        raw.storeBytes(of: needsChecksum, as: UInt8.self)
        raw.storeBytes(of: type, toByteOffset: 1, as: UInt8.self)
        raw.storeBytes(
            of: UInt16(truncatingIfNeeded: headerCount), toByteOffset: 2, as: UInt16.self)
        raw.storeBytes(
            of: UInt16(truncatingIfNeeded: segmentSize), toByteOffset: 4, as: UInt16.self)
        raw.storeBytes(
            of: UInt16(truncatingIfNeeded: checksumStart), toByteOffset: 6, as: UInt16.self)
        raw.storeBytes(
            of: UInt16(truncatingIfNeeded: checksumOffset), toByteOffset: 8, as: UInt16.self)
    }

    @inline(__always)
    static func writePlain(_ header: UnsafeMutablePointer<UInt8>) {
        let raw = UnsafeMutableRawPointer(header)
        raw.storeBytes(of: 0, as: UInt64.self)
        raw.storeBytes(of: 0, toByteOffset: 8, as: UInt16.self)
    }
}

/// Protocol numbers and TCP flags (RFC 9293 section 3.1).
enum TransportProtocol {
    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17

    static let icmp: UInt8 = 1
    static let icmp6: UInt8 = 58

    static let finish: UInt8 = 0x01
    static let synchronize: UInt8 = 0x02
    static let push: UInt8 = 0x08
    static let acknowledge: UInt8 = 0x10
    static let congestionReduced: UInt8 = 0x80
}

/// What a datagram that is not a packet of a session may be, by its first bytes and length. It
/// keeps noise out of the ring; control judges what passes.
package enum DatagramFilter {
    /// The first byte of a handshake's messages; 4 is a packet.
    @inline(__always)
    static func isHandshake(_ bytes: UnsafePointer<UInt8>) -> Bool { bytes[0] &- 1 < 6 }

    /// The envelope's magic, version, type, 24-byte nonce and 16-byte tag.
    package static let minimumEnvelope = 4 + 24 + 16

    @inline(__always)
    package static func mayConcernControl(_ bytes: UnsafePointer<UInt8>, count: Int) -> Bool {
        guard count >= 4, count <= EventRing.maximumPayload else { return false }
        let word = UnsafeRawPointer(bytes).loadUnaligned(as: UInt32.self).littleEndian
        switch word {
        // Initiation, response and cookie reply ("WireGuard" section 5.4); 5 and 6 are the first
        // two for the AES-256-GCM suite.
        case 1, 5: return count == 148
        case 2, 6: return count == 92
        case 3: return count == 64
        default: break
        }
        if bytes[0] == 0xEB { return bytes[1] == 0x56 && count >= minimumEnvelope }
        // A bencoded dictionary (BEP 5).
        return bytes[0] == UInt8(ascii: "d") && bytes[count &- 1] == UInt8(ascii: "e")
    }
}
