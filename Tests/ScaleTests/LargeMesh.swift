import Cryptography
import Ledger
import Membership
import MeshBase

/// Hundreds of ledgers and membership instances, joined as ``SessionGraph`` says, over a network
/// with 5 to 50 ms one way and loss. Sizes on the wire include every header.
struct LargeMesh {
    enum Event {
        case ledgerTimer(Int)
        case swimTimer(Int)
        case ledgerMessage([UInt8], from: Int, to: Int)
        case swimMessage([UInt8], from: Int, to: Int)
    }

    /// IPv4, UDP, the tunnel's header and tag, the frame's header, padding on average.
    static let ledgerOverhead = 28 + 32 + 7 + 8
    /// IPv4, UDP, the envelope with nonce, hint, counters and tag.
    static let swimOverhead = 28 + 4 + 24 + 8 + 16 + 16
    private static let meshID = [UInt8](repeating: 5, count: 16)

    let keys: [SigningKey]
    let ids: [NodeID]
    private let index: [NodeID: Int]
    private(set) var ledgers: [LedgerState]
    private(set) var swims: [SwimInstance]
    private(set) var links: [Set<Int>]
    private(set) var now = BootInstant(nanoseconds: 5_000_000_000)
    private(set) var bytes: [Int]
    /// Nodes that run no code of ours: they lose what comes in.
    var silent: Set<Int> = []
    var loss = 0.0
    private let probes: Bool
    private var random: SeededGenerator
    private var queue = EventHeap<Event>()
    private var ledgerTimers: [BootInstant?]
    private var swimTimers: [BootInstant?]
    /// Called with every entry that begins to count anywhere.
    private(set) var arrivals: [LedgerKey: [Int: BootInstant]] = [:]

    /// - Parameter probes: whether membership runs, too; the ledger does not depend on it.
    init(count: Int, seed: UInt64, probes: Bool) {
        var random = SeededGenerator(seed: seed)
        let keys = (0..<count).map { _ in SigningKey(seed: SecretBytes(random.bytes32())) }
        let ids = keys.map(\.publicKey)
        self.keys = keys
        self.probes = probes
        self.ids = ids
        index = Dictionary(uniqueKeysWithValues: zip(ids, 0...))
        let start = now

        var first = LedgerState(configuration: Self.configuration(keys[0]), at: start)
        var swim = SwimInstance(local: NodeID(.zero), at: start)
        for (node, key) in zip(ids, keys) {
            var author = LedgerState(configuration: Self.configuration(key), at: start)
            var actions: [LedgerAction] = []
            for (bucket, name, value) in [
                ("members", "certificate", Self.certificate(node)),
                ("machines", "self", [UInt8](repeating: 1, count: 40)),
            ] {
                Self.put(bucket, name, value, into: &author, start, &random, &actions)
            }
            for entry in author.allEntries {
                _ = first.adopt(entry, at: start, random: &random, into: &actions)
            }
            var unused: [SwimAction] = []
            swim.admit(node)
            swim.heard(from: node, at: start, into: &unused)
        }
        ledgers = keys.map {
            LedgerState(copying: first, as: Self.configuration($0), at: start)
        }
        swims = ids.map { SwimInstance(copying: swim, as: $0, at: start) }
        links = Array(repeating: [], count: count)
        bytes = Array(repeating: 0, count: count)
        ledgerTimers = Array(repeating: nil, count: count)
        swimTimers = Array(repeating: nil, count: count)
        self.random = random
        let ring = ids.sorted()
        for node in 0..<count {
            let others = ring.filter { $0 != ids[node] }
            let neighbours = SessionGraph.ringNeighbours(of: ids[node], in: others)
            for peer in 0..<count where peer != node {
                let isDrawn = SessionGraph.areDrawn(ids[node], ids[peer], members: count)
                if isDrawn || neighbours.contains(ids[peer]) {
                    links[node].insert(peer)
                    links[peer].insert(node)
                }
            }
        }
        for node in 0..<count {
            for peer in links[node].sorted() {
                ledger(node) { $0.peerConnected(ids[peer], at: $1, random: &$2, into: &$3) }
            }
            guard probes else { continue }
            swims[node].setProbeTargets(links[node].map { ids[$0] })
            planSwim(node)
        }
    }

    private static func certificate(_ node: NodeID) -> [UInt8] {
        // As long as a real one.
        [UInt8](repeating: 0xCE, count: 227) + node.bytes.bytes
    }

    private static func configuration(_ key: SigningKey) -> LedgerConfiguration {
        LedgerConfiguration(meshID: meshID, signer: key) { bytes in
            bytes.count == 259 ? Bytes32(bytes.suffix(32)).map { NodeID($0) } : nil
        }
    }

    private static func put(
        _ bucket: String, _ key: String, _ value: [UInt8], into state: inout LedgerState,
        _ now: BootInstant, _ random: inout SeededGenerator, _ actions: inout [LedgerAction]
    ) {
        do {
            try state.put(
                bucket: bucket, key: key, value: value, at: now, random: &random, into: &actions)
        } catch {
            preconditionFailure("a test writes what is allowed: \(error)")
        }
    }

    // MARK: - Running

    mutating func put(_ node: Int, _ bucket: String, _ key: String, _ value: [UInt8]) {
        ledger(node) { Self.put(bucket, key, value, into: &$0, $1, &$2, &$3) }
    }

    mutating func ledger(
        _ node: Int,
        _ body: (inout LedgerState, BootInstant, inout SeededGenerator, inout [LedgerAction])
            -> Void
    ) {
        var actions: [LedgerAction] = []
        body(&ledgers[node], now, &random, &actions)
        for action in actions {
            switch action {
            case .send(let target, let message):
                guard let to = index[target], links[node].contains(to) else { continue }
                send(message.count + Self.ledgerOverhead, from: node, to: to) {
                    .ledgerMessage(message, from: node, to: to)
                }
            case .changed(let entry): arrivals[entry.id, default: [:]][node] = now
            case .persist, .erase, .dropped: break
            }
        }
        guard let due = ledgers[node].deadline, due < ledgerTimers[node] ?? .distantFuture
        else { return }
        ledgerTimers[node] = due
        queue.push(.ledgerTimer(node), at: due)
    }

    private mutating func swim(
        _ node: Int,
        _ body: (inout SwimInstance, BootInstant, inout SeededGenerator, inout [SwimAction])
            -> Void
    ) {
        var actions: [SwimAction] = []
        body(&swims[node], now, &random, &actions)
        for case .send(let target, let message) in actions {
            guard let to = index[target] else { continue }
            send(message.count + Self.swimOverhead, from: node, to: to) {
                .swimMessage(message, from: node, to: to)
            }
        }
        planSwim(node)
    }

    private mutating func planSwim(_ node: Int) {
        guard probes, let due = swims[node].deadline, due < swimTimers[node] ?? .distantFuture
        else {
            return
        }
        swimTimers[node] = due
        queue.push(.swimTimer(node), at: due)
    }

    private mutating func send(_ size: Int, from: Int, to: Int, _ event: () -> Event) {
        bytes[from] += size
        guard Double.random(in: 0..<1, using: &random) >= loss, !silent.contains(to) else {
            return
        }
        queue.push(event(), at: now + random.duration(in: .milliseconds(5)...(.milliseconds(50))))
    }

    /// Puts bytes on the wire in the name of `from`, which says what it likes.
    mutating func forge(_ message: [UInt8], from: Int, to: Int) {
        queue.push(.ledgerMessage(message, from: from, to: to), at: now + .milliseconds(10))
    }

    mutating func run(for duration: Duration, until done: (LargeMesh) -> Bool = { _ in false }) {
        let end = now + duration
        while let due = queue.earliest, due <= end, !done(self) {
            now = max(now, due)
            switch queue.pop() {
            case .ledgerTimer(let node):
                ledgerTimers[node] = nil
                ledger(node) { $0.timeout(at: $1, random: &$2, into: &$3) }
            case .swimTimer(let node):
                swimTimers[node] = nil
                swim(node) { $0.timeout(at: $1, random: &$2, into: &$3) }
            case .ledgerMessage(let bytes, let from, let to):
                let sender = ids[from]
                if probes {
                    swim(to) { swim, now, _, actions in
                        swim.heard(from: sender, at: now, into: &actions)
                    }
                }
                ledger(to) { $0.receive(bytes, from: sender, at: $1, random: &$2, into: &$3) }
            case .swimMessage(let bytes, let from, let to):
                let sender = ids[from]
                swim(to) { swim, now, _, actions in
                    swim.receive(bytes, from: sender, at: now, into: &actions)
                }
            case nil: return
            }
        }
        if !done(self) { now = max(now, end) }
    }

    /// How long a write took to each node that has it, sorted.
    func delays(of id: LedgerKey, since start: BootInstant) -> [Duration] {
        (arrivals[id] ?? [:]).values.map { $0 - start }.sorted()
    }
}

/// Events by time, and by arrival among those of one time.
struct EventHeap<Element> {
    private var items: [(at: BootInstant, order: Int, element: Element)] = []
    private var order = 0

    var earliest: BootInstant? { items.first?.at }

    mutating func push(_ element: Element, at instant: BootInstant) {
        order += 1
        items.append((instant, order, element))
        var child = items.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> Element? {
        guard !items.isEmpty else { return nil }
        items.swapAt(0, items.count - 1)
        let last = items.removeLast()
        var parent = 0
        while 2 * parent + 1 < items.count {
            var child = 2 * parent + 1
            if child + 1 < items.count, isBefore(child + 1, child) { child += 1 }
            guard isBefore(child, parent) else { break }
            items.swapAt(child, parent)
            parent = child
        }
        return last.element
    }

    private func isBefore(_ first: Int, _ second: Int) -> Bool {
        (items[first].at, items[first].order) < (items[second].at, items[second].order)
    }
}
