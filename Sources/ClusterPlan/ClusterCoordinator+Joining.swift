import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// One joiner's conversation with one server at a time.
    struct JoinAttempt: Hashable, Sendable {
        var cluster: ClusterIdentity
        var identity: HostIdentity?
        var signingRequest: [UInt8]?
        var target: NodeID?
        /// Servers that did not help, in the order asked; all are asked again after the last.
        var tried: [NodeID] = []
        var nonce: [UInt8] = []
        var replaces: UInt64 = 0
        var sendAt: BootInstant?
        var giveUpAt: BootInstant?
        var role: DatastoreRole?
        var parts: [[UInt8]?] = []
        /// The server's last answer, in words.
        var answer = ""

        init(cluster: ClusterIdentity) {
            self.cluster = cluster
        }

        var sealedGrant: [UInt8]? {
            let known = parts.compactMap { $0 }
            guard !known.isEmpty, known.count == parts.count else { return nil }
            return known.flatMap { $0 }
        }

        /// Leaves the current server; what it granted is void, since its nonce is.
        mutating func leaveTarget() {
            if let target { tried.append(target) }
            target = nil
            parts = []
            role = nil
            replaces = 0
            sendAt = nil
            giveUpAt = nil
        }
    }

    mutating func advanceRequest(
        _ current: JoinAttempt, at now: Now, random: inout SeededGenerator,
        into actions: inout [ClusterAction]
    ) {
        guard founding.readyCluster == current.cluster else {
            enter(.empty, at: now)
            advance(at: now, random: &random, into: &actions)
            return
        }
        guard pending == nil, notBefore == nil else { return }
        var attempt = current
        defer { if case .requesting = stage { stage = .requesting(attempt) } }
        guard let identity = hostIdentity else {
            attempt.leaveTarget()
            attempt.answer = PostponeReason.addressUnsettled.text
            return
        }
        if attempt.identity != identity || attempt.signingRequest == nil {
            attempt.leaveTarget()
            attempt.identity = identity
            attempt.signingRequest = nil
            order(.makeRequest(identity), at: now, into: &actions)
            return
        }
        if let sealed = attempt.sealedGrant, let role = attempt.role {
            start(attempt, sealed: sealed, role: role, identity, at: now, into: &actions)
            return
        }
        if let target = attempt.target {
            let isSilent = attempt.giveUpAt.map { $0 <= now.boot } ?? true
            if isSilent || !canAsk(target, in: attempt.cluster) { attempt.leaveTarget() }
        }
        if attempt.target == nil {
            guard let next = nextServer(for: &attempt) else {
                attempt.answer = "no ready server is reachable"
                return
            }
            attempt.target = next
            attempt.nonce = random.bytes(JoinMessage.nonceCount)
            attempt.sendAt = now.boot
            attempt.giveUpAt = now.boot + ClusterTiming.serverSilence
        }
        if let target = attempt.target, let sendAt = attempt.sendAt, sendAt <= now.boot {
            attempt.sendAt = now.boot + ClusterTiming.requestInterval
            let request = JoinRequest(
                nonce: attempt.nonce, cluster: attempt.cluster, wish: configuration.role,
                replaces: attempt.replaces, signingRequest: attempt.signingRequest ?? [])
            actions.append(.send(to: target, JoinMessage.request(request).encoded))
        }
    }

    private mutating func start(
        _ attempt: JoinAttempt, sealed: [UInt8], role: DatastoreRole, _ identity: HostIdentity,
        at now: Now, into actions: inout [ClusterAction]
    ) {
        let delivery = GrantDelivery(
            sealed: sealed, nonce: attempt.nonce, identity: identity, cluster: attempt.cluster,
            facts: founding.facts)
        enter(.starting(attempt.cluster, role), at: now)
        let command: HostCommand =
            role == .server ? .startJoined(delivery) : .startAgent(delivery)
        order(command, at: now, into: &actions)
    }

    /// Whether `node` says that it is a ready server, or is the owner who has not said anything.
    func canAsk(_ node: NodeID, in cluster: ClusterIdentity) -> Bool {
        guard node != configuration.node, let peer = peers[node], peer.isAlive else {
            return false
        }
        if let fact = roleFacts[node], fact.cluster == cluster {
            return fact.role == .server && fact.isReady
        }
        return node == founding.owner
    }

    /// Living servers of the certified cluster that say they are ready, in node order; this one
    /// as it sees itself.
    package var readyServers: [NodeID] {
        guard let cluster = founding.readyCluster else { return [] }
        let others = roleFacts.filter { node, fact in
            node != configuration.node && fact.cluster == cluster && fact.role == .server
                && fact.isReady && peers[node]?.isAlive == true
        }
        return (Array(others.keys) + (isReadyServer ? [configuration.node] : [])).sorted()
    }

    /// Addresses of the machines that can be asked, in node order.
    var serverAddresses: [IPAddress] {
        guard let cluster = founding.readyCluster else { return [] }
        return peers.keys.filter { canAsk($0, in: cluster) }.sorted().compactMap { peers[$0]?.ipv4 }
    }

    /// The owner first: the fewer servers admit, the less they collide. Then in node order.
    private func nextServer(for attempt: inout JoinAttempt) -> NodeID? {
        let cluster = attempt.cluster
        var servers = peers.keys.filter { canAsk($0, in: cluster) }.sorted()
        if let owner = founding.owner, let index = servers.firstIndex(of: owner) {
            servers.remove(at: index)
            servers.insert(owner, at: 0)
        }
        if let fresh = servers.first(where: { !attempt.tried.contains($0) }) { return fresh }
        attempt.tried = []
        return servers.first
    }

    // MARK: - Answers

    /// The running attempt, when `sender` and `nonce` are the ones it waits for.
    private func attempt(_ nonce: [UInt8], _ sender: NodeID) -> JoinAttempt? {
        guard case .requesting(let attempt) = stage, attempt.target == sender,
            attempt.nonce == nonce
        else { return nil }
        return attempt
    }

    mutating func take(_ part: GrantPart, from sender: NodeID) -> ClusterDropReason? {
        guard var attempt = attempt(part.nonce, sender) else { return .unexpected }
        let isWished =
            switch configuration.role {
            case .auto: true
            case .server: part.role == .server
            case .agent: part.role == .agent
            case .none: false
            }
        guard isWished else { return .unexpected }
        if attempt.parts.isEmpty {
            attempt.parts = Array(repeating: nil, count: part.count)
            attempt.role = part.role
        }
        guard attempt.parts.count == part.count, attempt.role == part.role else {
            return .unexpected
        }
        attempt.parts[part.index] = part.bytes
        stage = .requesting(attempt)
        return nil
    }

    mutating func takeWait(
        _ nonce: [UInt8], _ reason: PostponeReason, from sender: NodeID, at now: Now,
        random: inout SeededGenerator
    ) -> ClusterDropReason? {
        guard var attempt = attempt(nonce, sender) else { return .unexpected }
        attempt.answer = reason.text
        if reason == .notServing {
            attempt.leaveTarget()
            stage = .requesting(attempt)
            notBefore = now.boot + random.duration(in: ClusterTiming.retryRange)
            return nil
        }
        let range = reason == .full ? ClusterTiming.fullRetryRange : ClusterTiming.retryRange
        let sendAt = now.boot + random.duration(in: range)
        attempt.sendAt = sendAt
        attempt.giveUpAt = sendAt + ClusterTiming.serverSilence
        stage = .requesting(attempt)
        return nil
    }

    mutating func takeRefusal(
        _ nonce: [UInt8], _ reason: RefusalReason, from sender: NodeID, at now: Now,
        random: inout SeededGenerator
    ) -> ClusterDropReason? {
        guard var attempt = attempt(nonce, sender) else { return .unexpected }
        attempt.answer = reason.text
        attempt.leaveTarget()
        stage = .requesting(attempt)
        notBefore = now.boot + random.duration(in: ClusterTiming.fullRetryRange)
        return nil
    }

    /// Only an attempt without any data gets here, so a member of this name is indeed lost.
    mutating func takeConfirm(
        _ nonce: [UInt8], _ memberID: UInt64, from sender: NodeID, at now: Now,
        random: inout SeededGenerator
    ) -> ClusterDropReason? {
        guard var attempt = attempt(nonce, sender), memberID != 0 else { return .unexpected }
        attempt.replaces = memberID
        attempt.answer = "replacing the lost member of this machine"
        attempt.sendAt = now.boot
        attempt.giveUpAt = now.boot + ClusterTiming.serverSilence
        stage = .requesting(attempt)
        return nil
    }
}
