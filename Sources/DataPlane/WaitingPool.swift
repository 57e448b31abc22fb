import Glibc

/// Packets that wait for a session, a short queue per peer, in memory taken at start.
struct WaitingPool: ~Copyable {
    struct Queue: BitwiseCopyable {
        var head: Int32 = -1
        var tail: Int32 = -1
        var count: Int32 = 0
        /// When the first of them came, boot clock nanoseconds.
        var since: UInt64 = 0
    }

    /// Not touched before use: packets seldom wait, and what was used last is used first.
    private let storage: UnsafeMutablePointer<UInt8>
    private let stride: Int
    private let next: UnsafeMutablePointer<Int32>
    private let counts: UnsafeMutablePointer<Int32>
    private var free: Int32
    /// Slots of the peers whose queues are not empty, in no order.
    let waiting: UnsafeMutablePointer<Int32>
    private(set) var waitingCount = 0

    /// A whole super-packet of the device fits one queue.
    static let perPeer: Int32 = 64
    /// Packets of all peers: under 1 MiB at common MTUs.
    let capacity: Int

    init(mtu: Int) {
        stride = (mtu + 16 + 63) & ~63
        capacity = max(64, min(512, (1 << 20) / stride))
        storage = .allocate(capacity: capacity * stride)
        next = PacketMemory.touched(capacity, of: 0)
        counts = PacketMemory.touched(capacity, of: 0)
        waiting = PacketMemory.touched(capacity, of: 0)
        for index in 0..<capacity { next[index] = index + 1 < capacity ? Int32(index + 1) : -1 }
        free = 0
    }

    deinit {
        storage.deallocate()
        next.deallocate()
        counts.deallocate()
        waiting.deallocate()
    }

    /// Whether another packet of any peer fits.
    var isFull: Bool { free < 0 }

    /// Copies a packet behind the queue; `false` when the queue or the pool is full.
    mutating func append(
        _ packet: UnsafePointer<UInt8>, count: Int, to queue: UnsafeMutablePointer<Queue>,
        of slot: Int32, at now: UInt64
    ) -> Bool {
        guard free >= 0, queue.pointee.count < WaitingPool.perPeer, count + 16 <= stride else {
            return false
        }
        let index = free
        free = next[Int(index)]
        next[Int(index)] = -1
        counts[Int(index)] = Int32(count)
        memcpy(storage + Int(index) * stride, packet, count)
        if queue.pointee.count == 0 {
            queue.pointee.head = index
            queue.pointee.since = now
            waiting[waitingCount] = slot
            waitingCount += 1
        } else {
            next[Int(queue.pointee.tail)] = index
        }
        queue.pointee.tail = index
        queue.pointee.count += 1
        return true
    }

    /// Takes the oldest packet. Its bytes, and 15 to pad with, stay valid until the next append.
    mutating func popFirst(
        of queue: UnsafeMutablePointer<Queue>, slot: Int32
    ) -> (UnsafeMutablePointer<UInt8>, Int)? {
        guard queue.pointee.count > 0 else { return nil }
        let index = Int(queue.pointee.head)
        queue.pointee.head = next[index]
        queue.pointee.count -= 1
        next[index] = free
        free = Int32(index)
        if queue.pointee.count == 0 { forget(slot) }
        return (storage + index * stride, Int(counts[index]))
    }

    mutating func removeAll(of queue: UnsafeMutablePointer<Queue>, slot: Int32) {
        while popFirst(of: queue, slot: slot) != nil {}
    }

    private mutating func forget(_ slot: Int32) {
        for position in 0..<waitingCount where waiting[position] == slot {
            waitingCount -= 1
            waiting[position] = waiting[waitingCount]
            return
        }
    }
}
