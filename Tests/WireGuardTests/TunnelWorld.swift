import Cryptography
import MeshBase
import NetAddress
import WireGuard

/// Hosts with one tunnel device each, a wire between them and one clock. Everything a data plane
/// would do is here in its simplest form.
final class TunnelWorld {
    struct Datagram {
        let arrival: BootInstant
        let source: SocketAddress
        let destination: SocketAddress
        let bytes: [UInt8]
        var type: UInt8 { bytes.first ?? 0 }
    }

    /// A simulated day begins here, so that durations can be subtracted.
    private(set) var now = BootInstant(nanoseconds: 1_000_000_000_000)
    private(set) var wire: [Datagram] = []
    private(set) var sent: [Datagram] = []
    var hosts: [TunnelHost] = []
    /// Decides the fate of each datagram on the wire.
    var loses: (Datagram) -> Bool = { _ in false }
    /// The delay of each copy of a datagram that is not lost.
    var delays: (Datagram) -> [Duration] = { _ in [TunnelWorld.latency] }
    static let latency = Duration.milliseconds(10)

    var clock: Now {
        let seconds = Int64(now.nanoseconds / 1_000_000_000)
        let rest = UInt32(now.nanoseconds % 1_000_000_000)
        return Now(boot: now, wall: WallTime(seconds: 1_700_000_000 + seconds, nanoseconds: rest))
    }

    func put(_ bytes: [UInt8], from source: SocketAddress, to destination: SocketAddress) {
        let datagram = Datagram(
            arrival: now, source: source, destination: destination, bytes: bytes)
        sent.append(datagram)
        guard !loses(datagram) else { return }
        for delay in delays(datagram) {
            wire.append(
                Datagram(
                    arrival: now + delay, source: source, destination: destination, bytes: bytes))
        }
    }

    func forgetTraffic() {
        sent = []
    }

    /// Lets time pass, delivering and calling whatever is due on the way, in order.
    func run(for duration: Duration) {
        let end = now + duration
        while true {
            let arrival = wire.map(\.arrival).min()
            let timer = hosts.compactMap(\.device.deadline).min()
            guard let next = earlier(arrival, timer), next <= end else { break }
            now = max(now, next)
            let due = wire.filter { $0.arrival <= now }
            wire.removeAll { $0.arrival <= now }
            for datagram in due {
                hosts.first { $0.address == datagram.destination }?.receive(datagram)
            }
            for host in hosts { host.timeout() }
        }
        now = end
    }

    func count(ofType type: UInt8, from host: TunnelHost? = nil) -> Int {
        sent.count { $0.type == type && (host == nil || $0.source == host?.address) }
    }
}

/// One host of a ``TunnelWorld``.
final class TunnelHost {
    let world: TunnelWorld
    let privateKey: StaticPrivateKey
    var address: SocketAddress
    var device: TunnelDevice
    var random: SeededGenerator
    var installed: [UInt32: (peer: StaticPublicKey, session: TransportSession)] = [:]
    var sending: [StaticPublicKey: TransportSession] = [:]
    var waiting: [StaticPublicKey: [[UInt8]]] = [:]
    var received: [[UInt8]] = []
    var drops: [HandshakeDropReason] = []
    var unreachable = 0
    var reserved: TAI64N?
    var endpointChanges: [SocketAddress] = []
    /// Whether packets on unknown sessions and failed ones happened.
    var lostPackets = 0

    init(
        _ world: TunnelWorld, seed: UInt64, address: String, lastTimestamp: TAI64N? = nil,
        handshakesPerSecondBeforeLoad: Int = 1000
    ) {
        self.world = world
        random = SeededGenerator(seed: seed)
        privateKey = StaticPrivateKey(SecretBytes(random.bytes32()))
        guard let parsed = SocketAddress(address) else { preconditionFailure(address) }
        self.address = parsed
        device = TunnelDevice(
            privateKey: privateKey, lastTimestamp: lastTimestamp,
            handshakesPerSecondBeforeLoad: handshakesPerSecondBeforeLoad)
        world.hosts.append(self)
    }

    var key: StaticPublicKey { privateKey.publicKey }

    func add(
        _ peer: TunnelHost, endpoint: SocketAddress? = nil, psk: SecretBytes? = nil,
        keepalive: Duration? = nil, suite: PacketSuite = .chaCha20Poly1305
    ) {
        device.setPeer(
            TunnelPeerConfiguration(
                publicKey: peer.key, presharedKey: psk, endpoint: endpoint,
                persistentKeepalive: keepalive, suite: suite))
    }

    func connect(_ peer: TunnelHost) {
        perform { $0.connect(peer.key, at: $1, random: &$2, into: &$3) }
    }

    /// Sends now or, without a session, queues and connects.
    func send(_ payload: [UInt8], to peer: TunnelHost) {
        let sealed = sending[peer.key]?.seal(payload, at: world.now)
        if let sealed, let endpoint = device.status(of: peer.key)?.endpoint {
            world.put(sealed, from: address, to: endpoint)
        } else {
            waiting[peer.key, default: []].append(payload)
            connect(peer)
        }
    }

    /// Loses everything but its key and what was made durable.
    func restart() {
        device = TunnelDevice(privateKey: privateKey, lastTimestamp: reserved)
        installed = [:]
        sending = [:]
        waiting = [:]
    }

    func receive(_ datagram: TunnelWorld.Datagram) {
        guard datagram.type == 4 else {
            perform {
                $0.receive(datagram.bytes, from: datagram.source, at: $1, random: &$2, into: &$3)
            }
            return
        }
        let index = loadLittleEndian32(datagram.bytes, at: 4)
        guard let (peer, session) = installed[index],
            let payload = session.open(datagram.bytes, at: world.now)
        else {
            lostPackets += 1
            return
        }
        if sending[peer]?.localIndex != index {
            perform {
                $0.sessionConfirmed(localIndex: index, at: $1, random: &$2, into: &$3)
            }
        }
        if device.status(of: peer)?.endpoint != datagram.source {
            device.endpointMoved(peer, to: datagram.source)
        }
        if !payload.isEmpty { received.append(payload) }
    }

    func timeout() {
        guard let deadline = device.deadline, deadline <= world.now else { return }
        perform { $0.timeout(at: $1, random: &$2, into: &$3) }
    }

    func fingerprint() -> UInt64 {
        var hash = Fingerprint()
        device.fingerprint(into: &hash)
        return hash.value
    }

    func perform(
        _ body: (inout TunnelDevice, Now, inout SeededGenerator, inout [TunnelAction]) -> Void
    ) {
        var actions: [TunnelAction] = []
        body(&device, world.clock, &random, &actions)
        for action in actions { execute(action) }
    }

    private func execute(_ action: TunnelAction) {
        switch action {
        case .reserveTimestamp(let stamp): reserved = stamp
        case .send(let datagram, let destination):
            world.put(datagram, from: address, to: destination)
        case .installSession(let peer, let session):
            installed[session.localIndex] = (peer, session)
        case .useSession(let peer, let session):
            sending[peer] = session
            let queue = waiting.removeValue(forKey: peer) ?? []
            for payload in queue {
                guard let sealed = session.seal(payload, at: world.now),
                    let endpoint = device.status(of: peer)?.endpoint
                else { continue }
                world.put(sealed, from: address, to: endpoint)
            }
        case .removeSession(let peer, let index):
            installed[index] = nil
            if sending[peer]?.localIndex == index { sending[peer] = nil }
        case .endpointChanged(_, let endpoint): endpointChanges.append(endpoint)
        case .unreachable(let peer):
            unreachable += 1
            waiting[peer] = nil
        case .dropped(let reason): drops.append(reason)
        }
    }
}

/// Sixteen bytes, so that padding does not change them.
func packet(_ number: Int) -> [UInt8] {
    [0x45] + [UInt8](repeating: 0, count: 11)
        + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
}

/// Two hosts that know each other; `alice` knows where `bob` is.
struct Pair {
    let world = TunnelWorld()
    let alice: TunnelHost
    let bob: TunnelHost

    init(
        psk: SecretBytes? = nil, bobPSK: SecretBytes?? = .none, keepalive: Duration? = nil,
        suite: PacketSuite = .chaCha20Poly1305, bobSuite: PacketSuite? = nil,
        bobThreshold: Int = 1000
    ) {
        alice = TunnelHost(world, seed: 1, address: "192.0.2.1:1111")
        bob = TunnelHost(
            world, seed: 2, address: "192.0.2.2:2222", handshakesPerSecondBeforeLoad: bobThreshold)
        alice.add(
            bob, endpoint: bob.address, psk: psk, keepalive: keepalive, suite: suite)
        bob.add(alice, psk: bobPSK ?? psk, suite: bobSuite ?? suite)
    }

    /// Connected, confirmed on both sides and quiet.
    static func connected() -> Pair {
        let pair = Pair()
        pair.alice.connect(pair.bob)
        pair.world.run(for: .seconds(1))
        pair.world.forgetTraffic()
        return pair
    }

    func exchange(_ number: Int) {
        alice.send(packet(number), to: bob)
        bob.send(packet(number), to: alice)
    }
}
