import MeshBase
import NetAddress

extension ClusterCoordinator {
    /// What the datastore last said about itself.
    struct ObservedDatastore: Hashable, Sendable {
        var probeAt: BootInstant?
        var last: Observation?
        var changedAt: BootInstant?
        var failures = 0
        /// Members that have not become voters, with the time when that was first seen.
        var incomplete: [Incomplete] = []

        init(probeAt: BootInstant? = nil) {
            self.probeAt = probeAt
            changedAt = probeAt
        }

        struct Incomplete: Hashable, Sendable {
            var id: UInt64
            var since: BootInstant
            var isStarted: Bool

            var limit: Duration {
                isStarted ? ClusterTiming.stalledMemberLimit : ClusterTiming.unstartedMemberLimit
            }
        }

        /// Membership is moving: look again soon.
        mutating func noteChange(at instant: BootInstant) {
            changedAt = instant
            probeAt = instant
        }

        mutating func scheduleProbe(at instant: BootInstant) {
            let isCalm = changedAt.map { instant - $0 > ClusterTiming.calmAfter } ?? true
            let interval =
                isCalm ? ClusterTiming.calmProbeInterval : ClusterTiming.busyProbeInterval
            probeAt = instant + interval
        }
    }

    /// This node's own name in the datastore.
    var ownName: String {
        let hostname = peers[configuration.node]?.hostname ?? configuration.hostname
        return EtcdPlan.memberName(hostname: hostname, node: configuration.node)
    }

    /// A healthy voting member: it may admit joiners.
    var isReadyServer: Bool {
        guard case .running(_, .server) = stage, let last = observed.last, last.isHealthy else {
            return false
        }
        let own = (name: ownName, address: peers[configuration.node]?.ipv4)
        return last.members.contains { member in
            (member.name == own.name || member.ipv4 != nil && member.ipv4 == own.address)
                && member.isStarted && !member.isLearner
        }
    }

    mutating func advanceRunning(
        _ cluster: ClusterIdentity, _ role: DatastoreRole, at now: Now,
        into actions: inout [ClusterAction]
    ) {
        guard pending == nil else { return }
        if role == .server, !desk.leavers.isEmpty {
            let leaver = desk.leavers.removeFirst()
            order(.expel(leaver.identity, nonce: leaver.nonce), at: now, into: &actions)
            return
        }
        if role == .server, !desk.queue.isEmpty {
            order(.admit(desk.queue.removeFirst()), at: now, into: &actions)
            return
        }
        if isReadyServer,
            let stalled = observed.incomplete.first(where: { now.boot - $0.since >= $0.limit })
        {
            observed.incomplete.removeAll { $0.id == stalled.id }
            order(.evict(memberID: stalled.id), at: now, into: &actions)
            return
        }
        if let probeAt = observed.probeAt, probeAt <= now.boot {
            order(.probe, at: now, into: &actions)
        }
    }

    mutating func takeObservation(
        _ observation: Observation, at now: Now, into actions: inout [ClusterAction]
    ) {
        guard case .running(let cluster, let role) = stage else { return }
        var bounded = observation
        bounded.members = observation.members.prefix(EtcdPlan.memberLimit)
            .sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        bounded.agents = (observation.agents + observation.clients.compactMap { agent(of: $0) })
            .prefix(EtcdPlan.agentLimit)
            .sorted { ($0.name, $0.node) < ($1.name, $1.node) }
        bounded.clients = []
        if bounded != observed.last { observed.changedAt = now.boot }
        observed.last = bounded
        observed.failures = 0
        let known = observed.incomplete
        observed.incomplete = bounded.members.filter { $0.isLearner || !$0.isStarted }
            .map { member in
                let since = known.first { $0.id == member.id }?.since ?? now.boot
                return .init(id: member.id, since: since, isStarted: member.isStarted)
            }
        observed.scheduleProbe(at: now.boot)
        publishFacts(cluster, role, into: &actions)
    }

    /// The machine behind a client of the datastore; `nil` for machines outside the mesh.
    private func agent(of client: DatastoreClient) -> ClusterAgent? {
        let known = peers.values.filter { peer in
            client.ipv4 != nil && peer.ipv4 == client.ipv4
                || EtcdPlan.memberName(hostname: peer.hostname, node: peer.id) == client.name
        }
        return known.map(\.id).min().map { ClusterAgent(name: client.name, node: $0) }
    }

    mutating func takeProbeFailure(
        _ reason: String, at now: Now, into actions: inout [ClusterAction]
    ) {
        guard case .running(let cluster, let role) = stage else { return }
        observed.failures = min(observed.failures + 1, ClusterTiming.probeFailureLimit)
        observed.scheduleProbe(at: now.boot)
        trouble = reason
        guard observed.failures == ClusterTiming.probeFailureLimit else { return }
        observed.last?.isHealthy = false
        publishFacts(cluster, role, into: &actions)
    }

    private mutating func publishFacts(
        _ cluster: ClusterIdentity, _ role: DatastoreRole, into actions: inout [ClusterAction]
    ) {
        let isHealthy = observed.last?.isHealthy ?? false
        if isHealthy { trouble = "" }
        let fact = RoleFact(
            cluster: cluster, role: role,
            isReady: role == .server ? isReadyServer : isHealthy, name: ownName)
        publish(ClusterFactKey.role, fact.encoded, into: &actions)
        if role == .server, isHealthy, let members = observed.last?.members {
            let list = MemberListFact(cluster: cluster, members: members)
            publish(ClusterFactKey.members, list.encoded, into: &actions)
        }
    }

    /// Tells the mesh that this node serves nobody any more.
    mutating func withdrawFacts(into actions: inout [ClusterAction]) {
        guard let bytes = published[ClusterFactKey.role],
            var fact = try? RoleFact(decoding: bytes)
        else { return }
        fact.isReady = false
        publish(ClusterFactKey.role, fact.encoded, into: &actions)
    }

    mutating func publish(
        _ key: String, _ value: [UInt8], into actions: inout [ClusterAction]
    ) {
        guard published[key] != value else { return }
        published[key] = value
        actions.append(.publish(key: key, value: value))
    }
}
