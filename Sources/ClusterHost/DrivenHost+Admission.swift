import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension DrivenHost {
    /// Removals of left-overs, the place and a grant; more rounds mean that somebody else is
    /// changing the cluster too.
    private static let roundLimit = 6

    func admit(_ admission: Admission) -> HostReport {
        let joiner = admission.joiner.node
        let nonce = admission.nonce
        let postponed = { (reason: PostponeReason) in
            HostReport.postponed(joiner: joiner, nonce: nonce, reason)
        }
        guard admission.request == makeRequest(admission.joiner) else {
            return .refused(joiner: joiner, nonce: nonce, .badRequest)
        }
        do throws(HostFailure) {
            let record = try loadRecord()
            guard record.phase == .server, record.cluster == admission.cluster,
                try authorityHash(record) == record.cluster.caHash,
                try isGenesis(record)
            else { return postponed(.notServing) }
            for _ in 0..<DrivenHost.roundLimit {
                let nodes = try driver.nodes(record)
                let step = K3sPlan.admissionStep(
                    withoutTheSilent(admission, nodes), nodes: nodes,
                    reservation: try driver.place.holder(nodes))
                switch step {
                case .postpone(let reason): return postponed(reason)
                case .refuse(let reason):
                    return .refused(joiner: joiner, nonce: nonce, reason)
                case .confirm(let memberID):
                    return .mustConfirm(joiner: joiner, nonce: nonce, memberID: memberID)
                case .remove(let name):
                    guard let node = nodes.first(where: { $0.name == name }) else { continue }
                    try driver.remove(node, record)
                case .reserve:
                    guard try driver.place.take(for: admission.joiner.name) else {
                        return postponed(.anotherJoining)
                    }
                case .grantServer:
                    guard nodes.allSatisfy({ !$0.isServer || $0.isVoter }) else {
                        return postponed(.anotherJoining)
                    }
                    return try grant(admission, .server, record, nodes) ?? postponed(.unhealthy)
                case .grantAgent:
                    return try grant(admission, .agent, record, nodes) ?? postponed(.unhealthy)
                }
            }
            return postponed(.busy)
        } catch {
            return postponed(.unhealthy)
        }
    }

    /// Whether the settings that this server would hand on are the certified ones.
    private func isGenesis(_ record: HostRecord) throws(HostFailure) -> Bool {
        guard let certified = record.settings else { return true }
        return try driver.settingsHash() == certified
    }

    /// The mesh needs a moment to see that a machine is gone. A server with the joiner's host name
    /// that takes no connection has most likely come back as the joiner.
    private func withoutTheSilent(_ admission: Admission, _ nodes: [K3sNode]) -> Admission {
        var admission = admission
        admission.livingNamesakes = admission.livingNamesakes.filter { name in
            guard let node = nodes.first(where: { $0.name == name }), node.isServer,
                name != admission.joiner.name
            else { return true }
            return driver.takesConnections(node)
        }
        return admission
    }

    private func grant(
        _ admission: Admission, _ role: DatastoreRole, _ record: HostRecord, _ nodes: [K3sNode]
    ) throws(HostFailure) -> HostReport? {
        guard var secret = try driver.grant(record, to: admission.joiner, role: role) else {
            return nil
        }
        defer { zeroize(&secret) }
        let others = nodes.filter { $0.isVoter && $0.isReady && $0.ipv4 != record.address }
            .compactMap(\.ipv4).sorted()
        let grant = DatastoreGrant(
            role: role, admission: admission,
            endpoints: Array(([record.address] + others).prefix(EtcdPlan.memberLimit)),
            secret: secret)
        guard let sealed = grant.sealed(to: admission.joinerKey) else {
            throw HostFailure("the joiner's key cannot be sealed to")
        }
        return .admitted(
            joiner: admission.joiner.node, nonce: admission.nonce, role: role, sealed: sealed)
    }

    func expel(_ identity: HostIdentity) throws(HostFailure) {
        let record = try loadRecord()
        let leavers = try driver.nodes(record).filter {
            $0.name == identity.name || $0.ipv4 == identity.ipv4
        }
        for node in leavers { try driver.remove(node, record) }
    }

    func evict(_ memberID: UInt64) {
        if let record = try? loadRecord(), let nodes = try? driver.nodes(record),
            let node = nodes.first(where: { $0.id == memberID })
        {
            try? driver.remove(node, record)
        }
        report(.evicted(memberID: memberID))
    }
}
