import CProcess
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

/// Runs etcd on this machine.
final class EtcdHost: DatastoreHost {
    let settings: ClusterExecutor.Settings
    let mailbox: CommandMailbox
    let report: @Sendable (HostReport) -> Void
    let paths: HostPaths
    let service: any InitSystem
    var isExpectedToRun = false
    let serviceName = "etcd"
    let unitName = "etcd"
    /// By member id: since when a member with a joiner's host name has taken no connection.
    var silentSince: [UInt64: BootInstant] = [:]

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

    func isBound(_ record: HostRecord) -> Bool { record.phase != .server }

    func setDataAside(generation: UInt32) throws(HostFailure) {
        try moveAside(paths.directory, suffix: ".fenced-g\(generation)")
    }

    func makeRequest(_ identity: HostIdentity) throws(HostFailure) -> [UInt8] {
        try hostKey().request(for: identity)
    }

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
                unit: "etcd", command: [program, "--config-file", paths.configuration],
                logFile: paths.log, deadline: deadline))
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
            deadline = takeRenewals(deadline)
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
}
