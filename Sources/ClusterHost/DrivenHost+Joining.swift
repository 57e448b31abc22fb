import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

extension DrivenHost {
    /// Short of the coordinator's limit for a command.
    private static let joinLimit = Duration.seconds(150)
    /// A cold start of a whole site needs others for a quorum.
    private static let healthLimit = Duration.seconds(20)

    func startJoined(_ delivery: GrantDelivery) {
        join(delivery, .server)
    }

    func startAgent(_ delivery: GrantDelivery) {
        join(delivery, .agent)
    }

    private func join(_ delivery: GrantDelivery, _ role: DatastoreRole) {
        do throws(HostFailure) {
            try hooks.before(role)
        } catch {
            return report(.startFailed(.transient, reason: error.description))
        }
        do throws(HostFailure) {
            var grant = try DatastoreGrant.open(delivery, role: role, with: settings.privateKey)
            defer { zeroize(&grant.secret) }
            guard try !driver.holdsData() else {
                throw HostFailure("there is data of \(driver.name) that is not this mesh's")
            }
            try makeDirectory(paths.directory)
            let record = HostRecord(
                phase: role == .server ? .joining : .agent, cluster: delivery.cluster,
                identity: delivery.identity, endpoints: grant.endpoints,
                settings: role == .server ? delivery.facts.settings : nil)
            try driver.prepareJoin(record, secret: grant.secret)
            try store(record)
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
            case .founding: throw HostFailure("READY of this datastore is not certified")
            case .joining: try run(record, isNew: true, servers: servers)
            case .server:
                if let loss = try driver.lossOfMember(record) {
                    service.stop()
                    return report(.startFailed(.removed, reason: loss))
                }
                try run(record, isNew: false, servers: servers)
            case .agent:
                if let loss = driver.lossOfAgent(record) {
                    service.stop()
                    return report(.startFailed(.removed, reason: loss))
                }
                try run(record, isNew: false, servers: servers)
            }
        } catch {
            report(.startFailed(.transient, reason: error.description))
        }
    }

    private func run(
        _ record: HostRecord, isNew: Bool, servers: [IPAddress]
    ) throws(HostFailure) {
        if !service.adopt(unit: unitName) {
            try driver.configure(record, servers: servers + record.endpoints)
            try start(record, isBound: isNew, until: bootTime + DrivenHost.joinLimit)
            // A part of the certified cluster may outlive the daemon from its first moment on.
            if !isNew { try service.release() }
        }
        let isMember = !isNew && driver.hasJoined(record)
        do throws(HostFailure) {
            let limit =
                isNew || record.role == .agent ? DrivenHost.joinLimit : DrivenHost.healthLimit
            do throws(HostFailure) {
                try waitUntilReady(record, until: bootTime + limit)
            } catch {
                // The others may not be up yet; who joins must be seen to have joined.
                guard isMember, service.isRunning, !mailbox.isInterrupted(within: 0)
                else { throw error }
            }
            var settled = record
            if isNew {
                guard try authorityHash(record) == record.cluster.caHash else {
                    throw HostFailure("this is not the certified cluster")
                }
                settled.phase = .server
                try driver.settle(settled)
                try store(settled)
            }
            try letGo()
            isExpectedToRun = true
            report(.running(record.cluster, record.role))
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
            guard service.isRunning else {
                isExpectedToRun = false
                return report(.exited(reason: "\(driver.name) ended: \(lastLogLine())"))
            }
            try driver.checkHealth(record)
            if record.role == .server, try authorityHash(record) != record.cluster.caHash {
                throw HostFailure("the authority on this machine is not the certified one")
            }
            let nodes = try driver.nodes(record)
            if record.role == .agent, !nodes.contains(where: { driver.isOwn($0, record) }) {
                throw HostFailure("this machine is not listed")
            }
            let voters = nodes.filter(\.isVoter)
            let addresses = voters.compactMap(\.ipv4).sorted()
            if addresses != record.endpoints, !addresses.isEmpty {
                record.endpoints = addresses
                try store(record)
            }
            let living = voters.filter(\.isReady).compactMap(\.ipv4).sorted()
                .filter { $0 != record.address }
            if !living.isEmpty { try driver.configure(record, servers: living) }
            report(
                .observed(
                    Observation(
                        isHealthy: true, members: nodes.filter(\.isServer).map(\.member),
                        agents: [],
                        clients: nodes.filter { !$0.isServer }.map {
                            DatastoreClient(name: $0.name, ipv4: $0.ipv4)
                        })))
        } catch {
            if let record = try? loadRecord(), record.role == .agent,
                let loss = driver.lossOfAgent(record)
            {
                isExpectedToRun = false
                service.stop()
                return report(.exited(reason: loss))
            }
            report(.unobservable(reason: error.description))
        }
    }
}
