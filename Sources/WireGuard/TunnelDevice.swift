import Cryptography
import MeshBase
import NetAddress

/// The WireGuard protocol of one local static key with all its peers, without I/O.
///
/// Handshake datagrams, times and randomness come in; datagrams, sessions and reports go out as
/// ``TunnelAction``s. Packets do not pass through here: packet threads use the
/// ``TransportSession``s that this device hands out, and the device reads their activity.
package struct TunnelDevice: Sendable {
    let privateKey: StaticPrivateKey
    /// For messages whose receiver is this device.
    let authenticator: MessageAuthenticator
    var peers: [StaticPublicKey: TunnelPeer] = [:]
    /// The keys of `peers`, ascending: dictionaries have no order that a replay could repeat.
    var order: [StaticPublicKey] = []
    /// Whose handshake or session a local index names.
    var indices: [UInt32: StaticPublicKey] = [:]
    var timestamps: TimestampSource
    var cookieChecker = CookieChecker()
    var load: HandshakeLoad

    /// When ``timeout(at:random:into:)`` wants to be called next. While any session lives this is
    /// at most one second ahead of the last call.
    package internal(set) var deadline: BootInstant?

    /// - Parameters:
    ///   - lastTimestamp: the last reservation made durable for this key, `nil` for a new key.
    ///   - handshakesPerSecondBeforeLoad: more than this many handshake messages a second, and
    ///     senders must prove their address with a cookie.
    package init(
        privateKey: StaticPrivateKey, lastTimestamp: TAI64N?,
        handshakesPerSecondBeforeLoad: Int = HandshakePolicy.handshakesPerSecondBeforeLoad
    ) {
        self.privateKey = privateKey
        authenticator = MessageAuthenticator(receiver: privateKey.publicKey)
        timestamps = TimestampSource(reserved: lastTimestamp)
        load = HandshakeLoad(threshold: handshakesPerSecondBeforeLoad)
    }

    package var publicKey: StaticPublicKey { privateKey.publicKey }

    /// Adds a peer or changes one; sessions of a changed peer live on.
    ///
    /// - Returns: `false`, and nothing changed, for this device's own key, a low-order point, or
    ///   a peer above ``HandshakePolicy/maximumPeers``.
    @discardableResult
    package mutating func setPeer(_ configuration: TunnelPeerConfiguration) -> Bool {
        let key = configuration.publicKey
        var peer: TunnelPeer
        if let known = peers[key] {
            peer = known
            peer.configuration = configuration
        } else {
            guard key != publicKey, peers.count < HandshakePolicy.maximumPeers,
                let staticShared = privateKey.sharedSecret(with: key)
            else { return false }
            peer = TunnelPeer(
                configuration: configuration, staticShared: staticShared,
                authenticator: MessageAuthenticator(receiver: key))
            order.insert(key, at: order.firstIndex { $0 > key } ?? order.count)
        }
        if let interval = configuration.persistentKeepalive, interval > .zero {
            peer.timers.persistentDue = peer.timers.persistentDue ?? .zero
        } else {
            peer.timers.persistentDue = nil
        }
        if let endpoint = configuration.endpoint { peer.endpoint = endpoint }
        store(peer)
        return true
    }

    /// Forgets a peer, its sessions and its handshakes.
    package mutating func removePeer(_ key: StaticPublicKey, into actions: inout [TunnelAction]) {
        guard var peer = peers[key] else { return }
        for established in peer.sessions {
            forget(established, of: peer, into: &actions)
        }
        forgetPending(&peer)
        peers[key] = nil
        order.removeAll { $0 == key }
        deadline = order.reduce(nil) { earlier($0, peers[$1]?.dueAt) }
    }

    package func contains(peer key: StaticPublicKey) -> Bool {
        peers[key] != nil
    }

    /// Where to reach a peer from now on, learned by other means than its packets.
    package mutating func setEndpoint(_ key: StaticPublicKey, _ endpoint: SocketAddress) {
        guard var peer = peers[key] else { return }
        // What was sent to another address need not be waited for as long; but a new initiation makes
        // its answer void, and responders refuse one that comes at once.
        if peer.endpoint != endpoint, let attempt = peer.attempt {
            let earliest = peer.lastInitiationSent.map { $0 + HandshakePolicy.patienceAfterMove }
            peer.attempt?.nextSend = min(attempt.nextSend, earliest ?? .zero)
        }
        peer.endpoint = endpoint
        store(peer)
    }

    /// An authenticated packet of the peer came from a new source.
    package mutating func endpointMoved(_ key: StaticPublicKey, to endpoint: SocketAddress) {
        setEndpoint(key, endpoint)
    }

    /// Traffic waits for a session. Begins a handshake unless one is under way or a session is
    /// ready; repeated calls neither send again nor prolong the attempt.
    ///
    /// - Parameter isWayConfirmed: something else was answered over the endpoint a moment ago. An
    ///   initiation is then repeated early (``HandshakePolicy/hurriedPauses``). Without it the timers
    ///   are WireGuard's.
    package mutating func connect(
        _ key: StaticPublicKey, isWayConfirmed: Bool = false, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) {
        guard var peer = peers[key] else { return }
        guard peer.attempt == nil else {
            if isWayConfirmed { hurry(&peer) }
            return
        }
        if let current = peer.current, now.boot < current.expiresAt, !current.wantsRekey { return }
        beginAttempt(&peer, at: now)
        peer.attempt?.isHurried = isWayConfirmed
        continueAttempt(&peer, at: now, random: &random, into: &actions)
        store(peer)
    }

    /// The way of an attempt under way turned out to work.
    private mutating func hurry(_ peer: inout TunnelPeer) {
        guard var attempt = peer.attempt, !attempt.isHurried else { return }
        attempt.isHurried = true
        if let last = peer.lastInitiationSent {
            attempt.nextSend = min(attempt.nextSend, last + attempt.pause)
        }
        peer.attempt = attempt
        store(peer)
    }

    /// The data plane opened the first packet of a session that was not yet sent with: the
    /// responder now knows that the initiator has the keys.
    package mutating func sessionConfirmed(
        localIndex: UInt32, at now: Now, random: inout SeededGenerator,
        into actions: inout [TunnelAction]
    ) {
        guard let key = indices[localIndex], var peer = peers[key],
            let next = peer.next, next.localIndex == localIndex
        else { return }
        let replaced = peer.current
        peer.current = next
        peer.next = nil
        if let endpoint = peer.nextEndpoint, endpoint != peer.endpoint {
            peer.endpoint = endpoint
            actions.append(.endpointChanged(key, endpoint))
        }
        peer.nextEndpoint = nil
        actions.append(.useSession(key, next.session))
        if let replaced { retire(replaced, of: &peer, into: &actions) }
        handshakeCompleted(&peer, at: now)
        store(peer)
    }

    /// Whose handshake or session this device calls `localIndex`.
    package func peer(ofIndex localIndex: UInt32) -> StaticPublicKey? { indices[localIndex] }

    package func status(of key: StaticPublicKey) -> TunnelStatus? {
        guard let peer = peers[key] else { return nil }
        return TunnelStatus(
            lastHandshake: peer.lastHandshake, endpoint: peer.endpoint, suite: peer.suite,
            hasSession: peer.current != nil, isConnecting: peer.attempt != nil)
    }

    /// Folds in everything but the load meter, which even refused input moves.
    package func fingerprint(into hash: inout Fingerprint) {
        hash.mix(publicKey.bytes.bytes)
        timestamps.fingerprint(into: &hash)
        cookieChecker.fingerprint(into: &hash)
        hash.mix(indices.count)
        hash.mix(order.count)
        for key in order { peers[key]?.fingerprint(into: &hash) }
        hash.mix(deadline)
    }
}
