// Everything that the API answers, in the spelling of `--json`. A number is in the unit that its
// name says, and an absent field means "unknown".

/// The whole answer of `status`.
package struct StatusModel: Codable, Hashable, Sendable {
    package var node: NodeModel
    /// Every other known machine of the mesh, sorted by id.
    package var peers: [PeerModel]
    package var cluster: ClusterModel
    package var dht: DHTModel?
    /// What was dropped since the start, by reason; without those that did not happen.
    package var drops: [String: UInt64]?
    /// Bytes of datagrams that the node made by itself since the start, by what they say. Packets of
    /// the device and what is carried for others do not count.
    package var sentBytes: [String: UInt64]?

    package init(
        node: NodeModel, peers: [PeerModel] = [], cluster: ClusterModel, dht: DHTModel? = nil,
        drops: [String: UInt64]? = nil, sentBytes: [String: UInt64]? = nil
    ) {
        self.sentBytes = sentBytes
        self.node = node
        self.peers = peers
        self.cluster = cluster
        self.dht = dht
        self.drops = drops
    }
}

/// The health of the node's part in a DHT.
package struct DHTModel: Codable, Hashable, Sendable {
    /// `off`, `private` or `public`.
    package var mode: String
    /// Nodes that answered, per family.
    package var nodesIPv4: Int
    package var nodesIPv6: Int
    /// Whether queries of others are answered: always among members, in the open once somebody
    /// reached us from outside.
    package var reachable: Bool
    /// `address:port` as most others see us.
    package var observedIPv4: String?
    package var observedIPv6: String?
    /// What is kept for others.
    package var storedItems: Int
    package var storedPeers: Int

    package init(
        mode: String, nodesIPv4: Int = 0, nodesIPv6: Int = 0, reachable: Bool = false,
        observedIPv4: String? = nil, observedIPv6: String? = nil, storedItems: Int = 0,
        storedPeers: Int = 0
    ) {
        self.mode = mode
        self.nodesIPv4 = nodesIPv4
        self.nodesIPv6 = nodesIPv6
        self.reachable = reachable
        self.observedIPv4 = observedIPv4
        self.observedIPv6 = observedIPv6
        self.storedItems = storedItems
        self.storedPeers = storedPeers
    }
}

/// The answering machine itself.
package struct NodeModel: Codable, Hashable, Sendable {
    /// 64 hexadecimal digits: the Ed25519 public key.
    package var id: String
    package var hostname: String
    /// The overlay IPv4 address without a prefix length, once its claim stands.
    package var ipv4: String?
    package var ipv6: String?
    /// The UDP port of the underlay socket.
    package var port: Int?
    package var version: String
    /// `none`, `endpoint-independent`, `symmetric`, ...; absent while too few members answered.
    package var nat: String?
    /// Where other members see this one, the newest first, as `address:port`.
    package var observed: [String]?
    /// Where the gateway listens for this machine, as `address:port`.
    package var mapped: String?
    /// How the gateway was asked: `PCP`, `NAT-PMP` or `UPnP`.
    package var mappedBy: String?
    /// What a person has to do something about, such as a second machine with this identity.
    package var warnings: [String]?

    package init(
        id: String, hostname: String, ipv4: String? = nil, ipv6: String? = nil, port: Int? = nil,
        version: String, warnings: [String]? = nil
    ) {
        self.warnings = warnings
        self.id = id
        self.hostname = hostname
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.port = port
        self.version = version
    }
}

/// Another machine of the mesh.
package struct PeerModel: Codable, Hashable, Sendable {
    /// How this node sees the other one.
    package enum State: String, Codable, Hashable, Sendable, CaseIterable {
        /// A certificate is known, but no answer was ever heard.
        case known
        case alive
        case suspect
        case dead
        /// It said goodbye.
        case left
    }

    /// Which way packets take.
    package enum Path: String, Codable, Hashable, Sendable, CaseIterable {
        case direct
        case relay
    }

    package var id: String
    package var hostname: String?
    package var ipv4: String?
    package var ipv6: String?
    package var state: State
    package var path: Path?
    /// The underlay address in use, as `address:port`.
    package var endpoint: String?
    package var rttMs: Double?
    /// Seconds since the newest handshake was completed.
    package var lastHandshakeSeconds: Double?
    package var rxBytes: UInt64?
    package var txBytes: UInt64?
    /// The relay in use, by hostname or id.
    package var relay: String?
    /// `tcp` or `tls` where the network lets no UDP through.
    package var via: String?
    /// Why this way and no other, in words.
    package var pathReason: String?
    /// Every way that answers, as `address:port` or `relayed`, with its round trip.
    package var ways: [WayModel]?
    /// Where it may be and does not answer, as `address:port`.
    package var candidates: [String]?
    /// The packet cipher, such as `chacha20-poly1305`.
    package var suite: String?

    package init(
        id: String, hostname: String? = nil, ipv4: String? = nil, ipv6: String? = nil,
        state: State, path: Path? = nil, endpoint: String? = nil, rttMs: Double? = nil,
        lastHandshakeSeconds: Double? = nil, rxBytes: UInt64? = nil, txBytes: UInt64? = nil,
        suite: String? = nil
    ) {
        self.id = id
        self.hostname = hostname
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.state = state
        self.path = path
        self.endpoint = endpoint
        self.rttMs = rttMs
        self.lastHandshakeSeconds = lastHandshakeSeconds
        self.rxBytes = rxBytes
        self.txBytes = txBytes
        self.suite = suite
    }
}

/// One way to another machine.
package struct WayModel: Codable, Hashable, Sendable {
    package var address: String
    package var rttMs: Double?
    /// Of the last sixteen probes.
    package var lost: Int

    package init(address: String, rttMs: Double? = nil, lost: Int) {
        self.address = address
        self.rttMs = rttMs
        self.lost = lost
    }
}

/// Where the founding and the datastore stand, as this node knows it.
package struct ClusterModel: Codable, Hashable, Sendable {
    package enum Phase: String, Codable, Hashable, Sendable, CaseIterable {
        /// `--cluster none`.
        case none
        /// The mesh works and founding is refused; `reason` names the fix.
        case refused
        case waiting
        case claiming
        case starting
        /// This node founded and the outcome is certified.
        case ready
        case joining
        /// This node joined what another one founded.
        case joined
        /// This node lost its right to found and stopped what it had started.
        case fenced
        case alarm
    }

    package var phase: Phase
    package var generation: Int?
    /// The founder's node id; equal on every node.
    package var founder: String?
    /// `server`, `agent` or `none`.
    package var role: String?
    /// The node ids of the voters seen.
    package var voters: [String]?
    /// How many voters must agree.
    package var quorum: Int?
    /// Words for a person: why the phase is what it is, and what would change it.
    package var reason: String?
    /// The datastore's members by node id, known to every node.
    package var members: [String]?
    /// The agents by node id.
    package var agents: [String]?
    /// Who decides about leases (`elect`, `lock`), by node id; absent before there is a cluster.
    package var leaseVoters: [String]?

    package init(
        phase: Phase, generation: Int? = nil, founder: String? = nil, role: String? = nil,
        voters: [String]? = nil, quorum: Int? = nil, reason: String? = nil,
        members: [String]? = nil, agents: [String]? = nil, leaseVoters: [String]? = nil
    ) {
        self.phase = phase
        self.generation = generation
        self.founder = founder
        self.role = role
        self.voters = voters
        self.quorum = quorum
        self.reason = reason
        self.members = members
        self.agents = agents
        self.leaseVoters = leaseVoters
    }
}

/// The answer of `cluster status`.
package struct ClusterStatusModel: Codable, Hashable, Sendable {
    package var cluster: ClusterModel
    /// The policy from the token, in words such as `count, 5 machines, 3 servers, 1 disk loss`.
    package var policy: String?
    /// The newest decision certificates of this generation.
    package var certificates: [DecisionModel]
    /// Node ids of `cluster` to hostnames, for people.
    package var hostnames: [String: String]
    /// Where the datastore answers, such as `https://10.1.7.9:2379`.
    package var endpoints: [String]?
    /// The mesh id in hexadecimal digits, for signing a reset.
    package var meshID: String?
    /// The hash of the policy in hexadecimal digits; absent without a policy.
    package var policyHash: String?
    package var explanation: ExplanationModel?

    package init(
        cluster: ClusterModel, policy: String? = nil, certificates: [DecisionModel] = [],
        hostnames: [String: String] = [:], endpoints: [String]? = nil, meshID: String? = nil,
        policyHash: String? = nil, explanation: ExplanationModel? = nil
    ) {
        self.cluster = cluster
        self.policy = policy
        self.certificates = certificates
        self.hostnames = hostnames
        self.endpoints = endpoints
        self.meshID = meshID
        self.policyHash = policyHash
        self.explanation = explanation
    }
}

/// One decision of the quorum and who signed it.
package struct DecisionModel: Codable, Hashable, Sendable {
    /// `claim` or `outcome`.
    package var register: String
    package var generation: Int
    /// The decided value in words: the owner's id, or `ready ...`/`abandoned`.
    package var value: String
    package var ballot: UInt64?
    /// The signers' node ids, sorted.
    package var signers: [String]
    /// The certificate itself, standard base64.
    package var certificateBase64: String?

    package init(
        register: String, generation: Int, value: String, ballot: UInt64? = nil,
        signers: [String], certificateBase64: String? = nil
    ) {
        self.register = register
        self.generation = generation
        self.value = value
        self.ballot = ballot
        self.signers = signers
        self.certificateBase64 = certificateBase64
    }
}

/// What became of one probe.
package struct PingModel: Codable, Hashable, Sendable {
    /// The node id that was probed.
    package var id: String
    package var hostname: String?
    /// The round trip; absent when no answer came in time.
    package var rttMs: Double?
    package var path: PeerModel.Path?
    package var endpoint: String?

    package init(
        id: String, hostname: String? = nil, rttMs: Double? = nil, path: PeerModel.Path? = nil,
        endpoint: String? = nil
    ) {
        self.id = id
        self.hostname = hostname
        self.rttMs = rttMs
        self.path = path
        self.endpoint = endpoint
    }
}

/// One name of the mesh zone.
package struct NameModel: Codable, Hashable, Sendable {
    /// Fully qualified, without the last dot.
    package var name: String
    package var addresses: [String]
    /// The owner's node id.
    package var id: String?

    package init(name: String, addresses: [String], id: String? = nil) {
        self.name = name
        self.addresses = addresses
        self.id = id
    }
}

/// One live entry of the ledger.
package struct LedgerEntryModel: Codable, Hashable, Sendable {
    package var bucket: String
    package var key: String
    /// The writer's node id.
    package var owner: String
    package var version: UInt64
    /// The value, when it is UTF-8 text.
    package var value: String?
    /// The value in standard base64, when it is not text.
    package var valueBase64: String?

    package init(bucket: String, key: String, owner: String, version: UInt64, value bytes: [UInt8])
    {
        self.bucket = bucket
        self.key = key
        self.owner = owner
        self.version = version
        value = String(validating: bytes, as: UTF8.self)
        valueBase64 = value == nil ? encodeBase64(bytes) : nil
    }
}

/// The answer of a watch: everything that is asked for, and where to go on.
package struct LedgerWatchModel: Codable, Hashable, Sendable {
    package var revision: UInt64
    package var entries: [LedgerEntryModel]

    package init(revision: UInt64, entries: [LedgerEntryModel]) {
        self.revision = revision
        self.entries = entries
    }
}

/// One step of `ledger watch --json`, a line each.
package struct LedgerChangeModel: Codable, Hashable, Sendable {
    package enum Event: String, Codable, Hashable, Sendable {
        /// Written, or there when the watch began.
        case put
        /// Withdrawn, or ended with its owner.
        case delete
    }

    package var event: Event
    package var entry: LedgerEntryModel

    package init(event: Event, entry: LedgerEntryModel) {
        self.event = event
        self.entry = entry
    }

    /// What leads from `former` to `present`, sorted by name: puts first.
    package static func changes(from former: [LedgerEntryModel], to present: [LedgerEntryModel])
        -> [LedgerChangeModel]
    {
        let before = Set(former)
        let names = Set(present.map(\.name))
        return present.filter { !before.contains($0) }.map {
            LedgerChangeModel(event: .put, entry: $0)
        }
            + former.filter { !names.contains($0.name) }
            .map { LedgerChangeModel(event: .delete, entry: $0) }
    }
}

extension LedgerEntryModel {
    fileprivate var name: [String] { [bucket, key, owner] }
}

/// The body of a withdrawal: the signed entry.
package struct SignedEntryModel: Codable, Hashable, Sendable {
    package var entryBase64: String

    package init(entry: [UInt8]) {
        entryBase64 = encodeBase64(entry)
    }
}

/// Every error that the API answers.
package struct ErrorModel: Codable, Hashable, Sendable {
    /// One sentence: what is wrong.
    package var error: String
    /// One sentence: what to do about it.
    package var fix: String
    package var kind: ControlFailure.Kind

    package init(_ failure: ControlFailure) {
        error = failure.message
        fix = failure.fix
        kind = failure.kind
    }
}

/// The body of a ledger write: text, or bytes in base64.
package struct LedgerWriteModel: Codable, Hashable, Sendable {
    package var value: String?
    package var valueBase64: String?

    package init(value bytes: [UInt8]) {
        value = String(validating: bytes, as: UTF8.self)
        valueBase64 = value == nil ? encodeBase64(bytes) : nil
    }
}

/// The body of a probe request.
package struct PingRequestModel: Codable, Hashable, Sendable {
    package var node: String
    /// 1...60,000; absent means 1,000.
    package var timeoutMs: Int?

    package init(node: String, timeoutMs: Int? = nil) {
        self.node = node
        self.timeoutMs = timeoutMs
    }
}
