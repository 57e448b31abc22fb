import LinuxIO
import Logging
import MeshBase
import NetAddress
import PathDiscovery
import Transport

/// The thread of a ``SideCarrier``. Used by one thread alone.
final class SideCarrierLoop: @unchecked Sendable {
    private enum Endpoint {
        case listener(StreamListener, isTLS: Bool)
        case stream(CarriedStream)
        case streamBridge(CarriedStream)
        case door(CarriedDoor)
        case doorBridge(CarriedDoor, CarriedDoor.Guest)
    }

    private let carrier: SideCarrier
    private let settings: SideCarrierSettings
    private let poller: ReadinessPoller
    private let logger: Logger
    private var endpoints: [UInt64: Endpoint] = [:]
    private var streams: [SocketAddress: CarriedStream] = [:]
    private var doors: [UInt32: CarriedDoor] = [:]
    private var nextToken: UInt64 = 1
    private lazy var clientContext = TLSAnonymousContext(isServer: false)
    private lazy var serverContext = TLSAnonymousContext(isServer: true)

    private static let bellToken: UInt64 = 0
    /// Members on networks without UDP; each costs two sockets and its buffers.
    private static let streamLimit = 256
    /// Connections that have not shown themselves: of all, and of one address, behind which there
    /// may be a site.
    private static let strangerLimit = 64
    private static let strangersPerAddress = 8

    init(
        _ carrier: SideCarrier, _ settings: SideCarrierSettings, _ logger: Logger
    ) throws(SystemCallError) {
        self.carrier = carrier
        self.settings = settings
        self.logger = logger
        poller = try ReadinessPoller()
        try poller.add(carrier.orderBell.descriptor, .input, token: SideCarrierLoop.bellToken)
    }

    func run() {
        if settings.listens { listen(on: settings.port, isTLS: false) }
        if settings.listensTLS { listen(on: 443, isTLS: true) }
        while true {
            let events = poller.wait(milliseconds: streams.isEmpty ? -1 : 500)
            for event in events {
                if event.token == SideCarrierLoop.bellToken {
                    guard let orders = carrier.takeOrders() else { return }
                    for order in orders { carryOut(order) }
                } else {
                    handle(event)
                }
            }
            endOverdue()
        }
    }

    /// Members may come by both families; a machine without one of them has one listener.
    private func listen(on port: UInt16, isTLS: Bool) {
        var count = 0
        var failure: SystemCallError?
        for ip in [IPAddress.v6(0, 0), .v4(0)] {
            do throws(SystemCallError) {
                let listener = try StreamListener(boundTo: SocketAddress(ip: ip, port: port))
                if watch(listener.descriptor, .listener(listener, isTLS: isTLS)) != nil {
                    count += 1
                }
            } catch {
                failure = error
            }
        }
        if count == 0, let failure {
            logger.warning(
                "members on networks without UDP cannot come here: \(failure)")
        }
    }

    private func watch(
        _ descriptor: Int32, _ endpoint: Endpoint, _ interest: ReadinessPoller.Interest = .input
    ) -> UInt64? {
        let token = nextToken
        nextToken += 1
        do throws(SystemCallError) {
            try poller.add(descriptor, interest, token: token)
        } catch {
            return nil
        }
        endpoints[token] = endpoint
        return token
    }

    private func handle(_ event: ReadinessPoller.Event) {
        let now = SystemClock.boot()
        // What an earlier event of the same round closed is no longer here.
        switch endpoints[event.token] {
        case .listener(let listener, let isTLS):
            while let (socket, peer) = listener.accept() {
                admit(socket, from: peer, isTLS: isTLS, at: now)
            }
        case .stream(let stream):
            if event.canWrite || event.hasFailed { finishConnecting(stream, at: now) }
            if event.canRead || event.hasFailed, stream.isConnected { stream.fill(at: now) }
            settle(stream, at: now)
        case .streamBridge(let stream):
            stream.collect(at: now)
            settle(stream, at: now)
        case .door(let door): receive(at: door, now)
        case .doorBridge(let door, let guest): door.collect(from: guest, at: now)
        case nil: break
        }
    }

    // MARK: - Orders

    private func carryOut(_ order: CarrierOrder) {
        switch order {
        case .connect(let remote, let kind): connect(to: remote, kind)
        case .disconnect(let standIn):
            if let stream = streams[standIn] { close(stream) }
        case .openDoor(let id): openDoor(id)
        case .closeDoor(let id): closeDoor(id)
        case .send(let datagram, let id, let remote, let hops):
            doors[id]?.send(datagram, to: remote, hops: hops)
        }
    }

    // MARK: - Streams

    private func connect(to remote: SocketAddress, _ kind: StreamKind) {
        do throws(SystemCallError) {
            guard streams.count < SideCarrierLoop.streamLimit,
                !streams.values.contains(where: { $0.remote == remote && $0.dialled == kind })
            else { return carrier.report(.failed(remote, kind)) }
            let socket = try StreamSocket(connectingTo: remote)
            let session = kind == .tls ? clientContext.flatMap { TLSSession($0) } : nil
            guard kind == .plain || session != nil else {
                return carrier.report(.failed(remote, kind))
            }
            try begin(socket, remote: remote, dialled: kind, tls: session)
        } catch {
            carrier.report(.failed(remote, kind))
        }
    }

    private func admit(
        _ socket: StreamSocket, from remote: SocketAddress, isTLS: Bool, at now: BootInstant
    ) {
        let strangers = streams.values.filter { !$0.isProven }
        guard streams.count < SideCarrierLoop.streamLimit,
            strangers.count < SideCarrierLoop.strangerLimit,
            strangers.count(where: { $0.remote.ip == remote.ip })
                < SideCarrierLoop.strangersPerAddress
        else { return }
        let session = isTLS ? serverContext.flatMap { TLSSession($0) } : nil
        guard !isTLS || session != nil else { return }
        try? begin(socket, remote: remote, dialled: nil, tls: session)
    }

    private func begin(
        _ socket: StreamSocket, remote: SocketAddress, dialled: StreamKind?, tls: TLSSession?
    ) throws(SystemCallError) {
        let bridge = try DatagramSocket(
            boundTo: SocketAddress(ip: .streamHost, port: 0))
        try bridge.connect(to: packetThreads)
        let stream = CarriedStream(
            socket, bridge: bridge, remote: remote, dialled: dialled, tls: tls,
            at: SystemClock.boot())
        guard
            let outside = watch(socket.descriptor, .stream(stream), stream.watched),
            let inside = watch(bridge.descriptor, .streamBridge(stream))
        else { throw SystemCallError("watch a stream", code: 0) }
        stream.tokens = (outside, inside)
        streams[stream.standIn] = stream
        if dialled == nil { carrier.report(.accepted(stream.standIn, from: remote)) }
    }

    private var packetThreads: SocketAddress {
        SocketAddress(ip: .v4(0x7F00_0001), port: settings.port)
    }

    private func finishConnecting(_ stream: CarriedStream, at now: BootInstant) {
        guard !stream.isConnected, let kind = stream.dialled else { return }
        stream.connected(at: now)
        if stream.isConnected {
            carrier.report(.connected(stream.standIn, to: stream.remote, kind))
        }
    }

    /// Writes what waits, then decides whether the stream goes on.
    private func settle(_ stream: CarriedStream, at now: BootInstant) {
        stream.flush()
        guard !stream.isOver(at: now) else { return close(stream) }
        let interest = stream.interest
        guard interest != stream.watched else { return }
        stream.watched = interest
        try? poller.change(stream.socket.descriptor, to: interest, token: stream.tokens.socket)
    }

    private func close(_ stream: CarriedStream) {
        guard streams.removeValue(forKey: stream.standIn) != nil else { return }
        endpoints[stream.tokens.socket] = nil
        endpoints[stream.tokens.bridge] = nil
        if let kind = stream.dialled, !stream.isConnected {
            carrier.report(.failed(stream.remote, kind))
        } else {
            carrier.report(.ended(stream.standIn))
        }
    }

    private func endOverdue() {
        let now = SystemClock.boot()
        for stream in streams.values where stream.isOver(at: now) { close(stream) }
    }

    // MARK: - Doors

    private func openDoor(_ id: UInt32) {
        guard doors[id] == nil, let door = try? CarriedDoor(id),
            let token = watch(door.socket.descriptor, .door(door))
        else { return }
        door.token = token
        doors[id] = door
        carrier.report(.doorOpened(id, port: door.socket.port))
    }

    private func closeDoor(_ id: UInt32) {
        guard let door = doors.removeValue(forKey: id) else { return }
        endpoints[door.token] = nil
        for guest in door.guests.values { dismiss(guest) }
    }

    private func dismiss(_ guest: CarriedDoor.Guest) {
        endpoints[guest.token] = nil
        carrier.report(.ended(guest.bridge.localAddress))
    }

    private func receive(at door: CarriedDoor, _ now: BootInstant) {
        door.socket.receiveDatagrams(limit: 64) { datagram, remote in
            guard let guest = door.guests[remote] ?? welcome(remote, at: door, now) else { return }
            guest.lastUse = now
            guest.bridge.send(datagram, to: nil)
        }
    }

    private func welcome(_ remote: SocketAddress, at door: CarriedDoor, _ now: BootInstant)
        -> CarriedDoor.Guest?
    {
        guard door.admits(remote),
            let bridge = try? DatagramSocket(
                boundTo: SocketAddress(ip: .doorHost, port: 0)),
            (try? bridge.connect(to: packetThreads)) != nil
        else { return nil }
        let guest = CarriedDoor.Guest(remote, bridge, at: now)
        guard let token = watch(bridge.descriptor, .doorBridge(door, guest)) else { return nil }
        guest.token = token
        if let victim = door.add(guest) { dismiss(victim) }
        carrier.report(.doorUsed(bridge.localAddress, door: door.id, remote: remote))
        return guest
    }
}
