import Kademlia
import Membership
import MeshBase
import NetAddress
import PathDiscovery

/// What a node is told about the DHT.
package struct DHTChoice: Hashable, Sendable {
    package var mode: DHTMode
    /// Serves KRPC as it is to other programs, in a private network.
    package var isPlain: Bool
    /// Announces itself as BitTorrent's peers do, where strangers can see it.
    package var announces: Bool

    package init(mode: DHTMode, isPlain: Bool = false, announces: Bool = false) {
        self.mode = mode
        self.isPlain = isPlain
        self.announces = announces
    }

    package static let off = DHTChoice(mode: .off)
}

/// The node's part in a DHT: of strangers in the open, or of members inside the envelope.
struct DHTPresence: Sendable {
    var agent: DHTAgent
    /// `nil` where KRPC goes as it is.
    let envelope: DHTEnvelope?
    /// When the contacts are written for the next start.
    var saveAt: BootInstant

    /// Contacts grow old slowly; a write costs a block.
    static let saveInterval = Duration.seconds(600)

    init?(_ configuration: NodeConfiguration, at now: BootInstant, random: inout SeededGenerator) {
        let choice = configuration.dht
        guard choice.mode != .off else { return nil }
        let rules: DHTRules =
            choice.mode == .public ? .world : choice.isPlain ? .plain : .members
        let secret = configuration.token.discoverySecret
        agent = DHTAgent(
            configuration: DHTConfiguration(rules: rules),
            rendezvous: Rendezvous(node: configuration.identity.node, secret: secret, at: now),
            announcer: choice.announces
                ? PeerAnnouncer(secret: secret, port: configuration.listenPort, at: now) : nil,
            at: now, random: &random)
        envelope =
            choice.mode == .private && !choice.isPlain
            ? DHTEnvelope(discoverySecret: secret) : nil
        saveAt = now + Self.saveInterval
    }

    var deadline: BootInstant? { earlier(agent.deadline, saveAt) }
}

extension Node {
    /// Takes a datagram that may be KRPC; `false` when it is something else.
    mutating func receiveDHT(
        _ bytes: [UInt8], from source: SocketAddress, at now: Now, into actions: inout [NodeAction]
    ) -> Bool {
        guard dht != nil, !isLeaving else { return false }
        guard let envelope = dht?.envelope else {
            guard bytes.first == UInt8(ascii: "d") else { return false }
            withDHT(at: now, into: &actions) { agent, random, results in
                agent.receive(bytes, from: source, at: now, random: &random, into: &results)
            }
            return true
        }
        guard DHTEnvelope.matches(bytes) else { return false }
        guard let (message, room) = envelope.open(bytes) else {
            drop("dht unauthenticated")
            return true
        }
        withDHT(at: now, into: &actions) { agent, random, results in
            agent.receive(
                message, from: source, room: room, at: now, random: &random, into: &results)
        }
        return true
    }

    /// Addresses where nodes of the DHT may be.
    mutating func addDHTBootstrap(
        _ addresses: [SocketAddress], at now: Now, into actions: inout [NodeAction]
    ) {
        withDHT(at: now, into: &actions) { agent, _, _ in
            agent.addBootstrap(addresses, at: now.boot)
        }
    }

    /// Among members every member's address is one of a DHT node; strangers learn none of them.
    mutating func seedDHT(_ addresses: [SocketAddress], at now: Now) {
        guard dht?.envelope != nil else { return }
        dht?.agent.addBootstrap(addresses, at: now.boot)
    }

    mutating func runDHT(at now: Now, into actions: inout [NodeAction]) {
        withDHT(at: now, into: &actions) { agent, random, results in
            agent.timeout(at: now, random: &random, into: &results)
        }
        if let due = dht?.saveAt, due <= now.boot {
            dht?.saveAt = now.boot + DHTPresence.saveInterval
            saveDHT(into: &actions)
        }
    }

    func saveDHT(into actions: inout [NodeAction]) {
        guard let agent = dht?.agent, agent.node.nodeCount > 0 else { return }
        actions.append(.persist(.dhtContacts(agent.node.snapshot)))
    }

    /// Tells the rendezvous where we are.
    mutating func refreshDHT(at now: Now) {
        guard dht != nil else { return }
        let local = interfaces.flatMap(\.addresses).filter { !$0.isLinkLocal && !$0.isLoopback }
        dht?.agent.setLocalAddresses(Set(local), at: now.boot)
        var endpoints = dhtObservedAddresses
        for ip in local.sorted(by: { $0.isIPv4 && !$1.isIPv4 }) {
            let address = SocketAddress(ip: ip, port: configuration.listenPort)
            if !endpoints.contains(address) { endpoints.append(address) }
        }
        if let mapped = mapper?.mapped, !endpoints.contains(mapped) {
            endpoints.insert(mapped, at: 0)
        }
        dht?.agent.setEndpoints(endpoints, at: now.boot)
    }

    /// Our own addresses as other nodes of the DHT see them (BEP 42).
    package var dhtObservedAddresses: [SocketAddress] {
        [AddressFamily.v4, .v6].compactMap { dht?.agent.node.observedAddress($0) }
    }

    // MARK: - Actions

    private mutating func withDHT(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout DHTAgent, inout SeededGenerator, inout [DHTAction]) -> Void
    ) {
        guard var presence = dht, !isLeaving else { return }
        var results: [DHTAction] = []
        // Taken out, so that the tables are changed in place.
        dht = nil
        body(&presence.agent, &random, &results)
        let envelope = presence.envelope
        dht = consume presence
        var hasCandidates = false
        for result in results {
            switch result {
            case .send(let message, let target, let room):
                let datagram =
                    envelope?.seal(message, room: room, random: &random) ?? message
                sentBytes["dht", default: 0] += UInt64(datagram.count)
                actions.append(.send(datagram, to: target))
            case .found(let records):
                hasCandidates = consider(records, at: now) || hasCandidates
            case .foundPeers(let addresses):
                // Whoever says so may be a stranger: a sealed hello finds out.
                for address in addresses where !isOwn(address) {
                    paths.addCandidate(address, source: .member, at: now.boot)
                    hasCandidates = true
                }
            case .met(let contact):
                hasCandidates = consider(contact, at: now) || hasCandidates
            case .observed:
                refreshDHT(at: now)
            case .dropped(let reason):
                drop("dht \(reason.rawValue)")
            case .walked, .stored, .glimpsed:
                break
            }
        }
        if hasCandidates { runPaths(at: now, into: &actions) }
    }

    private func isOwn(_ address: SocketAddress) -> Bool {
        dhtObservedAddresses.contains(address)
            || address.port == configuration.listenPort
                && interfaces.contains { $0.addresses.contains(address.ip) }
    }

    /// Knocks where members left word, unless they are here already.
    private mutating func consider(_ records: [RendezvousRecord], at now: Now) -> Bool {
        let connected = Set(members.filter { $0.value.isConnected }.keys.map(\.bytes.prefix64))
        let strangers = records.filter {
            !connected.contains($0.tag) && $0.tag != id.bytes.prefix64
        }
        for record in strangers {
            for address in record.endpoints {
                paths.addCandidate(address, source: .member, at: now.boot)
            }
        }
        return !strangers.isEmpty
    }

    /// Who answers inside the envelope is a member. The first few are worth a knock; they know the
    /// others.
    private mutating func consider(_ contact: NodeContact, at now: Now) -> Bool {
        guard dht?.envelope != nil, members.count < SessionGraph.completeUpTo else { return false }
        paths.addCandidate(contact.address, source: .member, at: now.boot)
        return true
    }
}

/// The DHT as `status` shows it.
package struct DHTSummary: Sendable {
    package var mode: DHTMode
    package var status: DHTStatus
}

extension Node {
    var dhtSummary: DHTSummary {
        DHTSummary(mode: configuration.dht.mode, status: dht?.agent.node.status ?? .off)
    }
}
