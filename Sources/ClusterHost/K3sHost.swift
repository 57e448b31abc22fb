import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress

/// Runs K3s on this machine, as a server or as an agent.
///
/// What it writes: one drop-in of K3s' configuration and, in a directory of its own, the record and
/// the token files that the drop-in names. What K3s keeps is renamed at most.
final class K3sHost: DatastoreHost {
    let settings: ClusterExecutor.Settings
    let k3s: K3sSettings
    let mailbox: CommandMailbox
    let report: @Sendable (HostReport) -> Void
    let paths: HostPaths
    let service: any InitSystem
    var isExpectedToRun = false
    let serviceName = "k3s"
    /// The reservation that was seen last, and since when: a joiner that died gives its place up.
    var seenReservation: (id: String, since: BootInstant)?

    init(
        settings: ClusterExecutor.Settings, k3s: K3sSettings, mailbox: CommandMailbox,
        report: @escaping @Sendable (HostReport) -> Void
    ) {
        self.settings = settings
        self.k3s = k3s
        self.mailbox = mailbox
        self.report = report
        paths = HostPaths(directory: settings.directory, logName: "k3s.log")
        let child = SupervisedService(
            supervisor: settings.supervisor, processFile: paths.process,
            onExit: { mailbox.post(.processEnded($0)) })
        switch k3s.keeper {
        case .supervise: service = child
        case .openrc:
            service = OpenRCService(gate: k3s.gate, directory: paths.directory, child: child)
        case .systemd:
            let groups = (try? readText("/proc/self/cgroup")) ?? ""
            service = SystemdService(
                places: SystemdService.Places(daemonUnit: ownUnit(controlGroups: groups)),
                gate: k3s.gate, interrupt: mailbox.interrupt)
        }
    }

    func isBound(_ record: HostRecord) -> Bool {
        record.phase == .founding || record.phase == .joining
    }

    // MARK: - What is on the disk

    var secretFile: String { paths.directory + "/server-token" }
    var agentSecretFile: String { paths.directory + "/agent-token" }
    private var settingsFile: String { paths.directory + "/settings" }
    private var dropInFile: String { k3s.dropInDirectory + "/" + K3sPlan.dropInName }

    func inspect() throws(HostFailure) -> LocalDatastore {
        try service.guardStarts(of: ["k3s", "k3s-agent"])
        let holdsData = fileExists(k3s.writeAheadLog) || fileExists(k3s.sqlite)
        guard fileExists(paths.record) else {
            guard holdsData else { return .none }
            return .foreign(caHash: (try? authorityHash()) ?? .zero)
        }
        let record = try loadRecord()
        switch record.phase {
        case .founding: return .founding(record.cluster)
        case .server:
            if holdsData, let hash = try? authorityHash(), hash != record.cluster.caHash {
                return .foreign(caHash: hash)
            }
            return .server(record.cluster)
        case .agent: return .agent(record.cluster)
        case .joining: return holdsData ? .server(record.cluster) : .none
        }
    }

    /// Of the certificate file as it is: what K3s puts into its tokens.
    func authorityHash() throws(HostFailure) -> Bytes32 {
        sha256(try readFile(k3s.authority))
    }

    /// Stopped, and out of the way of the next start; containers' files stay where they are.
    func setDataAside(generation: UInt32) throws(HostFailure) {
        removeFile(dropInFile)
        for name in ["/server", "/agent"] {
            try moveAside(k3s.dataDirectory + name, suffix: ".fenced-g\(generation)")
        }
        try moveAside(paths.directory, suffix: ".fenced-g\(generation)")
    }

    /// Nothing but the kind: K3s needs no certificate request.
    func makeRequest(_ identity: HostIdentity) -> [UInt8] { Array("k3s/1".utf8) }

    // MARK: - Configuration

    /// Writes the drop-in when it would change; whether it did.
    @discardableResult
    func configure(
        _ record: HostRecord, role: DatastoreRole, isFounding: Bool = false, server: IPAddress?
    ) throws(HostFailure) -> Bool {
        var dropIn = K3sPlan.DropIn(
            role: role, identity: record.identity, interface: k3s.interface,
            tokenFile: role == .server ? secretFile : agentSecretFile)
        dropIn.isFounding = isFounding
        dropIn.server = server.map { K3sPlan.serverURL($0) }
        if role == .server { dropIn.agentTokenFile = agentSecretFile }
        dropIn.names = k3s.apiNames
        if k3s.dataDirectory != K3sSettings.defaultDataDirectory {
            dropIn.dataDirectory = k3s.dataDirectory
        }
        if k3s.configDirectory != K3sSettings.defaultConfigDirectory {
            dropIn.kubeconfig = k3s.kubeconfig
        }
        if role == .server {
            dropIn.settings = K3sPlan.settings(granted: try readText(settingsFile)) ?? []
        }
        let bytes = Array(dropIn.text.utf8)
        if let known = try? readFile(dropInFile), known == bytes { return false }
        try makeDirectories(k3s.dropInDirectory)
        try writeFile(dropInFile, bytes)
        return true
    }

    func store(secret: String?, agentSecret: String, settings: [String]) throws(HostFailure) {
        if let secret { try writeFile(secretFile, Array((secret + "\n").utf8)) }
        try writeFile(agentSecretFile, Array((agentSecret + "\n").utf8))
        let text = settings.map { $0 + "\n" }.joined()
        try writeFile(settingsFile, Array(text.utf8))
    }

    /// A secret from a token file; in the full form its last part.
    func secret(in path: String) throws(HostFailure) -> String {
        let text = String(try readText(path).prefix { !$0.isWhitespace })
        return K3sToken(text)?.secret ?? text
    }

    /// What the operator configured and all servers must share.
    func localSettings() throws(HostFailure) -> [String] {
        var texts: [String] = []
        if fileExists(k3s.mainConfiguration) { texts.append(try readText(k3s.mainConfiguration)) }
        for name in directoryEntries(k3s.dropInDirectory) where name != K3sPlan.dropInName {
            guard name.hasSuffix(".yaml") || name.hasSuffix(".yml") else { continue }
            texts.append(try readText(k3s.dropInDirectory + "/" + name))
        }
        return K3sPlan.criticalSettings(inFiles: texts)
    }

    func grantedSettings() throws(HostFailure) -> String { try readText(settingsFile) }

    // MARK: - Process

    var permit: StartPermit { StartPermit(directory: paths.directory) }

    func unit(_ role: DatastoreRole) -> String { role == .server ? "k3s" : "k3s-agent" }

    var unitName: String { unit((try? loadRecord())?.role ?? .server) }

    /// - Parameters:
    ///   - deadline: the service must not run past it unless it is released.
    ///   - limit: until when the gate lets a machine without data start.
    func startService(
        _ role: DatastoreRole, deadline: BootInstant? = nil, isBound: Bool, until limit: BootInstant
    ) throws(HostFailure) {
        guard let program = locateProgram(k3s.program) else {
            throw HostFailure("\(k3s.program) is not installed")
        }
        var command = [program, role == .server ? "server" : "agent"]
        if k3s.configDirectory != K3sSettings.defaultConfigDirectory {
            command += ["--config", k3s.mainConfiguration]
        }
        if isBound { try permit.give(until: limit) } else { permit.withdraw() }
        try service.start(
            ServiceOrder(
                unit: unit(role), command: command, logFile: paths.log, deadline: deadline,
                isBound: isBound))
    }

    func control(_ role: DatastoreRole) -> K3sControl {
        K3sControl(
            program: locateProgram(k3s.program) ?? k3s.program,
            kubeconfig: role == .server ? k3s.kubeconfig : k3s.agentKubeconfig,
            interrupt: mailbox.interrupt)
    }

    /// Waits until this machine's Node is there, for a server until its member votes and the API
    /// server is ready.
    ///
    /// - Throws: when K3s ends, `deadline` passes or something urgent arrives.
    func waitForNode(
        _ name: String, _ role: DatastoreRole, until deadline: BootInstant
    ) throws(HostFailure) {
        var deadline = deadline
        var problem = "no answer"
        while true {
            deadline = takeRenewals(deadline)
            guard service.isRunning else {
                throw HostFailure("\(serviceName) ended: \(lastLogLine())")
            }
            guard bootTime < deadline else { throw HostFailure("k3s is not ready: \(problem)") }
            do throws(HostFailure) {
                if role == .server { try control(role).checkReadiness() }
                let node = try control(role).nodes().first { $0.name == name }
                if let node, role == .agent || node.isVoter { return }
                problem = node == nil ? "its Node is not registered" : "its member does not vote"
            } catch {
                problem = error.description
            }
            if mailbox.isInterrupted(within: 500) { throw HostFailure("interrupted") }
        }
    }
}
