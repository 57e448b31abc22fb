import Cryptography
import Kademlia
import MeshBase
import NetAddress

/// Nodes on a virtual network with delay and loss; the same seed gives the same run.
struct VirtualDHT {
    var agents: [SocketAddress: DHTAgent] = [:]
    var random: SeededGenerator
    var now = BootInstant(nanoseconds: 1_000_000_000)
    /// What each machine's clock says beyond the truth, in seconds.
    var clockError: [SocketAddress: Int64] = [:]
    var loss = 0.0
    /// Machines on the far side of a cut through the network.
    var farSide: Set<SocketAddress> = []
    var walks: [SocketAddress: [DHTOperation: DHTWalk]] = [:]
    var writes: [SocketAddress: [DHTOperation: DHTStoring]] = [:]
    var found: [SocketAddress: Set<UInt64>] = [:]
    var peers: [SocketAddress: Set<SocketAddress>] = [:]
    var drops: [DHTDropReason: Int] = [:]
    var sentBytes = 0
    /// Who finds a member stays connected to it.
    var isSociable = false
    /// Nodes that are silent when asked to `get`, as those that know BEP 5 only.
    var withoutGet: Set<SocketAddress> = []
    /// Nodes that point to each other, claim to store everything, and know nothing.
    var liars: [SocketAddress: KademliaID] = [:]
    private var deadlines: [SocketAddress: BootInstant] = [:]
    /// Moments at which somebody may be due, the earliest at the root; some are stale.
    private var alarms: [Alarm] = []
    private var flying: [Datagram] = []
    private var order = 0

    private struct Alarm {
        var time: BootInstant
        var address: SocketAddress
    }

    private struct Datagram {
        var arrival: BootInstant
        var order: Int
        var bytes: [UInt8]
        var room: Int
        var source, target: SocketAddress

        var isGet: Bool {
            guard let message = try? KRPCMessage(decoding: bytes),
                case .query(let query) = message.body
            else { return false }
            if case .get = query.method { return true }
            return false
        }
    }

    /// 2023-11-14 22:13:20: 13 minutes into an hour.
    static let start: Int64 = 1_700_000_000

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
    }

    func clock(of address: SocketAddress) -> Now {
        let seconds = Int64(now.nanoseconds / 1_000_000_000) + Self.start
        let nanoseconds = UInt32(now.nanoseconds % 1_000_000_000)
        return Now(
            boot: now,
            wall: WallTime(
                seconds: seconds + (clockError[address] ?? 0), nanoseconds: nanoseconds))
    }

    /// Adds a node; with `member` and `secret` it looks for its mesh, and with `announces` also as
    /// BitTorrent's peers do. `isPublic`: an interface has its address.
    mutating func add(
        _ address: SocketAddress, rules: DHTRules, bootstrap: [SocketAddress],
        member: NodeID? = nil, secret: SecretBytes? = nil, announces: Bool = false,
        isPublic: Bool = false
    ) {
        var meeting: Rendezvous?
        if let member, let secret {
            meeting = Rendezvous(node: member, secret: secret, at: now)
            meeting?.setEndpoints([address], at: now)
        }
        var agent = DHTAgent(
            configuration: DHTConfiguration(rules: rules, families: [address.family]),
            rendezvous: meeting,
            announcer: secret.flatMap {
                announces ? PeerAnnouncer(secret: $0, port: address.port, at: now) : nil
            }, at: now, random: &random)
        if isPublic { agent.setLocalAddresses([address.ip], at: now) }
        agent.addBootstrap(bootstrap, at: now)
        agents[address] = agent
        setAlarm(address, agent.deadline)
    }

    /// Switches a machine off.
    mutating func remove(_ address: SocketAddress) {
        agents[address] = nil
        deadlines[address] = nil
    }

    /// Lets a machine do something now.
    @discardableResult
    mutating func with<Result>(
        _ address: SocketAddress,
        _ body: (inout DHTAgent, Now, inout SeededGenerator, inout [DHTAction]) -> Result
    ) -> Result? {
        guard let index = agents.index(forKey: address) else { return nil }
        var actions: [DHTAction] = []
        let clock = clock(of: address)
        let result = body(&agents.values[index], clock, &random, &actions)
        setAlarm(address, agents.values[index].deadline)
        carryOut(actions, of: address)
        return result
    }

    /// Walks, and waits for the end; `nil` when there was none within a minute.
    mutating func walk(
        _ address: SocketAddress,
        _ begin: (inout DHTNode, BootInstant, inout SeededGenerator, inout [DHTAction])
            -> DHTOperation?
    ) -> (operation: DHTOperation, walk: DHTWalk)? {
        let begun = with(address) { agent, now, random, actions in
            agent.with(at: now, random: &random, into: &actions) { node, random, actions in
                begin(&node, now.boot, &random, &actions)
            }
        }
        guard case .some(.some(let operation)) = begun else { return nil }
        run(until: now + .seconds(60)) { $0.walks[address]?[operation] != nil }
        return walks[address]?[operation].map { (operation, $0) }
    }

    /// Writes after a walk, and waits for the end.
    mutating func put(
        _ value: StoredValue, after operation: DHTOperation, from address: SocketAddress
    ) -> DHTStoring? {
        let isBegun = with(address) { agent, now, random, actions in
            agent.with(at: now, random: &random, into: &actions) { node, random, actions in
                node.put(value, after: operation, at: now.boot, random: &random, into: &actions)
            }
        }
        guard isBegun == true else { return nil }
        run(until: now + .seconds(60)) { $0.writes[address]?[operation] != nil }
        return writes[address]?[operation]
    }

    // MARK: - Time

    mutating func run(for duration: Duration) {
        run(until: now + duration) { _ in false }
    }

    /// Runs until `isDone` or `end`; whether it was done.
    @discardableResult
    mutating func run(until end: BootInstant, _ isDone: (VirtualDHT) -> Bool) -> Bool {
        while !isDone(self) {
            let timer = nextAlarm?.time ?? .distantFuture
            let next = min(flying.last?.arrival ?? .distantFuture, timer)
            guard next <= end else {
                now = end
                return isDone(self)
            }
            now = max(now, next)
            if let datagram = flying.last, datagram.arrival <= now {
                flying.removeLast()
                deliver(datagram)
            } else if let alarm = nextAlarm {
                with(alarm.address) { $0.timeout(at: $1, random: &$2, into: &$3) }
            }
        }
        return true
    }

    private mutating func deliver(_ datagram: Datagram) {
        if liars[datagram.target] != nil { return lie(datagram) }
        if withoutGet.contains(datagram.target), datagram.isGet { return }
        with(datagram.target) {
            $0.receive(
                datagram.bytes, from: datagram.source, room: datagram.room, at: $1, random: &$2,
                into: &$3)
        }
    }

    /// The earliest alarm that still holds.
    private var nextAlarm: Alarm? {
        mutating get {
            while let first = alarms.first, deadlines[first.address] != first.time { popAlarm() }
            return alarms.first
        }
    }

    private mutating func setAlarm(_ address: SocketAddress, _ time: BootInstant?) {
        guard deadlines[address] != time else { return }
        deadlines[address] = time
        guard let time else { return }
        var index = alarms.count
        alarms.append(Alarm(time: time, address: address))
        while index > 0, alarms[index].time < alarms[(index - 1) / 2].time {
            alarms.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    private mutating func popAlarm() {
        alarms.swapAt(0, alarms.count - 1)
        alarms.removeLast()
        var index = 0
        while 2 * index + 1 < alarms.count {
            var least = 2 * index + 1
            if least + 1 < alarms.count, alarms[least + 1].time < alarms[least].time { least += 1 }
            guard alarms[least].time < alarms[index].time else { return }
            alarms.swapAt(index, least)
            index = least
        }
    }

    private mutating func carryOut(_ actions: [DHTAction], of address: SocketAddress) {
        for action in actions {
            switch action {
            case .send(let bytes, let target, let room):
                send(bytes, room: max(room, bytes.count), from: address, to: target)
            case .walked(let operation, let walk):
                walks[address, default: [:]][operation] = walk
            case .stored(let operation, let storing):
                writes[address, default: [:]][operation] = storing
            case .found(let records):
                found[address, default: []].formUnion(records.map(\.tag))
                if isSociable {
                    agents[address]?.setAlone(false, at: now)
                    setAlarm(address, agents[address]?.deadline)
                }
            case .dropped(let reason):
                drops[reason, default: 0] += 1
            case .foundPeers(let addresses):
                peers[address, default: []].formUnion(addresses)
            case .observed, .met, .glimpsed:
                break
            }
        }
    }

    /// Every liar asks each `step`-th honest node something, and so gets into its table. In a large
    /// DHT most tables have no room for them.
    mutating func letLiarsIntroduceThemselves(toEach step: Int) {
        for (liar, id) in liars.sorted(by: { $0.value < $1.value }) {
            let honest = agents.keys.sorted { $0.description < $1.description }
            for target in stride(from: 0, to: honest.count, by: step).map({ honest[$0] }) {
                let ping = KRPCMessage(
                    transaction: [1], body: .query(KRPCQuery(sender: id, method: .ping)))
                send(ping.encoded, room: 0, from: liar, to: target)
            }
            run(for: .seconds(2))
        }
    }

    private mutating func lie(_ datagram: Datagram) {
        guard let message = try? KRPCMessage(decoding: datagram.bytes),
            case .query(let query) = message.body, let id = liars[datagram.target]
        else { return }
        var response = KRPCResponse(sender: id)
        response.token = [1, 2, 3, 4]
        response.nodes = liars.sorted { $0.value < $1.value }.prefix(8).map {
            NodeContact(id: $0.value, address: $0.key)
        }
        if case .ping = query.method { response = KRPCResponse(sender: id) }
        let answer = KRPCMessage(transaction: message.transaction, body: .response(response))
        send(answer.encoded, room: 0, from: datagram.target, to: datagram.source)
    }

    private mutating func send(
        _ bytes: [UInt8], room: Int, from source: SocketAddress, to target: SocketAddress
    ) {
        sentBytes += bytes.count
        guard agents[target] != nil || liars[target] != nil,
            farSide.contains(source) == farSide.contains(target),
            Double(random.next() >> 11) / Double(1 << 53) >= loss
        else { return }
        order += 1
        let arrival = now + random.duration(in: .milliseconds(5)...(.milliseconds(60)))
        // Sorted with the earliest at the end.
        var (low, high) = (0, flying.count)
        while low < high {
            let middle = (low + high) / 2
            let isLater = (flying[middle].arrival, flying[middle].order) > (arrival, order)
            if isLater { low = middle + 1 } else { high = middle }
        }
        flying.insert(
            Datagram(
                arrival: arrival, order: order, bytes: bytes, room: room, source: source,
                target: target), at: low)
    }
}
