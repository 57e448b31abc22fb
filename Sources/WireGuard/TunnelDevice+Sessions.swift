import Cryptography
import MeshBase
import NetAddress

extension TunnelDevice {
    /// A local index that names nothing else.
    mutating func makeIndex(for peer: TunnelPeer, random: inout SeededGenerator) -> UInt32 {
        while true {
            let index = UInt32(truncatingIfNeeded: random.next())
            guard indices[index] == nil else { continue }
            indices[index] = peer.configuration.publicKey
            return index
        }
    }

    func establish(
        for peer: TunnelPeer, localIndex: UInt32, remoteIndex: UInt32, keys: TransportKeys,
        isInitiator: Bool, at now: Now, random: inout SeededGenerator
    ) -> EstablishedSession {
        let session = TransportSession(
            localIndex: localIndex, remoteIndex: remoteIndex, suite: peer.suite,
            sendKey: isInitiator ? keys.initiatorToResponder : keys.responderToInitiator,
            receiveKey: isInitiator ? keys.responderToInitiator : keys.initiatorToResponder,
            isInitiator: isInitiator, createdAt: now.boot)
        let jitter = random.duration(in: HandshakePolicy.rekeyTimeoutJitter)
        return EstablishedSession(
            session: session, localIndex: localIndex, createdAt: now.boot,
            isInitiator: isInitiator,
            rekeyAt: now.boot + WireGuardSpecification.rekeyAfterTime + jitter)
    }

    /// Keeps a replaced session for packets still under way; the oldest leaves.
    mutating func retire(
        _ established: EstablishedSession, of peer: inout TunnelPeer,
        into actions: inout [TunnelAction]
    ) {
        peer.retired.insert(established, at: 0)
        while peer.retired.count > TunnelPeer.maximumRetired {
            forget(peer.retired.removeLast(), of: peer, into: &actions)
        }
    }

    mutating func forget(
        _ established: EstablishedSession, of peer: TunnelPeer, into actions: inout [TunnelAction]
    ) {
        indices[established.localIndex] = nil
        actions.append(
            .removeSession(peer.configuration.publicKey, localIndex: established.localIndex))
    }

    mutating func forgetPending(_ peer: inout TunnelPeer) {
        guard let pending = peer.pending else { return }
        indices[pending.localIndex] = nil
        peer.pending = nil
    }

    /// Either side's handshake has succeeded: whatever attempt was under way is over.
    mutating func handshakeCompleted(_ peer: inout TunnelPeer, at now: Now) {
        forgetPending(&peer)
        peer.attempt = nil
        peer.lastHandshake = now.boot
        peer.timers.handshakeBegan(lastDataSent: PeerActivity(peer.sessions).lastDataSent)
        peer.pollAt = peer.pollAt ?? now.boot.nextMultiple(of: HandshakePolicy.pollInterval)
    }

    /// Sends a handshake message with its two authenticators.
    func send(
        _ body: [UInt8], to endpoint: SocketAddress, by peer: inout TunnelPeer, at now: Now,
        into actions: inout [TunnelAction]
    ) {
        let cookie = peer.cookies.cookie(at: now.boot)
        let (datagram, mac1) = peer.authenticator.complete(body, cookie: cookie)
        peer.cookies.sent(mac1: mac1)
        actions.append(.send(datagram: datagram, to: endpoint))
    }

    func sendKeepalive(
        to peer: TunnelPeer, at now: Now, into actions: inout [TunnelAction]
    ) {
        guard let endpoint = peer.endpoint,
            let datagram = peer.current?.session.seal([], at: now.boot)
        else { return }
        actions.append(.send(datagram: datagram, to: endpoint))
    }

    /// Writes a changed peer back and brings the device's deadline forward if needed.
    mutating func store(_ changed: TunnelPeer, at now: Now? = nil) {
        var peer = changed
        if let now, peer.pollAt == nil, !peer.sessions.isEmpty {
            peer.pollAt = now.boot.nextMultiple(of: HandshakePolicy.pollInterval)
        }
        peer.dueAt = peer.nextDue
        deadline = earlier(deadline, peer.dueAt)
        peers[peer.configuration.publicKey] = peer
    }
}
