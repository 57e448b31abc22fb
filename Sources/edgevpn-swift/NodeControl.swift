import ClusterPlan
import Consensus
import Cryptography
import HTTPAPI
import Ledger
import Membership
import MeshBase
import MeshNode
import NetAddress
import PathDiscovery
import Runtime
import Synchronization
import WireGuard

/// Answers the API from a running node: values of the node in, models of the API out.
struct NodeControl: ControlHandle {
    let slot: RuntimeSlot
    /// The mesh's DNS zone, without a dot at its end.
    let zone: String

    var runtime: NodeRuntime { slot.runtime }

    func status() async -> StatusModel {
        let status = await runtime.status()
        var model = StatusModel(
            node: NodeModel(
                id: "\(status.id)", hostname: status.hostname,
                ipv4: status.ipv4.map { "\($0)" }, ipv6: "\(status.ipv6)",
                port: Int(status.port), version: EdgeVPNCommand.version,
                warnings: status.warnings.isEmpty ? nil : status.warnings),
            peers: status.peers.map { peerModel($0, names: status.names) },
            cluster: clusterModel(status), dht: dhtModel(status.dht), drops: status.drops,
            sentBytes: status.sentBytes)
        if status.natBehaviour != .unknown { model.node.nat = status.natBehaviour.rawValue }
        model.node.mapped = status.mapped.map { "\($0)" }
        model.node.mappedBy = status.mappedBy?.rawValue
        if !status.observed.isEmpty { model.node.observed = status.observed.map { "\($0)" } }
        return model
    }

    private func dhtModel(_ dht: DHTSummary) -> DHTModel {
        DHTModel(
            mode: "\(dht.mode)", nodesIPv4: dht.status.nodesIPv4, nodesIPv6: dht.status.nodesIPv6,
            reachable: dht.status.isServing,
            observedIPv4: dht.status.observedIPv4.map { "\($0)" },
            observedIPv6: dht.status.observedIPv6.map { "\($0)" },
            storedItems: dht.status.storedItems, storedPeers: dht.status.storedPeers)
    }

    func clusterStatus() async -> ClusterStatusModel {
        let status = await runtime.status()
        let hostnames = status.names.map { ("\($0.key)", $0.value) }
        let addresses = status.cluster.members.compactMap(\.ipv4)
        return ClusterStatusModel(
            cluster: clusterModel(status), policy: status.policy.map(describe),
            certificates: [status.founding.claimCertificate, status.founding.readyCertificate]
                .compactMap { $0 }.map(decisionModel),
            hostnames: Dictionary(hostnames) { first, _ in first },
            endpoints: addresses.isEmpty ? nil : addresses.map { "https://\($0):2379" },
            meshID: status.meshID.hex, policyHash: status.policy.map { $0.hash.bytes.hex },
            explanation: ExplanationModel(
                facts: status.explanation.facts, next: status.explanation.next))
    }

    func clusterOrder(_ order: ClusterOrderModel) async throws(ControlFailure)
        -> ClusterStatusModel
    {
        let wish: OperatorWish
        switch order.order {
        case .found: wish = .found
        case .takeover: wish = .takeOver
        case .reset:
            guard let text = order.resetBase64, let bytes = decodeBase64(text) else {
                throw ControlFailure(
                    .invalid, "the order carries no reset", fix: "send resetBase64")
            }
            wish = .reset(bytes)
        }
        do throws(FoundingRefusal) {
            try await runtime.fulfil(wish)
        } catch {
            throw ControlFailure(
                .refused, "\(error)", fix: "`cluster explain` says what would help")
        }
        return await clusterStatus()
    }

    func leaveCluster() async throws(ControlFailure) {
        do throws(ClusterLeaveProblem) {
            try await runtime.leaveCluster()
        } catch {
            throw ControlFailure(
                .refused, error.text,
                fix: "`edgevpn-swift cluster status` tells who is in the cluster")
        }
    }

    func removeFromCluster(_ machine: String) async throws(ControlFailure) -> String {
        do throws(ClusterRemoveProblem) {
            return try await runtime.removeFromCluster(machine)
        } catch {
            let (kind, fix): (ControlFailure.Kind, String) =
                switch error {
                case .notServing: (.unavailable, "ask a server that is healthy")
                case .unknown: (.notFound, "`edgevpn-swift cluster status` lists them")
                case .ambiguous: (.invalid, "give the whole name")
                case .itself: (.refused, "say `edgevpn-swift cluster leave`")
                case .alive: (.refused, "say `edgevpn-swift cluster leave` there, or stop it")
                }
            throw ControlFailure(kind, error.text, fix: fix)
        }
    }

    func lease(_ name: String, _ request: LeaseRequestModel) async throws(ControlFailure)
        -> LeaseModel
    {
        guard LeaseRecord.isName(name), let session = UInt64(request.session, radix: 16) else {
            throw ControlFailure(
                .invalid,
                "a lease has a name of 1 to 64 bytes without spaces, and a session of "
                    + "hexadecimal digits", fix: "choose another name")
        }
        let (status, validity) = await runtime.lease(
            name, session: session, isOver: request.isOver ?? false)
        let state: LeaseModel.State =
            switch status.phase {
            case .held: .held
            case .waiting: .waiting
            case .unavailable: .unavailable
            }
        return LeaseModel(
            state: state, number: status.phase == .held ? status.number : nil,
            holder: status.holder.map { "\($0)" }, validMs: validity.map { $0.inSeconds * 1_000 },
            reason: status.reason)
    }

    func ping(_ node: String, timeoutMilliseconds: Int) async throws(ControlFailure) -> PingModel {
        guard let target = await runtime.member(named: node) else {
            throw ControlFailure(
                .notFound, "no machine is known as \(node.prefix(80))",
                fix: "`edgevpn-swift peers` lists those that are")
        }
        let roundTrip = await runtime.ping(target, timeout: .milliseconds(timeoutMilliseconds))
        let peer = await runtime.status().peers.first { $0.id == target }
        return PingModel(
            id: "\(target)", hostname: peer?.hostname,
            rttMs: roundTrip.map { $0.inSeconds * 1_000 },
            path: peer?.endpoint.map { $0.isRelayed ? .relay : .direct },
            endpoint: peer?.endpoint.flatMap { $0.isRelayed ? nil : "\($0)" })
    }

    func names() async -> [NameModel] {
        let status = await runtime.status()
        let own = NameModel(
            name: "\(status.hostname).\(zone)",
            addresses: [status.ipv4, status.ipv6].compactMap { $0 }.map { "\($0)" },
            id: "\(status.id)")
        let there = status.peers.filter { $0.state != .dead && $0.state != .left }
        let others = there.compactMap { peer in
            peer.hostname.map { hostname in
                NameModel(
                    name: "\(hostname).\(zone)",
                    addresses: [peer.ipv4, peer.ipv6].compactMap { $0 }.map { "\($0)" },
                    id: "\(peer.id)")
            }
        }
        return ([own] + others).sorted { ($0.name, $0.id ?? "") < ($1.name, $1.id ?? "") }
    }

    func ledgerEntries(bucket: String?) async -> [LedgerEntryModel] {
        await runtime.ledgerEntries(bucket: bucket).map(entryModel)
    }

    func putLedgerEntry(bucket: String, key: String, value: [UInt8]) async throws(ControlFailure)
        -> LedgerEntryModel
    {
        try checkWritable(bucket)
        do throws(LedgerProblem) {
            try await runtime.putEntry(bucket: bucket, key: key, value: value)
        } catch {
            throw failure(error)
        }
        let id = await runtime.status().id
        let entries = await runtime.ledgerEntries(bucket: bucket)
        guard let entry = entries.first(where: { $0.key == key && $0.owner == id }) else {
            throw ControlFailure(
                .unavailable, "the entry was overtaken by its withdrawal", fix: "write it again")
        }
        return entryModel(entry)
    }

    func deleteLedgerEntry(bucket: String, key: String) async throws(ControlFailure) {
        try checkWritable(bucket)
        let id = await runtime.status().id
        let entries = await runtime.ledgerEntries(bucket: bucket)
        guard entries.contains(where: { $0.key == key && $0.owner == id }) else {
            throw ControlFailure(
                .notFound, "this node has no entry \(bucket)/\(key)",
                fix: "`ledger get` lists what exists; only an entry's owner can withdraw it")
        }
        do throws(LedgerProblem) {
            try await runtime.deleteEntry(bucket: bucket, key: key)
        } catch {
            throw failure(error)
        }
    }
}

extension NodeControl {
    func ledgerRevision(after revision: UInt64?, timeoutMilliseconds: Int) async -> UInt64 {
        await runtime.ledgerRevision(
            after: revision, timeout: .milliseconds(timeoutMilliseconds))
    }

    func adoptLedgerEntry(_ encoded: [UInt8]) async throws(ControlFailure) {
        guard let entry = try? LedgerEntry(decoding: encoded) else {
            throw ControlFailure(
                .invalid, "this is not a ledger entry", fix: "use `edgevpn-swift withdraw`")
        }
        switch await runtime.adopt(entry) {
        case nil: return
        case .ledgerFull, .ownerFull, .rate:
            throw ControlFailure(
                .unavailable, "the ledger holds as many withdrawals as it can",
                fix: "withdraw several machines in one call, or the issuer")
        case .policy, .signature, .malformed, .certificate, .noCertificate, .stranger, .busy,
            .unexpected:
            throw ControlFailure(
                .refused, "the entry is not signed by this mesh's root key",
                fix: "use the --admin-key of this mesh's `token new`")
        }
    }

    /// Users write into users' buckets.
    private func checkWritable(_ bucket: String) throws(ControlFailure) {
        switch BucketPolicy.of(bucket).writer {
        case .user: return
        case .node:
            throw ControlFailure(
                .refused, "the bucket \(bucket) is the node's own",
                fix: "choose another bucket; `ledger get \(bucket)` shows what nodes wrote")
        case .root:
            throw ControlFailure(
                .refused, "only the mesh's root key writes into the bucket \(bucket)",
                fix: "use `edgevpn-swift withdraw --admin-key FILE`")
        }
    }
}

/// Where the runtime will be: the API takes its address before the node changes anything, and
/// serves only afterwards.
final class RuntimeSlot: Sendable {
    private let content = Mutex<NodeRuntime?>(nil)

    var runtime: NodeRuntime {
        guard let runtime = content.withLock({ $0 }) else {
            preconditionFailure("the API serves a node that has started")
        }
        return runtime
    }

    func fill(_ runtime: NodeRuntime) {
        content.withLock { $0 = runtime }
    }
}

private func peerModel(_ peer: MemberStatus, names: [NodeID: String]) -> PeerModel {
    let state: PeerModel.State =
        switch peer.state {
        case .unknown: .known
        case .alive: .alive
        case .suspect: .suspect
        case .dead: .dead
        case .left: .left
        }
    let suite: String? =
        switch peer.suite {
        case .chaCha20Poly1305: "chacha20-poly1305"
        case .aes256GCM: "aes-256-gcm"
        case nil: nil
        }
    var model = PeerModel(
        id: "\(peer.id)", hostname: peer.hostname, ipv4: peer.ipv4.map { "\($0)" },
        ipv6: "\(peer.ipv6)", state: state,
        path: peer.endpoint.map { $0.isRelayed ? .relay : .direct },
        endpoint: peer.endpoint.flatMap { $0.isRelayed ? nil : "\($0)" },
        rttMs: peer.roundTrip.map { $0.inSeconds * 1_000 },
        lastHandshakeSeconds: peer.sinceHandshake?.inSeconds, rxBytes: peer.receivedBytes,
        txBytes: peer.sentBytes, suite: suite)
    if let path = peer.path, path.address != nil {
        model.via = path.stream.map { $0 == .tls ? "tls" : "tcp" }
        model.relay = path.relay.map { names[$0] ?? $0.short }
        model.pathReason =
            path.isGuessing ? "birthday punching: many ports are tried" : path.reason.rawValue
        model.ways = path.ways.filter(\.isLive).map {
            WayModel(
                address: $0.address.isRelayed ? "relayed" : "\($0.address)",
                rttMs: $0.roundTrip.map { $0.inSeconds * 1_000 }, lost: $0.lost)
        }
        if !path.candidates.isEmpty { model.candidates = path.candidates.map { "\($0)" } }
        if model.rttMs == nil {
            model.rttMs = path.ways.first { $0.address == path.address }?.roundTrip
                .map { $0.inSeconds * 1_000 }
        }
    }
    return model
}

private func clusterModel(_ status: NodeStatus) -> ClusterModel {
    let founding = status.founding
    let cluster = status.cluster
    let phase = ClusterModel.Phase(rawValue: cluster.phase.rawValue) ?? .none
    let role: String? =
        switch cluster.role {
        case .server: "server"
        case .agent: "agent"
        case nil: phase == .none ? "none" : nil
        }
    let isWanted = founding.quorum > 0
    return ClusterModel(
        phase: phase, generation: isWanted ? Int(founding.generation) : nil,
        founder: founding.owner.map { "\($0)" }, role: role,
        voters: isWanted ? founding.votersSeen.sorted().map { "\($0)" } : nil,
        quorum: isWanted ? founding.quorum : nil,
        reason: founding.alarm ?? cluster.reason,
        members: cluster.members.map { member in member.node.map { "\($0)" } ?? member.name }
            .sorted(),
        agents: cluster.agents.map { "\($0.node)" }.sorted(),
        leaseVoters: status.leaseVoters.isEmpty
            ? nil : status.leaseVoters.sorted().map { "\($0)" })
}

private func decisionModel(_ certificate: DecisionCertificate) -> DecisionModel {
    let statement = certificate.statement
    let value =
        switch statement.value {
        case .claim(let claim): "owner \(claim.owner)"
        case .outcome(.ready(let owner, let authority, _)):
            "ready, founded by \(owner) with certificate authority \(authority)"
        case .outcome(.abandoned): "abandoned"
        }
    return DecisionModel(
        register: "\(statement.register)", generation: Int(statement.generation), value: value,
        ballot: UInt64(statement.ballot.round), signers: certificate.votes.map { "\($0.voter)" },
        certificateBase64: certificate.encoded.base64)
}

private func describe(_ policy: GenesisPolicy) -> String {
    let mode =
        switch policy.mode {
        case .count: "count"
        case .voters: "voters"
        case .designated(let node): "designated \(node.short)"
        case .single: "single"
        case .external: "external"
        }
    return "\(mode): \(policy.voterLimit) voters of which \(policy.quorum) must agree, "
        + "\(policy.diskLosses) may lose their disk, \(policy.servers) servers"
}

private func entryModel(_ entry: LedgerEntry) -> LedgerEntryModel {
    LedgerEntryModel(
        bucket: entry.bucket, key: entry.key, owner: "\(entry.owner)", version: entry.version,
        value: entry.value)
}

func failure(_ problem: LedgerProblem) -> ControlFailure {
    switch problem {
    case .bucket:
        ControlFailure(
            .invalid, "a bucket's name has 1 to 32 bytes and no control characters",
            fix: "choose another name")
    case .key:
        ControlFailure(
            .invalid, "a key has 1 to 128 bytes and no control characters",
            fix: "choose another key")
    case .value:
        ControlFailure(.invalid, "a value has at most 4,096 bytes", fix: "write less")
    case .policy:
        ControlFailure(
            .invalid, "the value is larger than its bucket allows",
            fix: "docs/protocols/ledger.md has the sizes; write less")
    case .ownerFull:
        ControlFailure(
            .unavailable, "this node has 64 entries or 64 KiB already", fix: "withdraw some")
    case .ledgerFull:
        ControlFailure(.unavailable, "the ledger is full", fix: "withdraw entries")
    case .certificate, .versionsExhausted:
        ControlFailure(.unavailable, "this node cannot write any more", fix: "see its log")
    }
}
