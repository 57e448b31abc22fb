import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// Joiners at this server: served one after the other.
    struct AdmissionDesk: Hashable, Sendable {
        /// One place per joiner, first come first served.
        var queue: [Admission] = []
        /// Finished grants, so that a repeated request gets the same answer.
        var grants: [IssuedGrant] = []
        /// As many as joiners; they ask again.
        var leavers: [Leaver] = []

        /// The nonces of each joiner in the order of their first arrival, least recent joiner first.
        var visits: [Visit] = []

        struct Visit: Hashable, Sendable {
            var joiner: NodeID
            var nonces: [[UInt8]]
        }

        /// A mesh joins a handful of machines at once; others come back in a few seconds.
        static let queueLimit = 8
        /// 16 grants of at most 9 KB, for two minutes each.
        static let grantLimit = 16
        /// 1,000 machines do not join within the life of a delayed frame; 64 may.
        static let visitLimit = 64
        /// A joiner draws a new nonce each time it comes back to a server.
        static let nonceLimit = 8

        var expiry: BootInstant? { grants.map { $0.expires }.min() }

        /// Whether the joiner has asked with a newer nonce since: a delayed copy must not be served,
        /// because the joiner would not take the answer any more.
        func isStale(_ nonce: [UInt8], of joiner: NodeID) -> Bool {
            guard let visit = visits.first(where: { $0.joiner == joiner }) else { return false }
            return visit.nonces.contains(nonce) && visit.nonces.last != nonce
        }

        mutating func noteVisit(_ nonce: [UInt8], of joiner: NodeID) {
            let known = visits.firstIndex { $0.joiner == joiner }
            var visit = known.map { visits.remove(at: $0) } ?? Visit(joiner: joiner, nonces: [])
            if visit.nonces.last != nonce { visit.nonces.append(nonce) }
            if visit.nonces.count > AdmissionDesk.nonceLimit { visit.nonces.removeFirst() }
            visits.append(visit)
            if visits.count > AdmissionDesk.visitLimit { visits.removeFirst() }
        }

        mutating func expire(at instant: BootInstant) {
            grants.removeAll { $0.expires <= instant }
        }
    }

    struct IssuedGrant: Hashable, Sendable {
        var joiner: NodeID
        var nonce: [UInt8]
        var parts: [GrantPart]
        var expires: BootInstant
    }

    /// Takes a request to the desk, or answers it at once.
    mutating func take(
        _ request: JoinRequest, from peer: ClusterPeer, at now: Now,
        into actions: inout [ClusterAction]
    ) -> ClusterDropReason? {
        let nonce = request.nonce
        guard case .running(let cluster, .server) = stage, isReadyServer else {
            answer(peer.id, .wait(nonce: nonce, .notServing), into: &actions)
            return nil
        }
        guard request.cluster == cluster else {
            answer(peer.id, .refusal(nonce: nonce, .wrongCluster), into: &actions)
            return nil
        }
        guard !desk.isStale(nonce, of: peer.id) else { return .unexpected }
        desk.noteVisit(nonce, of: peer.id)
        if let grant = desk.grants.first(where: { $0.joiner == peer.id && $0.nonce == nonce }) {
            hand(grant, into: &actions)
            return nil
        }
        guard let joiner = identity(of: peer) else {
            answer(peer.id, .wait(nonce: nonce, .addressUnsettled), into: &actions)
            return nil
        }
        if case .admit(let current) = pending?.command, current.joiner.node == peer.id {
            return nil
        }
        guard peer.mayServe || request.wish != .server else {
            answer(peer.id, .refusal(nonce: nonce, .notNamed), into: &actions)
            return nil
        }
        var admission = Admission(
            nonce: nonce, joiner: joiner, joinerKey: peer.staticKey,
            request: request.signingRequest, wish: peer.mayServe ? request.wish : .agent,
            serverLimit: configuration.serverLimit, replaces: request.replaces,
            cluster: cluster)
        admission.livingNamesakes = livingNames(of: peer)
        if let index = desk.queue.firstIndex(where: { $0.joiner.node == peer.id }) {
            desk.queue[index] = admission
        } else if desk.queue.count < AdmissionDesk.queueLimit {
            desk.queue.append(admission)
        } else {
            answer(peer.id, .wait(nonce: nonce, .busy), into: &actions)
        }
        return nil
    }

    /// What living machines with the host name of `peer` are called in the datastore.
    private func livingNames(of peer: ClusterPeer) -> Set<String> {
        Set(
            peers.values.filter { $0.isAlive && $0.hostname == peer.hostname }
                .map { EtcdPlan.memberName(hostname: $0.hostname, node: $0.id) })
    }

    /// The host finished one admission.
    mutating func finishAdmission(
        _ report: HostReport, at now: Now, into actions: inout [ClusterAction]
    ) {
        switch report {
        case .admitted(let joiner, let nonce, let role, let sealed):
            guard let parts = grantParts(sealed, nonce: nonce, role: role) else {
                answer(joiner, .refusal(nonce: nonce, .badRequest), into: &actions)
                return
            }
            let grant = IssuedGrant(
                joiner: joiner, nonce: nonce, parts: parts,
                expires: now.boot + ClusterTiming.grantLifetime)
            desk.grants.removeAll { $0.joiner == joiner }
            if desk.grants.count == AdmissionDesk.grantLimit { desk.grants.removeFirst() }
            desk.grants.append(grant)
            hand(grant, into: &actions)
            observed.noteChange(at: now.boot)
        case .postponed(let joiner, let nonce, let reason):
            answer(joiner, .wait(nonce: nonce, reason), into: &actions)
        case .refused(let joiner, let nonce, let reason):
            answer(joiner, .refusal(nonce: nonce, reason), into: &actions)
        case .mustConfirm(let joiner, let nonce, let memberID):
            answer(joiner, .confirm(nonce: nonce, memberID: memberID), into: &actions)
        case .expelled(let leaver, let nonce):
            answer(leaver, .left(nonce: nonce), into: &actions)
            observed.noteChange(at: now.boot)
        default: break
        }
    }

    private func hand(_ grant: IssuedGrant, into actions: inout [ClusterAction]) {
        for part in grant.parts { answer(grant.joiner, .part(part), into: &actions) }
    }

    private func answer(
        _ node: NodeID, _ message: JoinMessage, into actions: inout [ClusterAction]
    ) {
        actions.append(.send(to: node, message.encoded))
    }
}
