import Glibc
import Testing

/// A machine whose /etc and /run are its own, with one of the ways of resolving names. Elsewhere, at
/// 192.0.2.53, a server knows every name as 192.0.2.7 and 2001:db8::7.
///
/// /etc lies on a disk and survives a ``reboot()``; /run and all processes do not.
struct ResolverWorld: Sendable {
    enum Manager: String, CaseIterable, Sendable {
        case resolved, openresolv, debianResolvconf, file, networkManager

        /// What `--dns-integration` calls it.
        var method: String {
            switch self {
            case .resolved: "resolved"
            case .openresolv, .debianResolvconf: "resolvconf"
            case .file, .networkManager: "file"
            }
        }

        /// How the doctor calls it while a node runs.
        var words: String {
            switch self {
            case .resolved: "is systemd-resolved's"
            case .openresolv, .debianResolvconf: "is written by resolvconf"
            case .file, .networkManager: "is covered by the node's own file"
            }
        }
    }

    /// What the server elsewhere says of every name.
    static let elsewhere = "2001:db8::7"

    let manager: Manager
    let machine: MeshMachine
    private let root: LabProcess
    private let others: [LabProcess]

    /// Where packages lie that must not be installed: systemd-resolved and both resolvconfs take the
    /// resolver of the machine that they are installed on.
    static let packages = "/opt/edgevpn-test-packages"

    /// Installs and boots the machine.
    init(_ manager: Manager, _ machine: MeshMachine) async throws {
        self = try await ResolverWorld(booting: manager, machine)
        try await eventually("names are resolved before the node is there") {
            try await lookUp("www.example.com") == ResolverWorld.elsewhere
        }
    }

    /// What the machine is like after its power was cut: everything that ran is killed, memory is
    /// empty, the disk is what it was.
    func rebooted() async throws -> ResolverWorld {
        for process in others.reversed() + [root] {
            process.send(SIGKILL)
            try await process.end(within: .seconds(5))
        }
        return try await ResolverWorld(booting: manager, machine)
    }

    private init(booting manager: Manager, _ machine: MeshMachine) async throws {
        self.manager = manager
        self.machine = machine
        // Beside the states of nodes, which are removed with the lab.
        let disk = "\(machine.directory)/state-disk-\(machine.name)"
        let boot = """
            set -e
            # Links are new after a boot. systemd-resolved asks nobody while none is up.
            ip link delete net0 2>/dev/null || true
            ip link add net0 type veth peer name net1
            ip link set net1 up
            \(ResolverWorld.addresses(manager))
            mount -t tmpfs none /run
            if [ ! -d \(disk) ]
            then
                mkdir \(disk)
                cp -a /etc/. \(disk)
                mount --bind \(disk) /etc
                rm -f /etc/resolv.conf
                echo 'systemd-resolve:x:64999:64999::/:/bin/false' >>/etc/passwd
                echo 'systemd-resolve:x:64999:' >>/etc/group
                echo 'hosts: files dns' >/etc/nsswitch.conf
                \(ResolverWorld.installation(manager))
            else
                mount --bind \(disk) /etc
            fi
            mkdir -p /run/dbus /run/systemd/resolved.conf.d /run/systemd/resolve
            chown 64999:64999 /run/systemd/resolve
            \(ResolverWorld.startOfDay(manager))
            echo prepared
            exec sleep infinity
            """
        let script = try machine.host.lab.file("world-\(machine.name).sh", boot)
        let root = try machine.host.start([
            "unshare", "-m", "--propagation", "private", "sh", script,
        ])
        try await root.prints("prepared")
        self.root = root
        func start(_ arguments: [String]) throws -> LabProcess {
            try machine.host.start(["nsenter", "-t", "\(root.identifier)", "-m"] + arguments)
        }
        var others = [
            try start([
                "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file",
                "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=192.0.2.53",
                "--address=/#/192.0.2.7", "--address=/#/\(ResolverWorld.elsewhere)",
            ])
        ]
        switch manager {
        case .resolved:
            others.append(try await ResolverWorld.startBus(machine, start))
            others.append(
                try start([
                    "\(ResolverWorld.packages)/systemd-resolved/lib/systemd/systemd-resolved"
                ]))
        case .networkManager:
            others.append(try await ResolverWorld.startBus(machine, start))
            others.append(try start(["/usr/local/sbin/NetworkManager", "--no-daemon"]))
        case .openresolv, .debianResolvconf, .file: break
        }
        try await eventually("the machine has a resolv.conf") {
            if let ended = others.first(where: { $0.exitCode != nil }) {
                throw LabFailure("a service ended\n\(ended.output)")
            }
            let test = try start(["test", "-s", "/etc/resolv.conf"])
            return try await test.end(within: .seconds(5)) == 0
        }
        self.others = others
    }

    /// NetworkManager leaves a device alone that has an address already.
    private static func addresses(_ manager: Manager) -> String {
        manager == .networkManager
            ? "ip address replace 192.0.2.53/32 dev lo"
            : "ip link set net0 up; ip address add 192.0.2.53/24 dev net0"
    }

    /// What a package's installation leaves on the disk.
    private static func installation(_ manager: Manager) -> String {
        switch manager {
        case .file:
            "printf 'search corp.example\\nnameserver 192.0.2.53\\noptions edns0\\n' >/etc/resolv.conf"
        case .networkManager:
            """
            mkdir -p /etc/NetworkManager/system-connections
            printf '[main]\\nplugins=keyfile\\nno-auto-default=*\\nauth-polkit=false\\n' \
                >/etc/NetworkManager/NetworkManager.conf
            cat >/etc/NetworkManager/system-connections/net0.nmconnection <<'END'
            [connection]
            id=net0
            type=ethernet
            interface-name=net0
            [ipv4]
            method=manual
            address1=192.0.2.10/24
            dns=192.0.2.53;
            [ipv6]
            method=disabled
            END
            chmod 600 /etc/NetworkManager/system-connections/net0.nmconnection
            """
        case .openresolv: "echo 'resolv_conf=/etc/resolv.conf' >/etc/resolvconf.conf"
        case .debianResolvconf:
            """
            rm -rf /etc/resolvconf
            cp -a \(packages)/resolvconf/etc/resolvconf /etc/resolvconf
            sed -i 's#/lib/resolvconf/#\(packages)/resolvconf/lib/resolvconf/#g' \
                /etc/resolvconf/update.d/libc
            ln -s ../run/resolvconf/resolv.conf /etc/resolv.conf
            """
        case .resolved: "ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
        }
    }

    /// What the machine's services do when it starts.
    private static func startOfDay(_ manager: Manager) -> String {
        switch manager {
        case .file: ""
        case .networkManager:
            """
            # Where /sys cannot be written NetworkManager does without udev.
            mount -o remount,bind,ro /sys
            mount -t tmpfs none /var/lib
            mount -t tmpfs none /usr/local/sbin
            for program in /usr/sbin/NetworkManager /usr/bin/nmcli
            do
                at=/usr/local/sbin/${program##*/}
                echo '#!/bin/sh' >$at
                echo LD_LIBRARY_PATH=$(echo \(packages)/libn*/usr/lib/* | tr ' ' :) \
                    exec \(packages)/network-manager$program '"$@"' >>$at
                chmod 755 $at
            done
            """
        case .openresolv:
            """
            mount -t tmpfs none /usr/local/sbin
            sed 's#^LIBEXECDIR=.*#LIBEXECDIR=\(packages)/openresolv/lib/resolvconf#' \
                \(packages)/openresolv/sbin/resolvconf >/usr/local/sbin/resolvconf
            chmod 755 /usr/local/sbin/resolvconf
            echo 'nameserver 192.0.2.53' | /usr/local/sbin/resolvconf -a eth0
            """
        case .debianResolvconf:
            """
            mount -t tmpfs none /usr/local/sbin
            sed 's#/lib/resolvconf/#\(packages)/resolvconf/lib/resolvconf/#g' \
                \(packages)/resolvconf/sbin/resolvconf >/usr/local/sbin/resolvconf
            chmod 755 /usr/local/sbin/resolvconf
            mkdir -p /run/resolvconf/interface
            /usr/local/sbin/resolvconf --enable-updates
            echo 'nameserver 192.0.2.53' | /usr/local/sbin/resolvconf -a eth0.inet
            """
        case .resolved:
            """
            printf '[Resolve]\\nDNS=192.0.2.53\\nFallbackDNS=\\nDNSSEC=no\\n' \
                >/run/systemd/resolved.conf.d/test.conf
            """
        }
    }

    private static func startBus(
        _ machine: MeshMachine, _ start: ([String]) throws -> LabProcess
    ) async throws -> LabProcess {
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
        let bus = try start(["dbus-daemon", "--config-file=\(policy)", "--nofork", "--nopidfile"])
        try await eventually("the bus listens") {
            let test = try start(["test", "-S", "/run/dbus/system_bus_socket"])
            return try await test.end(within: .seconds(5)) == 0
        }
        return bus
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

    /// What lies on the disk below /etc, whatever covers it.
    func onDisk(_ name: String) async throws -> String {
        let disk = "\(machine.directory)/state-disk-\(machine.name)"
        return try await run(["cat", "\(disk)/\(name)"]).output
    }

    /// Starts the node; `how` is what `--dns-integration` says.
    func up(_ how: String) async throws -> LabProcess {
        let process = try start(try machine.upCommand + ["--no-mdns", "--dns-integration", how])
        try await process.prints("the machine's names come through \(manager.method)")
        return process
    }

    /// Processes that `process` started.
    func children(of process: LabProcess) async throws -> [String] {
        try await run(["pgrep", "-P", "\(process.identifier)"]).output
            .split(separator: "\n").map(String.init)
    }
}
