import Configuration
import Cryptography
import DataPlane
import LinuxIO
import MeshBase
import NetAddress
import WireGuard

/// The control loop of one tunnel: it owns the protocol state and publishes what the packet
/// threads need.
struct TunnelControl {
    let plane: PacketPlane
    private let interface: TunnelInterface
    private var device: TunnelDevice
    private var random = SystemRandom.generator()
    private var nextStir = BootInstant.zero
    private let firewallMark: UInt32
    /// In the order of the configuration.
    private var peers: [ForwardingPeer] = []
    private var positions: [StaticPublicKey: Int] = [:]
    /// Whether `peers` differs from what was published last.
    private var isChanged = true

    /// Everything is made here and the packet threads run when it returns.
    init(
        _ configuration: TunnelConfiguration, interfaceName: String, shards: Int
    ) throws(TunnelProblem) {
        firewallMark = configuration.firewallMark
        device = TunnelDevice(privateKey: configuration.privateKey, lastTimestamp: nil)
        for settings in configuration.peers {
            if settings.allowedIPs.contains(where: { $0.length == 0 }) {
                throw .defaultRoute(settings.publicKey)
            }
            let endpoint = try TunnelControl.resolve(settings.endpoint)
            let isTaken = device.setPeer(
                TunnelPeerConfiguration(
                    publicKey: settings.publicKey, presharedKey: settings.presharedKey,
                    endpoint: endpoint, persistentKeepalive: settings.persistentKeepalive))
            guard isTaken else { throw .badPeerKey(settings.publicKey) }
            positions[settings.publicKey] = peers.count
            peers.append(
                ForwardingPeer(
                    key: settings.publicKey, endpoint: endpoint, prefixes: settings.allowedIPs))
        }
        let sockets = try TunnelControl.openSockets(configuration, shards)
        interface = try TunnelInterface(configuration, name: interfaceName, queueCount: shards)
        let queues = interface.queues
        plane = try TunnelProblem.wrapping { () throws(SystemCallError) in
            let plane = try PacketPlane(
                DataPlaneConfiguration(
                    devices: queues, sockets: sockets, mtu: configuration.mtu,
                    peerCapacity: max(1, configuration.peers.count)))
            try plane.start()
            return plane
        }
        refreshPathLimits()
        publish()
    }

    /// Stops the packet threads and removes the interface.
    func close() {
        plane.stop()
        interface.remove()
    }

    mutating func run(
        until signals: borrowing StopSignals, report: (TunnelReport) -> Void
    ) throws(TunnelProblem) {
        let (events, stop) = (plane.doorbell.descriptor, signals.descriptor)
        let poller = try TunnelProblem.wrapping { () throws(SystemCallError) in
            let poller = try Poller()
            try poller.add(events, token: 0)
            try poller.add(stop, token: 1)
            return poller
        }
        while true {
            step(report) { device, now, random, actions in
                device.timeout(at: now, random: &random, into: &actions)
            }
            let ready = poller.wait(until: device.deadline)
            if ready.contains(1) { return }
            if ready.contains(0) { drain(report) }
        }
    }

    private mutating func drain(_ report: (TunnelReport) -> Void) {
        var events: [DataPlaneEvent] = []
        plane.drainEvents { events.append($0) }
        for event in events {
            step(report) { device, now, random, actions in
                switch event {
                case .datagram(let bytes, let source):
                    device.receive(
                        bytes, from: source, at: now, random: &random, into: &actions)
                case .sessionWanted(let peer):
                    device.connect(peer, at: now, random: &random, into: &actions)
                case .sessionConfirmed(_, let index):
                    device.sessionConfirmed(
                        localIndex: index, at: now, random: &random, into: &actions)
                case .endpointMoved(let peer, let address):
                    device.endpointMoved(peer, to: address)
                // A plain tunnel has no control frames; the peer is not one of ours.
                case .controlFrame: break
                }
            }
            // The packet threads follow the peer by themselves; what is published later must not
            // send them back.
            if case .endpointMoved(let key, let address) = event {
                change(key) { $0.endpoint = address }
                refreshPathLimits()
            }
        }
    }

    private mutating func step(
        _ report: (TunnelReport) -> Void,
        _ body: (inout TunnelDevice, Now, inout SeededGenerator, inout [TunnelAction]) -> Void
    ) {
        let now = SystemClock.now()
        if nextStir <= now.boot {
            nextStir = now.boot + .seconds(60)
            random.stir(SystemRandom.bytes32())
            refreshPathLimits()
        }
        var actions: [TunnelAction] = []
        body(&device, now, &random, &actions)
        for action in actions { carryOut(action, report) }
        if isChanged { publish() }
    }

    private mutating func carryOut(_ action: TunnelAction, _ report: (TunnelReport) -> Void) {
        switch action {
        // There is no place to keep it: the next start relies on the wall clock.
        case .reserveTimestamp: break
        case .send(let datagram, let destination):
            // The answer may come back before this list ends: its session must be known.
            if isChanged { publish() }
            plane.send(datagram: datagram, to: destination)
        case .installSession(let key, let session):
            change(key) { $0.receiving.append(session) }
        case .useSession(let key, let session):
            change(key) { $0.sending = session }
            report(.handshakeCompleted(key, device.status(of: key)?.endpoint))
        case .removeSession(let key, let index):
            change(key) { peer in
                peer.receiving.removeAll { $0.localIndex == index }
                if peer.sending?.localIndex == index { peer.sending = nil }
            }
        case .endpointChanged(let key, let address):
            change(key) { peer in
                peer.endpoint = address
                peer.endpointSerial &+= 1
            }
        case .unreachable(let key): report(.unreachable(key))
        case .dropped: break
        }
    }

    private mutating func change(
        _ key: StaticPublicKey, _ edit: (inout ForwardingPeer) -> Void
    ) {
        guard let position = positions[key] else { return }
        edit(&peers[position])
        isChanged = true
    }

    /// Other implementations do not answer probes: what is known of a path is the MTU of the route
    /// to the peer. Beyond it the network cuts datagrams, as it does for every WireGuard.
    private mutating func refreshPathLimits() {
        for position in peers.indices {
            guard let endpoint = peers[position].endpoint,
                let mtu = UDPSocket.routeMTU(to: endpoint, firewallMark: firewallMark)
            else { continue }
            let limit = mtu - (endpoint.ip.isIPv4 ? 28 : 48)
            guard peers[position].pathLimit != limit else { continue }
            peers[position].pathLimit = limit
            isChanged = true
        }
    }

    private mutating func publish() {
        plane.publish(ForwardingSnapshot(peers: peers))
        isChanged = false
    }

    private static func resolve(_ endpoint: TunnelEndpoint?) throws(TunnelProblem)
        -> SocketAddress?
    {
        guard let endpoint else { return nil }
        let found = HostResolver.addresses(of: endpoint.host, port: endpoint.port)
        guard let first = found.first else { throw .unknownHost(endpoint.host) }
        return first
    }

    private static func openSockets(
        _ configuration: TunnelConfiguration, _ count: Int
    ) throws(TunnelProblem) -> [UDPSocket] {
        do throws(SystemCallError) {
            return try UDPSocket.group(
                of: count, port: configuration.listenPort,
                firewallMark: configuration.firewallMark)
        } catch {
            if error.isAddressInUse { throw .portTaken(configuration.listenPort) }
            throw .system(error)
        }
    }
}
