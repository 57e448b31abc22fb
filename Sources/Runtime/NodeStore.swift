import Cryptography
import Ledger
import LinuxIO
import Membership
import MeshBase
import MeshNode
import Storage
import WireGuard

/// Everything that a node keeps on disk, by the records of MeshNode.
///
///     identity      the two keys, made once
///     membership    the certificate, its mesh and its serial number
///     founding      the registers: two slots, written before a vote leaves
///     leases        the voter's memory of leases: two slots, written before a vote leaves
///     voters        who decided about leases, from the founder on
///     ledger        entries, appended
///     timestamp     the newest handshake stamp that may be used
///     peers, port   where members were, and the UDP port
///     dht           where nodes of the DHT were
final class NodeStore {
    let directory: StateDirectory
    private let founding: RegisterFile
    private let leases: RegisterFile
    private let leaseVoters: AtomicFile
    private let ledger: LedgerFile
    private let timestamp: AtomicFile
    private let peers: AtomicFile
    private let dhtContacts: AtomicFile
    let membership: AtomicFile
    private(set) var restored = RestoredState()
    /// Whether the ledger's file holds much that is dead.
    private(set) var wantsCompaction = false
    private var compactedSize = 0
    /// The founding record exists and cannot be read.
    let isAmnesiac: Bool
    /// What had to be repaired, for the log.
    private(set) var notes: [String] = []

    private static let foundingKind = FileKind(tag: "EVfo", version: 1)
    private static let leasesKind = FileKind(tag: "EVls", version: 1)
    private static let ledgerKind = FileKind(tag: "EVle", version: 1)
    /// Smaller files are not worth rewriting.
    private static let compactionSize = 1 << 18

    init(_ directory: StateDirectory) throws(StorageError) {
        self.directory = directory
        membership = AtomicFile(
            name: "membership", kind: FileKind(tag: "EVme", version: 1), limit: 1_024,
            in: directory)
        // A certificate that cannot be read is refused before anything is made.
        let hasCertificate = try membership.load() != nil
        do throws(StorageError) {
            // A machine that has a certificate has voted, or might have: a register that is gone
            // is a register that is forgotten.
            founding = try Self.register(
                "founding", Self.foundingKind, mayCreate: !hasCertificate, in: directory)
            isAmnesiac = false
        } catch .corrupt(let path, let detail) {
            // The node takes part in everything but voting. The damage stays where it is, so that
            // every later start sees it, too; decisions of others are kept beside it.
            notes.append("\(path) is damaged (\(detail)): this node never votes again")
            founding = try Self.register(
                "founding.amnesiac", Self.foundingKind, mayCreate: true, in: directory)
            isAmnesiac = true
        }
        leaseVoters = AtomicFile(
            name: "voters", kind: FileKind(tag: "EVvo", version: 1), limit: 1 << 20, in: directory)
        restored.leaseVoters = try leaseVoters.load()?.payload
        do throws(StorageError) {
            // Who knows the voters had a memory before.
            leases = try Self.register(
                "leases", Self.leasesKind, mayCreate: restored.leaseVoters == nil, in: directory)
            restored.leases = leases.value
        } catch .corrupt(let path, let detail) {
            notes.append("\(path) is damaged (\(detail)): this node decides about leases no more")
            leases = try Self.register(
                "leases.amnesiac", Self.leasesKind, mayCreate: true, in: directory)
            // What cannot be read is not nothing.
            restored.leases = []
        }
        let (file, recovery) = try LedgerFile.open(
            name: "ledger", kind: Self.ledgerKind, in: directory)
        ledger = file
        if recovery.truncatedBytes > 0 {
            notes.append("the ledger's last \(recovery.truncatedBytes) bytes were torn; cut off")
        }
        timestamp = AtomicFile(
            name: "timestamp", kind: FileKind(tag: "EVts", version: 1), limit: 64, in: directory)
        peers = AtomicFile(
            name: "peers", kind: FileKind(tag: "EVpe", version: 1), limit: 4_096, in: directory)
        dhtContacts = AtomicFile(
            name: "dht", kind: FileKind(tag: "EVdh", version: 1), limit: 8_192, in: directory)
        restored.founding = founding.value
        restored.ledgerEntries = recovery.records
        if let payload = try timestamp.load()?.payload {
            var reader = ByteReader(payload)
            restored.timestamp = try? TAI64N(from: &reader)
        }
        restored.peerCache = try peers.load()?.payload
        restored.dhtContacts = try? dhtContacts.load()?.payload
    }

    private static func register(
        _ name: String, _ kind: FileKind, mayCreate: Bool, in directory: StateDirectory
    ) throws(StorageError) -> RegisterFile {
        try RegisterFile(
            name: name, kind: kind, slotSize: 65_536, mayCreate: mayCreate, in: directory)
    }

    /// Makes a record durable; returns when it is.
    func write(_ record: DurableRecord) throws(StorageError) {
        switch record {
        case .founding(let bytes):
            try founding.store(bytes)
        case .leases(let bytes):
            try leases.store(bytes)
        case .leaseVoters(let bytes):
            try leaseVoters.store(bytes)
        case .ledgerEntry(let bytes):
            try append([bytes])
        case .ledgerShrank:
            wantsCompaction = true
        case .timestamp(let stamp):
            try timestamp.store(stamp.bytes)
        case .peerCache(let bytes):
            try peers.store(bytes)
        case .dhtContacts(let bytes):
            try dhtContacts.store(bytes)
        }
    }

    /// Makes ledger entries durable with one synchronization.
    func append(_ entries: [[UInt8]]) throws(StorageError) {
        try ledger.append(entries)
        let isMostlyDead = ledger.size > compactedSize * 4 + Self.compactionSize
        let isNearlyFull = ledger.size > LedgerFile.sizeLimit / 4 * 3
        if isMostlyDead || isNearlyFull { wantsCompaction = true }
    }

    /// Replaces the ledger's file by what is alive.
    func compactLedger(_ entries: [[UInt8]]) throws(StorageError) {
        try ledger.compact(entries)
        wantsCompaction = false
        compactedSize = ledger.size
    }

    /// Whether a datastore was ever set up beside this state.
    var hasClusterData: Bool {
        exists(directory.path(of: "cluster/record"))
    }

    /// Whether anything is at an absolute path.
    func exists(_ path: String) -> Bool {
        let status = try? directory.fileSystem.status(of: path)
        return status.flatMap { $0 } != nil
    }

    // MARK: - Keys and certificate

    /// The machine's keys; made from the kernel's randomness when there are none.
    func identity() throws(StorageError) -> NodeIdentity {
        if let secrets = try IdentityFile.load(in: directory) {
            return NodeIdentity(
                signingSeed: secrets.signingSeed, staticSecret: secrets.tunnelSecret)
        }
        let fresh = IdentitySecrets(
            signingSeed: SecretBytes(copying: SystemRandom.bytes(32)),
            tunnelSecret: SecretBytes(copying: SystemRandom.bytes(32)))
        try IdentityFile.create(fresh, in: directory)
        return NodeIdentity(signingSeed: fresh.signingSeed, staticSecret: fresh.tunnelSecret)
    }

    /// The certificate of `identity` in the token's mesh, kept while it says what it should.
    func certificate(
        for identity: NodeIdentity, wantsVoter: Bool, token: NetworkToken
    ) throws -> MembershipCertificate {
        let key = identity.signingKey
        let mayVote = wantsVoter && token.issuer(for: [.member, .voter], of: key) != nil
        var serial: UInt64 = 1
        if let stored = try membership.load()?.payload,
            let known = try? MembershipCertificate(decoding: stored)
        {
            guard (try? known.verify(meshID: token.meshID, root: token.root)) != nil else {
                throw ServiceProblem.otherMesh(path: directory.path)
            }
            let hasRoles = known.roles.contains(.voter) || !mayVote
            if known.nodeID == identity.node, hasRoles { return known }
            serial = known.serial + 1
        }
        let roles: MembershipRoles = mayVote ? [.member, .voter] : .member
        guard let issuer = token.issuer(for: roles, of: key) else { throw ServiceProblem.noIssuer }
        let certificate = try MembershipCertificate.issue(
            nodeID: identity.node, staticKey: identity.staticKey.publicKey, roles: roles,
            serial: serial, meshID: token.meshID, delegation: issuer.delegation,
            issuerKey: issuer.key)
        try membership.store(certificate.encode())
        return certificate
    }

    // MARK: - Port

    private static func portFile(in directory: StateDirectory) -> AtomicFile {
        AtomicFile(
            name: "port", kind: FileKind(tag: "EVpo", version: 1), limit: 16, in: directory)
    }

    static func savedPort(in directory: StateDirectory) throws(StorageError) -> UInt16? {
        guard let bytes = try portFile(in: directory).load()?.payload, bytes.count == 2 else {
            return nil
        }
        return UInt16(bytes[0]) << 8 | UInt16(bytes[1])
    }

    func savePort(_ number: UInt16) throws(StorageError) {
        try Self.portFile(in: directory).store([
            UInt8(number >> 8), UInt8(truncatingIfNeeded: number),
        ])
    }
}
