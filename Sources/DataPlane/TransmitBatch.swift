import CLinux

/// Sealed datagrams that leave in one system call: runs to one destination of equal size (the
/// last of a run may be shorter), each a message that the kernel cuts (UDP_SEGMENT).
struct TransmitBatch: ~Copyable {
    let arena: UnsafeMutablePointer<UInt8>
    let messages: UnsafeMutablePointer<clinux_outgoing>
    private(set) var messageCount = 0
    private var used = 0
    /// Whether the last message takes more datagrams, and for which peer.
    private var isOpen = false
    private var openSlot = RouteTable.none
    private var openDatagrams = 0
    /// Two whole messages.
    static let capacity = 2 * maximumMessage
    static let maximumMessages = Int(CLINUX_SEND_LIMIT)
    /// What every kernel with UDP_SEGMENT takes (UDP_MAX_SEGMENTS).
    static let maximumDatagrams = 64
    /// A message and the headers of Ethernet, IPv6 and UDP must stay below 64 KiB: devices cut
    /// larger ones in software. 45 packets of the usual MTU fit.
    static let maximumMessage = 65_400

    init() {
        let bytes = PacketMemory.touched(TransmitBatch.capacity)
        arena = bytes.bindMemory(to: UInt8.self, capacity: TransmitBatch.capacity)
        messages = PacketMemory.touched(TransmitBatch.maximumMessages, of: clinux_outgoing())
    }

    deinit {
        arena.deallocate()
        messages.deallocate()
    }

    /// Room for one datagram of `count` bytes; `nil` when the batch must be sent first.
    @inline(__always)
    mutating func append(
        _ count: Int, to slot: Int32, at endpoint: UnsafePointer<clinux_address>
    ) -> UnsafeMutablePointer<UInt8>? {
        if used &+ count > TransmitBatch.capacity { return nil }
        let output = arena + used
        if isOpen, slot == openSlot {
            let message = messages + (messageCount &- 1)
            let segment = Int(message.pointee.segment)
            let total = Int(message.pointee.count) &+ count
            if count <= segment, total <= TransmitBatch.maximumMessage,
                openDatagrams < TransmitBatch.maximumDatagrams
            {
                message.pointee.count = UInt32(truncatingIfNeeded: total)
                used &+= count
                openDatagrams &+= 1
                isOpen = count == segment
                return output
            }
        }
        // A message that cannot grow to its full size would cost as much as one that can.
        if messageCount == TransmitBatch.maximumMessages
            || used > TransmitBatch.capacity &- TransmitBatch.maximumMessage
        {
            return nil
        }
        let message = messages + messageCount
        message.pointee.bytes = UnsafePointer(output)
        message.pointee.count = UInt32(truncatingIfNeeded: count)
        message.pointee.segment = UInt32(truncatingIfNeeded: count)
        message.pointee.to = endpoint.pointee
        messageCount &+= 1
        used &+= count
        isOpen = true
        openSlot = slot
        openDatagrams = 1
        return output
    }

    mutating func clear() {
        messageCount = 0
        used = 0
        isOpen = false
    }
}
