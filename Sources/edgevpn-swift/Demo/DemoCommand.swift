import ArgumentParser
import Configuration
import Consensus
import Glibc
import HTTPAPI
import LinuxIO
import MeshBase
import MeshNode
import NetAddress
import Storage

struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Show a whole mesh at work on this machine, and clear it away.",
        discussion: """
            Builds one network namespace per node, starts a real node in each from a fresh token, \
            and shows what they do: find each other, claim addresses, answer names, found one \
            datastore, carry traffic. Nothing leaves the machine and nothing stays on it. Needs \
            root. The exit code is 0 only when everything held.
            """)

    @Option(name: .long, help: "How many nodes, 1 to 32.")
    var nodes = 3

    @Option(name: .long, help: "The datastore that they found: etcd or none.")
    var cluster = "etcd"

    @Flag(name: .long, help: "Leave everything running at the end; --clean removes it.")
    var keep = false

    @Flag(name: .long, help: "Only remove what earlier demonstrations left.")
    var clean = false

    @OptionGroup var output: OutputOptions

    func run() async throws {
        var problems: [ConfigProblem] = []
        if !(1...32).contains(nodes) {
            problems.append(
                ConfigProblem(
                    path: "--nodes", message: "\(nodes) is not between 1 and 32", fix: "such as 3"))
        }
        let shown = [ClusterChoice.etcd, .none].first { $0.description == cluster }
        if shown == nil {
            problems.append(
                ConfigProblem(
                    path: "--cluster", message: "\(cluster) is not a datastore that is shown here",
                    fix: "give etcd or none"))
        }
        guard let cluster = shown, problems.isEmpty else {
            throw CommandFailure.mistakes(problems)
        }
        try checkMachine(cluster)
        if clean {
            let count = DemoLab.removeLeftovers(alsoKept: true)
            print("removed \(counted(count, "demonstration"))")
            return
        }
        Interruption.watch()
        DemoLab.removeLeftovers(alsoKept: false)
        var show = try DemoShow(count: nodes, cluster: cluster, silent: output.json)
        let success = await show.run()
        try output.show(show.report) { show.summary }
        if keep, success {
            show.lab.keep()
            if !output.json { print(show.directions) }
            return
        }
        if !success, !output.json, Interruption.signal == nil { print(show.logs()) }
        show.lab.remove()
        if let signal = Interruption.signal {
            throw CommandFailure(
                code: .operatingFailure,
                description: "stopped by signal \(signal); everything was removed")
        }
        guard success else {
            throw CommandFailure.operating(
                "not everything held", fix: "the steps above say what did not")
        }
    }

    private func checkMachine(_ cluster: ClusterChoice) throws(CommandFailure) {
        guard geteuid() == 0 else {
            throw .operating("network namespaces need root", fix: "start the demo as root")
        }
        for (tool, package) in [("ip", "iproute2")]
            + (cluster == .etcd
                ? [
                    ("etcd", "etcd-server"), ("etcdctl", "etcd-client"),
                ] : []) where !isInstalled(tool)
        {
            throw .operating("`\(tool)` is not installed", fix: "install the package \(package)")
        }
        guard access("/dev/net/tun", R_OK | W_OK) == 0 else {
            throw .operating(
                "/dev/net/tun is missing",
                fix: "load the kernel's module tun, or give the "
                    + "container that device")
        }
    }
}

/// Whether a program of that name is on the PATH.
func isInstalled(_ tool: String) -> Bool {
    let path = ProcessInput.current.environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin"
    return path.split(separator: ":").contains { access("\($0)/\(tool)", X_OK) == 0 }
}
