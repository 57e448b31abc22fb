import Glibc
import LinuxIO

// Network to device, second half: gather runs of one flow, write each as one.
extension PacketWorker {
    /// Takes a checked IP packet of `count` bytes; it is written now or by ``writeFlows()``.
    @inline(__always)
    package mutating func gather(_ packet: UnsafeMutablePointer<UInt8>, count: Int) {
        let isIPv6 = packet[0] >> 4 == 6
        let transport = isIPv6 ? 40 : 20
        let kind = isIPv6 ? packet[6] : packet[9]
        let isTCP = kind == TransportProtocol.tcp
        // Options and fragments are rare and stay as they are.
        let isPlain =
            isIPv6 || (packet[0] == 0x45 && UnsafePointer(packet).network16(6) & 0x3FFF == 0)
        guard isPlain, isTCP ? count >= transport &+ 20 : count >= transport &+ 8,
            isTCP || (kind == TransportProtocol.udp && offloadsUDP)
        else {
            writeAlone(packet, count: count)
            return
        }
        gatherTransport(packet, count: count, isIPv6: isIPv6, isTCP: isTCP, transport: transport)
    }

    @inline(__always)
    private mutating func gatherTransport(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, isIPv6: Bool, isTCP: Bool,
        transport: Int
    ) {
        let bytes = UnsafePointer(packet)
        let hash = flowHash(bytes, isIPv6: isIPv6, transport: transport)
        let header = transport &+ (isTCP ? Int(bytes[transport &+ 12] >> 4) &* 4 : 8)
        let payload = count &- header
        let flags = isTCP ? bytes[transport &+ 13] : 0
        let isEligible: Bool
        if isTCP {
            isEligible =
                header >= transport &+ 20 && payload > 0
                && flags & ~TransportProtocol.push == TransportProtocol.acknowledge
        } else {
            isEligible =
                payload > 0 && bytes.network16(transport &+ 4) == count &- transport
                && bytes.network16(transport &+ 6) != 0
        }
        let index = flows.find(
            bytes, isIPv6: isIPv6, isTCP: isTCP, transport: transport, hash: hash)
        if index >= 0 {
            if isEligible,
                join(index, packet, count: count, header: header, payload: payload, flags: flags)
            {
                return
            }
            // Order within a flow is kept.
            writeFlow(index)
            flows.remove(index)
        }
        guard isEligible else {
            if flags & TransportProtocol.synchronize != 0 {
                clampSegmentSize(
                    packet, count: count, to: view.peers[Int(current.slot)].innerLimit,
                    isSummed: true)
            }
            writeAlone(packet, count: count)
            return
        }
        if flows.count == FlowTable.capacity { writeFlows() }
        let isPushed = flags & TransportProtocol.push != 0
        flows.append(
            Flow(
                head: packet, isIPv6: isIPv6, isTCP: isTCP, transport: transport,
                headerCount: header, segmentSize: payload, total: count,
                nextSequence: isTCP
                    ? bytes.network32(transport &+ 4) &+ UInt32(truncatingIfNeeded: payload) : 0,
                hash: hash, isClosed: isPushed, hasPush: isPushed, isVerified: false,
                vectorCount: 0))
    }

    /// Appends a packet to a flow if it continues it in every respect that the kernel's own
    /// receive offload asks for.
    @inline(__always)
    private mutating func join(
        _ index: Int, _ packet: UnsafeMutablePointer<UInt8>, count: Int, header: Int,
        payload: Int, flags: UInt8
    ) -> Bool {
        let flow = flows.flows + index
        let transport = flow.pointee.transport
        let bytes = UnsafePointer(packet)
        let head = UnsafePointer(flow.pointee.head)
        guard !flow.pointee.isClosed, header == flow.pointee.headerCount,
            payload <= flow.pointee.segmentSize,
            flow.pointee.total &+ payload <= PacketWorker.largestPacket,
            flow.pointee.vectorCount < FlowTable.vectorsPerFlow,
            hasSameNetworkHeader(head, bytes, isIPv6: flow.pointee.isIPv6)
        else { return false }
        if flow.pointee.isTCP {
            // Acknowledgement, offset, window and options; sequence and push aside.
            guard bytes.network32(transport &+ 4) == flow.pointee.nextSequence,
                head.equals(bytes, at: transport &+ 8, count: 4),
                head[transport &+ 12] == bytes[transport &+ 12],
                head.network16(transport &+ 14) == bytes.network16(transport &+ 14),
                head.equals(bytes, at: transport &+ 20, count: header &- transport &- 20)
            else { return false }
        }
        if !flow.pointee.isVerified {
            // The whole will go out under a checksum that the kernel trusts.
            guard
                hasRightChecksum(
                    head, count: header &+ flow.pointee.segmentSize, isIPv6: flow.pointee.isIPv6,
                    isTCP: flow.pointee.isTCP, transport: transport)
            else { return false }
            flow.pointee.isVerified = true
        }
        guard
            hasRightChecksum(
                bytes, count: count, isIPv6: flow.pointee.isIPv6, isTCP: flow.pointee.isTCP,
                transport: transport)
        else { return false }
        flows.vectors(index)[flow.pointee.vectorCount] =
            iovec(iov_base: packet + header, iov_len: payload)
        flow.pointee.vectorCount &+= 1
        flow.pointee.total &+= payload
        flow.pointee.nextSequence &+= UInt32(truncatingIfNeeded: payload)
        flow.pointee.hasPush = flags & TransportProtocol.push != 0
        flow.pointee.isClosed = flow.pointee.hasPush || payload < flow.pointee.segmentSize
        return true
    }

    /// Type of service or class and flow label, hop limit, and the fragmentation flags.
    @inline(__always)
    private func hasSameNetworkHeader(
        _ first: UnsafePointer<UInt8>, _ second: UnsafePointer<UInt8>, isIPv6: Bool
    ) -> Bool {
        if isIPv6 { return first.equals(second, at: 0, count: 4) && first[7] == second[7] }
        return first[1] == second[1] && first[6] == second[6] && first[8] == second[8]
    }

    @inline(__always)
    private func hasRightChecksum(
        _ packet: UnsafePointer<UInt8>, count: Int, isIPv6: Bool, isTCP: Bool, transport: Int
    ) -> Bool {
        let pseudo = InternetChecksum.pseudoHeader(
            packet, isIPv6: isIPv6,
            transport: isTCP ? TransportProtocol.tcp : TransportProtocol.udp,
            count: count &- transport)
        let sum = InternetChecksum.add(packet + transport, count: count &- transport, to: pseudo)
        return InternetChecksum.fold(sum) == 0xFFFF
    }

    @inline(__always)
    private func flowHash(
        _ packet: UnsafePointer<UInt8>, isIPv6: Bool, transport: Int
    ) -> UInt32 {
        let ports = packet.network32(transport)
        let source = packet.network32(isIPv6 ? 20 : 12)
        let destination = packet.network32(isIPv6 ? 36 : 16)
        return ports ^ source &* 0x9E37_79B1 ^ destination &* 0x85EB_CA6B
    }

    /// Writes all flows of the batch.
    @inline(never)
    package mutating func writeFlows() {
        var index = 0
        while index < flows.count {
            writeFlow(index)
            index &+= 1
        }
        flows.removeAll()
    }

    @inline(never)
    private mutating func writeFlow(_ index: Int) {
        let flow = flows.flows + index
        let header = flows.header(index)
        if flow.pointee.vectorCount == 2 {
            VirtioHeader.writePlain(header)
        } else {
            finish(flow, header)
        }
        write(flows.vectors(index), count: flow.pointee.vectorCount)
    }

    /// Turns the first packet's headers into those of the whole.
    @inline(__always)
    private func finish(
        _ flow: UnsafeMutablePointer<Flow>, _ header: UnsafeMutablePointer<UInt8>
    ) {
        let head = flow.pointee.head
        let transport = flow.pointee.transport
        let total = flow.pointee.total
        let type: UInt8
        if flow.pointee.isIPv6 {
            head.storeNetwork(UInt16(truncatingIfNeeded: total &- 40), at: 4)
            type = VirtioHeader.tcp6
        } else {
            head.storeNetwork(UInt16(truncatingIfNeeded: total), at: 2)
            InternetChecksum.writeIPv4Header(head, count: 20)
            type = VirtioHeader.tcp4
        }
        let isTCP = flow.pointee.isTCP
        if isTCP {
            if flow.pointee.hasPush { head[transport &+ 13] |= TransportProtocol.push }
        } else {
            head.storeNetwork(UInt16(truncatingIfNeeded: total &- transport), at: transport &+ 4)
        }
        let offset = isTCP ? 16 : 6
        let pseudo = InternetChecksum.pseudoHeader(
            head, isIPv6: flow.pointee.isIPv6,
            transport: isTCP ? TransportProtocol.tcp : TransportProtocol.udp,
            count: total &- transport)
        UnsafeMutableRawPointer(head + transport + offset).storeBytes(
            of: InternetChecksum.fold(pseudo), as: UInt16.self)
        VirtioHeader.write(
            header, type: isTCP ? type : VirtioHeader.udp, headerCount: flow.pointee.headerCount,
            segmentSize: flow.pointee.segmentSize, checksumStart: transport,
            checksumOffset: offset)
    }

    @inline(never)
    mutating func writeAlone(_ packet: UnsafeMutablePointer<UInt8>, count: Int) {
        var header: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &header) { zeroes in
            var vectors = (
                iovec(iov_base: zeroes.baseAddress, iov_len: VirtioHeader.count),
                iovec(iov_base: packet, iov_len: count)
            )
            withUnsafeBytes(of: &vectors) { raw in
                guard let start = raw.baseAddress else { return }
                write(start.assumingMemoryBound(to: iovec.self), count: 2)
            }
        }
    }

    @inline(__always)
    private func write(_ vectors: UnsafePointer<iovec>, count: Int) {
        if queue.write(vectors, count: count) < 0 { drop(.deviceRefused) }
    }

    private static var largestPacket: Int { 65_535 }
}
