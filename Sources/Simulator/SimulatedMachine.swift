import ClusterPlan
import Cryptography
import Membership
import MeshBase
import MeshNode
import NetAddress
import WireGuard

/// One machine of a simulation: a node while it is up, and a disk always.
final class SimulatedMachine {
    let index: Int
    let token: NetworkToken
    let role: RoleWish
    let usesLocalDiscovery: Bool
    var usesDHT = false
    var address: SocketAddress
    var disk: SimulatedDisk
    /// The routers in front of it, its own one first.
    var routers: [NATBox] = []
    var doors = SimulatedDoors()
    var streams = SimulatedStreams()
    var hasCarrier = false
    var guessesPorts = false
    private(set) var node: Node?
    /// Whether there is a node; asked for each datagram, without a look at the node itself.
    private(set) var isUp = false
    /// Counts starts; events of an earlier life are void.
    var life = 0
    var clock = SimulatedClock(start: .zero, origin: .zero, rate: 1, wallError: 0)
    /// In the simulation's time.
    var wakeAt: BootInstant?
    /// How often the node was woken in one second of its life.
    var wakes = (second: UInt64(0), count: 0)
    /// Set when the machine shall crash in the middle of its next actions.
    var actionsUntilCrash: Int?
    var host = SimulatedHost()
    var pongs = 0
    var traffic = SimulatedTraffic()
    var inbox = SimulatedInbox()
    /// How often a deadline of its lives passed.
    var allWakes = 0
    /// Whether this identity ever held or sought the claim to found.
    var ownedClaim = false
    /// What users of this machine were told is written, by key; `nil` for withdrawn.
    var written: [String: [UInt8]?] = [:]
    /// What the node wrote down in each of its lives; see ``SimulationOptions/keepsLogs``.
    var foundingLogs: [String] = []
    var keepsLog = false
    /// Counts the snapshots that the node published for packet threads.
    var snapshots = 0
    /// What packets needed of them, by the sessions' indices.
    private var routes: [UInt32: (snapshot: Int, route: TunnelRoute)] = [:]

    init(
        index: Int, identitySeed: UInt64, token: NetworkToken, role: RoleWish,
        usesLocalDiscovery: Bool
    ) {
        self.index = index
        self.token = token
        self.role = role
        self.usesLocalDiscovery = usesLocalDiscovery
        address = SocketAddress(ip: .v4(0xC0A8_0001 + UInt32(index)), port: 41_641)
        disk = SimulatedDisk(identitySeed: identitySeed)
    }

    /// Where others send to.
    var outerAddress: IPAddress { routers.last?.address ?? address.ip }

    var name: String { "n\(index)" }
    /// The one local network on which all machines are, unless they have their own.
    static let network = IPPrefix(.v4(0xC0A8_0000), length: 16) ?? IPPrefix(host: .v4(0xC0A8_0000))
    private(set) var network = SimulatedMachine.network

    /// Gives the machine a network of its own, behind a NAT or in public.
    func settle(behind kind: SimulatedNAT?, acceptingInput acceptsInput: Bool) {
        let block = UInt32(index + 1) << 8
        let outside = IPAddress.v4(0x2D12_0002 + block)
        routers = kind.map { [NATBox($0, address: outside, acceptsInput: acceptsInput)] } ?? []
        if kind == .doubleNAT {
            let between = IPAddress.v4(0x6440_0002 + block)
            routers.insert(
                NATBox(.portRestricted, address: between, acceptsInput: acceptsInput), at: 0)
        }
        let isPublic = kind == nil || kind == .firewall
        address = SocketAddress(ip: isPublic ? outside : .v4(0xC0A8_0002 + block), port: 41_641)
        network = IPPrefix(address.ip, length: 24) ?? IPPrefix(host: address.ip)
    }

    /// The machine's only network interface.
    var interface: LocalInterface {
        LocalInterface(
            index: 1, name: "eth0", addresses: [address.ip], prefixes: [network],
            isMulticast: true)
    }

    func start(seed: Bytes32, at now: BootInstant, into actions: inout [NodeAction]) {
        let identity = disk.identity
        let voting: MembershipRoles = [.member, .voter]
        let mayVote = token.issuer(for: voting, of: identity.signingKey) != nil
        let roles = mayVote && role != .agent && role != .none ? voting : .member
        guard let issuer = token.issuer(for: roles, of: identity.signingKey),
            let certificate = try? MembershipCertificate.issue(
                nodeID: identity.node, staticKey: identity.staticKey.publicKey, roles: roles,
                serial: disk.serial, meshID: token.meshID, delegation: issuer.delegation,
                issuerKey: issuer.key)
        else { preconditionFailure("the simulation's token issues certificates") }
        var configuration = NodeConfiguration(
            token: token, identity: identity, certificate: certificate, hostname: name,
            listenPort: address.port)
        configuration.clusterKind = token.policy == nil ? .none : .etcd
        configuration.clusterRole = role
        configuration.usesLocalDiscovery = usesLocalDiscovery
        configuration.dht = DHTChoice(mode: usesDHT ? .private : .off)
        configuration.hasCarrier = hasCarrier
        configuration.guessesPorts = guessesPorts
        configuration.hasClusterData = disk.datastore != .none
        configuration.keepsFoundingLog = keepsLog
        if keepsLog { foundingLogs.append("") }
        node = Node(
            configuration: configuration, restored: disk.restored, seed: seed, at: clock.now(now),
            into: &actions)
        isUp = true
    }

    func stop() {
        node = nil
        isUp = false
        routes = [:]
        wakeAt = nil
        inbox = SimulatedInbox()
        actionsUntilCrash = nil
        doors = SimulatedDoors()
        streams = SimulatedStreams()
        host.powerOff()
    }

    /// The node in its place; `nil` while there is none. Even a question to a copy costs many retains.
    func withNode<Result>(_ body: (inout Node) throws -> Result?) rethrows -> Result? {
        try node?.apply(body)
    }

    /// What packet threads know of a session from the snapshot that was published last.
    private func route(ofSession localIndex: UInt32) -> TunnelRoute? {
        if let known = routes[localIndex], known.snapshot == snapshots { return known.route }
        let route = withNode { $0.forwarding(ofSession: localIndex) }
        routes[localIndex] = route.map { (snapshots, $0) }
        return route
    }

    /// Does to one transport packet what the data plane does, and says what the node must know.
    func openPacket(_ bytes: [UInt8], from source: SocketAddress, at now: BootInstant)
        -> [NodeInput]
    {
        guard bytes.count >= 32 else { return [] }
        let localIndex = loadLittleEndian32(bytes, at: 4)
        guard let peer = route(ofSession: localIndex),
            let session = peer.sessions.first(where: { $0.localIndex == localIndex }),
            let payload = session.open(bytes, at: clock.local(now))
        else { return [] }
        var inputs: [NodeInput] = []
        if peer.sending !== session {
            inputs.append(.sessionConfirmed(localIndex: session.localIndex))
        }
        if peer.address != source { inputs.append(.endpointMoved(peer.key, to: source)) }
        if let first = payload.first, first >> 4 != 4, first >> 4 != 6 {
            inputs.append(.controlFrame(payload, from: peer.key))
        }
        return inputs
    }

    /// Counts one wake-up at `now`; returns how many there were within this second.
    func countWake(at now: BootInstant) -> Int {
        allWakes += 1
        let second = now.nanoseconds / 1_000_000_000
        if wakes.second != second { wakes = (second, 0) }
        wakes.count += 1
        return wakes.count
    }
}

extension Node {
    fileprivate mutating func apply<Result>(_ body: (inout Node) throws -> Result) rethrows
        -> Result
    {
        try body(&self)
    }
}

/// What a machine sent to the network.
package struct SimulatedTraffic: Sendable {
    package var datagrams = 0
    /// Of UDP payload.
    package var bytes = 0
    /// By the first byte of the datagram; multicast DNS counts as 0.
    package var bytesByKind: [UInt8: Int] = [:]

    mutating func count(_ bytes: [UInt8], kind: UInt8) {
        datagrams += 1
        self.bytes += bytes.count
        bytesByKind[kind, default: 0] += bytes.count
    }
}
