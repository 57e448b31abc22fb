import Cryptography
import MeshBase
import NetAddress

/// What a ``PathFinder`` knows from the start.
package struct PathConfiguration: Sendable {
    /// 16 bytes that name the mesh; part of every signature.
    package var meshID: [UInt8]
    package var keys: ContactKeys
    package var admissionSecret: SecretBytes
    package var node: NodeID
    package var signingKey: SigningKey
    package var staticKey: StaticPrivateKey
    /// The own membership certificate, encoded.
    package var credential: [UInt8]
    /// One bit per packet suite that this node speaks.
    package var suites: UInt8
    package var capabilities: UInt32
    /// Drawn at start: tells restarts apart in replay windows.
    package var bootNonce: UInt64
    /// Whether somebody carries out ``CarrierOrder``.
    package var hasCarrier = false
    /// Checks an encoded certificate to the mesh root; pure.
    package var verifyCredential: @Sendable ([UInt8]) -> PeerCredential?

    package init(
        meshID: [UInt8], discoverySecret: SecretBytes, admissionSecret: SecretBytes,
        signingKey: SigningKey, staticKey: StaticPrivateKey, credential: [UInt8], suites: UInt8,
        capabilities: UInt32, bootNonce: UInt64,
        verifyCredential: @escaping @Sendable ([UInt8]) -> PeerCredential?
    ) {
        self.meshID = meshID
        keys = ContactKeys(discoverySecret: discoverySecret)
        self.admissionSecret = admissionSecret
        node = signingKey.publicKey
        self.signingKey = signingKey
        self.staticKey = staticKey
        self.credential = credential
        self.suites = suites
        self.capabilities = capabilities
        self.bootNonce = bootNonce
        self.verifyCredential = verifyCredential
    }

    /// The key of member messages with `peer`: the static-static secret and the admission secret.
    func pairKey(with peer: StaticPublicKey) -> SecretBytes? {
        guard let shared = staticKey.sharedSecret(with: peer) else { return nil }
        var context = shared.exposedCopy()
        defer { zeroize(&context) }
        let own = staticKey.publicKey
        context += min(own, peer).bytes.bytes + max(own, peer).bytes.bytes
        return deriveKey(from: admissionSecret, label: "member messages", context: context)
    }
}

/// Where a candidate address came from, weakest first; it decides how long we knock.
package enum CandidateSource: Int, Comparable, Sendable {
    /// Another member named it.
    case member
    /// Remembered from an earlier run.
    case cache
    /// Announced on the local network.
    case lan
    /// Given by the user or the token.
    case configured

    package static func < (lhs: CandidateSource, rhs: CandidateSource) -> Bool {
        lhs.rawValue < rhs.rawValue
    }

    /// Attempts until the address is forgotten; `nil` means never.
    var attemptLimit: Int? {
        switch self {
        case .member, .lan: 8
        case .cache: 12
        case .configured: nil
        }
    }

    /// 0.2 s, doubled after every attempt, at most 10 s.
    func pause(afterAttempt attempt: Int) -> Duration {
        .milliseconds(min(10_000, 200 << min(attempt - 1, 10)))
    }
}

/// What a ``PathFinder`` wants done, in order.
package enum PathAction: Sendable {
    /// To an address of a network, or to one that stands for a relay (``SocketAddress/isRelayed``).
    case send([UInt8], to: SocketAddress)
    /// Never beyond so many hops: it opens the own NAT and does not reach the other one.
    case sendShort([UInt8], to: SocketAddress, hops: UInt8)
    /// For whoever carries datagrams by other means than the node's UDP port.
    case carrier(CarrierOrder)
    /// The way to a member is another one from now on.
    case selected(NodeID, SocketAddress)
    /// What relays carry for us or we for others changed.
    case channelsChanged
    /// A member showed its certificate.
    case introduced(PeerIntroduction)
    /// A member's sealed message, authenticated and not a replay.
    case message(from: NodeID, [UInt8])
    case dropped(PathDropReason)
}

package struct PeerIntroduction: Sendable {
    package let peer: PeerCredential
    /// The encoded certificate.
    package let credential: [UInt8]
    package let suites: UInt8
    package let capabilities: UInt32
    package let address: SocketAddress
    /// Whether the address answered a question of ours; a hello alone may be a replay.
    package let isProven: Bool
    package let roundTrip: Duration?
}

package enum PathDropReason: String, Sendable, CaseIterable {
    case malformed, unauthenticated, unexpected, replayed, ownMessage, rateLimited
}

/// An address at which we knock.
struct Contact {
    var source: CandidateSource
    var attempts = 0
    var nextAttempt: BootInstant
    /// The first attempt.
    var beganAt: BootInstant?
    var transaction: [UInt8] = []

    init(source: CandidateSource, nextAttempt: BootInstant) {
        self.source = source
        self.nextAttempt = nextAttempt
    }
}

/// Refuses member messages that were seen before: a 64-message window per boot of the sender, and
/// a short memory of its earlier boots.
struct MemberReplayFilter {
    private(set) var bootNonce: UInt64 = 0
    private(set) var highest: UInt64 = 0
    private var window: UInt64 = 0
    private var retired: [UInt64] = []

    /// An attacker would need recordings from more boots than this to replay one.
    private static let retiredLimit = 16

    /// Whether the message is fresh; `true` when it is also the newest so far, `nil` for a replay.
    mutating func accept(bootNonce nonce: UInt64, counter: UInt64) -> Bool? {
        guard counter > 0, !retired.contains(nonce) else { return nil }
        if nonce != bootNonce {
            if bootNonce != 0 {
                retired.append(bootNonce)
                if retired.count > Self.retiredLimit { retired.removeFirst() }
            }
            (bootNonce, highest, window) = (nonce, counter, 1)
            return true
        }
        if counter > highest {
            let shift = counter - highest
            window = shift >= 64 ? 1 : window << shift | 1
            highest = counter
            return true
        }
        let age = highest - counter
        guard age < 64, window & 1 << age == 0 else { return nil }
        window |= 1 << age
        return false
    }
}

/// Bounds the welcomes that one address can make us send: 20 per second, burst 20.
struct WelcomeBudget {
    private var tokens: Double
    private var updated: BootInstant

    static let tableLimit = 1_024
    private static let burst = 20.0

    init(at now: BootInstant) {
        tokens = Self.burst
        updated = now
    }

    func isFull(at now: BootInstant) -> Bool { refilled(at: now) >= Self.burst }

    mutating func spend(at now: BootInstant) -> Bool {
        tokens = refilled(at: now)
        updated = now
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    private func refilled(at now: BootInstant) -> Double {
        min(Self.burst, tokens + (now - updated).inSeconds * Self.burst)
    }
}
