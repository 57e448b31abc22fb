import Cryptography
import LinuxIO
import MeshBase
import NetAddress
import Synchronization
import WireGuard

/// What a ``PacketPlane`` is made of.
package struct DataPlaneConfiguration: Sendable {
    /// One queue of the device per worker; empty without a device (`--interface none`).
    package var devices: [TunDevice]
    /// One socket per worker, all on one port.
    package var sockets: [UDPSocket]
    /// Largest inner packet in bytes: the device's MTU.
    package var mtu: Int
    /// Threads are named so, with a number behind if there are several.
    package var workerName: String
    /// The CPU each worker stays on; empty leaves it to the scheduler.
    package var processors: [Int]
    /// Entries of 2 KiB in each of the two rings to control, a power of two. A second of
    /// stalled control is survived at this many handshakes and control frames a second each.
    package var ringCapacity: Int
    /// Peers at once; the per-peer tables are made for as many.
    package var peerCapacity: Int
    /// Whether to answer at once to the source of the latest authentic packet.
    package var followsSources: Bool
    /// Makes each worker's ciphers. Measurements put others here to see what ciphers cost.
    package var engine: @Sendable () -> PacketEngine = PacketEngine.fastest

    package init(
        devices: [TunDevice], sockets: [UDPSocket], mtu: Int = 1420,
        workerName: String = "packets", ringCapacity: Int = 512, peerCapacity: Int = 4096,
        followsSources: Bool = true
    ) {
        self.devices = devices
        self.sockets = sockets
        self.mtu = mtu
        self.workerName = workerName
        processors = []
        self.ringCapacity = ringCapacity
        self.peerCapacity = peerCapacity
        self.followsSources = followsSources
    }

    /// One worker.
    package init(
        device: TunDevice?, socket: UDPSocket, mtu: Int = 1420, workerName: String = "packets",
        ringCapacity: Int = 512, peerCapacity: Int = 4096, followsSources: Bool = true
    ) {
        self.init(
            devices: device.map { [$0] } ?? [], sockets: [socket], mtu: mtu,
            workerName: workerName, ringCapacity: ringCapacity, peerCapacity: peerCapacity,
            followsSources: followsSources)
    }
}

/// The threads that move packets between a TUN device and a UDP socket.
///
/// Control publishes a ``ForwardingSnapshot`` whenever something changed, and takes events when
/// ``doorbell`` is readable. Neither ever waits for the other. All methods may be called from any
/// thread, and are meant for one.
package final class PacketPlane: Sendable {
    private struct Control: ~Copyable {
        var slots: SlotAssignment
        /// Tables that a worker may still use, oldest first; the last is the current one.
        var tables: [ForwardingTable]
        var threads: [ThreadHandle] = []
        /// Set before the first worker looks at a table.
        var isRunning = false
    }

    private final class ThreadHandle: @unchecked Sendable {
        private var thread: WorkerThread?

        init(_ thread: consuming WorkerThread) {
            self.thread = consume thread
        }

        func join() {
            guard let running = thread.take() else { return }
            running.join()
        }
    }

    private let configuration: DataPlaneConfiguration
    private let workers: [WorkerShared]
    private let control: Mutex<Control>
    private let bell: Doorbell

    package init(_ configuration: DataPlaneConfiguration) throws(SystemCallError) {
        precondition(!configuration.sockets.isEmpty, "packets need a socket")
        precondition(
            configuration.devices.count <= configuration.sockets.count,
            "a queue of the device without a worker would never be read")
        precondition((576...65_535).contains(configuration.mtu), "an MTU that IP allows")
        self.configuration = configuration
        let bell = try Doorbell()
        self.bell = bell
        let empty = ForwardingTable(
            ForwardingSnapshot(), slots: [], slotCount: 0, epoch: 1, mtu: configuration.mtu)
        var made: [WorkerShared] = []
        for (index, socket) in configuration.sockets.enumerated() {
            let device = index < configuration.devices.count ? configuration.devices[index] : nil
            made.append(
                try WorkerShared(
                    device: device, socket: socket, configuration: configuration,
                    eventBell: bell, table: empty))
        }
        workers = made
        control = Mutex(
            Control(slots: SlotAssignment(capacity: configuration.peerCapacity), tables: [empty]))
    }

    /// Readable when there are events.
    package var doorbell: Doorbell { bell }

    package var port: UInt16 { configuration.sockets[0].port }

    /// The library that encrypts packets here.
    package var implementation: PacketImplementation { workers[0].engine.implementation }

    /// Starts the workers, once.
    package func start() throws(SystemCallError) {
        control.withLock { $0.isRunning = true }
        for (index, shared) in workers.enumerated() {
            let suffix = workers.count > 1 ? "\(index)" : ""
            let processors = configuration.processors
            do throws(SystemCallError) {
                let thread = try WorkerThread(
                    name: configuration.workerName + suffix,
                    processor: index < processors.count ? processors[index] : nil
                ) {
                    var worker = PacketWorker(shared)
                    worker.run()
                }
                let handle = ThreadHandle(thread)
                control.withLock { $0.threads.append(handle) }
            } catch {
                stop()
                throw error
            }
        }
    }

    /// One worker for a caller that runs its rounds by itself instead of calling ``start()``.
    package func makeWorker(_ index: Int = 0) -> PacketWorker {
        control.withLock { $0.isRunning = true }
        return PacketWorker(workers[index])
    }

    /// Stops the workers and waits for them. What they hold unsent is lost. A stopped plane cannot
    /// be started again.
    package func stop() {
        for worker in workers { worker.stop() }
        let threads = control.withLock { control in
            defer { control.threads = [] }
            return control.threads
        }
        for thread in threads { thread.join() }
        control.withLock { $0.isRunning = false }
    }

    /// Replaces what the workers know. Sessions that are no longer named are released as soon as
    /// no worker can be using them.
    ///
    /// - Returns: The keys of peers for which there was no room.
    @discardableResult
    package func publish(_ snapshot: ForwardingSnapshot) -> [StaticPublicKey] {
        control.withLock { control in
            var accepted = ForwardingSnapshot(channels: snapshot.channels)
            var slots: [PeerSlot] = []
            var refused: [StaticPublicKey] = []
            control.slots.release(except: Set(snapshot.peers.map(\.key)))
            for peer in snapshot.peers {
                if let slot = control.slots.assign(peer.key) {
                    accepted.peers.append(peer)
                    slots.append(slot)
                } else {
                    refused.append(peer.key)
                }
            }
            let epoch = (control.tables.last?.epoch ?? 0) + 1
            let table = ForwardingTable(
                accepted, slots: slots, slotCount: control.slots.count, epoch: epoch,
                mtu: configuration.mtu)
            control.tables.append(table)
            for worker in workers { worker.publish(table) }
            release(&control)
            return refused
        }
    }

    /// Hands over what happened since the last call, authenticated reports first; at most
    /// ``drainLimit`` per ring, so that control's timers and authenticated reports do not wait for
    /// everything that strangers sent. What came from them too long ago is thrown away.
    package func drainEvents(_ body: (DataPlaneEvent) -> Void) {
        bell.answer()
        for worker in workers {
            for ring in [worker.inside, worker.outside] {
                var budget = PacketPlane.drainLimit
                while budget > 0, let (header, bytes) = ring.pop() {
                    if header.arrival > 0, !ring.admits(header, at: SystemClock.boot()) {
                        worker.drops[PacketDropReason.stale.rawValue].add(1)
                        continue
                    }
                    budget -= 1
                    if let event = event(header, bytes) { body(event) }
                }
                if budget == 0 { bell.ring() }
            }
        }
        control.withLock { release(&$0) }
    }

    private static let drainLimit = 64

    /// Sends a datagram of control's own through the port that packets use; whether the kernel
    /// took it.
    @discardableResult
    package func send(datagram: [UInt8], to destination: SocketAddress) -> Bool {
        configuration.sockets[0].send(datagram, to: destination)
    }

    /// Sends a datagram that no router may cut; whether the kernel took it, which it does not when
    /// its own link carries less.
    ///
    /// The socket is the packets' own, so the setting holds for whatever they send in the same
    /// microseconds: at worst a packet that would have been cut is lost.
    @discardableResult
    package func send(unfragmented datagram: [UInt8], to destination: SocketAddress) -> Bool {
        let socket = configuration.sockets[0]
        socket.setFragmentation(isAllowed: false)
        defer { socket.setFragmentation(isAllowed: true) }
        return socket.send(datagram, to: destination)
    }

    /// Sends one datagram of control's that dies after so many hops.
    @discardableResult
    package func send(datagram: [UInt8], to destination: SocketAddress, hops: UInt8) -> Bool {
        configuration.sockets[0].send(datagram, to: destination, hops: hops)
    }

    /// What has passed with `peer` since it was first published.
    package func traffic(with peer: StaticPublicKey) -> PeerTraffic {
        let slot = control.withLock { $0.slots.slot(of: peer) }
        var sum = PeerTraffic()
        guard let slot else { return sum }
        for worker in workers { sum += worker.counters[Int(slot.index)].traffic }
        return sum
    }

    /// How many packets were dropped for `reason` since the start.
    package func drops(_ reason: PacketDropReason) -> UInt64 {
        workers.reduce(0) { $0 + $1.drops[reason.rawValue].current }
    }

    /// Frees the tables that every worker has left behind.
    private func release(_ control: inout Control) {
        let oldest = workers.map(\.acknowledgedEpoch).min() ?? 0
        let last = control.tables.last?.epoch ?? 0
        control.tables.removeAll { $0.epoch < (control.isRunning ? oldest : last) }
    }

    private func event(_ header: EventHeader, _ bytes: [UInt8]) -> DataPlaneEvent? {
        guard let kind = EventKind(rawValue: header.kind) else { return nil }
        if kind == .datagram { return .datagram(bytes, from: header.address.socketAddress) }
        guard let key = control.withLock({ $0.slots.key(at: header.peer) }) else { return nil }
        switch kind {
        case .datagram: return nil
        case .controlFrame: return .controlFrame(peer: key, bytes)
        case .sessionWanted: return .sessionWanted(peer: key)
        case .sessionConfirmed:
            return .sessionConfirmed(peer: key, localIndex: header.localIndex)
        case .endpointMoved:
            return .endpointMoved(peer: key, header.address.socketAddress)
        }
    }
}
