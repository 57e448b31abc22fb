import ClusterPlan
import Cryptography
import MeshBase
import MeshNode
import WireGuard

/// What survives a crash of one machine.
struct SimulatedDisk {
    var identitySeed: UInt64
    var serial: UInt64 = 1
    var founding: [UInt8]?
    var leases: [UInt8]?
    var leaseVoters: [UInt8]?
    var ledgerEntries: [[UInt8]] = []
    /// How many entries the file had when it was written anew.
    private var rewrittenCount = 0
    /// An entry left the ledger since the file was written anew.
    var ledgerShrank = false
    var timestamp: TAI64N?
    var peerCache: [UInt8]?
    var dhtContacts: [UInt8]?
    var datastore = LocalDatastore.none

    init(identitySeed: UInt64) {
        self.identitySeed = identitySeed
    }

    /// The machine's keys.
    var identity: NodeIdentity {
        var keys = SeededGenerator(seed: identitySeed)
        return NodeIdentity(
            signingSeed: SecretBytes(keys.bytes32()), staticSecret: SecretBytes(keys.bytes32()))
    }

    mutating func write(_ record: DurableRecord, of node: Node?) {
        switch record {
        case .founding(let bytes): founding = bytes
        case .leases(let bytes): leases = bytes
        case .leaseVoters(let bytes): leaseVoters = bytes
        case .ledgerEntry(let bytes):
            let isMostlyDead = ledgerEntries.count >= 4 * rewrittenCount + Self.rewriteCount
            if ledgerShrank || isMostlyDead, let node {
                ledgerEntries = node.durableLedgerEntries
                rewrittenCount = ledgerEntries.count
                ledgerShrank = false
            }
            ledgerEntries.append(bytes)
        case .ledgerShrank: ledgerShrank = true
        case .timestamp(let stamp): timestamp = stamp
        case .peerCache(let bytes): peerCache = bytes
        case .dhtContacts(let bytes): dhtContacts = bytes
        }
    }

    /// The file is written anew now and then, as on a machine.
    private static let rewriteCount = 400

    var restored: RestoredState {
        var state = RestoredState(
            founding: founding, ledgerEntries: ledgerEntries, timestamp: timestamp,
            peerCache: peerCache, dhtContacts: dhtContacts)
        state.leases = leases
        state.leaseVoters = leaseVoters
        return state
    }
}
