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
/// 4. Members exchange ``send(_:to:)`` messages over the proven path; every fresh authenticated
///    message from another address moves the path there.
package struct PathFinder {
    var configuration: PathConfiguration
    var contacts: [SocketAddress: Contact] = [:]
    var peers: [NodeID: PeerPath] = [:]
    var hints: [UInt64: NodeID] = [:]
    var welcomeBudget: [IPAddress: WelcomeBudget] = [:]
    var messageCounter: UInt64 = 0
    /// Addresses that turned out to be our own.
    var ownAddresses: Set<SocketAddress> = []

    /// More addresses than any site announces; beyond it new candidates are refused.
    static let contactLimit = 512
    /// Addresses remembered as our own; a machine has a handful.
    static let ownAddressLimit = 64

    package init(configuration: PathConfiguration) {
        self.configuration = configuration
    }

    /// When ``timeout(at:random:into:)`` wants to run next.
    package var deadline: BootInstant? {
        contacts.values.map(\.nextAttempt).min()
    }

    package var localNode: NodeID { configuration.node }

    /// The proven address of a member.
    package func address(of node: NodeID) -> SocketAddress? {
        peers[node]?.address
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        for (address, contact) in contacts.sorted(by: { $0.key.description < $1.key.description }) {
            fingerprint.mix(address.description)
            fingerprint.mix(contact.attempts)
            fingerprint.mix(contact.nextAttempt)
            fingerprint.mix(contact.transaction)
        }
        for (node, path) in peers.sorted(by: { $0.key < $1.key }) {
            fingerprint.mix(node)
            fingerprint.mix(path.address.description)
            fingerprint.mix(path.replay.highest)
            fingerprint.mix(path.replay.bootNonce)
        }
        fingerprint.mix(messageCounter)
    }

    // MARK: - Candidates

    /// Learns an address where a member may be. Knocks at once.
    package mutating func addCandidate(
        _ address: SocketAddress, source: CandidateSource, at now: BootInstant
    ) {
        guard !ownAddresses.contains(address), !address.ip.isMulticast, !address.ip.isUnspecified,
            address.port != 0
        else { return }
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
    }

    /// Knocks at every configured address and every known address of `node` again, for example
    /// after its tunnel stopped answering.
    package mutating func retry(_ addresses: [SocketAddress], at now: BootInstant) {
        for address in addresses where !ownAddresses.contains(address) {
            if contacts[address] == nil, contacts.count < Self.contactLimit {
                contacts[address] = Contact(source: .member, nextAttempt: now)
            }
        }
    }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator, into actions: inout [PathAction]
    ) {
        let due = contacts.filter { $0.value.nextAttempt <= now }.keys
        for address in due.sorted(by: { $0.description < $1.description }) {
            knock(at: address, now: now, random: &random, into: &actions)
        }
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
        contact.sentAt = now
        let pause = contact.source.pause(afterAttempt: contact.attempts)
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
        guard let path = peers[node] else { return }
        messageCounter += 1
        var writer = ByteWriter(capacity: body.count + 16)
        writer.write(configuration.bootNonce)
        writer.write(messageCounter)
        writer.write(raw: body)
        let datagram = configuration.keys.sealMember(
            writer.bytes, from: configuration.node, pairKey: path.pairKey, random: &random)
        actions.append(.send(datagram, to: path.address))
    }

    /// The tunnel to a member got an authenticated packet from `address`.
    package mutating func pathMoved(_ node: NodeID, to address: SocketAddress) {
        peers[node]?.address = address
    }

    /// Forgets a member, for example after its certificate was withdrawn.
    package mutating func remove(_ node: NodeID) {
        peers[node] = nil
        hints[node.bytes.prefix64] = nil
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
            receiveMember(datagram, from: source, into: &actions)
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
        guard credential.node != configuration.node else {
            actions.append(.dropped(.ownMessage))
            return
        }
        guard spendWelcomeBudget(for: source.ip, at: now) else {
            actions.append(.dropped(.rateLimited))
            return
        }
        // A hello may be a replay, so its source address proves nothing: the path of a member
        // whose path is known stays where it is.
        let isNew = peers[credential.node] == nil
        if isNew, !learn(credential, address: source) {
            actions.append(.dropped(.unauthenticated))
            return
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
        if !isNew, peers[credential.node]?.address != source {
            // Knock back: if the member really moved, its welcome proves the new address.
            addCandidate(source, source: .member, at: now)
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
            if ownAddresses.count < Self.ownAddressLimit { ownAddresses.insert(knocked) }
            return
        }
        guard learn(credential, address: source) else {
            actions.append(.dropped(.unauthenticated))
            return
        }
        contacts[knocked] = nil
        actions.append(.observed(message.observed, by: credential.node))
        actions.append(
            .introduced(
                PeerIntroduction(
                    peer: credential, credential: message.credential, suites: message.suites,
                    capabilities: message.capabilities, address: source, isProven: true,
                    roundTrip: contact.sentAt.map { now - $0 })))
    }

    private mutating func receiveMember(
        _ datagram: [UInt8], from source: SocketAddress, into actions: inout [PathAction]
    ) {
        guard let hint = configuration.keys.senderHint(datagram), let node = hints[hint],
            var path = peers[node],
            let plaintext = configuration.keys.openMember(datagram, pairKey: path.pairKey)
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
        guard let isNewest = path.replay.accept(bootNonce: bootNonce, counter: counter) else {
            actions.append(.dropped(.replayed))
            return
        }
        if isNewest { path.address = source }
        peers[node] = path
        actions.append(.message(from: node, reader.readRest()))
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

    private func contactDatagram(
        _ kind: EnvelopeKind, transaction: [UInt8], observed: SocketAddress,
        random: inout SeededGenerator
    ) -> [UInt8] {
        let message = ContactMessage(
            transaction: transaction, suites: configuration.suites,
            capabilities: configuration.capabilities, bootNonce: configuration.bootNonce,
            observed: observed, credential: configuration.credential)
        let body = message.encode(
            kind: kind, meshID: configuration.meshID, key: configuration.signingKey)
        return configuration.keys.sealContact(kind, body, random: &random)
    }

    /// Adds the member or moves its path; false when no key can be agreed with it.
    private mutating func learn(_ credential: PeerCredential, address: SocketAddress) -> Bool {
        if peers[credential.node] != nil {
            peers[credential.node]?.address = address
            return true
        }
        guard let key = configuration.pairKey(with: credential.staticKey) else { return false }
        peers[credential.node] = PeerPath(address: address, pairKey: key)
        hints[credential.node.bytes.prefix64] = credential.node
        return true
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
