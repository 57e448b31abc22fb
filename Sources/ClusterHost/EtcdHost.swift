import CProcess
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

/// Runs etcd on this machine: the executor's thread and everything it owns.
///
/// The record on disk moves before the process does: `founding` is written before the first start,
/// `server` before the release, so that a daemon that is killed at any point finds out where it
/// stood.
final class EtcdHost {
    let settings: ClusterExecutor.Settings
    let mailbox: CommandMailbox
    let report: @Sendable (HostReport) -> Void
    let paths: HostPaths
    let service: SupervisedService
    /// Set while the datastore is meant to run, so that its end is news.
    var isExpectedToRun = false

    init(
        settings: ClusterExecutor.Settings, mailbox: CommandMailbox,
        report: @escaping @Sendable (HostReport) -> Void
    ) {
        self.settings = settings
        self.mailbox = mailbox
        self.report = report
        paths = HostPaths(directory: settings.directory)
        service = SupervisedService(
            supervisor: settings.supervisor, processFile: paths.process,
            onExit: { mailbox.post(.processEnded($0)) })
    }

    /// Until the daemon ends.
    func run() {
        while true {
            switch mailbox.next() {
            case .command(let command): execute(command)
            case .processEnded(let id): takeEnd(of: id)
            case .shutDown:
                if (try? loadRecord())?.phase != .server { service.stop() }
                mailbox.finish()
                // The thread stays: its end would kill a supervisor that is not released yet.
                while true { pause() }
            }
        }
    }

    private func execute(_ command: HostCommand) {
        do throws(HostFailure) {
            switch command {
            case .inspect: report(.inspected(try inspect()))
            case .found(let identity, let generation, let deadline):
                found(identity, generation: generation, deadline: deadline)
            case .extendDeadline(let deadline): service.extend(to: deadline)
            case .release(let cluster): release(cluster)
            case .stop:
                isExpectedToRun = false
                service.stop()
            case .setAside(let generation):
                isExpectedToRun = false
                service.stop()
                try moveAside(paths.directory, suffix: ".fenced-g\(generation)")
                report(.asideSet)
            case .makeRequest(let identity):
                report(.requestMade(try hostKey().request(for: identity)))
            case .admit(let admission): report(admit(admission))
            case .startJoined(let delivery): startJoined(delivery)
            case .startAgent(let delivery): startAgent(delivery)
            case .restartExisting: restartExisting()
            case .probe: probe()
            case .evict(let memberID): evict(memberID)
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
        report(.exited(reason: "etcd ended: \(lastLogLine())"))
    }

    // MARK: - Parts

    func inspect() throws(HostFailure) -> LocalDatastore {
        guard fileExists(paths.record) else {
            guard !fileExists(paths.writeAheadLog) else {
                throw HostFailure("\(paths.data) holds data, but its record is missing")
            }
            return .none
        }
        let record = try loadRecord()
        switch record.phase {
        case .founding: return .founding(record.cluster)
        case .server: return .server(record.cluster)
        case .agent: return .agent(record.cluster)
        case .joining: return fileExists(paths.writeAheadLog) ? .server(record.cluster) : .none
        }
    }

    func loadRecord() throws(HostFailure) -> HostRecord {
        try HostRecord(parsing: try readText(paths.record))
    }

    func store(_ record: HostRecord) throws(HostFailure) {
        try writeFile(paths.record, Array(record.text.utf8))
    }

    /// This machine's key in the datastore, made at the first use.
    func hostKey() throws(HostFailure) -> HostKey {
        try makeDirectory(paths.directory)
        if fileExists(paths.key) { return try HostKey(pem: try readText(paths.key)) }
        let key = HostKey()
        try writeFile(paths.key, Array(key.pem.utf8))
        return key
    }

    func loadAuthority() throws(HostFailure) -> CertificateAuthority {
        var key = try readFile(paths.authorityKey)
        defer { zeroize(&key) }
        return try CertificateAuthority(
            certificate: try certificateDER(try readText(paths.authorityCertificate)), key: key)
    }

    var control: EtcdControl {
        EtcdControl(
            program: locateProgram(settings.etcdctlProgram) ?? settings.etcdctlProgram,
            paths: paths, interrupt: mailbox.interrupt)
    }

    /// Starts etcd from its configuration file, bound to the daemon.
    func startService(deadline: BootInstant? = nil) throws(HostFailure) {
        guard let program = locateProgram(settings.etcdProgram) else {
            throw HostFailure("\(settings.etcdProgram) is not installed")
        }
        try service.start(
            ServiceOrder(
                command: [program, "--config-file", paths.configuration], logFile: paths.log,
                deadline: deadline))
    }

    func writeConfiguration(
        name: String, address: IPAddress, initialCluster: String, isNew: Bool,
        cluster: ClusterIdentity
    ) throws(HostFailure) {
        let configuration = EtcdPlan.Configuration(
            name: name, address: address, dataDirectory: paths.data,
            authorityFile: paths.authorityCertificate, certificateFile: paths.certificate,
            keyFile: paths.key, initialCluster: initialCluster, isNewCluster: isNew,
            clusterToken: "\(settings.clusterToken)-g\(cluster.generation)")
        try writeFile(paths.configuration, Array(configuration.text.utf8))
    }

    /// Waits until etcd answers a read with a quorum.
    ///
    /// - Throws: when etcd ends, `deadline` passes or something urgent arrives.
    func waitForHealth(at address: IPAddress, until deadline: BootInstant) throws(HostFailure) {
        var deadline = deadline
        var problem = "no answer"
        while true {
            for renewed in mailbox.takeDeadlines() {
                service.extend(to: renewed)
                deadline = renewed
            }
            guard service.isRunning else { throw HostFailure("etcd ended: \(lastLogLine())") }
            guard bootTime < deadline else { throw HostFailure("etcd is not healthy: \(problem)") }
            do throws(HostFailure) {
                _ = try control.agents(at: [address])
                return
            } catch {
                problem = error.description
            }
            if mailbox.isInterrupted(within: 300) { throw HostFailure("interrupted") }
        }
    }

    var bootTime: BootInstant { BootInstant(nanoseconds: cprocess_boot_time()) }

    /// The end of etcd's log, for a person; etcd logs no secrets.
    func lastLogLine() -> String {
        guard let text = try? readFile(paths.log, limit: 2 << 20) else { return "no log" }
        let lines = String(decoding: text.suffix(2000), as: UTF8.self).split(separator: "\n")
        return lines.last.map { String($0.prefix(300)) } ?? "no log"
    }
}
