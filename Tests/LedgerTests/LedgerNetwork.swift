import Cryptography
import Ledger
import MeshBase

/// Ledgers over a virtual network with 10 to 60 ms delay, loss, duplication and reordering, and
/// each with a disk that keeps what was persisted.
struct LedgerNetwork {
    struct Packet {
        let due: BootInstant
        let order: Int
        let from: Int
        let to: Int
        let bytes: [UInt8]
    }

    static let meshID = [UInt8](repeating: 7, count: 16)

    let keys: [SigningKey]
    var ids: [NodeID] { keys.map(\.publicKey) }
    var nodes: [LedgerState]
    var disks: [[LedgerKey: LedgerEntry]]
    var links: Set<[Int]> = []
    var now = BootInstant(nanoseconds: 5_000_000_000)
    var random: SeededGenerator
    var loss = 0.0
    var duplication = 0.0
    var inFlight: [Packet] = []
    var sent = 0
    var sentBytes = 0
    var longest = 0
    var drops: [LedgerDropReason] = []
    var changes: [[LedgerEntry]]

    init(count: Int, seed: UInt64) {
        random = SeededGenerator(seed: seed)
        let base = seed << 32
        keys = (0..<count).map { ledgerKey(base + UInt64($0)) }
        disks = Array(repeating: [:], count: count)
        changes = Array(repeating: [], count: count)
        let start = now
        nodes = keys.map { LedgerState(configuration: ledgerConfiguration($0), at: start) }
        for node in 0..<count { putCertificate(node) }
    }

    mutating func putCertificate(_ node: Int) {
        put(node, "members", "certificate", ledgerCertificate(ids[node]))
    }

    mutating func put(_ node: Int, _ bucket: String, _ key: String, _ value: [UInt8]) {
        input(node) { state, now, random, actions in
            do {
                try state.put(
                    bucket: bucket, key: key, value: value, at: now, random: &random,
                    into: &actions)
            } catch {
                preconditionFailure("a test writes what is allowed: \(error)")
            }
        }
    }

    mutating func delete(_ node: Int, _ bucket: String, _ key: String) {
        input(node) { state, now, random, actions in
            do {
                try state.delete(
                    bucket: bucket, key: key, at: now, random: &random, into: &actions)
            } catch {
                preconditionFailure("a test deletes what is allowed: \(error)")
            }
        }
    }

    mutating func connect(_ first: Int, _ second: Int) {
        links.insert([min(first, second), max(first, second)])
        let ids = ids
        for (node, peer) in [(first, second), (second, first)] {
            input(node) { $0.peerConnected(ids[peer], at: $1, random: &$2, into: &$3) }
        }
    }

    mutating func disconnect(_ first: Int, _ second: Int) {
        links.remove([min(first, second), max(first, second)])
        nodes[first].peerDisconnected(ids[second])
        nodes[second].peerDisconnected(ids[first])
    }

    mutating func connectAll(_ group: some Collection<Int>) {
        for first in group {
            for second in group where first < second { connect(first, second) }
        }
    }

    /// Stops a node and starts it again from its disk, which may have lost writes.
    mutating func restart(_ node: Int, disk: [LedgerKey: LedgerEntry]? = nil) {
        let partners = links.filter { $0.contains(node) }.sorted {
            $0.lexicographicallyPrecedes($1)
        }
        for link in partners { disconnect(link[0], link[1]) }
        if let disk { disks[node] = disk }
        let restored = disks[node].values.sorted { $0.id < $1.id }
        nodes[node] = LedgerState(
            configuration: ledgerConfiguration(keys[node]), restored: restored, at: now)
        for link in partners { connect(link[0], link[1]) }
    }

    mutating func input(
        _ node: Int,
        _ body: (inout LedgerState, BootInstant, inout SeededGenerator, inout [LedgerAction]) ->
            Void
    ) {
        var actions: [LedgerAction] = []
        body(&nodes[node], now, &random, &actions)
        perform(actions, of: node)
    }

    private mutating func perform(_ actions: [LedgerAction], of node: Int) {
        for action in actions {
            switch action {
            case .persist(let entry): disks[node][entry.id] = entry
            case .erase(let id): disks[node][id] = nil
            case .changed(let entry): changes[node].append(entry)
            case .dropped(let reason): drops.append(reason)
            case .send(let target, let bytes):
                longest = max(longest, bytes.count)
                guard let to = ids.firstIndex(of: target),
                    links.contains([min(node, to), max(node, to)])
                else { continue }
                let copies = Double.random(in: 0..<1, using: &random) < duplication ? 2 : 1
                for _ in 0..<copies {
                    sent += 1
                    sentBytes += bytes.count
                    let delay = random.duration(in: .milliseconds(10)...(.milliseconds(60)))
                    guard Double.random(in: 0..<1, using: &random) >= loss else { continue }
                    inFlight.append(
                        Packet(due: now + delay, order: sent, from: node, to: to, bytes: bytes))
                }
            }
        }
    }

    mutating func run(
        for duration: Duration, until done: (LedgerNetwork) -> Bool = { _ in false }
    ) {
        let end = now + duration
        while !done(self) {
            let packet = inFlight.indices.min {
                (inFlight[$0].due, inFlight[$0].order) < (inFlight[$1].due, inFlight[$1].order)
            }
            var timer: (due: BootInstant, node: Int)?
            for node in nodes.indices {
                guard let due = nodes[node].deadline else { continue }
                if due < (timer?.due ?? .distantFuture) { timer = (due, node) }
            }
            if let packet, inFlight[packet].due <= timer?.due ?? .distantFuture,
                inFlight[packet].due <= end
            {
                let arrived = inFlight.remove(at: packet)
                now = max(now, arrived.due)
                guard
                    links.contains([min(arrived.from, arrived.to), max(arrived.from, arrived.to)])
                else { continue }
                let from = ids[arrived.from]
                input(arrived.to) {
                    $0.receive(arrived.bytes, from: from, at: $1, random: &$2, into: &$3)
                }
            } else if let timer, timer.due <= end {
                now = max(now, timer.due)
                input(timer.node) { $0.timeout(at: $1, random: &$2, into: &$3) }
            } else {
                now = max(now, end)
                return
            }
        }
    }

    var hasConverged: Bool { Set(nodes.map(\.digest)).count == 1 }
}

/// What a failed expectation prints: who holds what, and why things were dropped.
extension LedgerNetwork: CustomStringConvertible, CustomReflectable {
    var description: String {
        var reasons: [String: Int] = [:]
        for drop in drops { reasons["\(drop)", default: 0] += 1 }
        let holdings = nodes.map { node in
            "\(node.local.short): \(node.digest.prefix64) with \(node.entryCount) entries"
        }
        return "at \(now) " + holdings.joined(separator: ", ") + ", dropped \(reasons)"
    }

    var customMirror: Mirror { Mirror(self, children: []) }
}

func ledgerKey(_ number: UInt64) -> SigningKey {
    SigningKey(seed: SecretBytes(Bytes32(word0: number, word1: 11, word2: 12, word3: 13)))
}

/// Stands for a certificate: a marker and the holder's id.
func ledgerCertificate(_ node: NodeID) -> [UInt8] {
    [0xCE] + node.bytes.bytes
}

func ledgerConfiguration(_ key: SigningKey) -> LedgerConfiguration {
    LedgerConfiguration(meshID: LedgerNetwork.meshID, signer: key) { bytes in
        guard bytes.count == 33, bytes.first == 0xCE else { return nil }
        return Bytes32(bytes.dropFirst()).map { NodeID($0) }
    }
}
