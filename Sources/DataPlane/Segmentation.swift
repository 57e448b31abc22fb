import Glibc

/// Cuts a super-packet of the kernel into packets, inside its own buffer.
///
/// Each packet's header is written in front of its payload, over the end of the packet before it,
/// which must have been encrypted by then. Nothing is moved but headers.
package struct Segmentation: BitwiseCopyable {
    private let packet: UnsafeMutablePointer<UInt8>
    private let template: UnsafeMutablePointer<UInt8>
    private let isIPv6: Bool
    private let isTCP: Bool
    /// Where the TCP or UDP header starts.
    private let transport: Int
    private let headerCount: Int
    private let segmentSize: Int
    private let payloadCount: Int
    private let identification: UInt16
    private let sequence: UInt32
    /// Packets that come out; at least one.
    package let count: Int

    /// The largest header taken: IPv4 with options 60, IPv6 with extensions, TCP 60.
    package static let templateCapacity = 256

    /// - Parameters:
    ///   - header: The virtio header, whose `hdr_len` is not trusted.
    ///   - template: ``templateCapacity`` bytes that live until the last packet is written.
    /// - Returns: `nil` when the header contradicts the packet.
    package init?(
        header: UnsafePointer<UInt8>, packet: UnsafeMutablePointer<UInt8>, count total: Int,
        template: UnsafeMutablePointer<UInt8>
    ) {
        let type = header[1] & ~VirtioHeader.ecn
        isIPv6 = packet[0] >> 4 == 6
        isTCP = type != VirtioHeader.udp
        transport = VirtioHeader.checksumStart(header)
        segmentSize = VirtioHeader.segmentSize(header)
        let bytes = UnsafePointer(packet)
        guard type == VirtioHeader.udp || type == (isIPv6 ? VirtioHeader.tcp6 : VirtioHeader.tcp4),
            segmentSize > 0, transport >= (isIPv6 ? 40 : 20), transport &+ 20 <= total || !isTCP,
            transport &+ 8 <= total
        else { return nil }
        headerCount = transport &+ (isTCP ? Int(bytes[transport &+ 12] >> 4) &* 4 : 8)
        guard headerCount >= transport &+ (isTCP ? 20 : 8), headerCount < total,
            headerCount <= Segmentation.templateCapacity
        else { return nil }
        payloadCount = total &- headerCount
        count = (payloadCount &+ segmentSize &- 1) / segmentSize
        identification = isIPv6 ? 0 : UInt16(truncatingIfNeeded: bytes.network16(4))
        sequence = isTCP ? bytes.network32(transport &+ 4) : 0
        self.packet = packet
        self.template = template
        memcpy(template, packet, headerCount)
    }

    /// Finishes packet `index`, in ascending order from 0; where it starts and its bytes.
    @inline(__always)
    package func write(_ index: Int) -> (UnsafeMutablePointer<UInt8>, Int) {
        let offset = index &* segmentSize
        let isLast = index == count &- 1
        let payload = isLast ? payloadCount &- offset : segmentSize
        let start = packet + offset
        let total = headerCount &+ payload
        memcpy(start, template, headerCount)
        if isIPv6 {
            start.storeNetwork(UInt16(truncatingIfNeeded: total &- 40), at: 4)
        } else {
            start.storeNetwork(UInt16(truncatingIfNeeded: total), at: 2)
            start.storeNetwork(identification &+ UInt16(truncatingIfNeeded: index), at: 4)
            InternetChecksum.writeIPv4Header(start, count: Int(start[0] & 15) &* 4)
        }
        let checksumAt: Int
        if isTCP {
            start.storeNetwork(
                sequence &+ UInt32(truncatingIfNeeded: offset), at: transport &+ 4)
            var flags = start[transport &+ 13]
            if !isLast { flags &= ~(TransportProtocol.finish | TransportProtocol.push) }
            if index > 0 { flags &= ~TransportProtocol.congestionReduced }
            start[transport &+ 13] = flags
            checksumAt = transport &+ 16
        } else {
            start.storeNetwork(UInt16(truncatingIfNeeded: total &- transport), at: transport &+ 4)
            checksumAt = transport &+ 6
        }
        start.storeNetwork(UInt16(0), at: checksumAt)
        let pseudo = InternetChecksum.pseudoHeader(
            start, isIPv6: isIPv6,
            transport: isTCP ? TransportProtocol.tcp : TransportProtocol.udp,
            count: total &- transport)
        var sum = ~InternetChecksum.fold(
            InternetChecksum.add(start + transport, count: total &- transport, to: pseudo))
        // Zero means "no checksum" to UDP (RFC 768).
        if sum == 0 && !isTCP { sum = 0xFFFF }
        UnsafeMutableRawPointer(start + checksumAt).storeBytes(of: sum, as: UInt16.self)
        return (start, total)
    }
}
