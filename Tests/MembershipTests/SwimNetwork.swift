import MeshBase
import Membership

/// A mesh of ``SwimInstance`` values over a virtual network: 20 ms one way plus jitter, and loss.
struct SwimNetwork {
    struct Packet {
        let due: BootInstant
        let order: Int
        let from: Int
        let to: Int
        let bytes: [UInt8]
    }

    struct Change: Hashable {
        let at: BootInstant
        let observer: Int
        let subject: Int
        let state: MemberState
    }

    let ids: [NodeID]
    var nodes: [SwimInstance]
    var running: Set<Int>
    var now = BootInstant(nanoseconds: 1_000_000_000)
    var random: SeededGenerator
    var loss = 0.0
    /// Pairs of groups cannot talk; one group means no partition.
    var group: [Int]
    /// Two nodes whose link is dead in both directions.
    var cut: [Int] = []
    var inFlight: [Packet] = []
    var sent = 0
    var sentBytes = 0
    var longest = 0
    var changes: [Change] = []
    var drops: [SwimDropReason] = []
    private let index: [NodeID: Int]

    init(count: Int, seed: UInt64, acquainted: Bool = true) {
        var generator = SeededGenerator(seed: seed)
        let ids = (0..<count).map { _ in NodeID(generator.bytes32()) }
        self.ids = ids
        let start = now
        nodes = ids.map { SwimInstance(local: $0, at: start) }
        running = Set(0..<count)
        group = Array(repeating: 0, count: count)
        index = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($1, $0) })
        random = generator
        for observer in 0..<count {
            for subject in 0..<count where subject != observer {
                nodes[observer].admit(ids[subject])
            }
        }
        if acquainted {
            for observer in 0..<count {
                for subject in 0..<count where subject != observer {
                    input(observer) { node, now, actions in
                        node.heard(from: ids[subject], at: now, into: &actions)
                    }
                }
            }
            changes = []
        }
    }

    mutating func input(
        _ node: Int, _ body: (inout SwimInstance, BootInstant, inout [SwimAction]) -> Void
    ) {
        var actions: [SwimAction] = []
        body(&nodes[node], now, &actions)
        perform(actions, of: node)
    }

    private mutating func perform(_ actions: [SwimAction], of node: Int) {
        for action in actions {
            switch action {
            case .send(let target, let bytes):
                sent += 1
                sentBytes += bytes.count
                longest = max(longest, bytes.count)
                let delay = random.duration(in: .milliseconds(20)...(.milliseconds(35)))
                guard let receiver = index[target], Double.random(in: 0..<1, using: &random) >= loss
                else { continue }
                inFlight.append(
                    Packet(due: now + delay, order: sent, from: node, to: receiver, bytes: bytes))
            case .memberChanged(let subject, let state):
                guard let subject = index[subject] else { continue }
                changes.append(Change(at: now, observer: node, subject: subject, state: state))
            case .dropped(let reason):
                drops.append(reason)
            }
        }
    }

    /// Runs the mesh for `duration` of virtual time.
    mutating func run(for duration: Duration, until done: (SwimNetwork) -> Bool = { _ in false }) {
        let end = now + duration
        while !done(self) {
            let packet = inFlight.indices.min {
                (inFlight[$0].due, inFlight[$0].order) < (inFlight[$1].due, inFlight[$1].order)
            }
            var timer: (due: BootInstant, node: Int)?
            for node in running.sorted() {
                guard let due = nodes[node].deadline else { continue }
                if due < (timer?.due ?? .distantFuture) { timer = (due, node) }
            }
            if let packet, inFlight[packet].due <= timer?.due ?? .distantFuture,
                inFlight[packet].due <= end
            {
                let arrived = inFlight.remove(at: packet)
                now = max(now, arrived.due)
                guard running.contains(arrived.to), group[arrived.from] == group[arrived.to],
                    !(cut.contains(arrived.from) && cut.contains(arrived.to))
                else { continue }
                let from = ids[arrived.from]
                input(arrived.to) { $0.receive(arrived.bytes, from: from, at: $1, into: &$2) }
            } else if let timer, timer.due <= end {
                now = max(now, timer.due)
                var generator = random
                input(timer.node) { $0.timeout(at: $1, random: &generator, into: &$2) }
                random = generator
                _ = random.next()
            } else {
                break
            }
        }
        if !done(self) { now = max(now, end) }
    }

    func everybody(_ observers: some Sequence<Int>, sees subject: Int, as state: MemberState)
        -> Bool
    {
        observers.allSatisfy {
            $0 == subject || nodes[$0].state(of: ids[subject]) == state
        }
    }
}

/// What a failed expectation prints: the last news of everybody.
extension SwimNetwork: CustomStringConvertible, CustomReflectable {
    var description: String {
        let news = changes.suffix(40).map {
            "\($0.at) \($0.observer): \($0.subject) is \($0.state)"
        }
        return "at \(now) " + news.joined(separator: ", ")
    }

    var customMirror: Mirror { Mirror(self, children: []) }
}
