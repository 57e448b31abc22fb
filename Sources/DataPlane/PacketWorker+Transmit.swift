import CLinux
import Glibc
import LinuxIO
import WireGuard

// Device to network: read, route, cut, seal, gather, send.
extension PacketWorker {
    /// Whether there was anything to read.
    @inline(never)
    mutating func drainDevice() -> Bool {
        var reads = 0
        while reads < PacketWorker.readsPerRound {
            let count = queue.read(into: readBuffer, capacity: PacketWorker.readCapacity)
            if count <= 0 {
                // The device was deleted under us: stop polling it, keep serving control.
                if count == Int(-EBADFD) { hasDevice = false }
                break
            }
            reads &+= 1
            transmit(count)
        }
        if reads > 0 { flushOutgoing() }
        return reads > 0
    }

    /// Routes what is in the read buffer: `count` bytes of virtio header and packet.
    @inline(__always)
    private mutating func transmit(_ count: Int) {
        let packet = readBuffer + VirtioHeader.count
        let length = count &- VirtioHeader.count
        guard length >= 20, let slot = destination(packet, count: length) else {
            drop(.malformedFromDevice)
            return
        }
        guard slot >= 0 else {
            drop(.noRoute)
            return
        }
        if readBuffer[1] == VirtioHeader.none {
            transmitWhole(packet, count: length, to: slot)
        } else {
            transmitSegments(packet, count: length, to: slot)
        }
    }

    @inline(__always)
    private func destination(_ packet: UnsafePointer<UInt8>, count: Int) -> Int32? {
        switch packet[0] >> 4 {
        case 4: return view.routes.slot4(packet.network32(16))
        case 6 where count >= 40: return view.routes.slot6(packet.network128(24))
        default: return nil
        }
    }

    @inline(__always)
    private mutating func transmitWhole(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, to slot: Int32
    ) {
        let limit = view.peers[Int(slot)].innerLimit
        if limit < mtu {
            clampSegmentSize(
                packet, count: count, to: limit,
                isSummed: readBuffer[0] & VirtioHeader.needsChecksum == 0)
        }
        if readBuffer[0] & VirtioHeader.needsChecksum != 0 {
            guard completeChecksum(packet, count: count) else {
                drop(.malformedFromDevice)
                return
            }
        }
        guard count <= limit else {
            transmitLarge(packet, count: count, to: slot)
            return
        }
        guard let session = sendingSession(slot), let counter = session.reserve(1) else {
            hold(packet, count: count, for: slot)
            return
        }
        let bytes = seal(
            packet, count: count, limit: limit, with: session, counter: counter, to: slot)
        recordSent(session, slot, packets: 1, bytes: UInt64(bytes))
    }

    @inline(__always)
    private mutating func transmitSegments(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, to slot: Int32
    ) {
        guard
            let segmentation = Segmentation(
                header: readBuffer, packet: packet, count: count, template: template)
        else {
            drop(.malformedFromDevice)
            return
        }
        let packets = segmentation.count
        guard let session = sendingSession(slot), let first = session.reserve(UInt64(packets))
        else {
            for index in 0..<packets {
                let (start, length) = segmentation.write(index)
                hold(start, count: length, for: slot)
            }
            return
        }
        let limit = view.peers[Int(slot)].innerLimit
        var index = 0
        var bytes = 0
        while index < packets {
            let (start, length) = segmentation.write(index)
            if length <= limit {
                let counter = first &+ UInt64(truncatingIfNeeded: index)
                bytes &+= seal(
                    start, count: length, limit: limit, with: session, counter: counter, to: slot)
            } else {
                transmitLarge(start, count: length, to: slot)
            }
            index &+= 1
        }
        recordSent(session, slot, packets: UInt64(packets), bytes: UInt64(bytes))
    }

    /// The checksum that the kernel left to the device: the pseudo header is in it already.
    @inline(__always)
    private func completeChecksum(_ packet: UnsafeMutablePointer<UInt8>, count: Int) -> Bool {
        let start = VirtioHeader.checksumStart(readBuffer)
        let field = start &+ VirtioHeader.checksumOffset(readBuffer)
        guard start >= 20, field &+ 2 <= count else { return false }
        var sum = ~InternetChecksum.fold(
            InternetChecksum.add(packet + start, count: count &- start, to: 0))
        if sum == 0 { sum = 0xFFFF }
        UnsafeMutableRawPointer(packet + field).storeBytes(of: sum, as: UInt16.self)
        return true
    }

    /// The session to send with, if there is one and an address to send to.
    @inline(__always)
    func sendingSession(_ slot: Int32) -> SessionHandle? {
        let index = Int(slot)
        guard peers[index].hasEndpoint, let session = view.peers[index].session,
            session.isUsable(at: now)
        else { return nil }
        return session
    }

    @inline(__always)
    func recordSent(
        _ session: SessionHandle, _ slot: Int32, packets: UInt64, bytes: UInt64
    ) {
        session.noteSent(packets: packets, bytes: bytes, hasData: true, at: now)
        counters[Int(slot)].sentPackets.add(packets)
        counters[Int(slot)].sentBytes.add(bytes)
    }

    /// Seals into the batch; the bytes of the datagram. The 15 bytes behind the packet are lent
    /// for padding and come back unchanged.
    @inline(__always)
    mutating func seal(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, limit: Int, with session: SessionHandle,
        counter: UInt64, to slot: Int32
    ) -> Int {
        // To a multiple of 16, but not beyond the MTU ("WireGuard" section 5.4.6).
        let padded = max(count, min((count &+ 15) & ~15, limit))
        let total = padded &+ SessionHandle.overhead
        let address = endpoints + Int(slot)
        let channel = peers[Int(slot)].channel
        let header = channel == 0 ? 0 : RelayHeader.count
        var room = outgoing.append(total &+ header, to: slot, at: address)
        if room == nil {
            flushOutgoing()
            room = outgoing.append(total &+ header, to: slot, at: address)
        }
        guard let room else { return 0 }
        if channel != 0 { RelayHeader.write(channel, to: room) }
        let output = room + header
        if padded == count {
            session.seal(cipher, counter: counter, packet, count: count, to: output)
        } else {
            let tail = UnsafeMutableRawPointer(packet + count)
            let saved = tail.loadUnaligned(as: SIMD16<UInt8>.self)
            var offset = 0
            while count &+ offset < padded {
                packet[count &+ offset] = 0
                offset &+= 1
            }
            session.seal(cipher, counter: counter, packet, count: padded, to: output)
            tail.storeBytes(of: saved, as: SIMD16<UInt8>.self)
        }
        return total
    }

    /// Sends the batch. The kernel's refusal of one message does not hold up the others.
    @inline(never)
    mutating func flushOutgoing() {
        var position = 0
        var patience = 3
        while position < outgoing.messageCount {
            let message = outgoing.messages + position
            let sent = socket.send(message, count: outgoing.messageCount &- position)
            if sent > 0 {
                position &+= sent
                continue
            }
            switch Int32(truncatingIfNeeded: -sent) {
            case EINTR: continue
            case EAGAIN where patience > 0, ENOBUFS where patience > 0:
                // A full socket empties at the speed of the link; longer than this it is stuck.
                patience &-= 1
                socket.waitUntilWritable(milliseconds: 2)
            case EIO, EINVAL, EMSGSIZE:
                // This route cannot cut messages, or a datagram exceeds its MTU; one by one, the
                // kernel may fragment them.
                sendSingly(message.pointee)
                position &+= 1
            default:
                drop(.sendFailed)
                position &+= 1
            }
        }
        outgoing.clear()
    }

    private mutating func sendSingly(_ message: clinux_outgoing) {
        var offset: UInt32 = 0
        while offset < message.count {
            var single = message
            single.bytes = message.bytes + Int(offset)
            single.count = min(message.segment, message.count - offset)
            single.segment = 0
            if socket.send(&single, count: 1) != 1 { drop(.sendFailed) }
            offset += message.segment
        }
    }

    // MARK: - Waiting for a session

    @inline(never)
    mutating func hold(_ packet: UnsafePointer<UInt8>, count: Int, for slot: Int32) {
        let index = Int(slot)
        let queue = queues + index
        if queue.pointee.count > 0, now &- queue.pointee.since > PacketWorker.patience {
            waiting.removeAll(of: queue, slot: slot)
        }
        if waiting.isFull { evictStalest() }
        if !waiting.append(packet, count: count, to: queue, of: slot, at: now) {
            drop(.waitingQueueFull)
        }
        let state = peers + index
        if state.pointee.wantedAt != 0, now &- state.pointee.wantedAt < PacketWorker.reminder {
            return
        }
        let peer = PeerSlot(index: slot, generation: state.pointee.generation)
        if report(EventHeader(.sessionWanted, peer: peer)) { state.pointee.wantedAt = now }
    }

    /// Gives the room of the peer that has waited longest to one that came later, so that peers
    /// who never answer cannot take it all.
    private mutating func evictStalest() {
        var stalest: Int32 = -1
        var since = UInt64.max
        for position in 0..<waiting.waitingCount {
            let slot = waiting.waiting[position]
            let candidate = queues[Int(slot)].since
            if candidate < since {
                since = candidate
                stalest = slot
            }
        }
        guard stalest >= 0 else { return }
        let queue = queues + Int(stalest)
        drop(.waitingQueueFull, UInt64(queue.pointee.count))
        waiting.removeAll(of: queue, slot: stalest)
    }

    /// Sends what waited for peers that have a session now.
    mutating func sendWaiting() {
        var position = 0
        while position < waiting.waitingCount {
            let slot = waiting.waiting[position]
            guard let session = sendingSession(slot) else {
                position += 1
                continue
            }
            // Emptying a queue puts another slot at this position.
            let queue = queues + Int(slot)
            let isStale = now &- queue.pointee.since > PacketWorker.patience
            while let (packet, count) = waiting.popFirst(of: queue, slot: slot) {
                let limit = view.peers[Int(slot)].innerLimit
                if !isStale, count > limit {
                    transmitLarge(packet, count: count, to: slot)
                    continue
                }
                guard !isStale, let counter = session.reserve(1) else { continue }
                let bytes = seal(
                    packet, count: count, limit: limit, with: session, counter: counter, to: slot)
                recordSent(session, slot, packets: 1, bytes: UInt64(bytes))
            }
            peers[Int(slot)].wantedAt = 0
        }
        flushOutgoing()
    }

    /// REKEY_ATTEMPT_TIME: after 90 s without a session, what waited is no longer wanted.
    private static var patience: UInt64 { 90_000_000_000 }
    /// A lost report is repeated when the next packet comes, a second later.
    private static var reminder: UInt64 { 1_000_000_000 }
}
