import Cryptography
import MeshBase
import NetAddress

/// Founds, joins and watches the datastore of one node, without doing any of it itself.
///
/// Inputs come from the founding registers (`foundingChanged`), the mesh (`membershipChanged`,
/// `factChanged`), other coordinators (`receive`) and this machine (`hostReported`). Every input is
/// first taken into the state; then ``advance(at:random:into:)`` compares what is wanted with what
/// there is and orders at most one next step. So no event can be missed: a lost one only delays.
///
///     inspecting -> empty -> founding -> running (founder)
///                        \-> requesting -> starting -> running (joined) <-> restarting
///     any -> settingAside -> empty
///     running -> leaving -> retired
///
/// Nothing that could let another machine in (authority, address, grant) leaves the owner before
/// `ready` is certified: only `running` servers of the certified cluster answer requests and
/// publish facts.
package struct ClusterCoordinator: Sendable {
    package let configuration: ClusterConfiguration

    var founding = FoundingSummary(phase: .none)
    /// As many as the mesh has; the caller bounds it.
    var peers: [NodeID: ClusterPeer] = [:]
    /// One small fact per owner; the ledger bounds the owners.
    var roleFacts: [NodeID: RoleFact] = [:]
    var memberFacts: [NodeID: MemberListFact] = [:]
    /// Machines with a datastore that this mesh did not found, and its authority.
    var conflicts: [NodeID: Bytes32] = [:]
    var stage = Stage.inspecting
    var pending: PendingCommand?
    var desk = AdmissionDesk()
    var observed = ObservedDatastore()
    /// What was published last, so that only changes are published.
    var published: [String: [UInt8]] = [:]
    var notBefore: BootInstant?
    /// When this life of the node began: whoever has just started has not heard the others yet.
    var startedAt: BootInstant?
    /// Starts as a new member that failed in a row.
    var startFailures = 0
    /// The generation in which the data of earlier ones was last moved away.
    var emptiedFor: UInt32 = 0
    /// Words about the last thing that went wrong.
    var trouble = ""

    package init(configuration: ClusterConfiguration) {
        self.configuration = configuration
    }

    /// Whether this node has anything to do with the datastore.
    package var takesPart: Bool {
        configuration.kind != .none && configuration.role != .none
    }

    // MARK: - Inputs

    /// The founding registers moved. May be called with an unchanged summary.
    package mutating func foundingChanged(
        _ summary: FoundingSummary, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        if summary.generation > founding.generation {
            // What failed belongs to the former generation; who founds the next one may be this node.
            startFailures = 0
            notBefore = nil
        }
        founding = summary
        advance(at: now, random: &random, into: &actions)
    }

    /// Every known machine of the mesh, this one included.
    package mutating func membershipChanged(
        _ list: [ClusterPeer], at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        peers = Dictionary(list.map { ($0.id, $0) }, uniquingKeysWith: { _, last in last })
        advance(at: now, random: &random, into: &actions)
    }

    /// A fact in the ledger bucket `cluster` changed; `nil` when it was withdrawn.
    package mutating func factChanged(
        owner: NodeID, key: String, value: [UInt8]?, at now: Now,
        random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) {
        do throws(DecodingFailure) {
            switch key {
            case ClusterFactKey.role:
                roleFacts[owner] = try value.map { bytes throws(DecodingFailure) in
                    try RoleFact(decoding: bytes)
                }
            case ClusterFactKey.members:
                memberFacts[owner] = try value.map { bytes throws(DecodingFailure) in
                    try MemberListFact(decoding: bytes)
                }
            case ClusterFactKey.conflict:
                try takeConflict(owner, value, into: &actions)
            default:
                return
            }
        } catch {
            actions.append(.dropped(.malformed))
            return
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// A message of the join protocol, authenticated as `sender`'s by its tunnel.
    package mutating func receive(
        _ message: [UInt8], from sender: NodeID, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        guard let message = try? JoinMessage(decoding: message) else {
            actions.append(.dropped(.malformed))
            return
        }
        guard takesPart else {
            actions.append(.dropped(.notTakingPart))
            return
        }
        guard sender != configuration.node, let peer = peers[sender] else {
            actions.append(.dropped(.unknownSender))
            return
        }
        let refusal: ClusterDropReason? =
            switch message {
            case .request(let request): take(request, from: peer, at: now, into: &actions)
            case .part(let part): take(part, from: sender)
            case .wait(let nonce, let reason):
                takeWait(nonce, reason, from: sender, at: now, random: &random)
            case .refusal(let nonce, let reason):
                takeRefusal(nonce, reason, from: sender, at: now, random: &random)
            case .confirm(let nonce, let memberID):
                takeConfirm(nonce, memberID, from: sender, at: now, random: &random)
            case .leave(let nonce): takeLeave(nonce, from: peer)
            case .left(let nonce): takeLeft(nonce, from: sender)
            }
        if let refusal {
            actions.append(.dropped(refusal))
            return
        }
        advance(at: now, random: &random, into: &actions)
    }

    /// Time passed.
    package mutating func timeout(
        at now: Now, random: inout SeededGenerator, into actions: inout [ClusterAction]
    ) {
        advance(at: now, random: &random, into: &actions)
    }

    /// When `timeout` wants to be called next; `nil` for not at all. Call it once after `init`.
    package var deadline: BootInstant? {
        guard takesPart else { return nil }
        if case .inspecting = stage, pending == nil { return notBefore ?? .zero }
        var next = earlier(notBefore, pending?.expires)
        if case .founding(let run) = stage, founding.readyCluster == nil {
            next = earlier(next, run.deadline)
        }
        if case .requesting(let attempt) = stage {
            next = earlier(next, attempt.sendAt)
            if attempt.target != nil { next = earlier(next, attempt.giveUpAt) }
        }
        if case .leaving(let departure) = stage, pending == nil {
            next = earlier(next, departure.sendAt)
            if departure.target != nil { next = earlier(next, departure.giveUpAt) }
        }
        if case .running = stage, pending == nil { next = earlier(next, observed.probeAt) }
        if case .halted(let cluster) = stage, pending == nil, notBefore == nil,
            founding.readyCluster == cluster
        {
            next = earlier(next, startedAt.map { $0 + ClusterTiming.hearing })
        }
        return earlier(next, desk.expiry)
    }
}

// MARK: - State

extension ClusterCoordinator {
    enum Stage: Hashable, Sendable {
        /// What is on this machine's disk is not known yet.
        case inspecting
        /// No datastore is on this machine.
        case empty
        /// This node owns the claim; its datastore starts or waits for the certificate.
        case founding(FoundingRun)
        /// Half-founded data is on disk and nothing runs.
        case halted(ClusterIdentity)
        case requesting(JoinAttempt)
        /// The grant is with the host.
        case starting(ClusterIdentity, DatastoreRole)
        case restarting(ClusterIdentity, DatastoreRole)
        case running(ClusterIdentity, DatastoreRole)
        case settingAside(generation: UInt32, reason: String)
        case leaving(Departure)
        case retired
        case alarmed(String)
    }

    struct FoundingRun: Hashable, Sendable {
        var generation: UInt32
        /// The datastore must not run past it without a certificate.
        var deadline: BootInstant
        /// Present once the datastore is healthy.
        var cluster: ClusterIdentity?
        var facts = GenesisFacts()
    }

    struct PendingCommand: Hashable, Sendable {
        var command: HostCommand
        /// An executor that never answers must not stop the node for ever.
        var expires: BootInstant
    }
}

/// Intervals of the coordinator, each with its reason.
enum ClusterTiming {
    /// Longer than any step takes: founding and joining give up after two minutes themselves.
    static let commandLimit = Duration.seconds(180)
    /// Between two copies of the same request: a few round trips of a slow path.
    static let requestInterval = Duration.seconds(2)
    /// A server that stays silent so long is asked no more; the next one is.
    static let serverSilence = Duration.seconds(10)
    /// The datastore refuses a second change for about five seconds after the first.
    static let retryRange = Duration.seconds(1)...Duration.seconds(5)
    /// Waiting for somebody else's place is not urgent.
    static let fullRetryRange = Duration.seconds(20)...Duration.seconds(40)
    /// While members come and go.
    static let busyProbeInterval = Duration.seconds(2)
    /// A probe starts two short processes; five per minute are not felt.
    static let calmProbeInterval = Duration.seconds(10)
    /// How long after the last change the short interval applies.
    static let calmAfter = Duration.seconds(60)
    /// One lost probe is no news.
    static let probeFailureLimit = 3
    /// K3s evicts a stalled learner after as long.
    static let stalledMemberLimit = Duration.seconds(300)
    /// A joiner gives up by itself after as long, so nobody is at work on such a member.
    static let unstartedMemberLimit = Duration.seconds(120)
    /// A removal waits for the datastore, which may be electing.
    static let departureSilence = Duration.seconds(40)
    static let restartRange = Duration.seconds(1)...Duration.seconds(5)
    /// The fourth failure in a row pauses for longer than an unstarted member may occupy the one
    /// place for joiners, so that others get their turn.
    static let startBackoffFactor = 4
    static let startBackoffLimit = Duration.seconds(300)
    /// An agent takes nobody's place.
    static let agentBackoffLimit = Duration.seconds(20)
    /// 5 s * 4^4 is past the limit.
    static let startFailureLimit = 5
    static let foundingRetry = Duration.seconds(5)
    /// Machines find each other and exchange their ledgers in less, where they can.
    static let hearing = Duration.seconds(10)
    /// Grants are short-lived; a joiner asks every two seconds.
    static let grantLifetime = Duration.seconds(120)
}
