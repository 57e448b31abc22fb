import Cryptography
import MeshBase
import NetAddress

/// A session with what the device must remember about it.
struct EstablishedSession: Sendable {
    let session: TransportSession
    let localIndex: UInt32
    let createdAt: BootInstant
    let isInitiator: Bool
    /// When its initiator replaces it if it is in use: REKEY_AFTER_TIME and a little jitter.
    let rekeyAt: BootInstant

    var expiresAt: BootInstant { createdAt + WireGuardSpecification.rejectAfterTime }
}

/// Everything about one peer of a ``TunnelDevice``.
struct TunnelPeer: Sendable {
    var configuration: TunnelPeerConfiguration
    /// X25519 of both static keys, computed once: it saves each handshake one multiplication.
    let staticShared: SecretBytes
    let authenticator: MessageAuthenticator
    var endpoint: SocketAddress?
    var cookies = CookieJar()

    /// The greatest stamp accepted from the peer, and when.
    var greatestTimestamp: TAI64N?
    var lastInitiationReceived: BootInstant?

    /// Our initiation that waits for an answer.
    var pending: PendingInitiation?
    var attempt: Attempt?
    var lastInitiationSent: BootInstant?
    var lastHandshake: BootInstant?

    /// The session that we send with.
    var current: EstablishedSession?
    /// Made as responder; becomes current when the peer has used it.
    var next: EstablishedSession?
    /// Where the initiation of ``next`` came from; adopted together with it.
    var nextEndpoint: SocketAddress?
    /// Still received on, newest first. Two, not WireGuard's one: after simultaneous initiations
    /// the ends send on different sessions, and each still needs the other's and the one before.
    var retired: [EstablishedSession] = []
    static let maximumRetired = 2

    var timers = PeerTimers()
    /// When the counters of the sessions are looked at again; `nil` without sessions.
    var pollAt: BootInstant?
    /// When the device has to serve this peer.
    var dueAt: BootInstant?

    struct PendingInitiation: Sendable {
        let localIndex: UInt32
        let suite: PacketSuite
        let handshake: InitiatorHandshake
    }

    /// A handshake that is repeated until it succeeds or REKEY_ATTEMPT_TIME has passed.
    struct Attempt: Sendable {
        let startedAt: BootInstant
        var nextSend: BootInstant
        /// Initiations so far.
        var sent = 0
        /// The way is known to carry datagrams, so a lost message is likelier than a dead peer.
        var isHurried = false

        /// From the newest initiation to the next.
        var pause: Duration {
            guard isHurried, (1...HandshakePolicy.hurriedPauses.count).contains(sent) else {
                return WireGuardSpecification.rekeyTimeout
            }
            return HandshakePolicy.hurriedPauses[sent - 1]
        }
    }

    /// Every session that packets may arrive on, the sending one first.
    var sessions: [EstablishedSession] {
        [current, next].compactMap { $0 } + retired
    }

    var suite: PacketSuite { configuration.suite }

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(configuration.publicKey.bytes.bytes)
        hash.mix(configuration.presharedKey != nil)
        hash.mix(configuration.endpoint?.description ?? "")
        hash.mix(Int(clamping: configuration.persistentKeepalive?.clampedNanoseconds ?? -1))
        hash.mix(UInt64(suite.rawValue))
        hash.mix(endpoint?.description ?? "")
        hash.mix(nextEndpoint?.description ?? "")
        cookies.fingerprint(into: &hash)
        hash.mix(greatestTimestamp?.bytes ?? [])
        hash.mix(lastInitiationReceived)
        hash.mix(pending.map { UInt64($0.localIndex) } ?? .max)
        hash.mix(pending?.handshake.ephemeral.publicKey.bytes.bytes ?? [])
        hash.mix(attempt?.startedAt)
        hash.mix(attempt?.nextSend)
        hash.mix(attempt?.sent ?? 0)
        hash.mix(attempt?.isHurried == true)
        hash.mix(lastInitiationSent)
        hash.mix(lastHandshake)
        for slot in [current, next] + retired {
            hash.mix(slot.map { UInt64($0.localIndex) } ?? .max)
            hash.mix(slot?.createdAt)
            hash.mix(slot?.isInitiator ?? false)
            hash.mix(slot?.rekeyAt)
        }
        timers.fingerprint(into: &hash)
        hash.mix(pollAt)
        hash.mix(dueAt)
    }
}
