import CLinux
import LinuxIO
import WireGuard

// Datagrams that no session vouches for: to control, as many as it can bear.
extension PacketWorker {
    @inline(never)
    mutating func receiveOther(
        _ datagram: UnsafePointer<UInt8>, count: Int, from message: UnsafePointer<clinux_incoming>
    ) {
        guard DatagramFilter.mayConcernControl(datagram, count: count) else {
            drop(.unrecognized)
            gate.count(isRefused: true, at: now)
            return
        }
        guard isAdmitted(message.pointee.from, isHandshake: DatagramFilter.isHandshake(datagram))
        else {
            drop(.controlRingFull)
            return
        }
        let header = EventHeader(
            .datagram, address: message.pointee.from, count: count, arrival: now)
        if shared.outside.push(header, datagram) {
            hasEvents = true
        } else {
            drop(.controlRingFull)
        }
    }

    private mutating func isAdmitted(_ source: clinux_address, isHandshake: Bool) -> Bool {
        let isAdmitted: Bool
        if gate.shift > 0 {
            if sources.contains(source) { return fromPeers.admits(source, at: now) }
            isAdmitted = strangers.admits(source, at: now)
        } else if isHandshake {
            isAdmitted = handshakes.admits(source, at: now)
        } else {
            isAdmitted = envelopes.admits(source, at: now)
        }
        gate.count(isRefused: !isAdmitted, at: now)
        return isAdmitted
    }

    /// Ends a window of the gate. While a flood lasts, the kernel is told anew where peers are.
    @inline(never)
    mutating func tendGate() {
        let hasChanged = gate.turn(at: now, greatest: DatagramSampling.greatestShift)
        guard gate.shift > 0 else {
            if hasChanged { DatagramSampling.detach(from: socket) }
            return
        }
        sources.removeAll()
        sampling.forgetSources()
        for index in 0..<min(view.peerCount, peerCapacity) where peers[index].hasEndpoint {
            sources.insert(endpoints[index])
            sampling.know(endpoints[index])
        }
        // Without the filter the limits hold, at a higher price.
        _ = sampling.attach(
            to: socket, shift: gate.shift, wanted: (SessionHandle.typeWord, RelayHeader.magic))
    }
}
