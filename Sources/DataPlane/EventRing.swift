import CLinux
import Glibc
import MeshBase
import Synchronization

/// What a packet thread says to control, as plain bytes.
enum EventKind: UInt8 {
    case datagram
    case controlFrame
    case sessionWanted
    case sessionConfirmed
    case endpointMoved
}

/// The fixed part of a ring entry; a payload may follow it.
struct EventHeader: BitwiseCopyable {
    var kind: UInt8 = 0
    var peer = PeerSlot(index: RouteTable.none, generation: 0)
    var localIndex: UInt32 = 0
    var address = clinux_address()
    var count = 0
    /// When the entry was put in, in nanoseconds of the boot clock; 0 where it may wait.
    var arrival: UInt64 = 0

    init(
        _ kind: EventKind, peer: PeerSlot = PeerSlot(index: RouteTable.none, generation: 0),
        localIndex: UInt32 = 0, address: clinux_address = clinux_address(), count: Int = 0,
        arrival: UInt64 = 0
    ) {
        self.kind = kind.rawValue
        self.peer = peer
        self.localIndex = localIndex
        self.address = address
        self.count = count
        self.arrival = arrival
    }
}

/// A bounded queue from one packet thread to the control thread. When it is full, new entries are
/// refused: the packet thread never waits, and memory never grows.
final class EventRing: @unchecked Sendable {
    /// Every entry has this many bytes, header included: enough for a datagram of a 1,500-byte
    /// path and for control frames.
    static let stride = 2048
    static let maximumPayload = stride - MemoryLayout<EventHeader>.stride

    private let memory: UnsafeMutableRawPointer
    private let mask: UInt64
    private let head = Atomic<UInt64>(0)
    private let tail = Atomic<UInt64>(0)
    /// Belongs to the control thread.
    private var limit = SojournLimit()

    /// - Parameter capacity: A power of two.
    init(capacity: Int) {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0, "a power of two")
        // Not touched before use: most of it is for floods, and events are not packets.
        memory = .allocate(byteCount: capacity * EventRing.stride, alignment: 64)
        mask = UInt64(capacity - 1)
    }

    deinit {
        memory.deallocate()
    }

    /// Appends an entry; `false` when there is no room or the payload is too long.
    func push(_ header: EventHeader, _ payload: UnsafePointer<UInt8>?) -> Bool {
        let position = tail.load(ordering: .relaxed)
        if position &- head.load(ordering: .acquiring) > mask { return false }
        if header.count > EventRing.maximumPayload { return false }
        let entry = memory + Int(position & mask) &* EventRing.stride
        entry.storeBytes(of: header, as: EventHeader.self)
        if let payload, header.count > 0 {
            memcpy(entry + MemoryLayout<EventHeader>.stride, payload, header.count)
        }
        tail.store(position &+ 1, ordering: .releasing)
        return true
    }

    /// Takes the oldest entry, on the control thread.
    func pop() -> (EventHeader, [UInt8])? {
        let position = head.load(ordering: .relaxed)
        if position == tail.load(ordering: .acquiring) {
            limit.emptied()
            return nil
        }
        let entry = memory + Int(position & mask) * EventRing.stride
        let header = entry.load(as: EventHeader.self)
        let payload = UnsafeRawBufferPointer(
            start: entry + MemoryLayout<EventHeader>.stride, count: header.count)
        let bytes = Array(payload)
        head.store(position &+ 1, ordering: .releasing)
        return (header, bytes)
    }

    /// Whether an entry that says when it came is still worth to be served; asked of each such entry
    /// in turn, on the control thread.
    func admits(_ header: EventHeader, at now: BootInstant) -> Bool {
        limit.admits(from: BootInstant(nanoseconds: header.arrival), at: now)
    }
}
