import Cryptography
import MeshBase
import NetAddress

/// Finds out which address reaches a member, and carries sealed messages outside of tunnels.
///
/// The way of a contact:
/// 1. An address becomes known (LAN, configuration, disk, another member): ``addCandidate``.
/// 2. A hello goes there, again and again with growing pauses.
/// 3. A member answers with a welcome. The certificate and the address are now proven
///    (``PathAction/introduced``), tunnels may be built.
/// 4. Members exchange ``send(_:to:)`` messages over the best way. A fresh authenticated message
///    from another address makes both ways be probed, and the path moves to what answers.
/// 5. Where nothing answers directly, a relay carries datagrams at once (PathFinder+Relaying),
///    and both ends knock at each other's addresses at the same time (PathFinder+Punching).
package struct PathFinder {
    var configuration: PathConfiguration
    var contacts: [SocketAddress: Contact] = [:]
    var peers = PeerPaths()
    var hints: [UInt64: NodeID] = [:]
    var welcomeBudget: [IPAddress: WelcomeBudget] = [:]
    var messageCounter: UInt64 = 0
    /// Addresses that turned out to be our own.
    var ownAddresses: Set<SocketAddress> = []
    /// Somebody else answered a fresh hello with this node's key: a machine with a copy of its disk.
    package private(set) var hasTwin = false
    /// Where this machine is on its own networks.
    var localAddresses: [SocketAddress] = []
    /// Where a gateway listens for this machine.
    var mappedAddress: SocketAddress?
    /// Where others see it, newest last.
    var observations: [Observation] = []
    /// Channels that this node carries for others.
    var relays = RelayTable()
    /// Channels that others carry for this node, by the address that stands for them.
    var ownChannels: [SocketAddress: ChannelEnds] = [:]
    /// Streams and doors in use, by the address that stands for them.
    var sideWays: [SocketAddress: SideWay] = [:]
    /// For whom each door is there.
    var doors: [UInt32: NodeID] = [:]
    var search = StreamSearch()
    /// The attempt with many ports that is under way.
    var birthday: Birthday?
    var nextBirthday = BootInstant.zero
    /// How long welcomes took lately, at most ``slowestWelcome``.
    var usualWelcome = Duration.zero
    /// When the timers ran last.
    var lastTimeout: BootInstant?
    /// Bytes of the datagrams made since the start, by what they say.
    package private(set) var sentBytes: [String: UInt64] = [:]

    /// More addresses than any site announces; beyond it new candidates are refused.
    static let contactLimit = 512
    static let slowestWelcome = Duration.seconds(2)
    /// Addresses remembered as our own; a machine has a handful.
    static let ownAddressLimit = 64

    package init(configuration: PathConfiguration) {
        self.configuration = configuration
    }

    /// When ``timeout(at:random:into:)`` wants to run next.
    package var deadline: BootInstant? {
        var result: BootInstant?
        for contact in contacts.values { result = earlier(result, contact.nextAttempt) }
        result = earlier(result, peers.firstDue)
        // Whether TCP is needed is asked only while somebody is sought.
        if result != nil || !sideWays.isEmpty { result = earlier(result, search.nextLook) }
        return earlier(earlier(result, birthday?.nextStep), relays.nextExpiry)
    }

    package var localNode: NodeID { configuration.node }

    /// The proven address of a member.
    package func address(of node: NodeID) -> SocketAddress? {
        peers[node]?.address
    }

    // MARK: - Candidates

    /// Learns an address where a member may be. Knocks at once.
    package mutating func addCandidate(
        _ address: SocketAddress, source: CandidateSource, at now: BootInstant
    ) {
        guard !address.isStandIn,
            address.isUsableCandidate || (address.ip.isLoopback && address.port != 0)
        else { return }
        addContact(address, source: source, at: now)
    }

    /// Also a relayed address, which nobody outside may name.
    mutating func addContact(
        _ address: SocketAddress, source: CandidateSource, at now: BootInstant
    ) {
        guard !ownAddresses.contains(address) else { return }
        if var known = contacts[address] {
            known.source = max(known.source, source)
            contacts[address] = known
            return
        }
        guard contacts.count < Self.contactLimit else { return }
        // An announcement or an order of the user is worth a knock even where a member answered
        // before: the machine behind the address may have a new identity.
        guard source >= .lan || !peers.values.contains(where: { $0.address == address }) else {
            return
        }
        contacts[address] = Contact(source: source, nextAttempt: now)
        if !address.isStandIn { streamsMayBeNeeded(at: now) }
    }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        noticeSuspension(at: now, random: &random, into: &actions)
        let due = contacts.filter { $0.value.nextAttempt <= now }.keys
        for address in due.sorted() {
            knock(at: address, now: now, random: &random, into: &actions)
        }
        runChecks(at: now, random: &random, into: &actions)
        runBirthday(at: now, random: &random, into: &actions)
        lookForStreams(at: now, into: &actions)
        if relays.expire(at: now) { actions.append(.channelsChanged) }
    }

    private mutating func knock(
        at address: SocketAddress, now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        guard var contact = contacts[address] else { return }
        if let limit = contact.source.attemptLimit, contact.attempts >= limit {
            contacts[address] = nil
            return
        }
        if contact.transaction.isEmpty {
            contact.transaction = random.bytes(ContactMessage.transactionCount)
        }
        contact.attempts += 1
        contact.beganAt = contact.beganAt ?? now
        // Where answers are slow to come, asking again only makes them slower.
        let pause = max(contact.source.pause(afterAttempt: contact.attempts), usualWelcome)
        contact.nextAttempt = now + pause + random.duration(in: .zero...(pause / 8))
        contacts[address] = contact
        actions.append(
            .send(
                contactDatagram(
                    .hello, transaction: contact.transaction, observed: address, random: &random),
                to: address))
    }

    // MARK: - Messages to members

    /// Seals `body` for a member whose path is proven; silently nothing otherwise.
    ///
    /// - Parameter body: at most ``PeerPath/messageLimit`` bytes.
    package mutating func send(
        _ body: [UInt8], to node: NodeID, random: inout SeededGenerator,
        into actions: inout [PathAction]
    ) {
        precondition(body.count <= PeerPath.messageLimit, "a member message fits one datagram")
        guard let address = peers[node]?.address else { return }
        seal(body, to: node, at: address, random: &random, into: &actions)
    }

    /// Seals `body` for a member and sends it to one of its addresses.
    mutating func seal(
        _ body: [UInt8], to node: NodeID, at address: SocketAddress, hops: UInt8? = nil,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard let datagram = sealed(body, for: node, random: &random) else { return }
        if let hops {
            actions.append(.sendShort(datagram, to: address, hops: hops))
        } else {
            actions.append(.send(datagram, to: address))
        }
    }

    /// The datagram with `body`; `nil` for a member with a bad key.
    mutating func sealed(
        _ body: [UInt8], for node: NodeID, random: inout SeededGenerator
    ) -> [UInt8]? {
        guard let pairKey = pairKey(with: node) else { return nil }
        messageCounter += 1
        var writer = ByteWriter(capacity: body.count + 16)
        writer.write(configuration.bootNonce)
        writer.write(messageCounter)
        writer.write(raw: body)
        let datagram = configuration.keys.sealMember(
            writer.bytes, from: configuration.node, pairKey: pairKey, random: &random)
        sentBytes[ProbeMessage.name(of: body), default: 0] += UInt64(datagram.count)
        return datagram
    }

    /// The key for member messages, agreed at the first use; `nil` for a bad static key.
    private mutating func pairKey(with node: NodeID) -> SecretBytes? {
        guard let path = peers[node] else { return nil }
        if let key = path.pairKey { return key }
        let key = configuration.pairKey(with: path.staticKey)
        peers[node]?.pairKey = key
        return key
    }

    // MARK: - Receiving

    /// Takes one datagram that starts with the envelope's magic bytes.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard EnvelopeFormat.matches(datagram), datagram.count <= EnvelopeFormat.maximumCount,
            datagram[2] == EnvelopeFormat.version, let kind = EnvelopeKind(rawValue: datagram[3])
        else {
            actions.append(.dropped(.malformed))
            return
        }
        switch kind {
        case .hello:
            receiveHello(datagram, from: source, at: now, random: &random, into: &actions)
        case .welcome:
            receiveWelcome(datagram, from: source, at: now, into: &actions)
        case .member:
            receiveMember(datagram, from: source, at: now, random: &random, into: &actions)
        }
    }

    private mutating func receiveHello(
        _ datagram: [UInt8], from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard let (message, credential) = openContact(datagram, .hello) else {
            actions.append(.dropped(.unauthenticated))
            return
        }
        let isOwn = credential.node == configuration.node
        guard !isOwn || message.bootNonce != configuration.bootNonce else {
            actions.append(.dropped(.ownMessage))
            return
        }
        guard spendWelcomeBudget(for: source.ip, at: now) else {
            actions.append(.dropped(.rateLimited))
            return
        }
        if isOwn {
            // A replay from an earlier life of this node, or another machine with its identity, which
            // learns from the answer that it is one.
            actions.append(
                .send(
                    contactDatagram(
                        .welcome, transaction: message.transaction, observed: source,
                        random: &random),
                    to: source))
            return
        }
        // A hello may be a replay, so its source address proves nothing: the path of a member
        // whose path is known stays where it is.
        let isNew =
            peers[credential.node]?.address == nil
            && admits(credential.node, from: source)
        if isNew {
            guard learn(credential) else {
                actions.append(.dropped(.unauthenticated))
                return
            }
            peers[credential.node]?.capabilities = message.capabilities
            peers[credential.node]?.addWay(source, at: now)
            peers[credential.node]?.address = source
        }
        actions.append(
            .send(
                contactDatagram(
                    .welcome, transaction: message.transaction, observed: source, random: &random),
                to: source))
        actions.append(
            .introduced(
                PeerIntroduction(
                    peer: credential, credential: message.credential, suites: message.suites,
                    capabilities: message.capabilities, address: source, isProven: false,
                    roundTrip: nil)))
        if !isNew, let path = peers[credential.node], path.address != source, !source.isDoor,
            path.ways[source]?.isLive(at: now) != true
        {
            // Knock back: if the member really moved, its welcome proves the new address. Not where
            // it is proven already, or two members with several addresses would never stop.
            addContact(source, source: .member, at: now)
        }
    }

    private mutating func receiveWelcome(
        _ datagram: [UInt8], from source: SocketAddress, at now: BootInstant,
        into actions: inout [PathAction]
    ) {
        guard let (message, credential) = openContact(datagram, .welcome) else {
            actions.append(.dropped(.unauthenticated))
            return
        }
        let match = contacts.first { $0.value.transaction == message.transaction }
        guard let (knocked, contact) = match else {
            actions.append(.dropped(.unexpected))
            return
        }
        if credential.node == configuration.node {
            contacts[knocked] = nil
            // The transaction is of this life, so this is no replay.
            guard message.bootNonce == configuration.bootNonce else {
                hasTwin = true
                return
            }
            if ownAddresses.count < Self.ownAddressLimit { ownAddresses.insert(knocked) }
            return
        }
        guard learn(credential) else {
            actions.append(.dropped(.unauthenticated))
            return
        }
        contacts[knocked] = nil
        noteWelcome(contact, at: now)
        // Of several hellos nobody knows which one was answered (Karn and Partridge, 1987).
        let roundTrip = contact.attempts == 1 ? contact.beganAt.map { now - $0 } : nil
        peers[credential.node]?.capabilities = message.capabilities
        observed(
            message.observed, by: credential.node, from: source, at: now, into: &actions)
        actions.append(
            .introduced(
                PeerIntroduction(
                    peer: credential, credential: message.credential, suites: message.suites,
                    capabilities: message.capabilities, address: source, isProven: true,
                    roundTrip: roundTrip)))
        proved(credential.node, at: source, roundTrip: roundTrip, now: now, into: &actions)
    }

    private mutating func receiveMember(
        _ datagram: [UInt8], from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        guard let hint = configuration.keys.senderHint(datagram), let node = hints[hint],
            let pairKey = pairKey(with: node), var path = peers[node],
            let plaintext = configuration.keys.openMember(datagram, pairKey: pairKey)
        else {
            actions.append(.dropped(.unauthenticated))
            return
        }
        var reader = ByteReader(plaintext)
        guard let bootNonce = try? reader.readUInt64(), let counter = try? reader.readUInt64()
        else {
            actions.append(.dropped(.malformed))
            return
        }
        let body = reader.readRest()
        var probe: ProbeMessage?
        if ProbeMessage.isProbe(body) {
            probe = try? ProbeMessage(decoding: body)
            if probe == nil {
                actions.append(.dropped(.malformed))
                return
            }
        }
        guard let isNewest = path.replay.accept(bootNonce: bootNonce, counter: counter) else {
            actions.append(.dropped(.replayed))
            return
        }
        peers[node] = path
        // A question over a way that is known to work wants an answer and says nothing else. Were it
        // followed by questions, two slow ends with two ways each would never stop asking.
        let isRoutine = probe != nil && path.ways[source]?.isLive(at: now) == true
        if isNewest, !isRoutine, admits(node, from: source) {
            heard(node, from: source, at: now, random: &random, into: &actions)
        }
        if let probe {
            receive(probe, from: node, at: source, now: now, random: &random, into: &actions)
        } else {
            actions.append(.message(from: node, body))
        }
    }

    // MARK: - Helpers

    private func openContact(_ datagram: [UInt8], _ kind: EnvelopeKind)
        -> (message: ContactMessage, credential: PeerCredential)?
    {
        guard let body = configuration.keys.openContact(datagram) else { return nil }
        return ContactMessage.decode(
            body, kind: kind, meshID: configuration.meshID,
            verify: configuration.verifyCredential)
    }

    private mutating func contactDatagram(
        _ kind: EnvelopeKind, transaction: [UInt8], observed: SocketAddress,
        random: inout SeededGenerator
    ) -> [UInt8] {
        let message = ContactMessage(
            transaction: transaction, suites: configuration.suites,
            capabilities: configuration.capabilities, bootNonce: configuration.bootNonce,
            observed: observed, credential: configuration.credential)
        let body = message.encode(
            kind: kind, meshID: configuration.meshID, key: configuration.signingKey)
        let datagram = configuration.keys.sealContact(kind, body, random: &random)
        sentBytes[kind == .hello ? "hello" : "welcome", default: 0] += UInt64(datagram.count)
        return datagram
    }

    /// Adds the member; false when no key can be agreed with it.
    private mutating func learn(_ credential: PeerCredential) -> Bool {
        admit(credential)
        return pairKey(with: credential.node) != nil
    }

    private mutating func spendWelcomeBudget(for ip: IPAddress, at now: BootInstant) -> Bool {
        if welcomeBudget.count >= WelcomeBudget.tableLimit {
            welcomeBudget = welcomeBudget.filter { !$0.value.isFull(at: now) }
            if welcomeBudget.count >= WelcomeBudget.tableLimit { return false }
        }
        var budget = welcomeBudget[ip] ?? WelcomeBudget(at: now)
        defer { welcomeBudget[ip] = budget }
        return budget.spend(at: now)
    }
}
