import CLinux
import Cryptography
import LinuxIO
import NetAddress
import WireGuard

/// A ``ForwardingSnapshot`` compiled for the packet loops. Never changed once published.
final class ForwardingTable: @unchecked Sendable {
    let view: ForwardingView
    let epoch: UInt64
    /// The handles in `view` point into these.
    private let sessions: [TransportSession]

    /// - Parameters:
    ///   - slots: For each peer of the snapshot its slot and that slot's generation.
    ///   - slotCount: More than the greatest slot.
    init(
        _ snapshot: ForwardingSnapshot, slots: [PeerSlot], slotCount: Int, epoch: UInt64,
        mtu: Int
    ) {
        self.epoch = epoch
        let peers = UnsafeMutablePointer<PeerEntry>.allocate(capacity: max(slotCount, 1))
        peers.initialize(repeating: PeerEntry(), count: max(slotCount, 1))
        var routes: [(IPPrefix, Int32)] = []
        var entries: [SessionEntry] = []
        var retained: [TransportSession] = []
        for (peer, slot) in zip(snapshot.peers, slots) {
            peers[Int(slot.index)] = PeerEntry(peer, generation: slot.generation, mtu: mtu)
            routes += peer.prefixes.map { ($0, slot.index) }
            let all = peer.receiving + (peer.sending.map { [$0] } ?? [])
            retained += all
            entries += all.map { SessionEntry($0, of: peer, slot: slot.index) }
        }
        sessions = retained
        view = ForwardingView(
            routes: RouteTable(routes), peers: peers, peerCount: slotCount,
            sessions: SessionTable(entries), channels: ChannelTable(snapshot.channels))
    }

    deinit {
        view.routes.deallocate()
        view.peers.deallocate()
        view.sessions.deallocate()
        view.channels.deallocate()
    }
}

/// A peer's place in the per-peer tables. A slot that is given to another peer gets a new
/// generation, so that reports about the former one can be told apart.
struct PeerSlot: Hashable, Sendable, BitwiseCopyable {
    var index: Int32
    var generation: UInt64
}

/// What a packet loop holds of a table: pointers.
struct ForwardingView: BitwiseCopyable {
    let routes: RouteTable
    let peers: UnsafeMutablePointer<PeerEntry>
    let peerCount: Int
    let sessions: SessionTable
    let channels: ChannelTable
}

struct PeerEntry: BitwiseCopyable {
    /// 0 marks an empty slot.
    var generation: UInt64 = 0
    var endpoint = clinux_address()
    /// What a packet's source is compared with.
    var address = clinux_address()
    var channel: UInt32 = 0
    var hasEndpoint = false
    var endpointSerial: UInt32 = 0
    var hasSession = false
    /// Meaningful only if `hasSession`.
    var session: SessionHandle?
    /// The largest inner packet that leaves whole, padding included.
    var innerLimit = 0
    var joinsPieces = false

    init() {}

    init(_ peer: ForwardingPeer, generation: UInt64, mtu: Int) {
        self.generation = generation
        endpointSerial = peer.endpointSerial
        if let address = peer.endpoint {
            endpoint = clinux_address(address)
            self.address = clinux_address(peer.address ?? address)
            channel = peer.channel
            hasEndpoint = true
        }
        session = peer.sending?.handle
        hasSession = session != nil
        // No path of IPv4 carries less than 576 bytes whole and unasked (RFC 1122 section 3.3.3).
        let carried = peer.pathLimit.map { max($0, 548) - SessionHandle.overhead }
        innerLimit = min(carried ?? mtu, mtu)
        joinsPieces = peer.joinsPieces
    }
}

struct SessionEntry: BitwiseCopyable {
    var localIndex: UInt32 = 0
    var slot: Int32 = RouteTable.none
    /// Newer than what its peer's packets are sent with: its first packet is worth a report.
    var awaitsConfirmation = false
    var session: SessionHandle?

    init() {}

    init(_ session: TransportSession, of peer: ForwardingPeer, slot: Int32) {
        localIndex = session.localIndex
        self.slot = slot
        self.session = session.handle
        let isSending = session === peer.sending
        let isNewer = peer.sending.map { session.createdAt >= $0.createdAt } ?? true
        awaitsConfirmation = !isSending && isNewer && !session.isInitiator
    }
}

/// Sessions by local index: open addressing, at most half full. We choose the indexes at random,
/// so nobody else can make them collide.
struct SessionTable: BitwiseCopyable {
    let entries: UnsafeMutablePointer<SessionEntry>
    let mask: Int

    init(_ sessions: [SessionEntry]) {
        var capacity = 4
        while capacity < sessions.count * 2 { capacity *= 2 }
        mask = capacity - 1
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: SessionEntry(), count: capacity)
        for session in sessions {
            var position = SessionTable.hash(session.localIndex) & mask
            while entries[position].session != nil,
                entries[position].localIndex != session.localIndex
            {
                position = (position + 1) & mask
            }
            entries[position] = session
        }
    }

    func deallocate() {
        entries.deallocate()
    }

    var capacity: Int { mask + 1 }

    /// Where the session is, or -1.
    @inline(__always)
    func find(_ localIndex: UInt32) -> Int {
        var position = SessionTable.hash(localIndex) & mask
        while entries[position].session != nil {
            if entries[position].localIndex == localIndex { return position }
            position = (position &+ 1) & mask
        }
        return -1
    }

    @inline(__always)
    private static func hash(_ localIndex: UInt32) -> Int {
        Int(truncatingIfNeeded: (UInt64(localIndex) &* 0x9E37_79B9_7F4A_7C15) >> 40)
    }
}
