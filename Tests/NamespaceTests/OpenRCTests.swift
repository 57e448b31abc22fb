import Foundation
import Testing

/// K3s as a service of a real OpenRC, which runs without being the first process in a mount namespace
/// of its own:
///
///     n1   172.31.78.1 on eth0, OpenRC laid over /usr/lib and /usr/sbin, /etc and /run of its own
@Suite(.serialized) struct OpenRCTests {
    @Test func aServerFoundsAsAServiceAndStartsOnlyWhenItMay() async throws {
        try await withClusterLab(
            count: 1, policy: ["--nodes", "1", "--genesis", "single"], kind: .k3s
        ) { cluster in
            let machine = try OpenRCMachine(node: cluster.nodes[0])
            try await machine.boot()
            let node = machine.node
            try await eventually("it knows that the founding waits", within: .seconds(60)) {
                try await node.status() != nil
            }
            // Somebody enabled the service: it waits at the gate, and no K3s runs.
            try await machine.rc("rc-service k3s start || true")
            #expect(node.k3s() == nil)

            let order = try await node.ask(["cluster", "init"])
            #expect(order.status == 0, "\(order.output)")
            try await cluster.settle([node], servers: 1, agents: 0, within: .seconds(120))
            #expect(try await machine.rc("rc-service k3s status").contains("started"))
            #expect(try await machine.rc("ls /etc/runlevels/default").contains("k3s"))
            let settings = try await machine.rc("cat /etc/conf.d/k3s")
            #expect(settings.hasPrefix("K3S_OPTS=mine\n"), "\(settings)")
            let process = try #require(node.k3s())

            // supervise-daemon brings it back after a crash.
            kill(process, SIGKILL)
            try await eventually("K3s runs again", within: .seconds(60)) {
                node.k3s().map { $0 != process } ?? false
            }
            try await cluster.settle([node], servers: 1, agents: 0, within: .seconds(60))
            try await node.k3sServes()

            // Without its data it is not let through, however often OpenRC tries.
            node.daemon?.send(SIGTERM)
            try await node.daemon?.end(within: .seconds(20))
            #expect(node.k3s() != nil, "a member outlives the node\n\(node.lastWords)")
            let last = try #require(node.k3s())
            try FileManager.default.moveItem(atPath: node.k3sData, toPath: "\(node.k3sData).lost")
            kill(last, SIGKILL)
            try await eventually("OpenRC tried", within: .seconds(60)) {
                try await machine.log().contains("the datastore's data is lost")
            }
            #expect(node.k3s() == nil)
        }
    }
}

/// A machine that OpenRC runs, as far as its services see.
private struct OpenRCMachine {
    let node: ClusterNode
    private let directory: String

    init(node: ClusterNode) throws {
        self.node = node
        directory = "\(node.directory)/openrc"
        let packages = "/opt/edgevpn-test-packages"
        guard FileManager.default.fileExists(atPath: "\(packages)/openrc/sbin/rc-service") else {
            throw LabFailure("openrc is missing: .scripts/packages tests unpacks it")
        }
        let libraries = ["openrc/lib", "librc1/lib", "libeinfo1/lib"].map { "\(packages)/\($0)" }
        let folders =
            "daemons exclusive failed hotplugged inactive init.d options prefix scheduled "
            + "snapshot started starting stopping tmp wasinactive"
        for name in ["etc", "work"] {
            try FileManager.default.createDirectory(
                atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        let script = """
            set -e
            mount --make-rprivate /
            mount -t overlay overlay -o lowerdir=\(libraries.joined(separator: ":")):/usr/lib /usr/lib
            mount -t overlay overlay -o lowerdir=\(packages)/openrc/sbin:/usr/sbin /usr/sbin
            mount -t overlay overlay \
            -o lowerdir=/etc,upperdir=\(directory)/etc,workdir=\(directory)/work /etc
            mount -t tmpfs tmpfs /run
            mount -t tmpfs tmpfs /etc/init.d
            for name in \(folders); do mkdir -p /run/openrc/$name; done
            touch /run/openrc/softlevel /etc/insserv.conf
            mkdir -p /etc/conf.d /etc/runlevels/default
            echo K3S_OPTS=mine >/etc/conf.d/k3s
            cp \(directory)/service /etc/init.d/k3s
            chmod 755 /etc/init.d/k3s
            exec "$@"

            """
        // As K3s' installer writes it.
        let service = """
            #!/sbin/openrc-run
            supervisor=supervise-daemon
            name=k3s
            command="\(standInK3s)"
            command_args="server --config \(node.k3sConfiguration)/config.yaml"
            output_log=\(directory)/k3s.log
            error_log=\(directory)/k3s.log
            pidfile="/run/k3s.pid"
            respawn_delay=1
            respawn_max=0

            """
        try script.write(toFile: "\(directory)/boot", atomically: true, encoding: .utf8)
        try service.write(toFile: "\(directory)/service", atomically: true, encoding: .utf8)
    }

    func boot() async throws {
        try node.start(
            ["--init", "openrc"], wrapper: ["unshare", "-m", "sh", "\(directory)/boot"])
    }

    func log() async throws -> String { Lab.contents(of: "\(directory)/k3s.log") ?? "" }

    /// Runs a command where the daemon runs.
    @discardableResult
    func rc(_ command: String) async throws -> String {
        let process = try #require(node.daemon).identifier
        return try await node.host.attempt([
            "nsenter", "-t", "\(process)", "-m", "sh", "-c", command,
        ]).output
    }
}
