import Glibc
import WireGuard

// Packets that the path to a peer does not carry whole. None of this runs on a path that carries
// the device's MTU.
extension PacketWorker {
    /// Sends a packet of at most the device's MTU that exceeds the peer's limit: in two pieces, if
    /// the peer joins them. Otherwise the sender is told, or the network below cuts the datagram.
    @inline(never)
    mutating func transmitLarge(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, to slot: Int32
    ) {
        guard count <= mtu else {
            drop(.malformedFromDevice)
            return
        }
        let entry = view.peers[Int(slot)]
        let isIPv6 = packet[0] >> 4 == 6
        let mayNotBeCut = isIPv6 || packet[6] & 0x40 != 0
        // IPv6 senders need not go below 1,280 bytes (RFC 8200 section 5).
        let told = isIPv6 ? max(entry.innerLimit, 1280) : entry.innerLimit
        let isTellable = mayNotBeCut && count > told
        if entry.joinsPieces {
            // TCP adapts and is faster whole; everything else may believe in the device's MTU.
            if isTellable, packet[isIPv6 ? 6 : 9] == TransportProtocol.tcp {
                tellTooLarge(packet, count: count, limit: told)
            }
            transmitPieces(packet, count: count, limit: entry.innerLimit, to: slot)
            return
        }
        if isTellable {
            tellTooLarge(packet, count: count, limit: told)
            drop(.tooLarge)
            return
        }
        guard let session = sendingSession(slot), let counter = session.reserve(1) else {
            hold(packet, count: count, for: slot)
            return
        }
        let bytes = seal(
            packet, count: count, limit: count, with: session, counter: counter, to: slot)
        recordSent(session, slot, packets: 1, bytes: UInt64(bytes))
    }

    private mutating func transmitPieces(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, limit: Int, to slot: Int32
    ) {
        guard let session = sendingSession(slot) else {
            hold(packet, count: count, for: slot)
            return
        }
        let first = count / 2
        guard count &- first &+ PieceHeader.count <= limit, let counter = session.reserve(2) else {
            drop(.tooLarge)
            return
        }
        var bytes = 0
        for index in 0..<2 {
            let length = index == 0 ? first : count &- first
            PieceHeader.write(scratch, isSecond: index == 1, length: length)
            memcpy(scratch + PieceHeader.count, index == 0 ? packet : packet + first, length)
            bytes &+= seal(
                scratch, count: length &+ PieceHeader.count, limit: limit, with: session,
                counter: counter &+ UInt64(index), to: slot)
        }
        recordSent(session, slot, packets: 2, bytes: UInt64(bytes))
    }

    /// Answers in the place of a router on the path (RFC 1191 section 4, RFC 4443 section 3.2).
    private mutating func tellTooLarge(_ packet: UnsafePointer<UInt8>, count: Int, limit: Int) {
        guard toldTooLargeAt == 0 || now &- toldTooLargeAt >= PacketWorker.tellingInterval else {
            return
        }
        let length = TooLargeAnswer.write(scratch, about: packet, count: count, limit: limit)
        guard length > 0 else { return }
        toldTooLargeAt = now
        writeAlone(scratch, count: length)
    }

    /// Lowers the largest segment that a TCP connection being made may use (RFC 9293 section
    /// 3.7.1), so that it never sends what the path does not carry.
    ///
    /// - Parameters:
    ///   - limit: The largest packet.
    ///   - isSummed: Whether the checksum is complete and must stay right.
    @inline(never)
    func clampSegmentSize(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, to limit: Int, isSummed: Bool
    ) {
        guard limit < mtu else { return }
        let isIPv6 = packet[0] >> 4 == 6
        let transport = isIPv6 ? 40 : Int(packet[0] & 15) &* 4
        let largest = limit &- (isIPv6 ? 60 : 40)
        guard packet[isIPv6 ? 6 : 9] == TransportProtocol.tcp, transport >= 20,
            count >= transport &+ 20,
            packet[transport &+ 13] & TransportProtocol.synchronize != 0
        else { return }
        let end = min(transport &+ Int(packet[transport &+ 12] >> 4) &* 4, count)
        var offset = transport &+ 20
        while offset < end {
            // End of the list, and no operation: the two options without a length.
            if packet[offset] == 0 { return }
            if packet[offset] == 1 {
                offset &+= 1
                continue
            }
            guard offset &+ 2 <= end else { return }
            let length = Int(packet[offset &+ 1])
            guard length >= 2, offset &+ length <= end else { return }
            if packet[offset] == 2, length == 4 {
                let asked = UnsafePointer(packet).network16(offset &+ 2)
                guard asked > largest else { return }
                packet.storeNetwork(UInt16(truncatingIfNeeded: largest), at: offset &+ 2)
                if isSummed {
                    let isOdd = (offset &- transport) & 1 == 1
                    replaceInSum(
                        packet + transport + 16, old: asked, new: largest, isOdd: isOdd)
                }
                return
            }
            offset &+= length
        }
    }

    /// RFC 1624, equation 3. At an odd offset a number's bytes belong to two words of the sum.
    private func replaceInSum(
        _ field: UnsafeMutablePointer<UInt8>, old: Int, new: Int, isOdd: Bool
    ) {
        var before = UInt16(truncatingIfNeeded: old)
        var after = UInt16(truncatingIfNeeded: new)
        if isOdd { (before, after) = (before.byteSwapped, after.byteSwapped) }
        let sum = ~UInt16(truncatingIfNeeded: UnsafePointer(field).network16(0))
        let folded = InternetChecksum.fold(UInt64(sum) &+ UInt64(~before) &+ UInt64(after))
        field.storeNetwork(~folded, at: 0)
    }

    /// An inner sender lowers its packets after one answer; a thousand a second suffice for many.
    private static var tellingInterval: UInt64 { 1_000_000 }
}

/// "Fragmentation needed" and "packet too big", as packets to the inner sender.
enum TooLargeAnswer {
    /// The longest answer: ICMPv6 quotes what fits the minimum MTU.
    static let capacity = 1280

    /// - Returns: The answer's bytes, written at `output`; 0 when none may be given.
    static func write(
        _ output: UnsafeMutablePointer<UInt8>, about packet: UnsafePointer<UInt8>, count: Int,
        limit: Int
    ) -> Int {
        packet[0] >> 4 == 6
            ? writeIPv6(output, about: packet, count: count, limit: limit)
            : writeIPv4(output, about: packet, count: count, limit: limit)
    }

    private static func writeIPv4(
        _ output: UnsafeMutablePointer<UInt8>, about packet: UnsafePointer<UInt8>, count: Int,
        limit: Int
    ) -> Int {
        let header = Int(packet[0] & 15) * 4
        // Never about later fragments, groups, or errors (RFC 1122 section 3.2.2).
        guard count >= header + 8, packet.network16(6) & 0x1FFF == 0, packet[16] < 224,
            packet[9] != TransportProtocol.icmp || packet[header] == 8 || packet[header] == 0
        else { return 0 }
        // As much as makes 576 bytes (RFC 1812 section 4.3.2.3).
        let quoted = min(count, 576 - 28)
        let total = 28 + quoted
        memset(output, 0, 28)
        output[0] = 0x45
        output.storeNetwork(UInt16(total), at: 2)
        output[8] = 64
        output[9] = TransportProtocol.icmp
        // From the address that the packet was for, which only the tunnel reaches: an address of
        // this machine would not be taken from outside.
        memcpy(output + 12, packet + 16, 4)
        memcpy(output + 16, packet + 12, 4)
        InternetChecksum.writeIPv4Header(output, count: 20)
        output[20] = 3
        output[21] = 4
        output.storeNetwork(UInt16(truncatingIfNeeded: limit), at: 26)
        memcpy(output + 28, packet, quoted)
        let sum = InternetChecksum.fold(
            InternetChecksum.add(output + 20, count: total - 20, to: 0))
        UnsafeMutableRawPointer(output).storeBytes(of: ~sum, toByteOffset: 22, as: UInt16.self)
        return total
    }

    private static func writeIPv6(
        _ output: UnsafeMutablePointer<UInt8>, about packet: UnsafePointer<UInt8>, count: Int,
        limit: Int
    ) -> Int {
        // Never about errors (RFC 4443 section 2.4); a group may be told.
        guard count >= 48, packet[6] != TransportProtocol.icmp6 || packet[40] >= 128 else {
            return 0
        }
        let quoted = min(count, capacity - 48)
        memset(output, 0, 48)
        output[0] = 0x60
        output.storeNetwork(UInt16(8 + quoted), at: 4)
        output[6] = TransportProtocol.icmp6
        output[7] = 64
        memcpy(output + 8, packet + 24, 16)
        memcpy(output + 24, packet + 8, 16)
        output[40] = 2
        output.storeNetwork(UInt32(truncatingIfNeeded: limit), at: 44)
        memcpy(output + 48, packet, quoted)
        let pseudo = InternetChecksum.pseudoHeader(
            output, isIPv6: true, transport: TransportProtocol.icmp6, count: 8 + quoted)
        let sum = InternetChecksum.fold(
            InternetChecksum.add(output + 40, count: 8 + quoted, to: pseudo))
        UnsafeMutableRawPointer(output).storeBytes(of: ~sum, toByteOffset: 42, as: UInt16.self)
        return 48 + quoted
    }
}
