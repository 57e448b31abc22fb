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
    let wallOffset: Int64
    var disk: SimulatedDisk
    var node: Node?
    /// Counts starts; events of an earlier life are void.
    var life = 0
    var wakeAt: BootInstant?
    /// Set when the machine shall crash in the middle of its next actions.
    var actionsUntilCrash: Int?
    var isDatastoreRunning = false
    var pongs = 0
    private var sessions: [UInt32: (key: StaticPublicKey, session: TransportSession)] = [:]

    init(index: Int, identitySeed: UInt64, token: NetworkToken, wallOffset: Int64) {
        self.index = index
        self.token = token
        self.wallOffset = wallOffset
        disk = SimulatedDisk(identitySeed: identitySeed)
    }

    var name: String { "n\(index)" }
    var isUp: Bool { node != nil }
    /// The one local network on which all machines are.
    static let network = IPPrefix(.v4(0xC0A8_0000), length: 16) ?? IPPrefix(host: .v4(0xC0A8_0000))
    var address: SocketAddress {
        SocketAddress(ip: .v4(0xC0A8_0001 + UInt32(index)), port: 41_641)
    }

    func start(seed: Bytes32, at now: Now, into actions: inout [NodeAction]) {
        var keys = SeededGenerator(seed: disk.identitySeed)
        let identity = NodeIdentity(
            signingSeed: SecretBytes(keys.bytes32()), staticSecret: SecretBytes(keys.bytes32()))
        let roles: MembershipRoles = token.grantsVoters ? [.member, .voter] : .member
        guard let issuer = token.issuer(for: roles),
            let certificate = try? MembershipCertificate.issue(
                nodeID: identity.node, staticKey: identity.staticKey.publicKey, roles: roles,
                serial: disk.serial, meshID: token.meshID, delegation: issuer.delegation,
                issuerKey: issuer.key)
        else { preconditionFailure("the simulation's token issues certificates") }
        var configuration = NodeConfiguration(
            token: token, identity: identity, certificate: certificate, hostname: name,
            listenPort: address.port)
        configuration.clusterKind = token.policy == nil ? .none : .etcd
        configuration.hasClusterData = disk.datastore != .none
        node = Node(
            configuration: configuration, restored: disk.restored, seed: seed, at: now,
            into: &actions)
    }

    func stop() {
        node = nil
        sessions = [:]
        wakeAt = nil
        actionsUntilCrash = nil
        isDatastoreRunning = false
    }

    /// What packet threads learn from the published snapshot.
    func refreshSessions() {
        sessions = [:]
        for peer in node?.forwarding ?? [] {
            for session in peer.sessions { sessions[session.localIndex] = (peer.key, session) }
        }
    }

    /// Does to one transport packet what the data plane does, and says what the node must know.
    func openPacket(_ bytes: [UInt8], from source: SocketAddress, at now: BootInstant)
        -> [NodeInput]
    {
        guard bytes.count >= 32,
            let (key, session) = sessions[loadLittleEndian32(bytes, at: 4)],
            let payload = session.open(bytes, at: now),
            let peer = node?.forwarding.first(where: { $0.key == key })
        else { return [] }
        var inputs: [NodeInput] = []
        if peer.sending !== session {
            inputs.append(.sessionConfirmed(localIndex: session.localIndex))
        }
        if peer.endpoint != source { inputs.append(.endpointMoved(key, to: source)) }
        if let first = payload.first, first >> 4 != 4, first >> 4 != 6 {
            inputs.append(.controlFrame(payload, from: key))
        }
        return inputs
    }
}
