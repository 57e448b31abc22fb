import Cryptography
import MeshBase
import NetAddress

/// A node of the DHT, and the rendezvous of one mesh that uses it: each one's wishes are the
/// other's inputs.
package struct DHTAgent: Sendable {
    package private(set) var node: DHTNode
    private var rendezvous: Rendezvous?
    private var announcer: PeerAnnouncer?
    /// Walks on behalf of the announcer.
    private var announcements: Set<DHTOperation> = []
    /// Walks and writes on behalf of the rendezvous.
    private var slots: [DHTOperation: RendezvousSlot] = [:]
    /// The newest walk to each slot: what a write comes after.
    private var walks: [RendezvousSlot: DHTOperation] = [:]

    /// - Parameters:
    ///   - rendezvous: `nil` for a node that only serves others.
    ///   - announcer: `nil` unless it was asked for.
    package init(
        configuration: DHTConfiguration, rendezvous: Rendezvous?,
        announcer: PeerAnnouncer? = nil, at now: BootInstant, random: inout SeededGenerator
    ) {
        self.announcer = announcer
        node = DHTNode(configuration: configuration, at: now, random: &random)
        self.rendezvous = rendezvous
    }

    // MARK: - What the owner knows

    package mutating func addBootstrap(_ addresses: [SocketAddress], at now: BootInstant) {
        node.addBootstrap(addresses, at: now)
    }

    package mutating func restore(_ snapshot: [UInt8], at now: BootInstant) {
        node.restore(snapshot, at: now)
    }

    package mutating func setLocalAddresses(_ addresses: Set<IPAddress>, at now: BootInstant) {
        node.setLocalAddresses(addresses, at: now)
    }

    /// See ``Rendezvous/setEndpoints(_:at:)``.
    package mutating func setEndpoints(_ addresses: [SocketAddress], at now: BootInstant) {
        rendezvous?.setEndpoints(addresses, at: now)
    }

    /// See ``Rendezvous/setAlone(_:at:)``.
    package mutating func setAlone(_ alone: Bool, at now: BootInstant) {
        rendezvous?.setAlone(alone, at: now)
        announcer?.setAlone(alone, at: now)
    }

    /// Does something with the node; the rendezvous hears of what comes of it.
    @discardableResult
    package mutating func with<Result>(
        at now: Now, random: inout SeededGenerator, into actions: inout [DHTAction],
        _ body: (inout DHTNode, inout SeededGenerator, inout [DHTAction]) -> Result
    ) -> Result {
        var results: [DHTAction] = []
        let result = body(&node, &random, &results)
        take(results, at: now, random: &random, into: &actions)
        return result
    }

    // MARK: - The contract

    /// See ``DHTNode/receive(_:from:room:at:random:into:)``.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, room: Int? = nil, at now: Now,
        random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        with(at: now, random: &random, into: &actions) { node, random, results in
            node.receive(
                datagram, from: source, room: room, at: now.boot, random: &random, into: &results)
        }
    }

    package var deadline: BootInstant? {
        earlier(earlier(node.deadline, rendezvous?.deadline), announcer?.deadline)
    }

    package mutating func timeout(
        at now: Now, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        if let due = node.deadline, due <= now.boot {
            with(at: now, random: &random, into: &actions) { node, random, results in
                node.timeout(at: now.boot, random: &random, into: &results)
            }
        }
        for name in announcer?.timeout(at: now, random: &random) ?? [] {
            announce(name, at: now, random: &random, into: &actions)
        }
        guard let due = rendezvous?.deadline, due <= now.boot else { return }
        var wishes: [RendezvousAction] = []
        rendezvous?.timeout(at: now, random: &random, into: &wishes)
        perform(wishes, at: now, random: &random, into: &actions)
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        node.fingerprint(into: &fingerprint)
        rendezvous?.fingerprint(into: &fingerprint)
        announcer?.fingerprint(into: &fingerprint)
    }

    // MARK: - Between the two

    private mutating func announce(
        _ name: KademliaID, at now: Now, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard let port = announcer?.port else { return }
        var results: [DHTAction] = []
        let operation = node.findPeers(
            of: name, announcing: port, at: now.boot, random: &random, into: &results)
        if let operation { announcements.insert(operation) }
        take(results, at: now, random: &random, into: &actions)
    }

    private mutating func take(
        _ results: [DHTAction], at now: Now, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        for result in results {
            switch result {
            case .walked(let operation, let walk):
                if announcements.remove(operation) != nil {
                    let peers = walk.peers.prefix(PeerAnnouncer.peerLimit)
                    if !peers.isEmpty { actions.append(.foundPeers(Array(peers))) }
                    continue
                }
                guard let slot = slots[operation] else {
                    actions.append(result)
                    continue
                }
                var wishes: [RendezvousAction] = []
                rendezvous?.read(
                    slot, item: walk.item, storers: walk.storers, at: now, random: &random,
                    into: &wishes)
                // Without a write to come, nobody will ask for this walk again.
                if !wishes.contains(where: \.isWrite) { forget(operation) }
                perform(wishes, at: now, random: &random, into: &actions)
            case .stored(let operation, let storing):
                guard let slot = slots[operation] else {
                    actions.append(result)
                    continue
                }
                forget(operation)
                rendezvous?.wrote(
                    slot, stored: storing.stored, conflicts: storing.conflicts, at: now,
                    random: &random)
            case .glimpsed(let operation, let item):
                // Whoever is there is worth a knock before the farthest corner has answered.
                guard let slot = slots[operation] else { continue }
                var wishes: [RendezvousAction] = []
                rendezvous?.glimpse(slot, item: item, at: now, into: &wishes)
                perform(wishes, at: now, random: &random, into: &actions)
            case .met:
                if node.nodeCount == 1 {
                    rendezvous?.dhtIsReady(at: now.boot)
                    announcer?.dhtIsReady(at: now.boot)
                }
                actions.append(result)
            case .send, .observed, .found, .foundPeers, .dropped:
                actions.append(result)
            }
        }
    }

    private mutating func forget(_ operation: DHTOperation) {
        guard let slot = slots.removeValue(forKey: operation) else { return }
        if walks[slot] == operation { walks[slot] = nil }
    }

    private mutating func perform(
        _ wishes: [RendezvousAction], at now: Now, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        for wish in wishes {
            switch wish {
            case .look(let slot, let key, let salt):
                if let former = walks[slot] { forget(former) }
                var results: [DHTAction] = []
                let operation = node.get(
                    key, salt: salt, at: now.boot, random: &random, into: &results)
                if let operation {
                    slots[operation] = slot
                    walks[slot] = operation
                }
                take(results, at: now, random: &random, into: &actions)
            case .write(let slot, let item):
                var results: [DHTAction] = []
                let isBegun =
                    walks[slot].map {
                        node.put(
                            .mutable(item), after: $0, at: now.boot, random: &random,
                            into: &results)
                    } ?? false
                if isBegun {
                    take(results, at: now, random: &random, into: &actions)
                } else {
                    rendezvous?.wrote(slot, stored: 0, conflicts: 0, at: now, random: &random)
                }
            case .found(let records):
                actions.append(.found(records))
            case .dropped:
                actions.append(.dropped(.foreignSlot))
            }
        }
    }
}

extension RendezvousAction {
    fileprivate var isWrite: Bool {
        if case .write = self { true } else { false }
    }
}
