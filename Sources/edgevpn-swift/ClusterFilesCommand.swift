import ArgumentParser
import ClusterHost
import ClusterPlan
import Glibc
import Storage

/// Where K3s is, for commands that read this machine's own files.
struct K3sPlaces {
    var dataDirectory: String?
    var configDirectory: String?

    var settings: K3sSettings {
        K3sSettings(
            dataDirectory: dataDirectory ?? K3sSettings.defaultDataDirectory,
            configDirectory: configDirectory ?? K3sSettings.defaultConfigDirectory,
            interface: "")
    }

    /// What a unit asks before it starts.
    func gate(stateDirectory: String?) -> [String] {
        var words = [ownProgram, "cluster", "may-start"]
        if let stateDirectory { words += ["--state-dir", stateDirectory] }
        if let dataDirectory { words += ["--k3s-data-dir", dataDirectory] }
        if let configDirectory { words += ["--k3s-config-dir", configDirectory] }
        return words
    }
}

/// The file that this process runs.
private var ownProgram: String {
    guard let path = realpath("/proc/self/exe", nil) else { return "edgevpn-swift" }
    defer { free(path) }
    return String(cString: path)
}

private func clusterDirectory(_ stateDirectory: String?) throws -> String {
    do throws(StorageError) {
        return try StateLocation.find(chosen: stateDirectory).path + "/cluster"
    } catch {
        throw CommandFailure.operating("\(error)", fix: error.fix)
    }
}

extension ClusterCommand {
    struct MayStart: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "may-start",
            abstract: "Say whether K3s may start here now (exit code 0) or not (3).",
            discussion: """
                Units ask this before every start. It reads this machine's files only, so it \
                answers also when the node is down. In doubt the answer is no: the node starts the \
                unit later.
                """)

        @Option(name: .long, help: ArgumentHelp("The state directory.", valueName: "dir"))
        var stateDir: String?
        @Option(
            name: .customLong("k3s-data-dir"),
            help: ArgumentHelp("Default: /var/lib/rancher/k3s.", valueName: "dir"))
        var k3sDataDir: String?
        @Option(
            name: .customLong("k3s-config-dir"),
            help: ArgumentHelp("Default: /etc/rancher/k3s.", valueName: "dir"))
        var k3sConfigDir: String?
        @Flag(name: .long, help: "The unit is k3s-agent.")
        var agent = false
        @OptionGroup var output: OutputOptions

        private struct Answer: Codable {
            var mayStart: Bool
            var reason: String
        }

        func run() throws {
            let verdict = UnitGate.verdict(
                directory: try clusterDirectory(stateDir),
                k3s: K3sPlaces(dataDirectory: k3sDataDir, configDirectory: k3sConfigDir).settings,
                role: agent ? .agent : .server)
            switch verdict {
            case .allowed(let reason):
                try output.show(Answer(mayStart: true, reason: reason)) { "allowed: \(reason)" }
            case .refused(let reason):
                if output.json {
                    try output.show(Answer(mayStart: false, reason: reason)) { "" }
                    exitProgram(.refusedForSafety)
                }
                throw CommandFailure.refused(
                    reason, fix: "`edgevpn-swift cluster status` says what the node waits for")
            }
        }
    }

    struct Kubeconfig: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "kubeconfig",
            abstract: "Print the administrator's kubeconfig with an address of the mesh.",
            discussion: """
                It reads the file that K3s wrote on this server, so it works on servers and for \
                whoever may read that file. It gives full power over the cluster.
                """)

        @Option(name: .long, help: ArgumentHelp("The state directory.", valueName: "dir"))
        var stateDir: String?
        @Option(
            name: .customLong("k3s-config-dir"),
            help: ArgumentHelp("Default: /etc/rancher/k3s.", valueName: "dir"))
        var k3sConfigDir: String?

        func run() throws {
            do throws(HostFailure) {
                let text = try serverKubeconfig(
                    directory: try location(),
                    k3s: K3sPlaces(configDirectory: k3sConfigDir).settings)
                write(bytes: Array(text.utf8), to: STDOUT_FILENO)
            } catch {
                throw CommandFailure.operating(
                    error.description,
                    fix: "run it as root on a server; `edgevpn-swift cluster status` lists them")
            }
        }

        private func location() throws(HostFailure) -> String {
            do {
                return try clusterDirectory(stateDir)
            } catch {
                throw HostFailure("\(error)")
            }
        }
    }
}
