import Cryptography
import MeshBase

/// What a ``LedgerState`` knows from the start.
package struct LedgerConfiguration: Sendable {
    /// 16 bytes; part of every signature.
    package var meshID: [UInt8]
    /// The local node's key. The ledger signs by itself when an entry of an earlier life of this
    /// node outranks what it wrote in this one.
    package var signer: SigningKey
    /// Checks an encoded membership certificate and names its holder; pure.
    package var certificateVerifier: @Sendable ([UInt8]) -> NodeID?
    /// Whose entries are the mesh's policy. It needs no certificate and writes nothing else.
    package var root: NodeID?
    /// Whether a value of the root says something that this release understands; pure.
    package var policyVerifier: @Sendable ([UInt8]) -> Bool

    package init(
        meshID: [UInt8], signer: SigningKey,
        certificateVerifier: @escaping @Sendable ([UInt8]) -> NodeID?, root: NodeID? = nil,
        policyVerifier: @escaping @Sendable ([UInt8]) -> Bool = { _ in false }
    ) {
        precondition(meshID.count == 16, "a mesh id has 16 bytes")
        self.meshID = meshID
        self.signer = signer
        self.certificateVerifier = certificateVerifier
        self.root = root
        self.policyVerifier = policyVerifier
    }
}

/// To be performed in order: what is persisted before a send must be durable before that send.
package enum LedgerAction: Hashable, Sendable {
    /// Write the entry to disk, in the place of an older one with the same id.
    case persist(LedgerEntry)
    /// Remove the entry from disk; it left the ledger without a tombstone.
    case erase(LedgerKey)
    case send(to: NodeID, [UInt8])
    /// A new write or tombstone counts from now on.
    case changed(LedgerEntry)
    case dropped(LedgerDropReason)
}

package enum LedgerDropReason: Hashable, Sendable {
    /// From a node that is not connected.
    case stranger
    case malformed(DecodingFailure)
    /// The owner has no valid certificate here.
    case noCertificate
    /// A certificate that does not verify, names another node, or is a tombstone.
    case certificate
    /// Not what the bucket's policy lets this owner write.
    case policy
    case signature
    /// More writes of this owner than its rate allows; anti-entropy brings the last one.
    case rate
    /// The entry ranks behind all that its owner may have.
    case ownerFull
    case ledgerFull
    /// More large entries on the way than this node assembles.
    case busy
    /// A chunk that was not asked for, or that does not fit.
    case unexpected
}

/// Why a local write is refused.
package enum LedgerProblem: Error, Hashable, Sendable {
    /// 1 to 32 bytes, no control characters.
    case bucket
    /// 1 to 128 bytes, no control characters.
    case key
    /// At most 4,096 bytes.
    case value
    /// The own certificate must be the first entry, and it must verify.
    case certificate
    /// The bucket is not this node's to write, or the value is larger than the bucket allows.
    case policy
    /// 64 entries or 64 KiB are in use.
    case ownerFull
    case ledgerFull
    /// The counter of this owner is spent.
    case versionsExhausted
}

/// Hard limits, each with its reason.
package enum LedgerLimits {
    /// Fits a control frame.
    package static let messageBytes = 1_200
    /// Six are usual; the summary of one owner must fit one message.
    package static let entriesPerOwner = 64
    package static let bytesPerOwner = 65_536
    /// About 1,000 machines with 20 entries each.
    package static let entries = 20_000
    /// Encoded bytes of everything. With 12 bytes around each entry it fits the file of 4 MiB, and
    /// 1,000 machines use a quarter of it for their certificates and records.
    package static let bytes = 3 << 20
    /// Of these, what users' buckets may take: they never keep a machine out.
    package static let userBytes = 3 << 19
    /// Entries of the root: its summary must fit one message, too.
    package static let rootEntries = 128
    package static let rootBytes = 1 << 18
    /// More sessions than a node keeps.
    package static let peers = 1_024
    /// A write per owner each 1.2 s is 50 a minute.
    static let writeInterval: Duration = .milliseconds(1_200)
    /// A first exchange brings all entries of an owner at once, and once more after a restart.
    static let writeBurst = 2 * (entriesPerOwner + 1)
    /// Answers to one peer: 240 messages/s, 288 kB/s.
    static let answerInterval: Duration = .microseconds(4_167)
    static let answerBurst = 48
    /// Answers to one message.
    static let answersPerMessage = 24
    /// Owners in one listing: 776 bytes.
    static let listedOwners = 48
    /// Fingerprints that replace a longer listing: 544 bytes.
    static let splits = 32
    /// Entries of peers that meet us and become rumors: 20/s, and those of a few peers at once.
    static let introductionInterval: Duration = .milliseconds(50)
    static let introductionBurst = 32
    /// Peers that get a rumor at once.
    static let rumorFanout = 3
    /// Peers that are offered it by its hash a moment later: all of a usual node.
    static let offerFanout = 16
    /// News that wait to be offered; what does not fit spreads by digests.
    static let news = 128
    /// Entries being assembled: 128 * 4.4 KB.
    static let pulls = 128
    /// Of them from one peer, so that a peer that offers what it does not have is alone in waiting.
    static let pullsPerPeer = 32
    static let chunkBytes = 1_000
    static let pullAttempts = 5
}

/// When the ledger speaks without being asked.
enum LedgerTiming {
    static let antiEntropy: Duration = .seconds(10)
    static let idleAntiEntropy: Duration = .seconds(30)
    /// No change for this long is idle.
    static let idleAfter: Duration = .seconds(60)
    /// A digest without an equal answer is repeated after this, then after twice this, ...
    static let firstRetry: Duration = .seconds(1)
    static let longestRetry: Duration = .seconds(10)
    /// Digests that a silent peer gets before it has to wait for the anti-entropy round.
    static let unansweredDigests = 5
    /// After an answer that was cut short.
    static let continuation: Duration = .milliseconds(100)
    /// Collects what one exchange brings before others are told.
    static let newsDelay: Duration = .milliseconds(200)
    /// From a rumor to its offer: most of those who would want it have it by then.
    static let offerDelay: Duration = .milliseconds(250)
    /// An offer is made this often, each time after twice the former delay.
    static let offers = 3
    /// A peer that got our complete listing this recently is sending what we lack.
    static let listingMemory: Duration = .seconds(2)
    static let pullRetry: Duration = .milliseconds(500)
    /// A second source is asked no sooner than an answer of the first one could be here.
    static let pullPatience: Duration = .milliseconds(150)
}

/// A leaky bucket as a single instant (the generic cell rate algorithm, ITU-T I.371 annex A).
struct RateLimit: Hashable, Sendable {
    private var emptyAt = BootInstant.zero

    func allows(at now: BootInstant, interval: Duration, burst: Int) -> Bool {
        emptyAt - now <= interval * (burst - 1)
    }

    mutating func charge(at now: BootInstant, interval: Duration) {
        emptyAt = max(emptyAt, now) + interval
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(emptyAt)
    }
}
