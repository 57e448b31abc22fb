import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension K3sHost {
    /// Longer than the datastore's own refusals, which K3s itself outlasts; short of the
    /// coordinator's limit for a command.
    private static let joinLimit = Duration.seconds(150)
    /// A cold start of a whole site needs others for a quorum; the process counts as running
    /// without.
    private static let healthLimit = Duration.seconds(20)

    func startJoined(_ delivery: GrantDelivery) {
        start(delivery, .server)
    }

    func startAgent(_ delivery: GrantDelivery) {
        start(delivery, .agent)
    }

    private func start(_ delivery: GrantDelivery, _ role: DatastoreRole) {
        do throws(HostFailure) {
            try hooks.before(role)
        } catch {
            return report(.startFailed(.transient, reason: error.description))
        }
        do throws(HostFailure) {
            var grant = try DatastoreGrant.open(delivery, role: role, with: settings.privateKey)
            defer { zeroize(&grant.secret) }
            let secrets: K3sSecrets
            do throws(DecodingFailure) {
                secrets = try K3sSecrets(decoding: grant.secret, role: role)
            } catch {
                throw HostFailure("the grant is malformed")
            }
            guard !fileExists(k3s.writeAheadLog), !fileExists(k3s.sqlite) else {
                throw HostFailure("\(k3s.dataDirectory) holds data that is not this mesh's")
            }
            try makeDirectory(paths.directory)
            let hash = delivery.cluster.caHash
            // K3s compares the hash with the authority before it sends a secret.
            let token = { (user: String, secret: String) in
                K3sToken(caHash: hash, user: user, secret: secret).text
            }
            try store(
                secret: secrets.server.map { token("server", $0.secret) },
                agentSecret: role == .agent ? token("node", secrets.agent) : secrets.agent,
                settings: secrets.server.flatMap { K3sPlan.settings(granted: $0.settings) } ?? [])
            try store(
                HostRecord(
                    phase: role == .server ? .joining : .agent, cluster: delivery.cluster,
                    identity: delivery.identity, endpoints: grant.endpoints))
        } catch {
            return report(.startFailed(.badGrant, reason: error.description))
        }
        restartExisting(servers: [])
        if isExpectedToRun { runAfterHook(role) }
    }

    /// Goes on from what the record says.
    func restartExisting(servers: [IPAddress]) {
        do throws(HostFailure) {
            let record = try loadRecord()
            switch record.phase {
            case .agent: try run(record, .agent, isNew: false, servers: servers)
            case .joining: try run(record, .server, isNew: true, servers: servers)
            case .server: try run(record, .server, isNew: false, servers: servers)
            case .founding: throw HostFailure("READY of this datastore is not certified")
            }
        } catch {
            report(.startFailed(.transient, reason: error.description))
        }
    }

    private func run(
        _ record: HostRecord, _ role: DatastoreRole, isNew: Bool, servers: [IPAddress]
    ) throws(HostFailure) {
        if role == .server, !isNew, fileExists(k3s.tombstone) || !fileExists(k3s.writeAheadLog) {
            service.stop()
            return report(
                .startFailed(
                    .removed,
                    reason: fileExists(k3s.tombstone)
                        ? "this member was removed from the cluster"
                        : "the datastore's data on this machine is lost"))
        }
        if !service.adopt(unit: unit(role)) {
            let others = (servers + record.endpoints).filter { $0 != record.address }
            let server =
                others.first { answers($0, port: UInt16(K3sPlan.apiPort)) } ?? others.first
                ?? record.address
            try configure(record, role: role, server: server)
            try startService(role, isBound: isNew, until: bootTime + K3sHost.joinLimit)
            // A part of the certified cluster may outlive the daemon from its first moment on.
            if !isNew { try service.release() }
        }
        let isMember = !isNew && (role == .server || fileExists(k3s.agentKubeconfig))
        do throws(HostFailure) {
            let limit = isNew || role == .agent ? K3sHost.joinLimit : K3sHost.healthLimit
            do throws(HostFailure) {
                try waitForNode(record.name, role, until: bootTime + limit)
            } catch {
                // The others may not be up yet; who joins must be seen to have joined.
                guard isMember, service.isRunning, !mailbox.isInterrupted(within: 0)
                else { throw error }
            }
            var settled = record
            if role == .server { settled.phase = .server }
            if settled != record { try store(settled) }
            permit.withdraw()
            try service.release()
            isExpectedToRun = true
            report(.running(record.cluster, role))
        } catch {
            giveUpStart(ofMember: isMember)
            throw error
        }
    }

    /// Health, members and agents; remembers the servers' addresses for the next start, and points
    /// this machine's configuration at a living one.
    func probe() {
        do throws(HostFailure) {
            var record = try loadRecord()
            let role: DatastoreRole = record.phase == .agent ? .agent : .server
            guard service.isRunning else {
                isExpectedToRun = false
                return report(.exited(reason: "k3s ended: \(lastLogLine())"))
            }
            if role == .server, try authorityHash() != record.cluster.caHash {
                throw HostFailure("the authority of K3s on this machine is not the certified one")
            }
            let nodes = try control(role).nodes()
            let voters = nodes.filter(\.isVoter)
            let addresses = voters.compactMap(\.ipv4).sorted()
            if addresses != record.endpoints, !addresses.isEmpty {
                record.endpoints = addresses
                try store(record)
            }
            let living = voters.filter(\.isReady).compactMap(\.ipv4).sorted()
                .filter { $0 != record.address }
            if let next = living.first {
                try configure(record, role: role, server: next)
            }
            report(
                .observed(
                    Observation(
                        isHealthy: true, members: nodes.filter(\.isServer).map(\.member),
                        agents: [],
                        clients: nodes.filter { !$0.isServer }.map {
                            DatastoreClient(name: $0.name, ipv4: $0.ipv4)
                        })))
        } catch {
            report(.unobservable(reason: error.description))
        }
    }
}
