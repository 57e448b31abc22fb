import MeshBase

/// What a founding core is told at start.
package struct FoundingConfiguration: Sendable {
    /// 16 bytes.
    package var meshID: [UInt8]
    /// From the token; without one founding is refused.
    package var policy: GenesisPolicy?
    package var node: NodeID
    /// The mesh root, whose signature resets a founding; without it nothing does.
    package var root: NodeID?
    /// This node's certificate has the voter bit.
    package var isVoter: Bool
    /// The state directory survives a power cut.
    package var isDurable: Bool
    /// A datastore is configured here and the role allows to found it.
    package var mayFound: Bool
    /// Data of a datastore is on this machine already.
    package var hasLocalData: Bool
    /// The store had a record and cannot read it.
    package var isAmnesiac: Bool
    package var timing: FoundingTiming
    package var rules: FoundingRules

    package init(
        meshID: [UInt8], policy: GenesisPolicy?, node: NodeID, isVoter: Bool, isDurable: Bool,
        mayFound: Bool, hasLocalData: Bool, isAmnesiac: Bool = false, root: NodeID? = nil,
        timing: FoundingTiming = FoundingTiming(), rules: FoundingRules = FoundingRules()
    ) {
        self.meshID = meshID
        self.policy = policy
        self.node = node
        self.root = root
        self.isVoter = isVoter
        self.isDurable = isDurable
        self.mayFound = mayFound
        self.hasLocalData = hasLocalData
        self.isAmnesiac = isAmnesiac
        self.timing = timing
        self.rules = rules
    }
}

/// How long things take. None of these values can make two clusters: a granter doubles the owner's
/// ``hold`` or its own, whichever is longer.
package struct FoundingTiming: Hashable, Sendable {
    /// L: how long an owner may run an uncertified datastore after asking for holds. Granters keep
    /// `abandoned` out for 2L, so clocks may drift by a half.
    package var hold: Duration = .seconds(600)
    /// Proposing waits this long for all T voters, then is content with q.
    package var observation: Duration = .seconds(10)
    /// Between two probes while nothing is decided.
    package var probeInterval: Duration = .seconds(1)
    /// Between two probes when there is nothing to hurry for.
    package var slowProbeInterval: Duration = .seconds(5)
    /// An answer older than this does not count as answering.
    package var statusLifetime: Duration = .seconds(15)
    /// Between two voters' turns to propose, by rendezvous rank.
    package var rankDelay: Duration = .seconds(2)
    /// Between two sendings of an unanswered request.
    package var resendInterval: Duration = .milliseconds(500)
    /// A proposal or a request for holds that takes longer begins anew.
    package var attempt: Duration = .seconds(5)
    /// The longest pause between two attempts.
    package var backoffLimit: Duration = .seconds(16)

    package init() {}
}

/// The rules whose absence the simulation must notice, each under its own switch. Production code
/// uses the defaults and nothing else.
package struct FoundingRules: Hashable, Sendable {
    /// Added to the quorum.
    package var quorumOffset = 0
    /// Votes are durable before they are sent.
    package var persistsVotes = true
    /// An acceptor refuses ballots below its promise.
    package var keepsPromises = true
    /// A proposer goes on with the newest value that it hears of.
    package var adoptsAcceptedValues = true
    /// A proposer stops when two values were accepted under one ballot.
    package var noticesRivals = true
    /// A new generation needs the certificate that the former one is abandoned.
    package var requiresAbandonment = true
    /// A granter keeps `abandoned` out while its hold lasts.
    package var honoursHolds = true
    /// A granter that started anew assumes that it granted a hold just before.
    package var waitsAfterStart = true
    /// An owner stops its datastore when its deadline passes.
    package var obeysDeadline = true
    /// A node stops when it finds an invariant broken; the simulation wants to see what follows.
    package var checksItself = true

    package init() {}
}

/// Everything that a founding core can want, to be carried out in order.
package enum FoundingAction: Hashable, Sendable {
    /// The whole ``FoundingRecord``. It must be durable before any later action of the same list.
    case persist([UInt8])
    /// At most 1,200 bytes; may get lost, repeated or overtaken.
    case send(to: NodeID, [UInt8])
    /// Start the datastore, new or with what this generation left. It must not run past `deadline`,
    /// whatever becomes of the daemon, unless ready is decided first.
    case startDatastore(generation: UInt32, deadline: BootInstant)
    /// Stop the datastore at once; its data stays.
    case stopDatastore(reason: String)
    /// Stop the datastore and rename its data, never delete it; then call
    /// ``Founding/datastoreFenced(at:random:into:)``.
    case fenceDatastore(generation: UInt32)
    /// A register is decided; publish the proof.
    case decided(DecisionCertificate)
    /// The mesh root voided every earlier generation; publish it.
    case reset(FoundingReset)
    /// A proof names a voter whose membership certificate has not been seen here: find it and
    /// call ``Founding/voterSeen(_:at:random:into:)``.
    case voterUnknown(NodeID)
    /// An assumption is violated; a person has to look.
    case alarm(String)
    case dropped(FoundingDrop)
}

/// Why a message had no effect.
package enum FoundingDrop: Hashable, Sendable {
    case malformed(DecodingFailure)
    case badSignature
    /// The sender works with another policy.
    case foreignPolicy
    /// No policy, no founding.
    case noPolicy
    /// The sender is not known as a voter.
    case notAVoter
    /// This node does not vote.
    case notVoting
    /// About a generation or ballot that is over.
    case stale
    /// About something that this node has no proof of yet.
    case ahead
    /// Against the rules of the register.
    case forbidden
    /// A vote whose signature does not fit.
    case badVote
}

/// Why an operator's wish is not granted.
package struct FoundingRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// How the founding stands, for people, the planner and the API.
package struct FoundingView: Hashable, Sendable {
    package enum Phase: String, Hashable, Sendable {
        /// No datastore is wanted here and nothing is decided.
        case none
        /// This node will not found; ``FoundingView/reason`` says what would help.
        case refused
        /// Too few voters answer, or it is another's turn.
        case waiting
        /// A claim is being decided, or its owner gathers holds.
        case claiming
        /// The owner starts its datastore.
        case starting
        /// Ready is certified: the cluster exists.
        case ready
        /// This node's datastore is stopped: its deadline passed or its claim was abandoned.
        case fenced
        /// An assumption is violated; this node neither votes nor founds.
        case alarm
    }

    package var phase: Phase
    package var generation: UInt32
    /// The owner that the certified claim, or the certified outcome, names.
    package var owner: NodeID?
    package var isOwner: Bool
    /// Distinct voter identities ever met, this node included.
    package var votersSeen: [NodeID]
    /// Every voter ever met and what it said last, ascending; this node included.
    package var voters: [VoterView]
    /// Voters that answered lately, this node included.
    package var answering: Int
    /// 0 without a policy.
    package var quorum: Int
    /// Words for a person.
    package var reason: String
    /// While `starting` on the owner: the datastore must not run past it.
    package var startDeadline: BootInstant?
    package var claimCertificate: DecisionCertificate?
    package var readyCertificate: DecisionCertificate?
    /// The reset by which this generation began.
    package var reset: FoundingReset?
    /// Present also when the cluster is ready.
    package var alarm: String?

    /// One voter as this node knows it.
    package struct VoterView: Hashable, Sendable {
        package var node: NodeID
        package var answers: Bool
        /// It says that it could be the founder.
        package var mayFound: Bool
        /// It says that data of a datastore is on its disk already.
        package var hasLocalData: Bool
        /// Since its last answer; `nil` when it never answered since this node started.
        package var silence: Duration?
    }

    /// When this node gives up on the owner by itself.
    package var takeoverDue: BootInstant?
    /// Why `cluster takeover` is impossible under this policy.
    package var takeoverProblem: String?
    /// Whether this node takes part in decisions, and why not.
    package var votingProblem: String?
    /// Since this node last heard the owner.
    package var ownerSilence: Duration?

    /// What the ready certificate names.
    package var ready: (owner: NodeID, caHash: Bytes32, facts: [UInt8])? {
        guard
            case .outcome(.ready(let owner, let caHash, let facts)) =
                readyCertificate?.statement.value
        else { return nil }
        return (owner, caHash, facts)
    }
}
