import Glibc

/// Packets of one TCP connection or UDP flow that continue each other, on their way to the device
/// as one.
struct Flow: BitwiseCopyable {
    /// The first packet, whose headers become those of the whole.
    var head: UnsafeMutablePointer<UInt8>
    var isIPv6: Bool
    var isTCP: Bool
    /// Where the TCP or UDP header starts, and where the payload does.
    var transport: Int
    var headerCount: Int
    /// Payload of every packet but the last.
    var segmentSize: Int
    /// Of the whole, headers included.
    var total: Int
    var nextSequence: UInt32
    var hash: UInt32
    /// The last packet was short or pushed: nothing may follow.
    var isClosed: Bool
    var hasPush: Bool
    /// The first packet's checksum was found right.
    var isVerified: Bool
    var vectorCount: Int
}

/// The flows of one receive batch. 16 are as many as a batch of 4 messages usually mixes.
struct FlowTable: ~Copyable {
    static let capacity = 16
    /// A virtio header, the first packet and up to 128 payloads.
    static let vectorsPerFlow = 130

    let flows: UnsafeMutablePointer<Flow>
    private let vectors: UnsafeMutablePointer<iovec>
    private let headers: UnsafeMutablePointer<UInt8>
    private(set) var count = 0

    init() {
        flows = .allocate(capacity: FlowTable.capacity)
        vectors = PacketMemory.touched(
            FlowTable.capacity * FlowTable.vectorsPerFlow, of: iovec())
        let bytes = FlowTable.capacity * 16
        headers = PacketMemory.touched(bytes).bindMemory(to: UInt8.self, capacity: bytes)
    }

    deinit {
        flows.deallocate()
        vectors.deallocate()
        headers.deallocate()
    }

    @inline(__always)
    func vectors(_ index: Int) -> UnsafeMutablePointer<iovec> {
        vectors + index &* FlowTable.vectorsPerFlow
    }

    @inline(__always)
    func header(_ index: Int) -> UnsafeMutablePointer<UInt8> {
        headers + index &* 16
    }

    /// The flow that `packet` belongs to, or -1.
    @inline(__always)
    func find(
        _ packet: UnsafePointer<UInt8>, isIPv6: Bool, isTCP: Bool, transport: Int, hash: UInt32
    ) -> Int {
        var index = 0
        while index < count {
            let flow = flows + index
            if flow.pointee.hash == hash, flow.pointee.isIPv6 == isIPv6,
                flow.pointee.isTCP == isTCP
            {
                let head = UnsafePointer(flow.pointee.head)
                let isSame =
                    isIPv6
                    ? head.equals(packet, at: 8, count: 32) : head.equals(packet, at: 12, count: 8)
                if isSame, head.equals(packet, at: transport, count: 4) { return index }
            }
            index &+= 1
        }
        return -1
    }

    /// Adds a flow of one packet; there must be room.
    @inline(__always)
    mutating func append(_ flow: Flow) {
        (flows + count).initialize(to: flow)
        let vectors = vectors(count)
        vectors[0] = iovec(iov_base: header(count), iov_len: VirtioHeader.count)
        vectors[1] = iovec(iov_base: flow.head, iov_len: flow.total)
        flows[count].vectorCount = 2
        count &+= 1
    }

    /// Takes a flow out that was written; the last one moves into its place.
    mutating func remove(_ index: Int) {
        count &-= 1
        if index == count { return }
        flows[index] = flows[count]
        let from = vectors(count)
        let to = vectors(index)
        memcpy(to + 1, from + 1, (flows[index].vectorCount &- 1) &* MemoryLayout<iovec>.stride)
        to[0] = iovec(iov_base: header(index), iov_len: VirtioHeader.count)
    }

    mutating func removeAll() {
        count = 0
    }
}
