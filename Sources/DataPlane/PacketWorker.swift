import CLinux
import Cryptography
import Glibc
import LinuxIO
import WireGuard

/// One packet thread, from start to stop.
///
/// 1. Adopt the table that control published last.
/// 2. Read the device until it is dry or 16 times: route, cut, seal, gather into messages, send.
/// 3. Receive once from the socket: open, refuse repetition, check the inner source, gather runs
///    of one flow, write to the device.
/// 4. Wait only if neither had anything.
///
/// All its memory is taken at start. It holds no reference that it would have to count.
package struct PacketWorker: ~Copyable {
    /// Keeps alive what the pointers and handles below belong to.
    let shared: WorkerShared

    let queue: TunQueue
    var hasDevice: Bool
    let offloadsUDP: Bool
    let socket: UDPEndpoint
    let cipher: PacketCipher
    let mtu: Int
    let followsSources: Bool
    let drops: UnsafeMutablePointer<Counter>
    let counters: UnsafeMutablePointer<PeerCounters>

    var view: ForwardingView
    private var tableAddress: UInt
    /// What this thread knows of each peer beyond the table.
    let peers: UnsafeMutablePointer<PeerState>
    /// Where each peer is, if its state says that this is known.
    let endpoints: UnsafeMutablePointer<clinux_address>
    let queues: UnsafeMutablePointer<WaitingPool.Queue>
    let peerCapacity: Int
    /// The slots of the three that were ever used. The others are not touched: most nodes have few
    /// peers, and peers come with a table, not with a packet.
    private var knownSlots = 0

    /// Boot clock, read once per round.
    var now: UInt64 = 0
    var allowance = RelayAllowance()
    var hasEvents = false

    let readBuffer: UnsafeMutablePointer<UInt8>
    let template: UnsafeMutablePointer<UInt8>
    var outgoing = TransmitBatch()
    var waiting: WaitingPool

    let incoming: UnsafeMutablePointer<clinux_incoming>
    /// What arrived. A packet is opened where it lies.
    let received: UnsafeMutablePointer<UInt8>
    var current = ReceiveRun()
    var flows = FlowTable()
    var pieces: PieceTable
    let handshakes = HandshakeLimiter(.handshakes, seed: .random(in: 0...UInt64.max))
    let envelopes = HandshakeLimiter(.envelopes, seed: .random(in: 0...UInt64.max))
    let strangers = HandshakeLimiter(.strangers, seed: .random(in: 0...UInt64.max))
    let fromPeers = HandshakeLimiter(.peers, seed: .random(in: 0...UInt64.max))
    package internal(set) var gate = FloodGate()
    var sources = KnownSources(seed: .random(in: 0...UInt64.max))
    var sampling = DatagramSampling()
    /// One packet that is made here: a piece, or an answer to the inner sender.
    let scratch: UnsafeMutablePointer<UInt8>
    /// When an inner sender was last told that its packet is too large.
    var toldTooLargeAt: UInt64 = 0

    /// Reads of the device per round: bounds how long arriving packets wait.
    static let readsPerRound = 16
    /// Messages received per round, 64 KiB each.
    static let receivedPerRound = 4
    static let messageCapacity = 65_536
    /// A super-packet, its virtio header, and room to pad the last packet.
    static let readCapacity = 65_536 + 64

    init(_ shared: WorkerShared) {
        self.shared = shared
        queue = shared.device?.queue ?? .absent
        hasDevice = shared.device != nil
        offloadsUDP = shared.device?.offloadsUDP ?? false
        socket = shared.socket.endpoint
        cipher = PacketCipher(shared.engine)
        mtu = shared.mtu
        followsSources = shared.followsSources
        drops = shared.drops
        counters = shared.counters
        peerCapacity = shared.peerCapacity
        peers = .allocate(capacity: shared.peerCapacity)
        endpoints = .allocate(capacity: shared.peerCapacity)
        queues = .allocate(capacity: shared.peerCapacity)
        tableAddress = shared.publishedTable
        view = PacketWorker.view(at: tableAddress)
        readBuffer = PacketWorker.bytes(PacketWorker.readCapacity + 64)
        template = PacketWorker.bytes(Segmentation.templateCapacity)
        waiting = WaitingPool(mtu: shared.mtu)
        pieces = PieceTable(mtu: shared.mtu)
        scratch = PacketWorker.bytes(max(shared.mtu, TooLargeAnswer.capacity) + 64)
        let messages = PacketWorker.receivedPerRound
        received = PacketWorker.bytes(messages * PacketWorker.messageCapacity)
        incoming = PacketMemory.touched(messages, of: clinux_incoming())
        for index in 0..<messages {
            incoming[index].bytes = received + index * PacketWorker.messageCapacity
            incoming[index].capacity = UInt32(PacketWorker.messageCapacity)
        }
        now = SystemClock.bootNanoseconds()
        adoptTable()
    }

    deinit {
        peers.deallocate()
        endpoints.deallocate()
        queues.deallocate()
        readBuffer.deallocate()
        template.deallocate()
        scratch.deallocate()
        received.deallocate()
        incoming.deallocate()
    }

    /// Works until control stops it.
    mutating func run() {
        while !shared.isStopping {
            if !round() { wait() }
        }
    }

    /// Steps 1 to 3; whether there was anything to move.
    package mutating func round() -> Bool {
        now = SystemClock.bootNanoseconds()
        if shared.publishedTable != tableAddress {
            tableAddress = shared.publishedTable
            adoptTable()
        }
        if now >= gate.dueAt { tendGate() }
        let hasSent = hasDevice && drainDevice()
        let hasReceived = receive()
        if hasEvents {
            hasEvents = false
            shared.eventBell.ring()
        }
        return hasSent || hasReceived
    }

    /// Sleeps until the device, the socket or control has something.
    private func wait() {
        var entries = (
            pollfd(fd: shared.bell.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: hasDevice ? queue.descriptor : -1, events: Int16(POLLIN), revents: 0)
        )
        withUnsafeMutablePointer(to: &entries) { pointer in
            pointer.withMemoryRebound(to: pollfd.self, capacity: 3) {
                _ = poll($0, 3, gate.patience)
            }
        }
        if entries.0.revents != 0 { shared.bell.answer() }
    }

    private static func bytes(_ count: Int) -> UnsafeMutablePointer<UInt8> {
        PacketMemory.touched(count).bindMemory(to: UInt8.self, capacity: count)
    }

    private static func table(at address: UInt) -> Unmanaged<ForwardingTable>? {
        UnsafeRawPointer(bitPattern: address).map { Unmanaged.fromOpaque($0) }
    }

    private static func view(at address: UInt) -> ForwardingView {
        guard let table = table(at: address) else { preconditionFailure("no table is published") }
        return table._withUnsafeGuaranteedRef { $0.view }
    }

    /// Takes over a published table: endpoints that control changed, peers that came and went,
    /// packets that may leave now.
    private mutating func adoptTable() {
        view = PacketWorker.view(at: tableAddress)
        guard let table = PacketWorker.table(at: tableAddress) else { return }
        let slots = min(view.peerCount, peerCapacity)
        while knownSlots < slots {
            (peers + knownSlots).initialize(to: PeerState())
            (endpoints + knownSlots).initialize(to: clinux_address())
            (queues + knownSlots).initialize(to: WaitingPool.Queue())
            knownSlots += 1
        }
        for index in 0..<slots {
            let entry = view.peers + index
            let state = peers + index
            if state.pointee.generation != entry.pointee.generation {
                waiting.removeAll(of: queues + index, slot: Int32(index))
                counters[index].reset()
                state.pointee = PeerState()
                state.pointee.generation = entry.pointee.generation
            }
            if state.pointee.takesEndpoint(of: entry.pointee) {
                endpoints[index] = entry.pointee.endpoint
            }
        }
        // After this line the table before may go.
        shared.acknowledge(table._withUnsafeGuaranteedRef { $0.epoch })
        sendWaiting()
    }

    @inline(__always)
    func drop(_ reason: PacketDropReason, _ count: UInt64 = 1) {
        drops[reason.rawValue].add(count)
    }

    /// Reports something that an authentic peer caused; `false` when control is behind.
    mutating func report(_ header: EventHeader, _ payload: UnsafePointer<UInt8>? = nil) -> Bool {
        guard shared.inside.push(header, payload) else { return false }
        hasEvents = true
        return true
    }
}

/// What one worker knows of a peer beyond the published table.
struct PeerState: BitwiseCopyable {
    var generation: UInt64 = 0
    var hasEndpoint = false
    /// The relay's channel to send on; 0 sends to the peer itself.
    var channel: UInt32 = 0
    /// Where the peer's packets are expected from.
    var address = clinux_address()
    /// The source that control was last told of, and when.
    var reported = clinux_address()
    var reportedAt: UInt64 = 0
    private var published = clinux_address()
    private var publishedAddress = clinux_address()
    private var publishedSerial: UInt32 = 0
    private var hasPublished = false
    /// When control was last told that packets wait; 0 for never.
    var wantedAt: UInt64 = 0
    var confirmedIndex: UInt32 = 0
    var confirmedAt: UInt64 = 0

    init() {}

    /// Whether control has changed the endpoint since the table before; remembers it if so.
    mutating func takesEndpoint(of entry: PeerEntry) -> Bool {
        guard entry.hasEndpoint else { return false }
        let isSame =
            hasPublished && entry.endpointSerial == publishedSerial
            && sameAddress(entry.address, publishedAddress)
            && sameAddress(entry.endpoint, published)
        if isSame { return false }
        hasEndpoint = true
        published = entry.endpoint
        publishedAddress = entry.address
        channel = entry.channel
        address = entry.address
        publishedSerial = entry.endpointSerial
        hasPublished = true
        return true
    }
}

/// Whether two addresses name the same address, port and scope.
@inline(__always)
func sameAddress(_ first: clinux_address, _ second: clinux_address) -> Bool {
    let (high1, low1) = first.rawHalves
    let (high2, low2) = second.rawHalves
    return low1 == low2 && high1 == high2 && first.port == second.port
        && first.scope == second.scope
}

extension clinux_address {
    @inline(__always)
    fileprivate var rawHalves: (UInt64, UInt64) {
        withUnsafeBytes(of: ip) {
            (
                $0.loadUnaligned(as: UInt64.self),
                $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            )
        }
    }
}
