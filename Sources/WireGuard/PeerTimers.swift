import Cryptography
import MeshBase

/// What the sessions of one peer have seen, taken together.
///
/// After simultaneous initiations two ends send on different sessions, so no single session
/// shows both directions.
struct PeerActivity: Sendable {
    var lastDataSent: BootInstant?
    var lastSent: BootInstant?
    var lastDataReceived: BootInstant?
    var lastReceived: BootInstant?

    init(_ sessions: [EstablishedSession]) {
        for established in sessions {
            let activity = established.session.activity
            lastDataSent = later(lastDataSent, activity.lastDataSent)
            lastSent = later(lastSent, activity.lastSent)
            lastDataReceived = later(lastDataReceived, activity.lastDataReceived)
            lastReceived = later(lastReceived, activity.lastReceived)
        }
    }
}

/// The timers of "WireGuard" section 6 that depend on packets, judged by polling.
///
/// Each remembers the packet that armed it, and a later packet in the other direction disarms
/// it, exactly as if the packet had been reported; only the firing may be one poll late.
struct PeerTimers: Sendable {
    /// Data arrived then and nothing was sent since (section 6.5, passive keepalive).
    private(set) var keepaliveOwedSince: BootInstant?
    /// Data was sent then and nothing arrived since (section 6.2).
    private(set) var replyAwaitedSince: BootInstant?
    /// Data sent up to here has already led to an attempt.
    private var replyHandledUpTo: BootInstant?
    /// When silence must be looked for; `nil` without a persistent keepalive.
    var persistentDue: BootInstant?

    /// Arms and disarms after the packets that `activity` shows.
    mutating func observe(_ activity: PeerActivity) {
        let sent = activity.lastSent ?? .zero
        if let owed = keepaliveOwedSince, sent >= owed { keepaliveOwedSince = nil }
        if keepaliveOwedSince == nil, let data = activity.lastDataReceived, data > sent {
            keepaliveOwedSince = data
        }
        let received = activity.lastReceived ?? .zero
        if let awaited = replyAwaitedSince, received >= awaited { replyAwaitedSince = nil }
        if replyAwaitedSince == nil, let data = activity.lastDataSent, data > received,
            data > replyHandledUpTo ?? .zero
        {
            replyAwaitedSince = data
        }
    }

    var keepaliveDue: BootInstant? {
        keepaliveOwedSince.map { $0 + WireGuardSpecification.keepaliveTimeout }
    }

    var newHandshakeDue: BootInstant? {
        replyAwaitedSince.map { $0 + PeerTimers.newHandshakeTimeout }
    }

    mutating func keepaliveSent() {
        keepaliveOwedSince = nil
    }

    mutating func handshakeBegan(lastDataSent: BootInstant?) {
        replyAwaitedSince = nil
        replyHandledUpTo = lastDataSent
    }

    static let newHandshakeTimeout =
        WireGuardSpecification.keepaliveTimeout + WireGuardSpecification.rekeyTimeout

    func fingerprint(into hash: inout Fingerprint) {
        hash.mix(keepaliveOwedSince)
        hash.mix(replyAwaitedSince)
        hash.mix(replyHandledUpTo)
        hash.mix(persistentDue)
    }
}

extension EstablishedSession {
    /// Whether a packet has shown that this session should be replaced: by count on either side,
    /// by age on the initiator's (section 6.2), early on receipt so that a one-way flow does not
    /// meet REJECT_AFTER_TIME.
    var wantsRekey: Bool {
        let activity = session.activity
        let messages =
            session.suite == .aes256GCM
            ? HandshakePolicy.rekeyAfterMessagesAES : WireGuardSpecification.rekeyAfterMessages
        if activity.messagesSent > messages { return true }
        guard isInitiator else { return false }
        if let sent = activity.lastSent, sent >= rekeyAt { return true }
        let receiveLimit =
            expiresAt - WireGuardSpecification.keepaliveTimeout
            - WireGuardSpecification.rekeyTimeout
        if let received = activity.lastReceived, received >= receiveLimit { return true }
        return false
    }
}

private func later(_ first: BootInstant?, _ second: BootInstant?) -> BootInstant? {
    guard let first else { return second }
    guard let second else { return first }
    return max(first, second)
}
