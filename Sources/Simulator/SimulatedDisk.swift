import ClusterPlan
import MeshBase
import MeshNode
import WireGuard

/// What survives a crash of one machine.
struct SimulatedDisk {
    var identitySeed: UInt64
    var serial: UInt64 = 1
    var founding: [UInt8]?
    var ledgerEntries: [[UInt8]] = []
    var timestamp: TAI64N?
    var peerCache: [UInt8]?
    var datastore = LocalDatastore.none

    init(identitySeed: UInt64) {
        self.identitySeed = identitySeed
    }

    mutating func write(_ record: DurableRecord) {
        switch record {
        case .founding(let bytes): founding = bytes
        case .ledgerEntry(let bytes): ledgerEntries.append(bytes)
        case .ledgerShrank: break
        case .timestamp(let stamp): timestamp = stamp
        case .peerCache(let bytes): peerCache = bytes
        }
    }

    var restored: RestoredState {
        RestoredState(
            founding: founding, ledgerEntries: ledgerEntries, timestamp: timestamp,
            peerCache: peerCache)
    }
}
