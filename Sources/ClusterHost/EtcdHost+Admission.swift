import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension EtcdHost {
    /// Removals of left-overs and one addition; more rounds mean that somebody else is changing
    /// the membership too.
    private static let roundLimit = 5

    func admit(_ admission: Admission) -> HostReport {
        let joiner = admission.joiner.node
        let nonce = admission.nonce
        guard let request = SigningRequest(der: admission.request) else {
            return .refused(joiner: joiner, nonce: nonce, .badRequest)
        }
        do throws(HostFailure) {
            let record = try loadRecord()
            guard record.phase == .server, record.cluster == admission.cluster else {
                return .postponed(joiner: joiner, nonce: nonce, .notServing)
            }
            let endpoint = [record.address]
            for _ in 0..<EtcdHost.roundLimit {
                let members = try control.members(at: endpoint)
                let step = EtcdPlan.admissionStep(
                    admission, members: members, silence: silence(members, admission.joiner))
                switch step {
                case .postpone(let reason):
                    return .postponed(joiner: joiner, nonce: nonce, reason)
                case .refuse(let reason):
                    return .refused(joiner: joiner, nonce: nonce, reason)
                case .confirm(let memberID):
                    return .mustConfirm(joiner: joiner, nonce: nonce, memberID: memberID)
                case .grantAgent: return try grant(admission, request, .agent, members, server: nil)
                case .remove(let memberID):
                    let result = control.remove(memberID, at: endpoint)
                    guard result.succeeded || result.errors.contains("member not found") else {
                        return .postponed(joiner: joiner, nonce: nonce, .unhealthy)
                    }
                case .addLearner:
                    return try addServer(admission, request, members, at: endpoint)
                }
            }
            return .postponed(joiner: joiner, nonce: nonce, .busy)
        } catch {
            return .postponed(joiner: joiner, nonce: nonce, .unhealthy)
        }
    }

    /// How long members with the joiner's host name have been silent, as far as this server saw.
    private func silence(_ members: [DatastoreMember], _ joiner: HostIdentity)
        -> [UInt64: Duration]
    {
        let namesakes = members.filter { EtcdPlan.isNamesake($0, of: joiner) }
        for member in namesakes {
            if let address = member.ipv4, !answers(address, port: UInt16(EtcdPlan.clientPort)) {
                silentSince[member.id] = silentSince[member.id] ?? bootTime
            } else {
                silentSince[member.id] = nil
            }
        }
        silentSince = silentSince.filter { entry in members.contains { $0.id == entry.key } }
        return silentSince.mapValues { bootTime - $0 }
    }

    private func addServer(
        _ admission: Admission, _ request: SigningRequest, _ members: [DatastoreMember],
        at endpoint: [IPAddress]
    ) throws(HostFailure) -> HostReport {
        let joiner = admission.joiner
        let postponed = { (reason: PostponeReason) in
            HostReport.postponed(joiner: joiner.node, nonce: admission.nonce, reason)
        }
        let result = control.addLearner(joiner.name, address: joiner.ipv4, at: endpoint)
        guard result.succeeded, let addition = EtcdPlan.addition(inOutput: result.output) else {
            return postponed(
                result.errors.contains("too many learner") ? .anotherJoining : .unhealthy)
        }
        // The answer lists the membership as of this change, so of two servers that admit at the
        // same time exactly the later sees one member too many, and takes its own back.
        guard addition.count <= admission.serverLimit else {
            _ = control.remove(addition.id, at: endpoint)
            return postponed(.anotherJoining)
        }
        var authorityKey = try readFile(paths.authorityKey)
        defer { zeroize(&authorityKey) }
        return try grant(
            admission, request, .server, members,
            server: JoinGrant.Server(
                memberID: addition.id, initialCluster: addition.initialCluster,
                authorityKey: authorityKey))
    }

    private func grant(
        _ admission: Admission, _ request: SigningRequest, _ role: DatastoreRole,
        _ members: [DatastoreMember], server: JoinGrant.Server?
    ) throws(HostFailure) -> HostReport {
        let authority = try loadAuthority()
        let certificate = try authority.issue(
            for: admission.joiner, request: request, role: role)
        let endpoints = members.filter { $0.isStarted && !$0.isLearner }.compactMap { $0.ipv4 }
        let grant = JoinGrant(
            role: role, admission: admission, authority: try derBytes(of: authority),
            certificate: certificate, endpoints: endpoints, server: server)
        guard let sealed = grant.sealed(to: admission.joinerKey) else {
            throw HostFailure("the joiner's key cannot be sealed to")
        }
        return .admitted(
            joiner: admission.joiner.node, nonce: admission.nonce, role: role, sealed: sealed)
    }

    func expel(_ identity: HostIdentity) throws(HostFailure) {
        let endpoint = [try loadRecord().address]
        let leavers = try control.members(at: endpoint).filter {
            $0.name == identity.name || $0.ipv4 == identity.ipv4
        }
        for member in leavers {
            let result = control.remove(member.id, at: endpoint)
            guard result.succeeded || result.errors.contains("member not found") else {
                throw HostFailure("member remove: \(result.problem)")
            }
        }
        try control.removeAgent(identity.node, at: endpoint)
    }

    func evict(_ memberID: UInt64) {
        if let record = try? loadRecord() {
            _ = control.remove(memberID, at: [record.address])
        }
        report(.evicted(memberID: memberID))
    }
}
