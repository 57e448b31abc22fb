import CLinux
import Glibc
import LinuxIO
import WireGuard

// Relayed datagrams: on to the other end, or out of their envelope.
extension PacketWorker {
    /// Takes a whole message of relayed datagrams on one channel that this node carries, and sends
    /// it on from where it lies; `false` if it is something else.
    @inline(never)
    mutating func carryOn(_ message: UnsafeMutablePointer<clinux_incoming>) -> Bool {
        guard let base = UnsafePointer(message.pointee.bytes) else { return false }
        let total = Int(message.pointee.count)
        let channel = RelayHeader.channel(base)
        let position = view.channels.find(channel)
        guard position >= 0, view.channels.entries[position].isCarried else { return false }
        let segment = max(Int(message.pointee.segment), 1)
        var offset = segment
        while offset < total {
            guard RelayHeader.matches(base + offset, count: total &- offset),
                RelayHeader.channel(base + offset) == channel
            else { return false }
            offset &+= segment
        }
        let ends = view.channels.entries + position
        var outgoing = clinux_outgoing()
        if sameAddress(ends.pointee.first, message.pointee.from) {
            outgoing.to = ends.pointee.second
        } else if sameAddress(ends.pointee.second, message.pointee.from) {
            outgoing.to = ends.pointee.first
        } else {
            // An end that moved, or somebody else: control knows.
            return false
        }
        guard allowance.spend(total, rate: view.channels.bytesPerSecond, at: now) else {
            drop(.relayBudgetSpent)
            return true
        }
        outgoing.bytes = base
        outgoing.count = UInt32(truncatingIfNeeded: total)
        outgoing.segment = total > segment ? UInt32(truncatingIfNeeded: segment) : 0
        if socket.send(&outgoing, count: 1) != 1 { drop(.sendFailed) }
        return true
    }

    /// One relayed datagram for this node; `false` if no channel of ours brings it.
    @inline(never)
    mutating func unwrap(
        _ datagram: UnsafeMutablePointer<UInt8>, count: Int,
        from message: UnsafeMutablePointer<clinux_incoming>
    ) -> Bool {
        let position = view.channels.find(RelayHeader.channel(datagram))
        guard position >= 0, !view.channels.entries[position].isCarried,
            sameAddress(view.channels.entries[position].first, message.pointee.from)
        else { return false }
        let inner = datagram + RelayHeader.count
        let length = count &- RelayHeader.count
        guard SessionHandle.isTransport(inner, count: length) else { return false }
        let relay = message.pointee.from
        message.pointee.from = view.channels.entries[position].second
        receivePacket(inner, count: length, from: message)
        message.pointee.from = relay
        return true
    }
}
