import MeshBase
import NetAddress

/// A node of the Mainline DHT as a value (BEP 5, 32, 42, 43, 44).
///
/// 1. ``addBootstrap(_:at:)`` names addresses; a walk towards our own name fills the tables.
/// 2. ``findPeers(of:announcing:at:random:into:)`` and ``get(_:salt:at:random:into:)`` walk to a target;
///    ``put(_:after:at:random:into:)`` writes at the nodes that the walk ended at.
/// 3. ``receive(_:from:room:at:random:into:)`` takes answers to our questions, and answers
///    those of others.
package struct DHTNode: Sendable {
    package let configuration: DHTConfiguration
    var tables: [AddressFamily: RoutingTable] = [:]
    var pending: [UInt32: PendingQuery] = [:]
    /// No question and no result is due before; it is found anew whenever it passes.
    private var dueAt: BootInstant?
    var operations: [DHTOperation: RunningOperation] = [:]
    var nextOperation: UInt64 = 1
    var storage = DHTStorage()
    var tokens: WriteTokens
    var limiter: QueryLimiter
    var verifications: Allowance
    var votes = AddressVotes()
    var believed: [AddressFamily: SocketAddress] = [:]
    var reachability: Reachability
    var roundTrip = RoundTripEstimate()
    var mute = MuteNodes()
    var sizes: [AddressFamily: SizeEstimate] = [:]
    var bootstrap: [SocketAddress] = []
    /// Those of `bootstrap` that everybody asks.
    var routers: Set<SocketAddress> = []
    var upkeep: Upkeep

    var rules: DHTRules { configuration.rules }

    /// 24 walks with five questions each, and their writes.
    static let pendingLimit = 512
    /// Eight slots of two epochs, and our own upkeep.
    static let operationLimit = 24
    static let bootstrapLimit = 256
    /// How long a finished walk's tokens may be written with (BEP 5: ten minutes).
    static let resultLifetime = Duration.seconds(120)

    package init(
        configuration: DHTConfiguration, at now: BootInstant, random: inout SeededGenerator
    ) {
        self.configuration = configuration
        let rules = configuration.rules
        for family in configuration.families {
            tables[family] = RoutingTable(
                ownID: KademliaID(random: &random), rules: rules)
        }
        tokens = WriteTokens(at: now, random: &random)
        limiter = QueryLimiter(rules: rules, at: now)
        verifications = Allowance(
            rate: rules.verificationRate, burst: 5 * rules.verificationRate, at: now)
        reachability = Reachability(rules: rules, at: now)
        upkeep = Upkeep(at: now)
    }

    // MARK: - Knowing others

    /// Learns addresses where nodes may be. They are asked when too few others are known.
    ///
    /// - Parameter areRouters: whether everybody was told these addresses; in the open such nodes are
    ///   busy, and no neighbours of ours.
    package mutating func addBootstrap(
        _ addresses: [SocketAddress], areRouters: Bool = true, at now: BootInstant
    ) {
        var isNew = false
        if areRouters, rules.startsReadOnly { routers.formUnion(addresses) }
        for address in addresses
        where address.isUsable && tables[address.family] != nil && !bootstrap.contains(address) {
            if bootstrap.count >= Self.bootstrapLimit { routers.remove(bootstrap.removeFirst()) }
            bootstrap.append(address)
            isNew = true
        }
        if isNew, nodeCount < RoutingTable.bucketSize {
            upkeep.attempts = 0
            upkeep.walkAt = min(upkeep.walkAt, now)
        }
    }

    /// The addresses of this machine's interfaces: an observed one among them needs no router.
    package mutating func setLocalAddresses(_ addresses: Set<IPAddress>, at now: BootInstant) {
        guard addresses != reachability.local else { return }
        reachability.setLocal(addresses, at: now)
        for family in AddressFamily.allCases {
            let own = addresses.filter { $0.isPublic && $0.isIPv4 == (family == .v4) }
            // Several differ in what does not count for the name, or any of them will do.
            if let ip = own.min(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) {
                earnName(for: ip, family, at: now)
            }
        }
        noteReachability(at: now)
    }

    package var nodeCount: Int { tables.values.reduce(0) { $0 + $1.count } }

    package func ownID(_ family: AddressFamily) -> KademliaID? { tables[family]?.ownID }

    package func contacts(_ family: AddressFamily) -> [NodeContact] {
        tables[family]?.contacts ?? []
    }

    /// Our address as most others see it.
    package func observedAddress(_ family: AddressFamily) -> SocketAddress? { believed[family] }

    package var status: DHTStatus {
        DHTStatus(
            nodesIPv4: tables[.v4]?.count ?? 0, nodesIPv6: tables[.v6]?.count ?? 0,
            isServing: reachability.serves, observedIPv4: believed[.v4],
            observedIPv6: believed[.v6], storedItems: storage.items.count,
            storedPeers: storage.torrents.values.reduce(0) { $0 + $1.count })
    }

    // MARK: - Asking

    /// Sends a query and remembers that it waits for an answer; `false` when there is no room.
    @discardableResult
    mutating func ask(
        _ method: KRPCQuery.Method, _ address: SocketAddress, for purpose: PendingQuery.Purpose,
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) -> Bool {
        guard pending.count < Self.pendingLimit, let table = tables[address.family] else {
            return false
        }
        var transaction = UInt32(truncatingIfNeeded: random.next())
        while pending[transaction] != nil { transaction &+= 1 }
        var writer = ByteWriter(capacity: 4)
        writer.write(transaction)
        let wants: Bool =
            switch method {
            case .findNode, .getPeers, .get: tables.count > 1
            default: false
            }
        let message = KRPCMessage(
            transaction: writer.bytes,
            body: .query(
                KRPCQuery(
                    sender: table.ownID, method: method,
                    want: wants ? tables.keys.sorted { $0.rawValue < $1.rawValue } : [])),
            version: DHTConfiguration.version, isReadOnly: !reachability.serves)
        let query = PendingQuery(
            address: address, purpose: purpose, datagram: message.encoded,
            answerRoom: method.answerRoom(families: wants ? 2 : 1), isGet: method.isGet,
            sentAt: now, again: now + roundTrip.patience)
        pending[transaction] = query
        dueAt = earlier(dueAt, query.next)
        reachability.contacted(address.ip, at: now)
        tables[address.family]?.asked(address, at: now)
        actions.append(.send(query.datagram, to: address, atLeast: query.answerRoom))
        return true
    }

    /// When ``timeout(at:random:into:)`` wants to run next.
    package var deadline: BootInstant? { earlier(upkeep.deadline, dueAt) }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [DHTAction]
    ) {
        if let dueAt, dueAt <= now {
            let overdue = pending.compactMap { $0.value.next <= now ? $0.key : nil }
            for transaction in overdue.sorted() {
                self.overdue(transaction, at: now, random: &random, into: &actions)
            }
            let expired = operations.compactMap { operation, running in
                running.expiresAt.map { $0 <= now } ?? false ? operation : nil
            }
            for operation in expired { operations[operation] = nil }
            findDue()
        }
        keepUp(at: now, random: &random, into: &actions)
    }

    mutating func keepResult(of operation: DHTOperation, until end: BootInstant) {
        operations[operation]?.expiresAt = end
        dueAt = earlier(dueAt, end)
    }

    private mutating func findDue() {
        dueAt = nil
        for query in pending.values { dueAt = earlier(dueAt, query.next) }
        for running in operations.values { dueAt = earlier(dueAt, running.expiresAt) }
    }

    /// First a second try and another slot for the walk, then the walk goes on without, then the end.
    private mutating func overdue(
        _ transaction: UInt32, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard var query = pending[transaction] else { return }
        if query.again != nil, now < query.deadline {
            let isFirst = !query.wasRepeated
            query.wasRepeated = true
            query.again = isFirst && query.isWorthRepeating ? now + roundTrip.patience * 2 : nil
            pending[transaction] = query
            if query.again != nil {
                actions.append(.send(query.datagram, to: query.address, atLeast: query.answerRoom))
            }
            if case .walk(let operation) = query.purpose {
                operations[operation]?.lookup.mark(query.address, isFirst ? .slow : .failed)
                advance(operation, at: now, random: &random, into: &actions)
            }
            return
        }
        pending[transaction] = nil
        failed(query, at: now, random: &random, into: &actions)
    }

    mutating func failed(
        _ query: PendingQuery, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        if query.isGet {
            doubt(query.address, at: now, random: &random, into: &actions)
        } else if let spare = tables[query.address.family]?.failed(query.address) {
            verify(spare.address, at: now, random: &random, into: &actions)
        }
        switch query.purpose {
        case .walk(let operation):
            operations[operation]?.lookup.mark(query.address, .failed)
            advance(operation, at: now, random: &random, into: &actions)
        case .store(let operation):
            wrote(operation, .failed, at: now, into: &actions)
        case .upkeep, .doubt:
            break
        }
    }

    /// Programs that do not know `get` are silent, and good nodes nevertheless. Another question finds
    /// out; its answer is as long, so that a node that spares its line treats both alike.
    private mutating func doubt(
        _ address: SocketAddress, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard let ownID = tables[address.family]?.ownID,
            !pending.values.contains(where: { $0.address == address && $0.purpose == .doubt })
        else { return }
        ask(
            .findNode(target: ownID), address, for: .doubt, at: now, random: &random, into: &actions
        )
    }

    /// Pings a node that would fill a place in a table.
    mutating func verify(
        _ address: SocketAddress, at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [DHTAction]
    ) {
        guard !pending.values.contains(where: { $0.address == address }),
            verifications.spend(1, at: now)
        else { return }
        ask(.ping, address, for: .upkeep, at: now, random: &random, into: &actions)
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        for family in AddressFamily.allCases { tables[family]?.fingerprint(into: &fingerprint) }
        for (transaction, query) in pending.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(UInt64(transaction))
            fingerprint.mix(query.address.compact)
            fingerprint.mix(query.next)
        }
        for (operation, running) in operations.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(operation.number)
            running.lookup.fingerprint(into: &fingerprint)
        }
        storage.fingerprint(into: &fingerprint)
        votes.fingerprint(into: &fingerprint)
        mute.fingerprint(into: &fingerprint)
        fingerprint.mix(bootstrap.flatMap(\.compact))
        fingerprint.mix(upkeep.deadline)
        fingerprint.mix(reachability.serves)
    }
}

/// A question that waits for its answer.
struct PendingQuery: Sendable {
    var address: SocketAddress
    var purpose: Purpose
    var datagram: [UInt8]
    var answerRoom: Int
    var isGet: Bool
    var sentAt: BootInstant
    /// When patience ends; `nil` once it did for good.
    var again: BootInstant?
    var wasRepeated = false

    enum Purpose: Hashable, Sendable {
        case walk(DHTOperation)
        case store(DHTOperation)
        case upkeep
        /// It did not answer a `get`.
        case doubt
    }

    /// Answers later than this are not waited for.
    static let limit = Duration.seconds(4)

    var deadline: BootInstant { sentAt + Self.limit }
    var next: BootInstant { again.map { min($0, deadline) } ?? deadline }
    /// Upkeep that gets lost is repeated by itself.
    var isWorthRepeating: Bool { purpose != .upkeep && purpose != .doubt }
}

/// How long answers take: a short patience opens another slot early without giving up.
struct RoundTripEstimate: Sendable {
    private var smoothed: Double?
    private var deviation = 0.0

    mutating func add(_ sample: Duration) {
        let seconds = sample.inSeconds
        guard let known = smoothed else {
            (smoothed, deviation) = (seconds, seconds / 2)
            return
        }
        deviation += (abs(seconds - known) - deviation) / 4
        smoothed = known + (seconds - known) / 8
    }

    /// RFC 6298's estimate between 0.4 and 1 s.
    var patience: Duration {
        guard let smoothed else { return .seconds(1) }
        return .milliseconds(Int(min(1, max(0.4, smoothed + 4 * deviation)) * 1_000))
    }
}

extension KRPCQuery.Method {
    fileprivate var isGet: Bool {
        if case .get = self { true } else { false }
    }

    /// Bytes that the answer may need, for nodes that answer with no more than they were asked.
    fileprivate func answerRoom(families: Int) -> Int {
        switch self {
        case .ping, .announcePeer, .put: 128
        case .findNode, .unknown: families == 1 ? 432 : 704
        // 700 for a slot of the rendezvous with its key and signature, and the nodes beside it.
        case .get, .getPeers: 1_120
        }
    }
}
