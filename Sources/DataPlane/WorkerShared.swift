import Cryptography
import LinuxIO
import Synchronization

/// What one packet thread and control both touch.
final class WorkerShared: @unchecked Sendable {
    let device: TunDevice?
    let socket: UDPSocket
    let engine: PacketEngine
    /// Largest inner packet, bytes.
    let mtu: Int
    let followsSources: Bool
    let peerCapacity: Int
    /// Rung by control: a new table, or stop.
    let bell: Doorbell
    /// Rung by the worker: there are events.
    let eventBell: Doorbell
    /// Reports that authentic peers cause.
    let inside: EventRing
    /// Datagrams of unproven source. A flood fills this ring and leaves the other alone.
    let outside: EventRing
    let counters: UnsafeMutablePointer<PeerCounters>
    let drops: UnsafeMutablePointer<Counter>

    private let table: Atomic<UInt>
    private let acknowledged = Atomic<UInt64>(0)
    private let stopping = Atomic<Bool>(false)

    init(
        device: TunDevice?, socket: UDPSocket, configuration: DataPlaneConfiguration,
        eventBell: Doorbell, table: ForwardingTable
    ) throws(SystemCallError) {
        bell = try Doorbell()
        self.device = device
        self.socket = socket
        self.eventBell = eventBell
        engine = configuration.engine()
        mtu = configuration.mtu
        followsSources = configuration.followsSources
        peerCapacity = configuration.peerCapacity
        inside = EventRing(capacity: configuration.ringCapacity)
        outside = EventRing(capacity: configuration.ringCapacity)
        counters = .allocate(capacity: configuration.peerCapacity)
        for index in 0..<configuration.peerCapacity {
            (counters + index).initialize(to: PeerCounters())
        }
        drops = .allocate(capacity: PacketDropReason.allCases.count)
        for index in 0..<PacketDropReason.allCases.count {
            (drops + index).initialize(to: Counter())
        }
        self.table = Atomic(UInt(bitPattern: Unmanaged.passUnretained(table).toOpaque()))
    }

    deinit {
        counters.deallocate()
        drops.deallocate()
    }

    /// Control: the table to use from now on. The caller keeps it alive until a later one is
    /// acknowledged.
    func publish(_ next: ForwardingTable) {
        table.store(
            UInt(bitPattern: Unmanaged.passUnretained(next).toOpaque()), ordering: .releasing)
        bell.ring()
    }

    /// Worker: the published table, by address.
    @inline(__always)
    var publishedTable: UInt { table.load(ordering: .acquiring) }

    /// Worker: tables before `epoch` are no longer in use here.
    func acknowledge(_ epoch: UInt64) {
        acknowledged.store(epoch, ordering: .releasing)
    }

    var acknowledgedEpoch: UInt64 { acknowledged.load(ordering: .acquiring) }

    func stop() {
        stopping.store(true, ordering: .releasing)
        bell.ring()
    }

    @inline(__always)
    var isStopping: Bool { stopping.load(ordering: .relaxed) }
}
