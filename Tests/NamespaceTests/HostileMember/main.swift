import Cryptography
import Glibc
import LinuxIO
import Membership
import MeshBase
import MeshNode
import NetAddress
import Sabotage
import WireGuard

// A member that lies. Its node is the real one, so it is met, certified and tunnelled with like any
// other; through its tunnels it says whatever a ``Saboteur`` makes up, twenty rounds a second to every
// member, and keeps nothing on a disk. It tells on standard output how much it has said.
//
//     HostileMember TOKEN-FILE HOSTNAME OWN-ADDRESS:PORT PEER:PORT ...

/// The process, since a test kills it with its namespace.
struct Impostor {
    private let socket: DatagramSocket
    private var node: Node
    private var saboteur: Saboteur
    private var first: [NodeAction] = []
    private var routes: [TunnelRoute] = []
    private var sessions: [UInt32: (key: StaticPublicKey, session: TransportSession)] = [:]
    private var rounds = 0

    init(token: NetworkToken, hostname: String, address: SocketAddress) throws {
        socket = try DatagramSocket(boundTo: address)
        let identity = NodeIdentity(
            signingSeed: SecretBytes(SystemRandom.bytes32()),
            staticSecret: SecretBytes(SystemRandom.bytes32()))
        guard let issuer = token.issuer(for: .member) else { throw CertificateProblem.issuer }
        let certificate = try MembershipCertificate.issue(
            nodeID: identity.node, staticKey: identity.staticKey.publicKey, roles: .member,
            serial: 1, meshID: token.meshID, delegation: issuer.delegation,
            issuerKey: issuer.key)
        var configuration = NodeConfiguration(
            token: token, identity: identity, certificate: certificate, hostname: hostname,
            listenPort: address.port)
        configuration.usesLocalDiscovery = false
        let now = SystemClock.now()
        saboteur = try Saboteur(
            configuration, seed: SystemRandom.bytes32().prefix64, at: now.boot)
        node = Node(
            configuration: configuration, restored: RestoredState(), seed: SystemRandom.bytes32(),
            at: now, into: &first)
    }

    mutating func run(candidates: [SocketAddress]) {
        carryOut(first)
        step(.interfaces([interface]))
        step(.candidates(candidates))
        var nextRound = SystemClock.boot()
        while true {
            var set = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            poll(&set, 1, 10)
            while case .datagram(let arrived) = socket.receive() {
                take(arrived.bytes, from: arrived.source)
            }
            let now = SystemClock.boot()
            if node.deadline.map({ $0 <= now }) ?? false { step(.timeout) }
            guard now >= nextRound else { continue }
            nextRound = now + .milliseconds(50)
            attack()
        }
    }

    private var interface: LocalInterface {
        let ip = socket.localAddress.ip
        let network = IPPrefix(ip, length: 24) ?? IPPrefix(host: ip)
        return LocalInterface(
            index: 1, name: "eth0", addresses: [ip], prefixes: [network], isMulticast: false)
    }

    /// Says a round of lies to every member with a session.
    private mutating func attack() {
        let entries = node.ledgerEntries(bucket: nil)
        for route in routes {
            guard let session = route.sending, let address = route.address else { continue }
            let now = SystemClock.boot()
            for frame in saboteur.round(entries: entries, at: now) {
                if let datagram = session.seal(frame.encode(), at: now) {
                    socket.send(datagram, to: address)
                }
            }
        }
        rounds += 1
        if rounds.isMultiple(of: 20) {
            let counts = "\(saboteur.said) said \(saboteur.forged) forged"
            say("\(counts) \(saboteur.replayed) replayed to \(routes.count) members")
        }
    }

    private mutating func step(_ input: NodeInput) {
        var actions: [NodeAction] = []
        node.receive(input, at: SystemClock.now(), into: &actions)
        carryOut(actions)
    }

    private mutating func carryOut(_ actions: [NodeAction]) {
        for action in actions {
            switch action {
            case .send(let bytes, let target), .sendUnfragmented(let bytes, let target):
                if target.ip.isIPv4 { socket.send(bytes, to: target) }
            case .forwardingChanged:
                routes = node.forwarding
                sessions = [:]
                for route in routes {
                    for session in route.sessions {
                        sessions[session.localIndex] = (route.key, session)
                    }
                }
            default: break
            }
        }
    }

    /// What the packet threads do with a datagram.
    private mutating func take(_ bytes: [UInt8], from source: SocketAddress) {
        guard bytes.first == 4 else { return step(.datagram(bytes, from: source)) }
        guard bytes.count >= 32,
            let (key, session) = sessions[loadLittleEndian32(bytes, at: 4)],
            let payload = session.open(bytes, at: SystemClock.boot())
        else { return }
        let sending = routes.first { $0.key == key }?.sending
        if sending !== session { step(.sessionConfirmed(localIndex: session.localIndex)) }
        guard let first = payload.first, first >> 4 != 4, first >> 4 != 6 else { return }
        if let frame = try? ControlFrame(decoding: payload) { saboteur.hear(frame) }
        step(.controlFrame(payload, from: key))
    }

    private func say(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        _ = write(STDOUT_FILENO, bytes, bytes.count)
    }
}

let words = CommandLine.arguments
guard words.count > 4, let file = fopen(words[1], "re"), let own = SocketAddress(words[3]) else {
    exit(2)
}
var text = [UInt8](repeating: 0, count: 4_096)
let length = fread(&text, 1, text.count, file)
let token = try NetworkToken(
    parsing: String(decoding: text[..<length], as: UTF8.self)
        .split(whereSeparator: \.isWhitespace).map(String.init).first ?? "")
var impostor = try Impostor(token: token, hostname: words[2], address: own)
impostor.run(candidates: words.dropFirst(4).compactMap { SocketAddress($0) })
