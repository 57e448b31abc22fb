import Cryptography
import DNS
import Membership
import MeshBase
import NetAddress
import PathDiscovery
import WireGuard

/// How members are found and introduced.
extension Node {
    static func certificateVerifier(_ token: NetworkToken, _ withdrawn: RevocationList)
        -> @Sendable ([UInt8]) -> MembershipCertificate?
    {
        let meshID = token.meshID
        let root = token.root
        return { bytes in
            guard let certificate = try? MembershipCertificate(decoding: bytes),
                (try? certificate.verify(
                    meshID: meshID, root: root, revocations: withdrawn)) != nil
            else { return nil }
            return certificate
        }
    }

    /// The first byte classifies: WireGuard handshakes have 1...3, those of the AES suite 5 and 6,
    /// our envelope 0xEB, those of a DHT
    /// in the open `d`.
    mutating func receiveDatagram(
        _ bytes: [UInt8], from source: SocketAddress, at now: Now,
        into actions: inout [NodeAction]
    ) {
        // Streams and relays carry what members say to each other, nothing else.
        if !source.isStandIn, receiveDHT(bytes, from: source, at: now, into: &actions) { return }
        switch bytes.first {
        case 1, 2, 3, 5, 6:
            withTunnels(at: now, into: &actions) { tunnels, random, results in
                tunnels.receive(bytes, from: source, at: now, random: &random, into: &results)
            }
        case EnvelopeFormat.magic[0]:
            if RelayFrame.channel(of: bytes) != nil {
                receiveRelayed(bytes, from: source, at: now, into: &actions)
                return
            }
            var results: [PathAction] = []
            paths.receive(bytes, from: source, at: now.boot, random: &random, into: &results)
            carryOut(results, at: now, into: &actions)
            noteClone(into: &actions)
        default:
            drop("unknown datagram")
        }
    }

    mutating func runPaths(at now: Now, into actions: inout [NodeAction]) {
        for node in paths.membersDue(at: now.boot) { noteActivity(of: node) }
        var results: [PathAction] = []
        paths.timeout(at: now.boot, random: &random, into: &results)
        carryOut(results, at: now, into: &actions)
    }

    mutating func carryOut(
        _ results: [PathAction], at now: Now, into actions: inout [NodeAction]
    ) {
        for result in results {
            switch result {
            case .send(let datagram, let target):
                transmit(datagram, to: target, into: &actions)
            case .sendShort(let datagram, let target, let hops):
                actions.append(.sendShort(datagram, to: target, hops: hops))
            case .carrier(let order):
                actions.append(.carrier(order))
            case .selected(let node, let address):
                pathSelected(node, address, at: now, into: &actions)
            case .channelsChanged:
                actions.append(.forwardingChanged)
            case .introduced(let introduction):
                introduced(introduction, at: now, into: &actions)
            case .message(let node, let body):
                withSwim(at: now, into: &actions) { swim, _, swimActions in
                    swim.receive(body, from: node, at: now.boot, into: &swimActions)
                }
            case .dropped(let reason):
                drop("envelope \(reason.rawValue)")
            }
        }
    }

    private mutating func introduced(
        _ introduction: PeerIntroduction, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let certificate = try? MembershipCertificate(decoding: introduction.credential)
        else { return }
        let node = certificate.nodeID
        learn(certificate, at: now, into: &actions)
        guard members[node] != nil else { return }
        noteSuites(of: node, introduction, at: now, into: &actions)
        if members[node]?.endpoint == nil, let address = paths.address(of: node) {
            pathSelected(node, address, at: now, into: &actions)
        }
        guard introduction.isProven else { return }
        if !introduction.address.isStandIn { seedDHT([introduction.address], at: now) }
        if let roundTrip = introduction.roundTrip { members[node]?.roundTrip = roundTrip }
        if wantsSession(with: node) {
            connect(certificate.staticKey, at: now, into: &actions)
        }
    }

    /// Takes what the member signed that it can do. A hello may be a replay from before it changed,
    /// so only an answer to a question of ours replaces what is known.
    private mutating func noteSuites(
        of node: NodeID, _ introduction: PeerIntroduction, at now: Now,
        into actions: inout [NodeAction]
    ) {
        if members[node]?.suites == nil || introduction.isProven {
            noteCapabilities(of: node, introduction.capabilities, at: now, into: &actions)
        }
        let suites = PacketSuites(rawValue: introduction.suites)
        guard let member = members[node], member.suites != suites else { return }
        if member.suites != nil, !introduction.isProven {
            search(for: node, isForced: true, at: now, into: &actions)
            return
        }
        members[node]?.suites = suites
        configureTunnel(with: node)
    }

    /// Gives the tunnel to `node` its pre-shared key and its suite.
    private mutating func configureTunnel(with node: NodeID) {
        guard let member = members[node] else { return }
        let key = member.certificate.staticKey
        tunnels.setPeer(
            TunnelPeerConfiguration(
                publicKey: key, presharedKey: pairPresharedKey(with: key),
                suite: configuration.suites.chosen(with: member.suites ?? .chaCha20Poly1305)))
    }

    /// Takes a verified certificate in; a member that is known keeps its sessions.
    mutating func learn(
        _ certificate: MembershipCertificate, at now: Now, into actions: inout [NodeAction]
    ) {
        let node = certificate.nodeID
        guard node != id, !withdrawn.covers(certificate) else { return }
        // A certificate does not prove that its owner holds the tunnel key: whoever came first with
        // a key keeps it.
        let holder = membersByKey[certificate.staticKey]
        guard holder == nil || holder == node,
            certificate.staticKey != configuration.identity.staticKey.publicKey
        else {
            drop("tunnel key of another member")
            return
        }
        if let known = members[node]?.certificate {
            guard known != certificate, certificate.serial >= known.serial else { return }
            members[node]?.certificate = certificate
        } else {
            guard members.count < Node.memberLimit else {
                drop("too many members")
                return
            }
            members[node] = Member(certificate: certificate)
            members[node]?.lastPresent = now.boot
            swim.admit(node)
            paths.admit(PeerCredential(node: node, staticKey: certificate.staticKey))
            actions.append(.log(.info, "member \(node.short) known"))
        }
        membersByKey[certificate.staticKey] = node
        configureTunnel(with: node)
        if certificate.roles.contains(.voter) {
            tellFounding(.voterSeen(node), at: now, into: &actions)
        }
        publishing.membersAreStale = true
        actions.append(.forwardingChanged)
    }

    /// Bounds the tables of one process; a mesh of this size has other limits first.
    static let memberLimit = 4_096

    /// psk = HKDF(admission secret, "psk" | mesh id | epoch | smaller key | larger key).
    private func pairPresharedKey(with peer: StaticPublicKey) -> SecretBytes {
        let own = configuration.identity.staticKey.publicKey
        var context = ByteWriter()
        context.write(raw: configuration.token.meshID)
        context.write(configuration.token.epoch)
        context.write(min(own, peer).bytes)
        context.write(max(own, peer).bytes)
        return deriveKey(
            from: configuration.token.admissionSecret, label: "psk", context: context.bytes)
    }

    // MARK: - Whom to look for

    /// Whether this node keeps a session with `node` without being asked: with everybody in a
    /// small mesh, along ``SessionGraph`` in a larger one.
    func wantsSession(with node: NodeID) -> Bool {
        guard let member = members[node], !isLeaving else { return false }
        let size = members.count + 1
        if size <= SessionGraph.completeUpTo || decidesFounding(with: member)
            || SessionGraph.areDrawn(id, node, members: size)
        {
            return true
        }
        let ring = members.lazy.filter { $0.value.state != .left }.map(\.key)
        return member.state != .left
            && SessionGraph.areRingNeighbours(id, node, among: ring)
    }

    /// All with whom ``wantsSession(with:)`` holds.
    package var wantedSessions: Set<NodeID> {
        guard !isLeaving else { return [] }
        let size = members.count + 1
        let ring = members.keys.filter { members[$0]?.state != .left }.sorted()
        let neighbours = SessionGraph.ringNeighbours(of: id, in: ring)
        return Set(
            members.lazy.filter { [self] node, member in
                size <= SessionGraph.completeUpTo || decidesFounding(with: member)
                    || neighbours.contains(node)
                    || SessionGraph.areDrawn(id, node, members: size)
            }.map(\.key))
    }

    /// Voters talk to all voters until the founding is over: a quorum is more than neighbours. The
    /// policy bounds how many they are.
    private func decidesFounding(with member: Member) -> Bool {
        configuration.token.policy != nil && toldSummary?.phase != .ready
            && configuration.certificate.roles.contains(.voter)
            && member.certificate.roles.contains(.voter)
    }

    /// Looks for `node` wherever it may be.
    ///
    /// - Parameter isForced: has it introduce itself again, also where it answers.
    mutating func search(
        for node: NodeID, isForced: Bool = false, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node] else { return }
        var addresses = member.record?.endpoints ?? []
        if let endpoint = member.endpoint, !endpoint.isStandIn, !addresses.contains(endpoint) {
            addresses.append(endpoint)
        }
        paths.want(node, candidates: addresses, at: now.boot)
        paths.seek(
            node, at: addresses, isForced: isForced || member.suites == nil, at: now.boot)
        runPaths(at: now, into: &actions)
    }

    mutating func searchLostMembers(at now: Now, into actions: inout [NodeAction]) {
        guard !isLeaving else { return }
        if missesSomebody { discovery?.askAgain(at: now.boot) }
        for node in wantedSessions.sorted() {
            guard let member = members[node], member.state != .left else { continue }
            if member.sending == nil {
                search(for: node, at: now, into: &actions)
            } else {
                paths.want(node, candidates: member.record?.endpoints ?? [], at: now.boot)
            }
        }
        // Liveness goes over the ways that there are.
        for node in swim.probeTargets where paths.address(of: node) != nil {
            paths.want(node, candidates: [], at: now.boot)
        }
        // The ways of packets are looked after, too.
        for (node, member) in members where member.sending != nil {
            let sent = member.sessions.compactMap(\.activity.lastDataSent).max()
            guard let sent, now.boot - sent < Node.searchInterval else { continue }
            paths.want(node, candidates: member.record?.endpoints ?? [], at: now.boot)
        }
    }

    /// Questions on the network get rare with time, up to one an hour. A node that is alone, or
    /// whose founding has not met all its voters, may have been cut off from the others from the
    /// beginning; once it is not, nobody shall wait for an hour.
    private var missesSomebody: Bool {
        guard members.values.contains(where: \.isConnected) else { return true }
        guard let policy = configuration.token.policy, founding.readyAuthority == nil else {
            return false
        }
        let others = members.values.count { $0.certificate.roles.contains(.voter) }
        return others + 1 < policy.voterLimit
    }

    /// The candidates remembered from an earlier run.
    mutating func addCachedPeers(_ bytes: [UInt8], at now: Now) {
        var reader = ByteReader(bytes)
        guard let count = try? reader.readByte() else { return }
        for _ in 0..<count {
            guard let address = try? SocketAddress(from: &reader) else { return }
            paths.addCandidate(address, source: .cache, at: now.boot)
        }
    }

    /// The addresses of connected members, for the next start. A link-local address means nothing
    /// without its interface (RFC 4007 section 6), whose number a restart may change: an address
    /// that the member announces stands in for it.
    var peerCache: [UInt8] {
        let known = members.keys.sorted().compactMap { members[$0] }.filter { $0.endpoint != nil }
        let addresses = known.compactMap { member in
            ([member.endpoint].compactMap { $0 } + (member.record?.endpoints ?? []))
                .first { !$0.ip.isLinkLocal && !$0.isStandIn }
        }.prefix(64)
        var writer = ByteWriter()
        writer.write(UInt8(addresses.count))
        for address in addresses { address.encode(into: &writer) }
        return writer.bytes
    }

    // MARK: - Local network

    mutating func interfacesChanged(
        _ interfaces: [LocalInterface], at now: Now, into actions: inout [NodeAction]
    ) {
        self.interfaces = interfaces
        refreshDHT(at: now)
        withDiscovery(at: now, into: &actions) { discovery, random, results in
            discovery.setInterfaces(
                interfaces.filter(\.isMulticast).map {
                    DiscoveryInterface(
                        index: $0.index, addresses: $0.addresses, prefixes: $0.prefixes)
                }, at: now.boot, random: &random, into: &results)
        }
        publishMachine(at: now, into: &actions)
        var results: [PathAction] = []
        paths.networkChanged(
            local: localEndpoints, at: now.boot, random: &random, into: &results)
        carryOut(results, at: now, into: &actions)
    }

    /// TXT: `n` = a nonce per boot, `h` = its MAC under a key of the token, so that members tell
    /// members from strangers and nothing rotates by date.
    static func localDiscovery(
        _ configuration: NodeConfiguration, random: inout SeededGenerator
    ) -> LocalDiscovery? {
        guard let type = DNSName("_edgevpn._udp.local") else { return nil }
        let nonce = random.bytes(8)
        return LocalDiscovery(
            configuration: LocalDiscoveryConfiguration(
                serviceType: type, port: configuration.listenPort,
                texts: [
                    Array("v=1".utf8), Array("n=\(nonce.hex)".utf8),
                    Array("h=\(localMark(nonce, configuration.token))".utf8),
                ]), random: &random)
    }

    private static func localMark(_ nonce: [UInt8], _ token: NetworkToken) -> String {
        let key = deriveKey(from: token.discoverySecret, label: "local discovery")
        var bytes = key.exposedCopy()
        defer { zeroize(&bytes) }
        return Array(hmacSHA256(key: bytes, nonce).bytes.prefix(8)).hex
    }

    mutating func withDiscovery(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout LocalDiscovery, inout SeededGenerator, inout [LocalDiscoveryAction]) -> Void
    ) {
        guard var local = discovery else { return }
        var results: [LocalDiscoveryAction] = []
        body(&local, &random, &results)
        discovery = local
        for result in results {
            switch result {
            case .send(let bytes, let target):
                sentBytes["multicast", default: 0] += UInt64(bytes.count)
                actions.append(.sendMulticast(bytes, to: target))
            case .found(let service):
                consider(service, at: now)
            case .lost:
                break
            case .dropped(let reason):
                drop("multicast \(reason)")
            }
        }
        runPaths(at: now, into: &actions)
    }

    /// Knocks at a service whose mark only holders of the token can make.
    private mutating func consider(_ service: LocalService, at now: Now) {
        let texts = service.texts.map { String(decoding: $0, as: UTF8.self) }
        guard let nonceText = texts.first(where: { $0.hasPrefix("n=") })?.dropFirst(2),
            let mark = texts.first(where: { $0.hasPrefix("h=") })?.dropFirst(2),
            let nonce = [UInt8](hex: nonceText), nonce.count == 8,
            constantTimeEquals(
                Array(mark.utf8), Array(Node.localMark(nonce, configuration.token).utf8))
        else {
            discovery?.reject(service.instance)
            return
        }
        for address in service.addresses {
            paths.addCandidate(address, source: .lan, at: now.boot)
        }
    }
}
