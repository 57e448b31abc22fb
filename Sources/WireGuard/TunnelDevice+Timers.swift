import Cryptography
import MeshBase
import NetAddress

extension TunnelDevice {
    /// Runs what is due: expiry, keepalives, new handshakes and their retransmission.
    package mutating func timeout(
        at now: Now, random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) {
        guard let due = deadline, due <= now.boot else { return }
        deadline = nil
        for key in order {
            guard var peer = peers[key] else { continue }
            if let due = peer.dueAt, due <= now.boot {
                serve(&peer, at: now, random: &random, into: &actions)
                peer.pollAt =
                    peer.sessions.isEmpty
                    ? nil : now.boot.nextMultiple(of: HandshakePolicy.pollInterval)
                store(peer)
            } else {
                deadline = earlier(deadline, peer.dueAt)
            }
        }
    }

    private mutating func serve(
        _ peer: inout TunnelPeer, at now: Now, random: inout SeededGenerator,
        into actions: inout [TunnelAction]
    ) {
        expireSessions(of: &peer, at: now, into: &actions)
        let activity = PeerActivity(peer.sessions)
        peer.timers.observe(activity)
        if let due = peer.timers.keepaliveDue, due <= now.boot {
            peer.timers.keepaliveSent()
            sendKeepalive(to: peer, at: now, into: &actions)
        }
        if let due = peer.timers.newHandshakeDue, due <= now.boot {
            peer.timers.handshakeBegan(lastDataSent: activity.lastDataSent)
            beginAttempt(&peer, at: now)
        }
        if let current = peer.current, current.wantsRekey {
            beginAttempt(&peer, at: now)
        }
        keepPersistently(&peer, activity: activity, at: now, into: &actions)
        continueAttempt(&peer, at: now, random: &random, into: &actions)
    }

    /// Removes every session older than REJECT_AFTER_TIME. The last reference zeroes its keys, so
    /// nothing is left for WireGuard's later zeroing at three times that age.
    private mutating func expireSessions(
        of peer: inout TunnelPeer, at now: Now, into actions: inout [TunnelAction]
    ) {
        let expired = peer.sessions.filter { $0.expiresAt <= now.boot }
        guard !expired.isEmpty else { return }
        for established in expired { forget(established, of: peer, into: &actions) }
        let isLive = { (established: EstablishedSession) in now.boot < established.expiresAt }
        peer.current = peer.current.flatMap { isLive($0) ? $0 : nil }
        peer.next = peer.next.flatMap { isLive($0) ? $0 : nil }
        if peer.next == nil { peer.nextEndpoint = nil }
        peer.retired = peer.retired.filter(isLive)
    }

    /// Persistent keepalive: a packet after each interval without any authenticated packet, and a
    /// handshake where there is no session.
    private mutating func keepPersistently(
        _ peer: inout TunnelPeer, activity: PeerActivity, at now: Now,
        into actions: inout [TunnelAction]
    ) {
        guard let configured = peer.configuration.persistentKeepalive,
            let due = peer.timers.persistentDue, due <= now.boot, peer.endpoint != nil
        else { return }
        // WireGuard's unit is the second; less would make a flood of a typing error.
        let interval = max(configured, .seconds(1))
        guard peer.current != nil else {
            beginAttempt(&peer, at: now)
            peer.timers.persistentDue = now.boot + interval
            return
        }
        let last = max(activity.lastSent ?? .zero, activity.lastReceived ?? .zero)
        if last + interval > now.boot {
            peer.timers.persistentDue = last + interval
        } else {
            sendKeepalive(to: peer, at: now, into: &actions)
            peer.timers.persistentDue = now.boot + interval
        }
    }

    /// Begins an attempt unless one is under way. Its first message keeps REKEY_TIMEOUT from the
    /// last one of the attempt before.
    func beginAttempt(_ peer: inout TunnelPeer, at now: Now) {
        guard peer.attempt == nil else { return }
        let earliest = peer.lastInitiationSent.map { $0 + WireGuardSpecification.rekeyTimeout }
        peer.attempt = TunnelPeer.Attempt(
            startedAt: now.boot, nextSend: max(earliest ?? .zero, now.boot))
    }

    /// Gives up after REKEY_ATTEMPT_TIME, sends the (next) initiation when it is due.
    mutating func continueAttempt(
        _ peer: inout TunnelPeer, at now: Now, random: inout SeededGenerator,
        into actions: inout [TunnelAction]
    ) {
        guard let attempt = peer.attempt else { return }
        if attempt.endsAt <= now.boot {
            forgetPending(&peer)
            peer.attempt = nil
            actions.append(.unreachable(peer.configuration.publicKey))
            return
        }
        guard attempt.nextSend <= now.boot, let endpoint = peer.endpoint else { return }
        sendInitiation(to: endpoint, by: &peer, at: now, random: &random, into: &actions)
        let jitter = random.duration(in: HandshakePolicy.rekeyTimeoutJitter)
        peer.attempt?.sent += 1
        let pause = peer.attempt?.pause ?? WireGuardSpecification.rekeyTimeout
        peer.attempt?.nextSend = now.boot + pause + jitter
    }

    private mutating func sendInitiation(
        to endpoint: SocketAddress, by peer: inout TunnelPeer, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) {
        let (stamp, reservation) = timestamps.next(at: now.wall)
        guard
            let (handshake, message) = InitiatorHandshake.begin(
                peer.suite.noiseParameters, local: publicKey,
                peer: peer.configuration.publicKey, staticShared: peer.staticShared,
                ephemeral: StaticPrivateKey(SecretBytes(random.bytes32())), payload: stamp.bytes)
        else { return }
        forgetPending(&peer)
        let index = makeIndex(for: peer, random: &random)
        peer.pending = TunnelPeer.PendingInitiation(
            localIndex: index, suite: peer.suite, handshake: handshake)
        peer.lastInitiationSent = now.boot
        if let reservation { actions.append(.reserveTimestamp(reservation)) }
        let initiation = InitiationMessage(
            suite: peer.suite, sender: index, ephemeral: message.ephemeral,
            sealedStatic: message.sealedStatic, sealedTimestamp: message.sealedPayload)
        send(initiation.encode(), to: endpoint, by: &peer, at: now, into: &actions)
    }
}

extension TunnelPeer.Attempt {
    var endsAt: BootInstant { startedAt + WireGuardSpecification.rekeyAttemptTime }
}

extension TunnelPeer {
    /// The earliest instant at which serving this peer can have an effect.
    var nextDue: BootInstant? {
        var due = pollAt
        if let attempt {
            due = earlier(due, attempt.endsAt)
            if endpoint != nil { due = earlier(due, attempt.nextSend) }
        }
        if endpoint != nil { due = earlier(due, timers.persistentDue) }
        guard pollAt != nil else { return due }
        due = earlier(due, earlier(timers.keepaliveDue, timers.newHandshakeDue))
        for established in sessions { due = earlier(due, established.expiresAt) }
        return due
    }
}
