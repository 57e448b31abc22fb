import Cryptography
import MeshBase
import NetAddress

// A handshake message passes, in order of rising cost:
//   1. type and length
//   2. mac1: the sender knows our public key
//   3. under load only: mac2 (the sender's address is proven), then the source's share
//   4. one Diffie-Hellman: who it says it is; strangers end here, without an answer
//   5. authentication and the replay check; after this line it is genuine and changes state
extension TunnelDevice {
    /// One handshake datagram. A refused one changes nothing but the load meter and, with a
    /// cookie sent, the cookie secret.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) {
        let reason: HandshakeDropReason?
        switch datagram.messageType {
        case .initiation:
            reason = receiveInitiation(
                datagram, suite: .chaCha20Poly1305, from: source, at: now, random: &random,
                into: &actions)
        case .initiationAES:
            reason = receiveInitiation(
                datagram, suite: .aes256GCM, from: source, at: now, random: &random,
                into: &actions)
        case .response:
            reason = receiveResponse(
                datagram, suite: .chaCha20Poly1305, from: source, at: now, random: &random,
                into: &actions)
        case .responseAES:
            reason = receiveResponse(
                datagram, suite: .aes256GCM, from: source, at: now, random: &random,
                into: &actions)
        case .cookieReply:
            reason = receiveCookieReply(datagram, at: now)
        case nil:
            reason = .malformed
        }
        if let reason { actions.append(.dropped(reason)) }
    }

    private mutating func receiveInitiation(
        _ datagram: [UInt8], suite: PacketSuite, from source: SocketAddress, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) -> HandshakeDropReason? {
        guard let message = try? InitiationMessage(datagram, suite: suite) else {
            return .malformed
        }
        guard authenticator.hasValidMAC1(datagram) else { return .wrongMAC1 }
        if let refusal = refuseUnderLoad(
            datagram, sender: message.sender, from: source, at: now, random: &random,
            into: &actions)
        {
            return refusal
        }
        guard
            var handshake = ResponderHandshake(
                suite.noiseParameters, local: privateKey, ephemeral: message.ephemeral,
                sealedStatic: message.sealedStatic)
        else { return .notAuthentic }
        guard var peer = peers[handshake.peer] else { return .unknownPeer }
        guard
            let payload = handshake.readPayload(
                message.sealedTimestamp, staticShared: peer.staticShared)
        else { return .notAuthentic }
        var reader = ByteReader(payload)
        guard let stamp = try? TAI64N(from: &reader) else { return .notAuthentic }
        guard peer.suite == suite else { return .wrongSuite }
        if let greatest = peer.greatestTimestamp, stamp <= greatest { return .replayed }
        if let last = peer.lastInitiationReceived,
            now.boot - last < HandshakePolicy.minimumInitiationInterval
        {
            return .tooFrequent
        }
        let ephemeral = StaticPrivateKey(SecretBytes(random.bytes32()))
        guard
            let answer = handshake.respond(
                ephemeral: ephemeral, presharedKey: peer.configuration.presharedKey, payload: [])
        else { return .notAuthentic }

        peer.greatestTimestamp = stamp
        peer.lastInitiationReceived = now.boot
        let established = establish(
            for: peer, localIndex: makeIndex(for: peer, random: &random),
            remoteIndex: message.sender, keys: answer.keys, isInitiator: false, at: now,
            random: &random)
        if let unused = peer.next { forget(unused, of: peer, into: &actions) }
        peer.next = established
        peer.nextEndpoint = source
        if peer.endpoint == nil {
            peer.endpoint = source
            actions.append(.endpointChanged(peer.configuration.publicKey, source))
        }
        actions.append(.installSession(peer.configuration.publicKey, established.session))
        let response = ResponseMessage(
            suite: suite, sender: established.localIndex, receiver: message.sender,
            ephemeral: ephemeral.publicKey, sealedEmpty: answer.sealedPayload)
        send(response.encode(), to: source, by: &peer, at: now, into: &actions)
        store(peer, at: now)
        return nil
    }

    private mutating func receiveResponse(
        _ datagram: [UInt8], suite: PacketSuite, from source: SocketAddress, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) -> HandshakeDropReason? {
        guard let message = try? ResponseMessage(datagram, suite: suite) else {
            return .malformed
        }
        guard authenticator.hasValidMAC1(datagram) else { return .wrongMAC1 }
        guard let key = indices[message.receiver], var peer = peers[key],
            let pending = peer.pending, pending.localIndex == message.receiver
        else { return .unknownIndex }
        guard pending.suite == suite else { return .wrongSuite }
        if let refusal = refuseUnderLoad(
            datagram, sender: message.sender, from: source, at: now, random: &random,
            into: &actions)
        {
            return refusal
        }
        guard
            let result = pending.handshake.finish(
                local: privateKey, presharedKey: peer.configuration.presharedKey,
                peerEphemeral: message.ephemeral, sealedPayload: message.sealedEmpty)
        else { return .notAuthentic }

        let established = establish(
            for: peer, localIndex: pending.localIndex, remoteIndex: message.sender,
            keys: result.keys, isInitiator: true, at: now, random: &random)
        peer.pending = nil
        if peer.endpoint != source {
            peer.endpoint = source
            actions.append(.endpointChanged(key, source))
        }
        let replaced = [peer.current, peer.next].compactMap { $0 }
        peer.current = established
        peer.next = nil
        peer.nextEndpoint = nil
        actions.append(.installSession(key, established.session))
        actions.append(.useSession(key, established.session))
        for old in replaced { retire(old, of: &peer, into: &actions) }
        handshakeCompleted(&peer, at: now)
        // The responder may not send before it has seen a packet of the new session.
        sendKeepalive(to: peer, at: now, into: &actions)
        store(peer, at: now)
        return nil
    }

    private mutating func receiveCookieReply(_ datagram: [UInt8], at now: Now)
        -> HandshakeDropReason?
    {
        guard let message = try? CookieReplyMessage(datagram) else { return .malformed }
        guard let key = indices[message.receiver], var peer = peers[key] else {
            return .unknownIndex
        }
        guard peer.cookies.accept(message, key: peer.authenticator.cookieKey, at: now.boot) else {
            return .notAuthentic
        }
        // Not sent again at once: the retransmission timer does that, so that a cookie cannot be
        // used to make a peer send more.
        store(peer)
        return nil
    }

    /// Counts the message and, under load, demands a cookie and keeps each source to its share.
    private mutating func refuseUnderLoad(
        _ datagram: [UInt8], sender: UInt32, from source: SocketAddress, at now: Now,
        random: inout SeededGenerator, into actions: inout [TunnelAction]
    ) -> HandshakeDropReason? {
        load.count(at: now.boot)
        guard load.isUnderLoad(at: now.boot) else { return nil }
        if cookieChecker.hasValidMAC2(datagram, from: source, at: now.boot) {
            return load.admits(source.ip, at: now.boot) ? nil : .rateLimited
        }
        let reply = cookieChecker.reply(
            to: datagram, sender: sender, from: source, key: authenticator.cookieKey,
            at: now.boot, random: &random)
        actions.append(.send(datagram: reply, to: source))
        return .cookieRequired
    }
}

extension [UInt8] {
    /// The type of a handshake message; `nil` for anything else.
    fileprivate var messageType: MessageType? {
        guard count >= 4, self[1] == 0, self[2] == 0, self[3] == 0 else { return nil }
        return MessageType(rawValue: self[0])
    }
}
