import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

/// Runs a datastore through a ``DatastoreDriver``: as a unit of the machine's init system where that is
/// K3s', else as a supervised child.
final class DrivenHost: DatastoreHost {
    let settings: ClusterExecutor.Settings
    let mailbox: CommandMailbox
    let report: @Sendable (HostReport) -> Void
    let paths: HostPaths
    let service: any InitSystem
    let driver: any DatastoreDriver
    var isExpectedToRun = false
    var serviceName: String { driver.name }
    var unitName: String { driver.unit((try? loadRecord())?.role ?? .server) }
    private var permit: StartPermit { StartPermit(directory: paths.directory) }

    init(
        settings: ClusterExecutor.Settings, datastore: DrivenDatastore, mailbox: CommandMailbox,
        report: @escaping @Sendable (HostReport) -> Void
    ) {
        self.settings = settings
        self.mailbox = mailbox
        self.report = report
        switch datastore {
        case .k3s(let k3s):
            driver = K3sDriver(
                k3s: k3s, directory: settings.directory, interrupt: mailbox.interrupt)
        case .program(let path, let interface):
            driver = ProgramDriver(
                path: path, interface: interface, directory: settings.directory + "/data",
                interrupt: mailbox.interrupt)
        case .k0s(let k0s):
            driver = K0sDriver(
                settings: k0s, directory: settings.directory, interrupt: mailbox.interrupt)
        }
        paths = HostPaths(directory: settings.directory, logName: driver.logName)
        let child = SupervisedService(
            supervisor: settings.supervisor, processFile: paths.process,
            onExit: { mailbox.post(.processEnded($0)) })
        if case .k3s(let k3s) = datastore {
            service = k3s.service(
                child: child, directory: paths.directory, interrupt: mailbox.interrupt)
        } else {
            service = child
        }
    }

    func isBound(_ record: HostRecord) -> Bool {
        record.phase == .founding || record.phase == .joining
    }

    func inspect() throws(HostFailure) -> LocalDatastore {
        try service.guardStarts(of: [driver.unit(.server), driver.unit(.agent)])
        let holdsData = try driver.holdsData()
        guard fileExists(paths.record) else {
            return holdsData ? .foreign(caHash: (try? authorityHash(nil)) ?? .zero) : .none
        }
        let record = try loadRecord()
        switch record.phase {
        case .founding: return .founding(record.cluster)
        case .server:
            if holdsData, let hash = try? authorityHash(record), hash != record.cluster.caHash {
                return .foreign(caHash: hash)
            }
            return .server(record.cluster)
        case .agent: return .agent(record.cluster)
        case .joining: return holdsData ? .server(record.cluster) : .none
        }
    }

    func authorityHash(_ record: HostRecord?) throws(HostFailure) -> Bytes32 {
        let authority = try driver.authority(record)
        guard !authority.isEmpty else { throw HostFailure("\(driver.name) has no authority") }
        return sha256(authority)
    }

    func setDataAside(generation: UInt32) throws(HostFailure) {
        try driver.setDataAside(try? loadRecord(), generation: generation)
        try moveAside(paths.directory, suffix: ".fenced-g\(generation)")
    }

    func makeRequest(_ identity: HostIdentity) -> [UInt8] { Array(driver.kind.utf8) }

    // MARK: - Founding

    /// Starts a cluster of one. Nothing of it leaves the machine before the release.
    func found(_ identity: HostIdentity, generation: UInt32, deadline: BootInstant) {
        do throws(HostFailure) {
            var record = try foundingRecord(identity, generation: generation)
            guard bootTime < deadline else { throw HostFailure("the deadline has passed") }
            if !service.isRunning {
                try hooks.before(.server)
                try driver.prepareFounding(record)
                // What an earlier try may have proposed stays.
                if record.settings == nil {
                    record.settings = try driver.settingsHash()
                    try store(record)
                }
                try driver.configure(record, servers: [])
                try start(record, deadline: deadline, isBound: true, until: deadline)
            }
            try waitUntilReady(record, until: deadline)
            service.extend(to: deadline)
            let cluster = ClusterIdentity(
                generation: generation, caHash: try authorityHash(record))
            if record.cluster != cluster {
                record.cluster = cluster
                try store(record)
            }
            isExpectedToRun = true
            report(.founded(cluster, facts: GenesisFacts(settings: record.settings)))
        } catch {
            service.stop()
            report(.foundingFailed(generation: generation, reason: error.description))
        }
    }

    /// That of an earlier try, or a new one; the authority's hash is unknown until there is one.
    private func foundingRecord(_ identity: HostIdentity, generation: UInt32)
        throws(HostFailure) -> HostRecord
    {
        try makeDirectory(paths.directory)
        if fileExists(paths.record) {
            let record = try loadRecord()
            guard record.phase == .founding, record.cluster.generation == generation,
                record.address == identity.ipv4, record.name == identity.name
            else { throw HostFailure("other datastore data is on this machine") }
            return record
        }
        guard try !driver.holdsData() else {
            throw HostFailure("there is data of \(driver.name), but its record is missing")
        }
        let record = HostRecord(
            phase: .founding, cluster: ClusterIdentity(generation: generation, caHash: .zero),
            identity: identity, endpoints: [identity.ipv4])
        try store(record)
        return record
    }

    func release(_ cluster: ClusterIdentity) {
        do throws(HostFailure) {
            var record = try loadRecord()
            guard record.cluster == cluster else {
                throw HostFailure("the certified cluster is not the one on this machine")
            }
            record.phase = .server
            try driver.settle(record)
            try store(record)
            permit.withdraw()
            if service.isRunning { try service.release() }
            runAfterHook(.server)
        } catch {
            isExpectedToRun = false
            service.stop()
            report(.exited(reason: error.description))
        }
    }

    // MARK: - Process

    /// - Parameters:
    ///   - deadline: the service must not run past it unless it is released.
    ///   - limit: until when the gate lets a machine without data start.
    func start(
        _ record: HostRecord, deadline: BootInstant? = nil, isBound: Bool, until limit: BootInstant
    ) throws(HostFailure) {
        try driver.checkSettings(record)
        let words = try driver.command(record)
        guard let name = words.first, let program = locateProgram(name) else {
            throw HostFailure("\(words.first ?? driver.name) is not installed")
        }
        if isBound { try permit.give(until: limit) } else { permit.withdraw() }
        try service.start(
            ServiceOrder(
                unit: driver.unit(record.role), command: [program] + words.dropFirst(),
                logFile: paths.log, deadline: deadline, isBound: isBound))
    }

    /// The machine is seen in the certified cluster: the service outlives the daemon from now on.
    func letGo() throws(HostFailure) {
        permit.withdraw()
        try service.release()
    }

    /// - Throws: when the datastore ends, `deadline` passes or something urgent arrives.
    func waitUntilReady(_ record: HostRecord, until deadline: BootInstant) throws(HostFailure) {
        var deadline = deadline
        var problem = "no answer"
        while true {
            deadline = takeRenewals(deadline)
            guard service.isRunning else {
                throw HostFailure("\(driver.name) ended: \(lastLogLine())")
            }
            guard bootTime < deadline else {
                throw HostFailure("\(driver.name) is not ready: \(problem)")
            }
            do throws(HostFailure) {
                try driver.checkReadiness(record)
                let own = try driver.nodes(record).first { driver.isOwn($0, record) }
                if let own, record.role == .agent || own.isVoter { return }
                problem = own == nil ? "this machine is not listed" : "its member does not vote"
            } catch {
                problem = error.description
            }
            if mailbox.isInterrupted(within: 500) { throw HostFailure("interrupted") }
        }
    }
}
