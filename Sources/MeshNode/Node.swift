import ClusterPlan
import Consensus
import Cryptography
import DNS
import Ledger
import Membership
import MeshBase
import NetAddress
import PathDiscovery
import WireGuard

/// One machine of the mesh as a value: every protocol core, and the rules by which the actions of
/// one become the inputs of another.
///
/// An interpreter feeds it one ``NodeInput`` at a time and carries out the returned actions in
/// order. The way of a new member through the file family:
///
/// 1. Node+Discovery: an address is heard of, a hello answered, a certificate verified.
/// 2. Node+Tunnels: the peer gets a pre-shared key and, when needed, a session.
/// 3. Node+Ledger: the two ledgers converge; machines, names and addresses appear.
/// 4. Node+Cluster: voters decide who founds, servers and agents join.
package struct Node {
    package let configuration: NodeConfiguration
    var random: SeededGenerator
    var tunnels: TunnelDevice
    var paths: PathFinder
    var discovery: LocalDiscovery?
    var dht: DHTPresence?
    var mapper: PortMapper?
    var ledger: LedgerState
    var swim: SwimInstance
    var founding: Founding
    var leases: LeaseBoard
    var cluster: ClusterCoordinator
    /// Writes down what happens to the two above, when somebody wants to know.
    var log: NodeLog?
    /// The server to which ``serviceAddress`` leads from here.
    var serviceServer: NodeID?

    /// Every node with a verified certificate, ourselves excluded.
    package internal(set) var members: [NodeID: Member] = [:]
    var membersByKey: [StaticPublicKey: NodeID] = [:]
    /// Our own addresses on the overlay.
    package internal(set) var ipv4: IPAddress?
    package let ipv6: IPAddress
    /// Which candidate of ours `ipv4` is.
    var addressCandidate = 0
    var addressStrength = ClaimStrength.wish
    var interfaces: [LocalInterface] = []
    var pendingPings: [UInt32: PendingPing] = [:]
    var hasToldClone = false
    /// What the mesh's root took back.
    package internal(set) var withdrawn = RevocationList()
    /// When members without a path are sought again.
    var nextSearch: BootInstant
    /// No later than the earliest deadline of the members' path searches.
    var pathMTUDeadline: BootInstant?
    var isLeaving = false
    /// What the planner knows of the founding.
    var toldSummary: FoundingSummary?
    /// Counts what was dropped and why, for `status` and for tests.
    package internal(set) var drops: [String: UInt64] = [:]
    /// Bytes of the datagrams that this node made, by what they say; those of ``paths`` count there.
    var sentBytes: [String: UInt64] = [:]

    var publishing = NamePublishing()
    /// The newest snapshot of names for the resolver.
    package internal(set) var names: NameTable

    /// Makes a node. Nothing is sent before its first input.
    ///
    /// - Parameters:
    ///   - seed: 32 bytes from the kernel, or a simulator's.
    ///   - now: the moment of the start.
    ///   - actions: what has to be carried out before the first input.
    package init(
        configuration: NodeConfiguration, restored: RestoredState, seed: Bytes32, at now: Now,
        into actions: inout [NodeAction]
    ) {
        let token = configuration.token
        var random = SeededGenerator(seed: seed)
        let bootNonce = random.next() | 1
        self.configuration = configuration
        ipv6 = configuration.certificate.ipv6
        let verify = Node.certificateVerifier(token, RevocationList())
        tunnels = TunnelDevice(
            privateKey: configuration.identity.staticKey, lastTimestamp: restored.timestamp)
        paths = PathFinder(
            configuration: PathConfiguration(
                meshID: token.meshID, discoverySecret: token.discoverySecret,
                admissionSecret: token.admissionSecret,
                signingKey: configuration.identity.signingKey,
                staticKey: configuration.identity.staticKey,
                credential: configuration.certificate.encode(),
                suites: configuration.suites.rawValue,
                capabilities: Node.joinsPieces
                    | (configuration.relay == .off ? 0 : PathCapability.relays)
                    | (configuration.guessesPorts ? PathCapability.guessesPorts : 0),
                bootNonce: bootNonce,
                verifyCredential: { bytes in
                    verify(bytes).map { PeerCredential(node: $0.nodeID, staticKey: $0.staticKey) }
                }))
        paths.setCarrier(configuration.hasCarrier)
        ledger = LedgerState(
            configuration: LedgerConfiguration(
                meshID: token.meshID, signer: configuration.identity.signingKey,
                certificateVerifier: { verify($0)?.nodeID }, root: token.root,
                policyVerifier: { (try? RevocationList(decoding: $0)) != nil }),
            restored: restored.ledgerEntries.compactMap { try? LedgerEntry(decoding: $0) },
            at: now.boot)
        swim = SwimInstance(local: configuration.identity.node, at: now.boot)
        let signer: any FoundingSigner
        (signer, log) = Node.foundingSigner(configuration)
        founding = Founding(
            configuration: Node.foundingConfiguration(configuration),
            restoring: restored.founding, at: now.boot, signer: signer)
        leases = LeaseBoard(
            configuration: Node.leaseConfiguration(configuration), record: restored.leases,
            voters: restored.leaseVoters, at: now.boot,
            signer: NodeKeySigner(configuration.identity.signingKey))
        cluster = ClusterCoordinator(
            configuration: ClusterConfiguration(
                kind: configuration.clusterKind, role: configuration.clusterRole,
                node: configuration.identity.node,
                staticPublicKey: configuration.identity.staticKey.publicKey,
                serverLimit: token.policy?.servers ?? 1, hostname: configuration.hostname,
                zone: configuration.zone))
        names = NameTable(zone: DNSName(configuration.zone) ?? .root)
        nextSearch = now.boot + Node.searchInterval
        self.random = random
        if configuration.usesLocalDiscovery {
            discovery = Node.localDiscovery(configuration, random: &self.random)
        }
        if configuration.mapsPorts {
            mapper = PortMapper(internalPort: configuration.listenPort, random: &self.random)
        }
        dht = DHTPresence(configuration, at: now.boot, random: &self.random)
        if let contacts = restored.dhtContacts { dht?.agent.restore(contacts, at: now.boot) }
        beginLog(restored.founding, at: now, into: &actions)
        begin(restored, at: now, into: &actions)
    }

    var id: NodeID { configuration.identity.node }

    /// How often members without a path are sought again: long enough to cost nothing, short
    /// enough to heal a partition before people look.
    static let searchInterval = Duration.seconds(20)

    // MARK: - The one entry point

    /// Takes one input and appends what has to be done.
    package mutating func receive(
        _ input: NodeInput, at now: Now, into actions: inout [NodeAction]
    ) {
        switch input {
        case .datagram(let bytes, let source):
            receiveDatagram(bytes, from: source, at: now, into: &actions)
        case .controlFrame(let payload, let key):
            receiveFrame(payload, from: key, at: now, into: &actions)
        case .sessionWanted(let key):
            connect(key, at: now, into: &actions)
        case .sessionConfirmed(let index):
            withTunnels(at: now, into: &actions) { tunnels, random, results in
                tunnels.sessionConfirmed(
                    localIndex: index, at: now, random: &random, into: &results)
            }
        case .endpointMoved(let key, let address):
            heardTunnel(key, from: address, at: now, into: &actions)
        case .multicast(let bytes, let source, let interface, let toGroup):
            withDiscovery(at: now, into: &actions) { discovery, random, results in
                discovery.receive(
                    bytes, from: source, interface: interface, toGroup: toGroup, at: now.boot,
                    random: &random, into: &results)
            }
        case .interfaces(let interfaces):
            interfacesChanged(interfaces, at: now, into: &actions)
        case .candidates(let addresses):
            for address in addresses {
                paths.addCandidate(address, source: .configured, at: now.boot)
            }
            seedDHT(addresses, at: now)
            runPaths(at: now, into: &actions)
        case .dhtBootstrap(let addresses):
            addDHTBootstrap(addresses, at: now, into: &actions)
        case .carrier(let report):
            carrierReported(report, at: now, into: &actions)
        case .waysOutChanged:
            waysOutChanged(at: now, into: &actions)
        case .gatewayChanged(let link):
            gatewayChanged(link, at: now, into: &actions)
        case .gateway(let report):
            gatewayReported(report, at: now, into: &actions)
        case .host(let report):
            hostReported(report, at: now, into: &actions)
        case .command(let command):
            perform(command, at: now, into: &actions)
        case .timeout:
            runTimers(at: now, into: &actions)
        }
        settleMembers(at: now, into: &actions)
        dht?.agent.setAlone(!members.values.contains { $0.isConnected }, at: now.boot)
    }

    /// Mixes kernel entropy into the generator; the interpreter does it now and then.
    package mutating func stir(_ entropy: Bytes32) {
        random.stir(entropy)
    }

    /// When the node wants ``NodeInput/timeout`` at the latest.
    package var deadline: BootInstant? {
        var result: BootInstant? = nextSearch
        for candidate in [
            tunnels.deadline, paths.deadline, discovery?.deadline, dht?.deadline, mapper?.deadline,
            ledger.deadline,
            swim.deadline,
            founding.deadline, leases.deadline, cluster.deadline,
            pendingPings.values.map(\.deadline).min(), pathMTUDeadline,
            publishing.settleAt,
        ] {
            result = earlier(result, candidate)
        }
        return result
    }

    private mutating func runTimers(at now: Now, into actions: inout [NodeAction]) {
        if let due = tunnels.deadline, due <= now.boot {
            withTunnels(at: now, into: &actions) { tunnels, random, results in
                tunnels.timeout(at: now, random: &random, into: &results)
            }
        }
        if let due = paths.deadline, due <= now.boot { runPaths(at: now, into: &actions) }
        if let due = discovery?.deadline, due <= now.boot {
            withDiscovery(at: now, into: &actions) { discovery, random, results in
                discovery.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        if let due = mapper?.deadline, due <= now.boot {
            withMapper(at: now, into: &actions) { mapper, random, results in
                mapper.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        if let due = dht?.deadline, due <= now.boot { runDHT(at: now, into: &actions) }
        if let due = ledger.deadline, due <= now.boot {
            withLedger(at: now, into: &actions) { ledger, random, results in
                ledger.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        if let due = swim.deadline, due <= now.boot {
            withSwim(at: now, into: &actions) { swim, random, results in
                swim.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        if let due = founding.deadline, due <= now.boot {
            tellFounding(.timeout, at: now, into: &actions)
        }
        if let due = leases.deadline, due <= now.boot {
            withLeases(at: now, into: &actions) { leases, random, results in
                leases.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        if let due = cluster.deadline, due <= now.boot {
            tellCluster(.timeout, at: now, into: &actions)
        }
        if let due = pathMTUDeadline, due <= now.boot { runPathMTU(at: now, into: &actions) }
        if nextSearch <= now.boot {
            nextSearch = now.boot + Node.searchInterval
            searchLostMembers(at: now, into: &actions)
        }
        for (identifier, ping) in pendingPings where ping.deadline <= now.boot {
            pendingPings[identifier] = nil
        }
    }

    mutating func drop(_ reason: String) {
        drops[reason, default: 0] += 1
    }
}

/// Another node of the mesh, known by its certificate.
package struct Member: Sendable {
    package var certificate: MembershipCertificate
    package var record: MachineRecord?
    package var state: MemberState = .unknown
    /// When it was last known to be there, or heard of first.
    var lastPresent = BootInstant.zero
    package var roundTrip: Duration?
    /// What the member signed that it can do; `nil` before it introduced itself.
    var suites: PacketSuites?
    /// Whether the ledger and the founding may talk to it now.
    package var isConnected = false
    /// The session that packets to it use.
    package var sending: TransportSession?
    /// Every session on which it may send to us, oldest first.
    package var sessions: [TransportSession] = []
    package var endpoint: SocketAddress?
    /// What the path to it carries; `nil` before a session.
    var pathMTU: PathMTUSearch?
    /// Whether it puts together packets that come in two pieces; it said so when it introduced
    /// itself.
    package var joinsPieces = false
    /// Bytes of sessions that are gone: received, sent.
    var retiredTraffic = Traffic()
    /// Control frames that wait for a session, oldest first.
    var waiting = BoundedDeque<[UInt8]>(capacity: Member.waitingLimit)
    /// The overlay IPv4 address that stands after all claims are weighed.
    package var ipv4: IPAddress?

    /// Enough for every core to say what it has to say at once; cores repeat what is lost.
    static let waitingLimit = 64

    init(certificate: MembershipCertificate) {
        self.certificate = certificate
    }

    /// Forgets a session but not what it carried.
    mutating func retire(sessionWithIndex index: UInt32) {
        for session in sessions where session.localIndex == index {
            retiredTraffic = retiredTraffic + Traffic(session.activity)
        }
        sessions.removeAll { $0.localIndex == index }
    }

    /// Everything that went through the tunnel since the node started.
    var traffic: Traffic {
        sessions.reduce(retiredTraffic) { $0 + Traffic($1.activity) }
    }
}

/// Bytes of tunnel datagrams in both directions.
struct Traffic: Sendable {
    var received: UInt64 = 0
    var sent: UInt64 = 0

    init() {}

    init(_ activity: SessionActivity) {
        received = activity.bytesReceived
        sent = activity.bytesSent
    }

    static func + (first: Traffic, second: Traffic) -> Traffic {
        var sum = first
        sum.received &+= second.received
        sum.sent &+= second.sent
        return sum
    }
}

struct PendingPing {
    var sentAt: BootInstant
    var deadline: BootInstant
}
