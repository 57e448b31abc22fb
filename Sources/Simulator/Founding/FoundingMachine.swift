import ClusterPlan
import Consensus
import Cryptography
import MeshBase
import NetAddress

/// What survives a power cut of one machine in a world of foundings.
struct FoundingDisk {
    /// What ``FoundingAction/persist(_:)`` gave last.
    var record: [UInt8]?
    /// The same, read; `nil` also when it cannot be.
    var decoded: FoundingRecord?
    var data = LocalDatastore.none
}

/// One machine of a world of foundings: the two cores while it is up, and a disk always.
final class FoundingMachine {
    enum Part: Hashable, Sendable {
        /// Among the T of the policy, or beyond them with the same token.
        case voter
        /// Came with a token of `token grow`.
        case growth
    }

    let index: Int
    let part: Part
    /// Runs from a copy of another machine's disk; it goes when the faults do.
    let isClone: Bool
    /// Names the identity: a wiped machine gets a new number.
    var number: Int
    var random: SeededGenerator
    var founding: Founding?
    var cluster: ClusterCoordinator
    var summary = FoundingSummary(phase: .none)
    var disk = FoundingDisk()
    /// Earlier states of the disk, oldest first.
    var snapshots: [FoundingDisk] = []
    var host = SimulatedHost()
    /// Reports on their way to the node, by number.
    var reports: [Int: HostReport] = [:]
    var reportCount = 0
    /// Counts starts; events of an earlier life are void.
    var life = 0
    var clock = SimulatedClock(start: .zero, origin: .zero, rate: 1, wallError: 0)
    var wakeAt: BootInstant?
    var isAsleep = false
    var ledger = WorldLedger()
    /// Whom it could talk to when it was last told.
    var company: [Int] = []
    var alarm: String?

    init(index: Int, part: Part, number: Int, isClone: Bool, seed: UInt64, servers: Int) {
        self.index = index
        self.part = part
        self.number = number
        self.isClone = isClone
        random = SeededGenerator(seed: seed &* 1_000 &+ UInt64(index))
        cluster = ClusterCoordinator(
            configuration: FoundingMachine.clusterConfiguration(
                number: number, index: index, servers: servers))
    }

    /// As many as a disk remembers of itself; more would only cost memory.
    private static let snapshotLimit = 64

    var isUp: Bool { founding != nil }
    var identity: NodeID { FoundingWorld.node(number) }
    /// Its last alarm names the reset as the way out.
    var asksForReset: Bool {
        alarm.map { $0.contains("under one ballot") || $0.contains("contradict") } ?? false
    }

    var name: String { isClone ? "n\(index)(clone)" : "n\(index)" }

    static func clusterConfiguration(
        number: Int, index: Int, servers: Int
    ) -> ClusterConfiguration {
        ClusterConfiguration(
            kind: .etcd, role: .auto, node: FoundingWorld.node(number),
            staticPublicKey: key(number), serverLimit: servers, hostname: "n\(index)",
            zone: "sim.internal")
    }

    static func key(_ number: Int) -> StaticPublicKey {
        StaticPublicKey(Bytes32(word0: UInt64(number + 1), word1: 5, word2: 5, word3: 5))
    }

    /// Reads or changes the core where it is; a copy would share all of its parts.
    func withFounding<Result>(_ body: (inout Founding) -> Result) -> Result? {
        founding?.lend(to: body)
    }

    /// This machine in the eyes of the planner of another.
    func peer(isAlive: Bool, mayServe: Bool) -> ClusterPeer {
        ClusterPeer(
            id: identity, staticKey: FoundingMachine.key(number),
            ipv4: .v4(0x0A01_0001 + UInt32(number)), ipv6: .v6(0xFD00 << 48, UInt64(number)),
            hostname: "n\(index)", isAlive: isAlive, mayServe: mayServe)
    }

    /// Whether it had such a word when it decided to release its datastore.
    var releasesBesideOthers = false

    /// Whether another machine's word that it is in the cluster has come here.
    func knowsOthers(in cluster: ClusterIdentity) -> Bool {
        ledger.slots.contains { slot in
            guard slot.owner != number, slot.key == ClusterFactKey.role,
                let value = ledger[slot]?.value, let fact = try? RoleFact(decoding: value)
            else { return false }
            return fact.cluster == cluster
        }
    }

    func keepSnapshot() {
        if snapshots.count == FoundingMachine.snapshotLimit { snapshots.removeFirst() }
        snapshots.append(disk)
    }

    /// Whether an uncertified datastore runs here, whatever its node believes.
    func runsUncertified(at now: BootInstant, obeysDeadline: Bool) -> UInt32? {
        guard !isAsleep else { return nil }
        // Its process is there from the moment when the host begins to start it.
        if case .found(_, let generation, let deadline) = host.current,
            !obeysDeadline || clock.local(now) < deadline
        {
            return generation
        }
        guard host.isRunning, case .founding(let cluster) = disk.data else { return nil }
        let isOver = obeysDeadline && clock.local(now) >= host.deadline
        return isOver ? nil : cluster.generation
    }

    func powerOff(keepsBootClock: Bool) {
        founding = nil
        life += 1
        wakeAt = nil
        isAsleep = false
        reports = [:]
        company = []
        summary = FoundingSummary(phase: .none)
        // Before READY a datastore cannot outlive the daemon; afterwards it does.
        let survives: Bool
        switch disk.data {
        case .server, .agent: survives = keepsBootClock && host.isRunning
        case .none, .founding, .foreign, .retired: survives = false
        }
        host.powerOff()
        host.isRunning = survives
    }
}

extension Founding {
    fileprivate mutating func lend<Result>(to body: (inout Founding) -> Result) -> Result {
        body(&self)
    }
}

/// What a machine holds of the ledger: who said what under which key, the newest word of each.
struct WorldLedger {
    struct Slot: Hashable, Sendable {
        var owner: Int
        var key: String
    }

    private(set) var entries: [Slot: (version: Int, value: [UInt8])] = [:]
    /// Equal for ledgers with equal entries.
    private(set) var digest: UInt64 = 0

    var slots: [Slot] {
        entries.keys.sorted { ($0.owner, $0.key) < ($1.owner, $1.key) }
    }

    subscript(slot: Slot) -> (version: Int, value: [UInt8])? { entries[slot] }

    /// Takes an entry if it is news.
    mutating func take(_ slot: Slot, version: Int, value: [UInt8]) -> Bool {
        if let known = entries[slot], known.version >= version { return false }
        if let known = entries[slot] { digest ^= Self.mark(slot, known.version) }
        entries[slot] = (version, value)
        digest ^= Self.mark(slot, version)
        return true
    }

    private static func mark(_ slot: Slot, _ version: Int) -> UInt64 {
        var fingerprint = Fingerprint()
        fingerprint.mix(slot.owner)
        fingerprint.mix(slot.key)
        fingerprint.mix(version)
        return fingerprint.value
    }
}
