import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension K3sHost {
    /// Removals of left-overs, a reservation and a grant; more rounds mean that somebody else is
    /// changing the cluster too.
    private static let roundLimit = 6
    /// A joiner gives up earlier by itself.
    private static let reservationLimit = Duration.seconds(200)

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
                try authorityHash() == record.cluster.caHash
            else { return postponed(.notServing) }
            let control = control(.server)
            for _ in 0..<K3sHost.roundLimit {
                let nodes = try control.nodes()
                let reservation = try currentReservation(nodes)
                let step = K3sPlan.admissionStep(
                    withoutTheSilent(admission, nodes), nodes: nodes, reservation: reservation)
                switch step {
                case .postpone(let reason): return postponed(reason)
                case .refuse(let reason):
                    return .refused(joiner: joiner, nonce: nonce, reason)
                case .confirm(let memberID):
                    return .mustConfirm(joiner: joiner, nonce: nonce, memberID: memberID)
                case .remove(let name): try control.remove(name)
                case .reserve:
                    guard try control.reserve(for: admission.joiner.name) else {
                        return postponed(.anotherJoining)
                    }
                case .grantServer: return try grant(admission, .server, nodes)
                case .grantAgent: return try grant(admission, .agent, nodes)
                }
            }
            return postponed(.busy)
        } catch {
            return postponed(.unhealthy)
        }
    }

    /// The mesh needs a moment to see that a machine is gone. A server with the joiner's host name
    /// that takes no connection has most likely come back as the joiner.
    private func withoutTheSilent(_ admission: Admission, _ nodes: [K3sNode]) -> Admission {
        var admission = admission
        admission.livingNamesakes = admission.livingNamesakes.filter { name in
            guard let node = nodes.first(where: { $0.name == name }), node.isServer,
                name != admission.joiner.name, let address = node.ipv4
            else { return true }
            return answers(address, port: UInt16(K3sPlan.apiPort))
        }
        return admission
    }

    /// Who holds the place for joining servers, after it was given up by whoever votes already or
    /// has not come for too long.
    private func currentReservation(_ nodes: [K3sNode]) throws(HostFailure) -> String? {
        guard let held = try control(.server).reservation() else {
            seenReservation = nil
            return nil
        }
        if seenReservation?.id != held.id { seenReservation = (held.id, bootTime) }
        let hasArrived = nodes.contains { $0.name == held.name && $0.isVoter }
        let isOld =
            seenReservation.map { bootTime - $0.since > K3sHost.reservationLimit } ?? false
        guard hasArrived || isOld else { return held.name }
        try control(.server).releaseReservation()
        seenReservation = nil
        return nil
    }

    private func grant(
        _ admission: Admission, _ role: DatastoreRole, _ nodes: [K3sNode]
    ) throws(HostFailure) -> HostReport {
        let own = try loadRecord().address
        let others = nodes.filter { $0.isVoter && $0.isReady && $0.ipv4 != own }
            .compactMap(\.ipv4).sorted()
        var encoded = K3sSecrets(
            agent: try secret(in: agentSecretFile),
            server: role == .agent
                ? nil
                : K3sSecrets.Server(
                    secret: try secret(in: secretFile), settings: try grantedSettings())
        ).encoded
        defer { zeroize(&encoded) }
        let grant = DatastoreGrant(
            role: role, admission: admission,
            endpoints: Array(([own] + others).prefix(EtcdPlan.memberLimit)), secret: encoded)
        guard let sealed = grant.sealed(to: admission.joinerKey) else {
            throw HostFailure("the joiner's key cannot be sealed to")
        }
        return .admitted(
            joiner: admission.joiner.node, nonce: admission.nonce, role: role, sealed: sealed)
    }

    func expel(_ identity: HostIdentity) throws(HostFailure) {
        let control = control(.server)
        let leavers = try control.nodes().filter {
            $0.name == identity.name || $0.ipv4 == identity.ipv4
        }
        for node in leavers { try control.remove(node.name) }
    }

    func evict(_ memberID: UInt64) {
        let control = control(.server)
        if let nodes = try? control.nodes(), let node = nodes.first(where: { $0.id == memberID }) {
            try? control.remove(node.name)
        }
        report(.evicted(memberID: memberID))
    }
}
