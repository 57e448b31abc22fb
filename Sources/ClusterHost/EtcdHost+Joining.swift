import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension EtcdHost {
    /// Longer than the datastore's own refusals after a change of membership (about five seconds)
    /// and the transfer of a small snapshot; short of the coordinator's limit for a command.
    private static let joinLimit = Duration.seconds(120)
    /// A cold start of a whole site needs others for a quorum; the process counts as running
    /// without.
    private static let healthLimit = Duration.seconds(15)

    /// Starts as a new member: learner first, since a learner that fails to start costs the
    /// others nothing, while a voter that fails to start takes a quorum of two down.
    func startJoined(_ delivery: GrantDelivery) {
        do throws(HostFailure) {
            try hooks.before(.server)
        } catch {
            return report(.startFailed(.transient, reason: error.description))
        }
        do throws(HostFailure) {
            let grant = try open(delivery, role: .server)
            guard let server = grant.server else { throw HostFailure("the grant is malformed") }
            let authority = try CertificateAuthority(
                certificate: grant.authority, key: server.authorityKey)
            try moveAside(paths.data, suffix: ".old")
            try storeAuthority(grant.authority, key: authority.rawKey)
            try writeFile(paths.certificate, Array(certificatePEM(grant.certificate).utf8))
            let identity = delivery.identity
            try writeConfiguration(
                name: identity.name, address: identity.ipv4,
                initialCluster: server.initialCluster, isNew: false, cluster: delivery.cluster)
            try store(
                HostRecord(
                    phase: .joining, cluster: delivery.cluster, identity: identity,
                    memberID: server.memberID, endpoints: grant.endpoints))
        } catch {
            return report(.startFailed(.badGrant, reason: error.description))
        }
        restartExisting(servers: [])
        if isExpectedToRun { runAfterHook(.server) }
    }

    func startAgent(_ delivery: GrantDelivery) {
        do throws(HostFailure) {
            try hooks.before(.agent)
        } catch {
            return report(.startFailed(.transient, reason: error.description))
        }
        do throws(HostFailure) {
            let grant = try open(delivery, role: .agent)
            try writeFile(
                paths.authorityCertificate, Array(certificatePEM(grant.authority).utf8))
            try writeFile(paths.certificate, Array(certificatePEM(grant.certificate).utf8))
            try store(
                HostRecord(
                    phase: .agent, cluster: delivery.cluster, identity: delivery.identity,
                    endpoints: grant.endpoints))
        } catch {
            return report(.startFailed(.badGrant, reason: error.description))
        }
        restartExisting(servers: [])
        runAfterHook(.agent)
    }

    private func open(_ delivery: GrantDelivery, role: DatastoreRole)
        throws(HostFailure) -> JoinGrant
    {
        let grant = try JoinGrant.open(delivery, role: role, with: settings.privateKey)
        guard !grant.endpoints.isEmpty else { throw HostFailure("the grant names no member") }
        try hostKey().check(
            certificate: grant.certificate, authority: grant.authority,
            identity: delivery.identity)
        return grant
    }

    /// Goes on from what the record says.
    func restartExisting(servers: [IPAddress]) {
        do throws(HostFailure) {
            let record = try loadRecord()
            switch record.phase {
            case .agent:
                try control.registerAgent(record.node, name: record.name, at: record.endpoints)
                report(.running(record.cluster, .agent))
            case .joining: try runMember(record, isNew: true)
            case .server: try runMember(record, isNew: false)
            case .founding: throw HostFailure("READY of this datastore is not certified")
            }
        } catch {
            report(.startFailed(.transient, reason: error.description))
        }
    }

    private func runMember(_ record: HostRecord, isNew: Bool) throws(HostFailure) {
        guard isNew || fileExists(paths.writeAheadLog) else {
            report(.startFailed(.removed, reason: "the datastore's data on this machine is lost"))
            return
        }
        if !service.adopt(unit: unitName) {
            try startService()
            // A part of the certified cluster may outlive the daemon from its first moment on.
            if !isNew { try service.release() }
        }
        do throws(HostFailure) {
            if isNew {
                try promote(record)
                try waitForHealth(at: record.address, until: bootTime + EtcdHost.healthLimit)
            } else {
                try waitForProcess(record)
            }
            var settled = record
            settled.phase = .server
            if settled != record { try store(settled) }
            try service.release()
            isExpectedToRun = true
            report(.running(record.cluster, .server))
        } catch {
            giveUpStart(ofMember: !isNew)
            if isRemoved(record) {
                service.stop()
                report(.startFailed(.removed, reason: "this member was removed from the cluster"))
            } else {
                throw error
            }
        }
    }

    /// Healthy, or at least running without an end: the others may not be up yet.
    private func waitForProcess(_ record: HostRecord) throws(HostFailure) {
        do throws(HostFailure) {
            try waitForHealth(at: record.address, until: bootTime + EtcdHost.healthLimit)
        } catch {
            guard service.isRunning, !mailbox.isInterrupted(within: 0) else { throw error }
        }
    }

    /// Asks the voters to make this learner one of them until it has caught up. A learner answers
    /// no such request itself.
    private func promote(_ record: HostRecord) throws(HostFailure) {
        let end = bootTime + EtcdHost.joinLimit
        let others = record.endpoints.filter { $0 != record.address }
        while true {
            guard service.isRunning else { throw HostFailure("etcd ended: \(lastLogLine())") }
            let result = control.promote(record.memberID, at: others)
            if result.succeeded { return }
            if result.errors.contains("can only promote a learner member"),
                !result.errors.contains("in sync with leader")
            {
                return
            }
            if result.errors.contains("member not found") {
                throw HostFailure("the cluster does not know this member")
            }
            guard bootTime < end else {
                throw HostFailure("not promoted in time: \(result.problem)")
            }
            if mailbox.isInterrupted(within: 500) { throw HostFailure("interrupted") }
        }
    }

    /// Whether the other members say that this one is none of them. No answer means no.
    private func isRemoved(_ record: HostRecord) -> Bool {
        let others = record.endpoints.filter { $0 != record.address }
        guard !others.isEmpty, let members = try? control.members(at: others) else { return false }
        return !members.contains { member in
            member.ipv4 == record.address && [record.name, ""].contains(member.name)
                && (record.memberID == 0 || record.memberID == member.id)
        }
    }

    /// Health, members and agents; remembers the members' addresses for the next start.
    func probe() {
        do throws(HostFailure) {
            var record = try loadRecord()
            let endpoints = record.phase == .agent ? record.endpoints : [record.address]
            let agents = try control.agents(at: endpoints)
            let members = try control.members(at: endpoints)
            let addresses = members.filter { !$0.isLearner && $0.isStarted }
                .compactMap { $0.ipv4 }.sorted()
            if addresses != record.endpoints, !addresses.isEmpty {
                record.endpoints = addresses
                try store(record)
            }
            report(.observed(Observation(isHealthy: true, members: members, agents: agents)))
        } catch {
            report(.unobservable(reason: error.description))
        }
    }
}
