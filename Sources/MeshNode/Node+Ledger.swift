import ClusterPlan
import DNS
import Ledger
import Membership
import MeshBase
import NetAddress
import PathDiscovery

/// What the ledger says, and what follows from it: machines, addresses, names, liveness.
extension Node {
    /// Everything that must happen once, before the first input.
    mutating func begin(
        _ restored: RestoredState, at now: Now, into actions: inout [NodeAction]
    ) {
        for entry in ledger.entries(bucket: LedgerBucket.policy) {
            learnFromLedger(entry, at: now, into: &actions)
        }
        for entry in ledger.entries(bucket: LedgerBucket.members) {
            learnFromLedger(entry, at: now, into: &actions)
        }
        for entry in ledger.entries(bucket: MachineRecord.bucket) {
            learnFromLedger(entry, at: now, into: &actions)
        }
        for entry in ledger.entries(bucket: LedgerBucket.cluster) {
            learnFromLedger(entry, at: now, into: &actions)
        }
        for entry in ledger.entries(bucket: LedgerBucket.names) { nameEntryChanged(entry) }
        if let cache = restored.peerCache { addCachedPeers(cache, at: now) }
        putEntry(
            bucket: LedgerBucket.members, key: LedgerBucket.certificateKey,
            value: configuration.certificate.encode(), at: now, into: &actions)
        chooseIPv4(at: now, into: &actions)
        actions.append(.addressesChanged(ipv4: ipv4, ipv6: ipv6))
        if configuration.certificate.roles.contains(.voter) {
            tellFounding(.voterSeen(id), at: now, into: &actions)
        }
        publishing.membersAreStale = true
        settleMembers(at: now, into: &actions)
        reachabilityChanged(at: now, into: &actions)
    }

    // MARK: - The ledger core

    mutating func withLedger(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout LedgerState, inout SeededGenerator, inout [LedgerAction]) -> Void
    ) {
        var results: [LedgerAction] = []
        body(&ledger, &random, &results)
        var changed: [LedgerEntry] = []
        for result in results {
            switch result {
            case .persist(let entry):
                actions.append(.persist(.ledgerEntry(entry.encode())))
            case .erase:
                actions.append(.persist(.ledgerShrank))
            case .send(let node, let message):
                send(ControlFrame(kind: .ledger, body: message), to: node, at: now, into: &actions)
            case .changed(let entry):
                changed.append(entry)
            case .dropped(let reason):
                drop("ledger \(reason)")
            }
        }
        noteClone(into: &actions)
        for entry in changed { learnFromLedger(entry, at: now, into: &actions) }
        if publishing.isStale { rebuildNames(into: &actions) }
    }

    /// Writes an own entry unless it says already what it should.
    mutating func putEntry(
        bucket: String, key: String, value: [UInt8], at now: Now, into actions: inout [NodeAction]
    ) {
        do throws(LedgerProblem) {
            try put(bucket: bucket, key: key, value: value, at: now, into: &actions)
        } catch {
            actions.append(.log(.warning, "ledger entry \(bucket)/\(key) refused: \(error)"))
        }
    }

    /// Writes an own entry.
    ///
    /// - Throws: when the entry breaks a bound of the ledger; nothing changed then.
    package mutating func put(
        bucket: String, key: String, value: [UInt8], at now: Now, into actions: inout [NodeAction]
    ) throws(LedgerProblem) {
        var problem: LedgerProblem?
        withLedger(at: now, into: &actions) { ledger, random, results in
            do throws(LedgerProblem) {
                try ledger.put(
                    bucket: bucket, key: key, value: value, at: now.boot, random: &random,
                    into: &results)
            } catch {
                problem = error
            }
        }
        if let problem { throw problem }
    }

    /// Withdraws an own entry.
    package mutating func delete(
        bucket: String, key: String, at now: Now, into actions: inout [NodeAction]
    ) throws(LedgerProblem) {
        var problem: LedgerProblem?
        withLedger(at: now, into: &actions) { ledger, random, results in
            do throws(LedgerProblem) {
                try ledger.delete(
                    bucket: bucket, key: key, at: now.boot, random: &random, into: &results)
            } catch {
                problem = error
            }
        }
        if let problem { throw problem }
    }

    /// Acts upon one entry that is new or changed.
    private mutating func learnFromLedger(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) {
        switch entry.bucket {
        case LedgerBucket.members:
            guard !entry.isTombstone, entry.owner != id,
                let certificate = Node.certificateVerifier(configuration.token, withdrawn)(
                    entry.value),
                certificate.nodeID == entry.owner
            else { return }
            learn(certificate, at: now, into: &actions)
        case MachineRecord.bucket:
            machineChanged(entry, at: now, into: &actions)
        case LedgerBucket.cluster:
            clusterEntryChanged(entry, at: now, into: &actions)
        case LedgerBucket.policy:
            withdraw(entry, at: now, into: &actions)
        case LedgerBucket.names:
            nameEntryChanged(entry)
        default:
            break
        }
    }

    private mutating func machineChanged(
        _ entry: LedgerEntry, at now: Now, into actions: inout [NodeAction]
    ) {
        guard entry.key == MachineRecord.key, entry.owner != id, members[entry.owner] != nil else {
            return
        }
        members[entry.owner]?.record =
            entry.isTombstone ? nil : try? MachineRecord(decoding: entry.value)
        publishing.membersAreStale = true
        guard let member = members[entry.owner], member.sending == nil,
            wantsSession(with: entry.owner)
        else { return }
        search(for: entry.owner, at: now, into: &actions)
    }

    // MARK: - Addresses

    /// The owner of every claimed address: among the strongest claims the lowest hash.
    private var addressOwners: [IPAddress: NodeID] {
        var claims: [(node: NodeID, address: IPAddress, strength: ClaimStrength)] = []
        for node in members.keys.sorted() {
            guard let record = members[node]?.record, let address = record.ipv4,
                address != serviceAddress
            else { continue }
            claims.append((node, address, record.strength))
        }
        if let ipv4 { claims.append((id, ipv4, addressStrength)) }
        let strongest = Dictionary(
            claims.map { ($0.address, $0.strength) }, uniquingKeysWith: { max($0, $1) })
        return AddressClaims.resolve(
            claims.filter { $0.strength == strongest[$0.address] }
                .map { (node: $0.node, address: $0.address) })
    }

    /// What hangs on our address: it grows until the datastore's data is moved away, also while a
    /// datastore that was just found on the disk is looked at.
    mutating func strengthenAddress(at now: Now, into actions: inout [NodeAction]) {
        let view = cluster.view
        let present: ClaimStrength =
            view.role != nil ? .used : view.isAddressFixed ? .promised : .wish
        guard present > addressStrength else { return }
        addressStrength = present
        publishMachine(at: now, into: &actions)
    }

    /// The next own candidate, from ``addressCandidate`` on, that nobody else has.
    private mutating func nextCandidate() -> IPAddress? {
        let taken = addressOwners
        let reserved = Node.serviceAddress(in: configuration.token.ipv4Plan)
        while addressCandidate < Node.addressCandidateLimit {
            let candidate = AddressClaims.candidate(
                nodeKey: id, index: UInt32(addressCandidate), plan: configuration.token.ipv4Plan)
            if taken[candidate] == nil, candidate != reserved { return candidate }
            addressCandidate += 1
        }
        return nil
    }

    /// Finds the first candidate address of ours that nobody else holds.
    private mutating func chooseIPv4(at now: Now, into actions: inout [NodeAction]) {
        let plan = configuration.token.ipv4Plan
        if let overlap = configuration.localRoutes.first(where: { $0.overlaps(plan) }) {
            actions.append(
                .log(
                    .warning,
                    "the mesh's IPv4 block \(plan) overlaps the local route \(overlap): this "
                        + "node stays IPv6-only"))
            ipv4 = nil
            return
        }
        let former = formerRecord
        addressStrength =
            configuration.hasClusterData ? .used : min(former?.strength ?? .wish, .promised)
        if let fixed = configuration.fixedIPv4 {
            ipv4 = fixed
        } else if let kept = former?.ipv4, plan.contains(kept) {
            ipv4 = kept
        } else {
            ipv4 = nextCandidate()
        }
        publishMachine(at: now, into: &actions)
    }

    /// A plan so full that this many candidates are taken has no room.
    private static let addressCandidateLimit = 4_096

    /// What this node said about itself in an earlier life.
    private var formerRecord: MachineRecord? {
        guard
            let entry = ledger.entry(
                bucket: MachineRecord.bucket, key: MachineRecord.key, owner: id),
            !entry.isTombstone
        else { return nil }
        return try? MachineRecord(decoding: entry.value)
    }

    /// Gives every address to one claimant; moves on when ours is another's.
    mutating func weighClaims(at now: Now, into actions: inout [NodeAction]) {
        let winners = addressOwners
        for node in members.keys.sorted() {
            let claimed = members[node]?.record?.ipv4
            let standing = claimed.flatMap { winners[$0] == node ? $0 : nil }
            if members[node]?.ipv4 != standing {
                members[node]?.ipv4 = standing
                actions.append(.forwardingChanged)
            }
        }
        guard let own = ipv4, winners[own] != id, configuration.fixedIPv4 == nil else { return }
        actions.append(.log(.notice, "address \(own) is another node's; moving on"))
        ipv4 = nil
        addressStrength = .wish
        addressCandidate += 1
        ipv4 = nextCandidate()
        actions.append(.addressesChanged(ipv4: ipv4, ipv6: ipv6))
        publishMachine(at: now, into: &actions)
        membershipChanged(at: now, into: &actions)
        rebuildNames(into: &actions)
    }

    /// Tells everybody our name, claim and addresses.
    mutating func publishMachine(at now: Now, into actions: inout [NodeAction]) {
        let record = MachineRecord(
            hostname: configuration.hostname, ipv4: ipv4, strength: addressStrength,
            endpoints: ownEndpoints)
        putEntry(
            bucket: MachineRecord.bucket, key: MachineRecord.key, value: record.encode(), at: now,
            into: &actions)
    }

    /// Where this machine is on its own networks, and where its gateway listens for it.
    var ownEndpoints: [SocketAddress] {
        localEndpoints + [mapper?.mapped].compactMap { $0 }
    }

    /// Where this machine is on its own networks.
    var localEndpoints: [SocketAddress] {
        interfaces.flatMap(\.addresses)
            .filter { !$0.isLoopback && !$0.isLinkLocal && !isOverlay($0) }
            .map { SocketAddress(ip: $0, port: configuration.listenPort) }
    }

    private func isOverlay(_ address: IPAddress) -> Bool {
        address == ipv4
            || MeshAddressing.prefix(meshID: configuration.token.meshID)
                .contains(address)
    }

    // MARK: - Liveness

    mutating func withSwim(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout SwimInstance, inout SeededGenerator, inout [SwimAction]) -> Void
    ) {
        var results: [SwimAction] = []
        body(&swim, &random, &results)
        for result in results {
            switch result {
            case .send(let node, let message):
                sendMemberMessage(message, to: node, into: &actions)
            case .memberChanged(let node, let state):
                memberChanged(node, state, at: now, into: &actions)
            case .dropped(let reason):
                drop("swim \(reason)")
            }
        }
    }

    private mutating func memberChanged(
        _ node: NodeID, _ state: MemberState, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let former = members[node]?.state, former != state else { return }
        members[node]?.state = state
        members[node]?.lastPresent = now.boot
        actions.append(.log(.info, "member \(node.short) is \(state)"))
        switch state {
        case .alive:
            // A session may have outlived a partition.
            connected(node, at: now, into: &actions)
            if former == .dead || former == .left, wantsSession(with: node) {
                search(for: node, at: now, into: &actions)
            }
        case .suspect:
            // It may have restarted without remembering us: asked where it was, it does not answer
            // then, and is knocked at.
            search(for: node, at: now, into: &actions)
        case .dead, .left:
            disconnected(node, at: now, into: &actions)
        case .unknown:
            break
        }
        publishing.membersAreStale = true
    }

    /// What follows from changes of members, once for all that one input brought, and in a large mesh
    /// ten times a second: each time all of them are looked at.
    mutating func settleMembers(at now: Now, into actions: inout [NodeAction]) {
        guard let due = publishing.settleAt,
            due <= now.boot || members.count <= NamePublishing.crowd
        else { return }
        publishing.settledAt = now.boot
        publishing.membersAreStale = false
        weighClaims(at: now, into: &actions)
        membershipChanged(at: now, into: &actions)
        rebuildNames(into: &actions)
    }

    private mutating func sendMemberMessage(
        _ message: [UInt8], to node: NodeID, into actions: inout [NodeAction]
    ) {
        var results: [PathAction] = []
        paths.send(message, to: node, random: &random, into: &results)
        for case .send(let datagram, let target) in results {
            transmit(datagram, to: target, into: &actions)
        }
    }

    /// In mode `voters` the datastore is as guarded as the founding: a token's holder can make
    /// members, and none of them gets what servers have.
    private func mayServe(_ certificate: MembershipCertificate) -> Bool {
        configuration.token.policy?.mode != .voters || certificate.roles.contains(.voter)
    }

    /// The members as liveness and the planner know them changed.
    mutating func membershipChanged(at now: Now, into actions: inout [NodeAction]) {
        let names = hostnames
        var peers = members.keys.sorted().compactMap { node in
            members[node].map { member in
                ClusterPeer(
                    id: node, staticKey: member.certificate.staticKey, ipv4: member.ipv4,
                    ipv6: member.certificate.ipv6,
                    hostname: member.record?.hostname ?? node.short, dnsLabel: names[node],
                    isAlive: member.state != .dead && member.state != .left,
                    mayServe: mayServe(member.certificate))
            }
        }
        peers.append(
            ClusterPeer(
                id: id, staticKey: configuration.identity.staticKey.publicKey, ipv4: ipv4,
                ipv6: ipv6, hostname: configuration.hostname, dnsLabel: names[id], isAlive: true,
                mayServe: mayServe(configuration.certificate)))
        tellCluster(.peers(peers), at: now, into: &actions)
    }
}

/// Buckets of the ledger that the node itself reads.
package enum LedgerBucket {
    /// Certificates; the ledger accepts entries of an owner only beside one.
    package static let members = "members"
    package static let certificateKey = "certificate"
    /// Decisions of the founding and facts of the datastore.
    package static let cluster = "cluster"
    /// What the mesh's root says: withdrawals.
    package static let policy = "policy"
    /// Records that people publish in the zone.
    package static let names = "dns"
}
