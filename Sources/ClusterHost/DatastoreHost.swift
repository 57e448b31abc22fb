import CProcess
import ClusterPlan
import Glibc
import MeshBase
import NetAddress

/// One kind of datastore on this machine: what the executor's thread runs.
///
/// The record on disk moves before the process does: `founding` is written before the first start,
/// `server` before the release, so that a daemon that is killed at any point finds out where it
/// stood.
protocol DatastoreHost: AnyObject {
    var settings: ClusterExecutor.Settings { get }
    var mailbox: CommandMailbox { get }
    var report: @Sendable (HostReport) -> Void { get }
    var paths: HostPaths { get }
    var service: any InitSystem { get }
    /// The service's name where an init system knows it.
    var unitName: String { get }
    /// Set while the datastore is meant to run, so that its end is news.
    var isExpectedToRun: Bool { get set }
    /// Of the datastore, for people.
    var serviceName: String { get }

    func inspect() throws(HostFailure) -> LocalDatastore
    func found(_ identity: HostIdentity, generation: UInt32, deadline: BootInstant)
    func release(_ cluster: ClusterIdentity)
    /// Renames what belongs to `generation`; the service has stopped.
    func setDataAside(generation: UInt32) throws(HostFailure)
    func makeRequest(_ identity: HostIdentity) throws(HostFailure) -> [UInt8]
    func admit(_ admission: Admission) -> HostReport
    func startJoined(_ delivery: GrantDelivery)
    func startAgent(_ delivery: GrantDelivery)
    /// - Parameter servers: machines that say they are ready servers.
    func restartExisting(servers: [IPAddress])
    func probe()
    func evict(_ memberID: UInt64)
    /// Removes a member or an agent under its name or its address; it may be gone already.
    func expel(_ identity: HostIdentity) throws(HostFailure)
    /// Whether a service in this record's phase must end with the daemon.
    func isBound(_ record: HostRecord) -> Bool
}

extension DatastoreHost {
    /// Until the daemon ends.
    func run() {
        while true {
            switch mailbox.next() {
            case .command(let command): execute(command)
            case .processEnded(let id): takeEnd(of: id)
            case .shutDown:
                let record = try? loadRecord()
                if record.map({ isBound($0) }) ?? true { service.stop() }
                mailbox.finish()
                // The thread stays: its end would kill a supervisor that is not released yet.
                while true { pause() }
            }
        }
    }

    private func execute(_ command: HostCommand) {
        do throws(HostFailure) {
            switch command {
            case .inspect:
                report(.inspected(fileExists(leftMarker) ? .retired : try inspect()))
            case .found(let identity, let generation, let deadline):
                found(identity, generation: generation, deadline: deadline)
            case .extendDeadline(let deadline): service.extend(to: deadline)
            case .release(let cluster): release(cluster)
            case .stop:
                isExpectedToRun = false
                stopDatastore()
            case .setAside(let generation):
                isExpectedToRun = false
                stopDatastore()
                try setDataAside(generation: generation)
                report(.asideSet)
            case .makeRequest(let identity): report(.requestMade(try makeRequest(identity)))
            case .admit(let admission): report(admit(admission))
            case .startJoined(let delivery): startJoined(delivery)
            case .startAgent(let delivery): startAgent(delivery)
            case .restartExisting(let servers): restartExisting(servers: servers)
            case .probe: probe()
            case .evict(let memberID): evict(memberID)
            case .expel(let leaver, let nonce):
                try expel(leaver)
                report(.expelled(leaver.node, nonce: nonce))
            case .retire(let generation):
                isExpectedToRun = false
                // The marker first: a machine that dies here must not join again.
                try writeFile(leftMarker, Array("generation \(generation)\n".utf8))
                stopDatastore()
                try setDataAside(generation: generation)
                report(.retired)
            }
        } catch {
            report(.failed(reason: error.description))
        }
    }

    /// A supervisor ended; whether that is news depends on whether it was meant to.
    private func takeEnd(of id: pid_t) {
        guard service.processID == id, !service.isRunning else { return }
        service.forget()
        guard isExpectedToRun else { return }
        isExpectedToRun = false
        report(.exited(reason: "\(serviceName) ended: \(lastLogLine())"))
    }

    // MARK: - Parts

    /// Present on a machine that has left for good.
    private var leftMarker: String { settings.directory + ".left" }

    func loadRecord() throws(HostFailure) -> HostRecord {
        try HostRecord(parsing: try readText(paths.record))
    }

    func store(_ record: HostRecord) throws(HostFailure) {
        try writeFile(paths.record, Array(record.text.utf8))
    }

    var bootTime: BootInstant { BootInstant(nanoseconds: cprocess_boot_time()) }

    /// The end of the datastore's log, for a person; it logs no secrets.
    func lastLogLine() -> String {
        guard let text = try? readFile(paths.log, limit: 2 << 20) else { return "no log" }
        let lines = String(decoding: text.suffix(2000), as: UTF8.self).split(separator: "\n")
        return lines.last.map { String($0.prefix(300)) } ?? "no log"
    }

    var hooks: BootstrapHooks {
        BootstrapHooks(directory: settings.hookDirectory, interrupt: mailbox.interrupt)
    }

    /// The operator's program after the first start; what went wrong stands in `hook-problem`.
    func runAfterHook(_ role: DatastoreRole) {
        let file = paths.directory + "/hook-problem"
        if let problem = hooks.after(role) {
            try? writeFile(file, Array((problem + "\n").utf8))
        } else {
            removeFile(file)
        }
    }

    /// Also one that an earlier life of the daemon left and that this one has not taken over yet.
    private func stopDatastore() {
        if fileExists(paths.record) { _ = service.adopt(unit: unitName) }
        service.stop()
    }

    /// A start came to nothing. A part of the certified cluster runs on: it may become ready without
    /// this daemon. What nobody has seen join does not, and when something urgent waits, that
    /// decides.
    func giveUpStart(ofMember isMember: Bool) {
        if !isMember, !mailbox.isInterrupted(within: 0) { service.stop() }
    }

    /// Renews the deadline of a service that is starting; the later one.
    func takeRenewals(_ deadline: BootInstant) -> BootInstant {
        var deadline = deadline
        for renewed in mailbox.takeDeadlines() {
            service.extend(to: renewed)
            deadline = renewed
        }
        return deadline
    }
}
