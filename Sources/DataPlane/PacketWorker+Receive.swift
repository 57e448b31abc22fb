import CLinux
import LinuxIO
import WireGuard

// Network to device, first half: receive, classify, open, refuse, check the source.
extension PacketWorker {
    /// Whether anything arrived.
    @inline(never)
    mutating func receive() -> Bool {
        let count = socket.receive(incoming, count: PacketWorker.receivedPerRound)
        if count <= 0 { return false }
        pieces.batch &+= 1
        var index = 0
        while index < count {
            receiveMessage(index)
            index &+= 1
        }
        writeFlows()
        return true
    }

    /// Takes apart one message of equal datagrams, the last perhaps shorter.
    @inline(__always)
    private mutating func receiveMessage(_ index: Int) {
        let message = incoming + index
        let total = Int(message.pointee.count)
        let segment = max(Int(message.pointee.segment), 1)
        let base = index &* PacketWorker.messageCapacity
        if message.pointee.is_truncated != 0 {
            drop(.unrecognized)
            return
        }
        if RelayHeader.matches(UnsafePointer(received + base), count: total), carryOn(message) {
            return
        }
        var offset = 0
        while offset < total {
            let count = min(segment, total &- offset)
            let datagram = received + (base &+ offset)
            if SessionHandle.isTransport(datagram, count: count) {
                receivePacket(datagram, count: count, from: message)
            } else if !RelayHeader.matches(datagram, count: count)
                || !unwrap(datagram, count: count, from: message)
            {
                receiveOther(datagram, count: count, from: message)
            }
            offset &+= count
        }
        // The next message may come from elsewhere.
        endRun()
    }

    @inline(__always)
    mutating func receivePacket(
        _ datagram: UnsafeMutablePointer<UInt8>, count: Int,
        from message: UnsafePointer<clinux_incoming>
    ) {
        let localIndex = SessionHandle.receiverIndex(datagram)
        if current.session == nil || current.localIndex != localIndex {
            guard beginRun(localIndex) else { return }
        }
        guard let session = current.session else { return }
        let output = datagram + SessionHandle.headerCount
        guard session.open(cipher, datagram, count: count, to: output) else {
            drop(.notAuthentic)
            return
        }
        guard session.accept(SessionHandle.counter(datagram)) else {
            drop(.replayed)
            return
        }
        // From here on the packet is the peer's, new, and counts.
        let length = count &- SessionHandle.overhead
        current.packets &+= 1
        current.bytes &+= UInt64(truncatingIfNeeded: count)
        if !current.isSourceKnown { noteSource(message) }
        guard length > 0 else { return }
        current.hasData = true
        deliver(output, count: length, counter: SessionHandle.counter(datagram))
    }

    /// - Parameter counter: Of the datagram that the packet came in.
    @inline(__always)
    private mutating func deliver(
        _ packet: UnsafeMutablePointer<UInt8>, count: Int, counter: UInt64
    ) {
        let bytes = UnsafePointer(packet)
        let length: Int
        let source: Int32
        switch packet[0] >> 4 {
        case 4:
            length = count >= 20 ? bytes.network16(2) : 0
            guard length >= 20, length <= count else {
                drop(.malformedPayload)
                return
            }
            source = view.routes.slot4(bytes.network32(12))
        case 6:
            length = count >= 40 ? bytes.network16(4) &+ 40 : 0
            guard length >= 40, length <= count else {
                drop(.malformedPayload)
                return
            }
            source = view.routes.slot6(bytes.network128(8))
        default:
            deliverOther(packet, count: count, counter: counter)
            return
        }
        guard source == current.slot else {
            drop(.wrongSource)
            return
        }
        guard hasDevice else {
            drop(.deviceRefused)
            return
        }
        gather(packet, count: length)
    }

    /// Takes what is not IP: control's own, or a piece of a packet.
    @inline(never)
    private mutating func deliverOther(
        _ payload: UnsafeMutablePointer<UInt8>, count: Int, counter: UInt64
    ) {
        guard payload[0] & PieceHeader.mask == PieceHeader.marker else {
            deliverControl(payload, count: count)
            return
        }
        // What waits in a flow may lie where the joined packet goes.
        if pieces.nextIsInUse { writeFlows() }
        switch pieces.take(payload, count: count, session: current.localIndex, counter: counter) {
        case .joined(let packet, let length): deliverJoined(packet, count: length)
        case .waits(let hasReplaced): if hasReplaced { drop(.pieceWithoutOther) }
        case .malformed: drop(.malformedPayload)
        }
    }

    /// A joined packet cannot be a piece again.
    @inline(never)
    private mutating func deliverJoined(_ packet: UnsafeMutablePointer<UInt8>, count: Int) {
        guard packet[0] & PieceHeader.mask != PieceHeader.marker else {
            drop(.malformedPayload)
            return
        }
        deliver(packet, count: count, counter: 0)
    }

    @inline(never)
    private mutating func deliverControl(_ frame: UnsafePointer<UInt8>, count: Int) {
        let peer = PeerSlot(
            index: current.slot, generation: peers[Int(current.slot)].generation)
        if !report(EventHeader(.controlFrame, peer: peer, count: count), frame) {
            drop(.controlRingFull)
        }
    }

    /// Looks up the session of the packets that follow; `false` when there is none to use.
    @inline(never)
    private mutating func beginRun(_ localIndex: UInt32) -> Bool {
        endRun()
        let position = view.sessions.find(localIndex)
        guard position >= 0, let session = view.sessions.entries[position].session else {
            drop(.unknownSession)
            return false
        }
        guard session.isUsable(at: now) else {
            drop(.expiredSession)
            return false
        }
        current.localIndex = localIndex
        current.slot = view.sessions.entries[position].slot
        current.session = session
        return true
    }

    /// Records the run and forgets it.
    @inline(__always)
    private mutating func endRun() {
        if let session = current.session, current.packets > 0 {
            session.noteReceived(
                packets: current.packets, bytes: current.bytes, hasData: current.hasData, at: now)
            counters[Int(current.slot)].receivedPackets.add(current.packets)
            counters[Int(current.slot)].receivedBytes.add(current.bytes)
        }
        current = ReceiveRun()
    }

    /// The first authentic packet of a run: where it came from, and whether its session is new.
    @inline(never)
    private mutating func noteSource(_ message: UnsafePointer<clinux_incoming>) {
        current.isSourceKnown = true
        let state = peers + Int(current.slot)
        let peer = PeerSlot(index: current.slot, generation: state.pointee.generation)
        let position = view.sessions.find(current.localIndex)
        if position >= 0, view.sessions.entries[position].awaitsConfirmation {
            let isRepeated =
                state.pointee.confirmedIndex == current.localIndex
                && now &- state.pointee.confirmedAt < PacketWorker.confirmationInterval
            if !isRepeated,
                report(EventHeader(.sessionConfirmed, peer: peer, localIndex: current.localIndex))
            {
                state.pointee.confirmedIndex = current.localIndex
                state.pointee.confirmedAt = now
            }
        }
        let source = message.pointee.from
        if state.pointee.hasEndpoint, sameAddress(state.pointee.address, source) { return }
        if followsSources {
            endpoints[Int(current.slot)] = source
            state.pointee.address = source
            state.pointee.channel = 0
            state.pointee.hasEndpoint = true
        } else {
            let isTold =
                sameAddress(state.pointee.reported, source)
                && now &- state.pointee.reportedAt < PacketWorker.sourceInterval
            if isTold { return }
            state.pointee.reported = source
            state.pointee.reportedAt = now
        }
        if !report(EventHeader(.endpointMoved, peer: peer, address: source)) {
            drop(.controlRingFull)
        }
    }

    /// Control answers a confirmation with a new table; if it lost it, it is told again.
    private static var sourceInterval: UInt64 { 1_000_000_000 }
    private static var confirmationInterval: UInt64 { 100_000_000 }
}
