import Testing

/// A machine whose /etc and /run are its own, with one of three ways of resolving names. Elsewhere,
/// at 192.0.2.53, a server knows every name as 192.0.2.7 and 2001:db8::7.
struct ResolverWorld: Sendable {
    enum Manager: String, CaseIterable, Sendable {
        case resolved, resolvconf, file

        /// How the doctor calls it while a node runs.
        var words: String {
            switch self {
            case .resolved: "is systemd-resolved's"
            case .resolvconf: "is written by resolvconf"
            case .file: "is covered by the node's own file"
            }
        }
    }

    /// What the server elsewhere says of every name.
    static let elsewhere = "2001:db8::7"

    let manager: Manager
    let machine: MeshMachine
    private let root: LabProcess

    /// Where packages lie that must not be installed: systemd-resolved and openresolv take the
    /// resolver of the machine that they are installed on.
    static let packages = "/opt/edgevpn-test-packages"

    init(_ manager: Manager, _ machine: MeshMachine) async throws {
        self.manager = manager
        self.machine = machine
        let setUp = """
            set -e
            # systemd-resolved asks nobody while no link is up.
            ip link add net0 type veth peer name net1
            ip link set net1 up
            ip link set net0 up
            ip address add 192.0.2.53/24 dev net0
            mount -t tmpfs none /run
            mkdir -p /run/etc /run/dbus /run/systemd/resolved.conf.d /run/systemd/resolve
            cp -a /etc/. /run/etc
            mount --bind /run/etc /etc
            rm -f /etc/resolv.conf
            echo 'systemd-resolve:x:64999:64999::/:/bin/false' >>/etc/passwd
            echo 'systemd-resolve:x:64999:' >>/etc/group
            echo 'hosts: files dns' >/etc/nsswitch.conf
            chown 64999:64999 /run/systemd/resolve
            \(ResolverWorld.preparation(manager))
            echo prepared
            exec sleep infinity
            """
        let script = try machine.host.lab.file("world-\(machine.name).sh", setUp)
        root = try machine.host.start([
            "unshare", "-m", "--propagation", "private", "sh", script,
        ])
        try await root.prints("prepared")
        _ = try start([
            "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file", "--no-resolv",
            "--no-hosts", "--bind-interfaces", "--listen-address=192.0.2.53",
            "--address=/#/192.0.2.7", "--address=/#/\(ResolverWorld.elsewhere)",
        ])
        if manager == .resolved { try await startResolved() }
        try await eventually("names are resolved before the node is there") {
            try await lookUp("www.example.com") == ResolverWorld.elsewhere
        }
    }

    private static func preparation(_ manager: Manager) -> String {
        switch manager {
        case .file:
            "printf 'search corp.example\\nnameserver 192.0.2.53\\noptions edns0\\n' >/etc/resolv.conf"
        case .resolvconf:
            """
            mount -t tmpfs none /usr/local/sbin
            sed 's#^LIBEXECDIR=.*#LIBEXECDIR=\(packages)/openresolv/lib/resolvconf#' \
                \(packages)/openresolv/sbin/resolvconf >/usr/local/sbin/resolvconf
            chmod 755 /usr/local/sbin/resolvconf
            echo 'resolv_conf=/etc/resolv.conf' >/etc/resolvconf.conf
            echo 'nameserver 192.0.2.53' | /usr/local/sbin/resolvconf -a eth0
            """
        case .resolved:
            """
            printf '[Resolve]\\nDNS=192.0.2.53\\nFallbackDNS=\\nDNSSEC=no\\n' \
                >/run/systemd/resolved.conf.d/test.conf
            ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
            """
        }
    }

    private func startResolved() async throws {
        // The packaged policy names users that this world does not have.
        let types = ["method_call", "method_return", "error", "signal"]
        let rules = types.map { #"<allow send_type="\#($0)"/><allow receive_type="\#($0)"/>"# }
        let policy = try machine.host.lab.file(
            "bus.conf",
            """
            <busconfig><type>system</type>
            <listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow user="*"/><allow own="*"/>
            <allow send_destination="*"/>\(rules.joined())</policy></busconfig>
            """)
        _ = try start(["dbus-daemon", "--config-file=\(policy)", "--nofork", "--nopidfile"])
        try await eventually("the bus listens") {
            try await run(["test", "-S", "/run/dbus/system_bus_socket"]).status == 0
        }
        let resolved = try start([
            "\(ResolverWorld.packages)/systemd-resolved/lib/systemd/systemd-resolved"
        ])
        try await eventually("systemd-resolved writes its files") {
            if let code = resolved.exitCode {
                throw LabFailure("it ended with exit code \(code)\n\(resolved.output)")
            }
            return try await run(["test", "-s", "/etc/resolv.conf"]).status == 0
        }
    }

    /// Starts a program in this world.
    func start(_ arguments: [String]) throws -> LabProcess {
        try machine.host.start(["nsenter", "-t", "\(root.identifier)", "-m"] + arguments)
    }

    func run(_ arguments: [String]) async throws -> (status: Int32, output: String) {
        let process = try start(arguments)
        let status = try await process.end(within: .seconds(30))
        return (status, process.output)
    }

    /// The IPv4 or IPv6 address that programs of the C library get for `name`.
    func lookUp(_ name: String) async throws -> String? {
        let answer = try await run(["getent", "hosts", name])
        guard answer.status == 0 else { return nil }
        return answer.output.split(separator: " ").first.map(String.init)
    }

    /// What /etc/resolv.conf says to programs.
    var resolvConf: String {
        get async throws { try await run(["cat", "/etc/resolv.conf"]).output }
    }

    /// Starts the node; `how` is what `--dns-integration` says.
    func up(_ how: String) async throws -> LabProcess {
        let process = try start(try machine.upCommand + ["--no-mdns", "--dns-integration", how])
        try await process.prints("the machine's names come through \(manager.rawValue)")
        return process
    }

    /// Processes that `process` started.
    func children(of process: LabProcess) async throws -> [String] {
        try await run(["pgrep", "-P", "\(process.identifier)"]).output
            .split(separator: "\n").map(String.init)
    }
}
