import Cryptography
import Membership
import MeshBase
import NetAddress
import PathDiscovery
import WireGuard

/// Sessions with members, and the control frames inside them.
extension Node {
    /// Makes sure that a session with the peer exists or is being made.
    mutating func connect(
        _ key: StaticPublicKey, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let node = membersByKey[key] else { return }
        if members[node]?.endpoint == nil {
            search(for: node, at: now, into: &actions)
            return
        }
        paths.want(node, candidates: [], at: now.boot)
        let isWayConfirmed = paths.isConfirmed(node, at: now.boot)
        withTunnels(at: now, into: &actions) { tunnels, random, results in
            tunnels.connect(
                key, isWayConfirmed: isWayConfirmed, at: now, random: &random, into: &results)
        }
    }

    mutating func withTunnels(
        at now: Now, into actions: inout [NodeAction],
        _ body: (inout TunnelDevice, inout SeededGenerator, inout [TunnelAction]) -> Void
    ) {
        var results: [TunnelAction] = []
        body(&tunnels, &random, &results)
        for result in results {
            switch result {
            case .reserveTimestamp(let stamp):
                actions.append(.persist(.timestamp(stamp)))
            case .send(let datagram, let target):
                countSent(datagram)
                transmit(datagram, to: target, into: &actions)
            case .installSession(let key, let session):
                guard let node = membersByKey[key] else { continue }
                members[node]?.sessions.append(session)
                actions.append(.forwardingChanged)
            case .useSession(let key, let session):
                useSession(session, with: key, at: now, into: &actions)
            case .removeSession(let key, let index):
                removeSession(index, of: key, at: now, into: &actions)
            case .endpointChanged(let key, let address):
                heardTunnel(key, from: address, at: now, into: &actions)
            case .unreachable(let key):
                guard let node = membersByKey[key] else { continue }
                members[node]?.waiting.removeAll()
                actions.append(.log(.info, "member \(node.short) does not answer handshakes"))
                disconnected(node, at: now, into: &actions)
                search(for: node, isForced: true, at: now, into: &actions)
            case .dropped(let reason):
                drop("handshake \(reason)")
            }
        }
    }

    private mutating func useSession(
        _ session: TransportSession, with key: StaticPublicKey, at now: Now,
        into actions: inout [NodeAction]
    ) {
        guard let node = membersByKey[key], members[node] != nil else { return }
        members[node]?.sending = session
        actions.append(.forwardingChanged)
        while let payload = members[node]?.waiting.popFirst() {
            sendSealed(payload, to: node, at: now, into: &actions)
        }
        withSwim(at: now, into: &actions) { swim, random, results in
            swim.heard(from: node, at: now.boot, into: &results)
        }
        connected(node, at: now, into: &actions)
    }

    /// The ledger and the founding may talk to a member, if it has a session.
    mutating func connected(_ node: NodeID, at now: Now, into actions: inout [NodeAction]) {
        guard let member = members[node], !member.isConnected, member.sending != nil else { return }
        members[node]?.isConnected = true
        actions.append(.log(.info, "session with member \(node.short)"))
        actions.append(.persist(.peerCache(peerCache)))
        searchPathMTU(of: node, at: now, into: &actions)
        withLedger(at: now, into: &actions) { ledger, random, results in
            ledger.peerConnected(node, at: now.boot, random: &random, into: &results)
        }
        reachabilityChanged(at: now, into: &actions)
    }

    private mutating func removeSession(
        _ index: UInt32, of key: StaticPublicKey, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let node = membersByKey[key] else { return }
        members[node]?.retire(sessionWithIndex: index)
        actions.append(.forwardingChanged)
        if members[node]?.sending?.localIndex == index {
            members[node]?.sending = nil
            disconnected(node, at: now, into: &actions)
        }
    }

    mutating func disconnected(_ node: NodeID, at now: Now, into actions: inout [NodeAction]) {
        guard members[node]?.isConnected == true else { return }
        members[node]?.isConnected = false
        members[node]?.pathMTU?.end()
        withLedger(at: now, into: &actions) { ledger, _, _ in
            ledger.peerDisconnected(node)
        }
        reachabilityChanged(at: now, into: &actions)
    }

    // MARK: - Frames

    /// Sends a frame now, or as soon as a session exists.
    mutating func send(
        _ frame: ControlFrame, to node: NodeID, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node] else { return }
        let payload = frame.encode()
        if member.sending != nil {
            sendSealed(payload, to: node, at: now, into: &actions)
        } else {
            if members[node]?.waiting.append(payload) != nil { drop("frame queue full") }
            connect(member.certificate.staticKey, at: now, into: &actions)
        }
    }

    private mutating func sendSealed(
        _ payload: [UInt8], to node: NodeID, at now: Now, into actions: inout [NodeAction]
    ) {
        guard let member = members[node], let endpoint = member.endpoint,
            let datagram = member.sending?.seal(payload, at: now.boot)
        else {
            drop("frame without session")
            return
        }
        countSent(datagram, carrying: payload)
        transmit(datagram, to: endpoint, into: &actions)
    }

    mutating func receiveFrame(
        _ payload: [UInt8], from key: StaticPublicKey, at now: Now,
        into actions: inout [NodeAction]
    ) {
        guard let node = membersByKey[key], let frame = try? ControlFrame(decoding: payload) else {
            drop("malformed frame")
            return
        }
        withSwim(at: now, into: &actions) { swim, _, results in
            swim.heard(from: node, at: now.boot, into: &results)
        }
        switch frame.kind {
        case .ledger:
            withLedger(at: now, into: &actions) { ledger, random, results in
                ledger.receive(
                    frame.body, from: node, at: now.boot, random: &random, into: &results)
            }
        case .founding:
            tellFounding(.message(frame.body, from: node), at: now, into: &actions)
        case .lease:
            withLeases(at: now, into: &actions) { leases, random, results in
                leases.receive(
                    frame.body, from: node, at: now.boot, random: &random, into: &results)
            }
        case .cluster:
            tellCluster(.message(frame.body, from: node), at: now, into: &actions)
        case .ping:
            send(
                ControlFrame(kind: .pong, requestID: frame.requestID, body: frame.body), to: node,
                at: now, into: &actions)
        case .pathProbe:
            send(
                ControlFrame(kind: .pathAnswer, requestID: frame.requestID, body: []), to: node,
                at: now, into: &actions)
        case .pathAnswer:
            receivePathAnswer(frame.requestID, from: node, at: now, into: &actions)
        case .pong:
            guard let ping = pendingPings.removeValue(forKey: frame.requestID) else { return }
            let roundTrip = now.boot - ping.sentAt
            members[node]?.roundTrip = roundTrip
            actions.append(.pong(id: frame.requestID, roundTrip: roundTrip))
        }
    }

    // MARK: - Commands

    mutating func perform(
        _ command: NodeCommand, at now: Now, into actions: inout [NodeAction]
    ) {
        switch command {
        case .ping(let identifier, let node):
            pendingPings[identifier] = PendingPing(
                sentAt: now.boot, deadline: now.boot + .seconds(60))
            send(
                ControlFrame(kind: .ping, requestID: identifier, body: []), to: node, at: now,
                into: &actions)
        case .leave:
            leave(at: now, into: &actions)
        }
    }

    private mutating func leave(at now: Now, into actions: inout [NodeAction]) {
        guard !isLeaving else { return }
        saveDHT(into: &actions)
        isLeaving = true
        withMapper(at: now, into: &actions) { mapper, _, results in
            mapper.leave(into: &results)
        }
        mapper = nil
        dht = nil
        actions.append(.persist(.peerCache(peerCache)))
        withSwim(at: now, into: &actions) { swim, _, results in
            swim.leave(at: now.boot, into: &results)
        }
        withDiscovery(at: now, into: &actions) { discovery, _, results in
            discovery.shutDown(into: &results)
        }
    }

    // MARK: - For the data plane

    /// What the packet threads need of every member that has a session or waits for one.
    package var forwarding: [TunnelRoute] {
        members.keys.sorted().compactMap(forwarding(to:))
    }

    /// What ``forwarding`` says of the member with a session.
    package func forwarding(ofSession localIndex: UInt32) -> TunnelRoute? {
        tunnels.peer(ofIndex: localIndex).flatMap { membersByKey[$0] }.flatMap(forwarding(to:))
    }

    private func forwarding(to node: NodeID) -> TunnelRoute? {
        guard let member = members[node] else { return nil }
        var allowed = [IPPrefix(host: member.certificate.ipv6)]
        if let ipv4 = member.ipv4 { allowed.append(IPPrefix(host: ipv4)) }
        if node == serviceServer, let address = serviceAddress {
            allowed.append(IPPrefix(host: address))
        }
        return TunnelRoute(
            key: member.certificate.staticKey, address: member.endpoint,
            endpoint: member.endpoint.flatMap { paths.route([], to: $0)?.address },
            channel: member.endpoint?.relayChannel,
            allowed: allowed, sending: member.sending, sessions: member.sessions,
            pathLimit: member.pathMTU?.limit, joinsPieces: member.joinsPieces)
    }
}

/// One peer as the packet threads see it.
package struct TunnelRoute: Sendable {
    package let key: StaticPublicKey
    /// What stands for the way in use; see `SocketAddress.isRelayed`.
    package let address: SocketAddress?
    /// Where datagrams go: to the peer, or to the relay on `channel`.
    package let endpoint: SocketAddress?
    package let channel: UInt32?
    package let allowed: [IPPrefix]
    package let sending: TransportSession?
    package let sessions: [TransportSession]
    /// The largest datagram that the path carries; `nil` when nobody has looked.
    package let pathLimit: Int?
    package let joinsPieces: Bool
}
