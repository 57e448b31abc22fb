import ClusterPlan

/// Where K3s is on this machine, and who starts it.
package struct K3sSettings: Sendable {
    /// Who keeps K3s' process (`--init`).
    package enum Keeper: Sendable {
        case supervise, systemd, openrc
    }

    /// A name looked up in the usual directories, or a path.
    package var program: String
    package var dataDirectory: String
    package var configDirectory: String
    /// The mesh's device, which flannel is told to use.
    package var interface: String
    /// Names and addresses under which the API is reached besides the servers' own.
    package var apiNames: [String]
    package var keeper: Keeper
    /// The command that units ask before they start; see ``UnitGate``.
    package var gate: [String]

    package static let defaultDataDirectory = "/var/lib/rancher/k3s"
    package static let defaultConfigDirectory = "/etc/rancher/k3s"

    package init(
        program: String = "k3s", dataDirectory: String = K3sSettings.defaultDataDirectory,
        configDirectory: String = K3sSettings.defaultConfigDirectory, interface: String,
        apiNames: [String] = [], keeper: Keeper = .supervise, gate: [String] = []
    ) {
        self.program = program
        self.dataDirectory = dataDirectory
        self.configDirectory = configDirectory
        self.interface = interface
        self.apiNames = apiNames
        self.keeper = keeper
        self.gate = gate
    }

    // What K3s itself keeps and where.

    var dropInDirectory: String { configDirectory + "/config.yaml.d" }
    var mainConfiguration: String { configDirectory + "/config.yaml" }
    var kubeconfig: String { configDirectory + "/k3s.yaml" }
    var agentKubeconfig: String { dataDirectory + "/agent/kubelet.kubeconfig" }
    /// The servers' authority as an agent keeps it.
    var agentAuthority: String { dataDirectory + "/agent/server-ca.crt" }
    var serverDirectory: String { dataDirectory + "/server" }
    /// Decides how `k3s server` starts: with it as the member it was, whatever it is told.
    var writeAheadLog: String { serverDirectory + "/db/etcd/member/wal" }
    /// Either means that `k3s server` has run on this machine.
    package var datastorePaths: [String] { [writeAheadLog, sqlite] }

    var sqlite: String { serverDirectory + "/db/state.db" }
    /// Left by a member that others removed.
    var tombstone: String { serverDirectory + "/db/etcd/tombstone" }
    var authority: String { serverDirectory + "/tls/server-ca.crt" }
    var serverToken: String { serverDirectory + "/token" }
    var agentToken: String { serverDirectory + "/agent-token" }
}

extension K3sSettings {
    /// Whoever keeps K3s' process here.
    func service(
        child: SupervisedService, directory: String, interrupt: Int32
    ) -> any InitSystem {
        switch keeper {
        case .supervise: return child
        case .openrc: return OpenRCService(gate: gate, directory: directory, child: child)
        case .systemd:
            let groups = (try? readText("/proc/self/cgroup")) ?? ""
            return SystemdService(
                places: SystemdService.Places(daemonUnit: ownUnit(controlGroups: groups)),
                gate: gate, interrupt: interrupt)
        }
    }
}
