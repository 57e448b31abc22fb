// Ways to a member other than multicast DNS, on one switch; and what others see of ours:
//
//     anna 192.168.60.1 ---+
//     bert 192.168.60.2 ---+--- switch
//     carl 192.168.60.3 ---+

import Foundation
import Testing

extension MeshTests {
    @Suite struct FindingTests {
        @Test func onePeerTellsOfTheOthers() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                let (anna, bert, carl) = (machines[0], machines[1], machines[2])
                _ = try await bert.up(["--no-mdns", "--listen", "7001"])
                let hint = ["--no-mdns", "--peer", "192.168.60.2:7001"]
                _ = try await anna.up(hint)
                _ = try await carl.up(hint)
                try await anna.sees(bert, "alive")
                try await anna.reaches(bert)
                try await anna.sees(carl, "alive")
                try await anna.reaches(carl)
                try await carl.reaches(anna)
            }
        }

        @Test func nobodyIsFoundWithoutAnyHint() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                for machine in machines { _ = try await machine.up(["--no-mdns"]) }
                // Longer than any of the other tests needs to find a peer that it has a hint of.
                try await Task.sleep(for: .seconds(3))
                for machine in machines { #expect(try await machine.status().peers.isEmpty) }
            }
        }

        @Test func whoWasFoundOnceIsFoundAgainWithoutHelp() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                var processes: [LabProcess] = []
                for machine in machines { processes.append(try await machine.up()) }
                try await machines[0].reaches(machines[1])
                try await machines[1].reaches(machines[0])
                for process in processes { process.send(SIGTERM) }
                for process in processes { try await process.end(within: .seconds(20)) }
                for machine in machines { _ = try await machine.up(["--no-mdns"]) }
                try await machines[0].sees(machines[1], "alive")
                try await machines[0].reaches(machines[1])
                try await machines[1].reaches(machines[0])
            }
        }

        @Test(arguments: [SIGKILL, SIGTERM])
        func theCacheOfPeersAloneIsEnough(_ signal: Int32) async throws {
            try await withMesh { mesh in
                let (anna, bert) = (try await mesh.machine("anna"), try await mesh.machine("bert"))
                // Two links: a link-local address alone does not say which one it is on.
                try await anna.host.ip("link add other0 type veth peer name other1")
                for link in ["other0", "other1"] { try await anna.host.ip("link set \(link) up") }
                let machines = [anna, bert]
                try await mesh.connect(machines)
                var processes: [LabProcess] = []
                for machine in machines { processes.append(try await machine.up()) }
                try await anna.reaches(bert)
                // The link-local address proves itself last, and would be worthless in a cache.
                try? await eventually("a path over IPv6", within: .seconds(4)) {
                    try await anna.status().peers.first?.endpoint?.contains("fe80:") == true
                }
                for process in processes { process.send(signal) }
                for process in processes { try await process.end(within: .seconds(20)) }
                // The ledgers know each other's addresses too; without them only the cache does,
                // and bert, a machine that starts anew, knows nobody.
                try FileManager.default.removeItem(atPath: "\(anna.state)/ledger")
                let port = FileManager.default.contents(atPath: "\(bert.state)/port")
                try FileManager.default.removeItem(atPath: bert.state)
                #expect(port != nil)
                try await bert.startWithPort(port, ["--no-mdns"])
                _ = try await anna.up(["--no-mdns"])
                try await bert.sees(anna, "alive")
            }
        }

        /// A machine in two LANs is found in both; one of them has no IPv4 at all.
        @Test func multicastSpeaksOnEveryLinkInBothFamilies() async throws {
            try await withMesh { mesh in
                let (anna, bert) = (try await mesh.machine("anna"), try await mesh.machine("bert"))
                let carl = try await mesh.machine("carl")
                try await mesh.connect([anna, bert])
                _ = try await mesh.lab.lan("lan1", [anna.host, carl.host])
                for machine in [anna, bert, carl] { _ = try await machine.up() }
                for neighbour in [bert, carl] {
                    try await anna.sees(neighbour, "alive")
                    try await anna.reaches(neighbour)
                    try await neighbour.reaches(anna)
                }
                #expect(try await carl.peer("anna").endpoint?.contains("fe80:") == true)
                #expect(try await anna.peer("carl").path == "direct")
            }
        }

        @Test func avahiSeesAWellFormedServiceAndItsGoodbye() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                let (anna, bert) = (machines[0], machines[1])
                for tool in ["avahi-browse", "avahi-daemon"] {
                    let package = tool == "avahi-browse" ? "avahi-utils" : "avahi-daemon"
                    try Lab.requireTool(tool, package: package)
                }
                let stop = "\(mesh.lab.directory)/node-has-stopped"
                let browser = try bert.host.start(
                    [
                        "unshare", "-m", "--pid", "--fork", "--kill-child", "--mount-proc", "sh",
                        "-c", avahiBrowseScript, "sh", stop,
                    ])
                let process = try await anna.up(["--listen", "7001"])
                try await browser.prints("first view ends", within: .seconds(40))
                let seen = browser.output.split(separator: "\n").map {
                    $0.split(separator: ";", omittingEmptySubsequences: false).map(String.init)
                }
                let lines = seen.filter { $0.first == "=" && $0.contains("192.168.60.1") }
                // interface, protocol, instance, type, domain, host, address, port, texts
                let fields = try #require(lines.first { $0.count >= 10 }, "\(browser.output)")
                #expect(fields[1] == "lan0")
                // Field 2 is how avahi heard of it; both families carry both addresses.
                #expect(fields[4] == "_edgevpn._udp")
                #expect(fields[5] == "local")
                #expect(fields[6].hasSuffix(".local"))
                #expect(fields[8] == "7001")
                for text in ["\"v=1\"", "\"n=", "\"h="] { #expect(fields[9].contains(text)) }
                // What everybody on the link can read says nothing about the machine or the mesh.
                let node = try await anna.status().node
                for name in ["anna", "lab", String(node.id.prefix(8)), node.ipv4 ?? "-"] {
                    #expect(!fields[3].contains(name) && !fields[6].contains(name))
                    #expect(!fields[9].contains(name))
                }
                process.send(SIGTERM)
                try await process.end(within: .seconds(20))
                _ = try mesh.lab.file("node-has-stopped", "")
                try await browser.prints("second view ends", within: .seconds(40))
                let views = browser.output.split(separator: "first view ends")
                #expect(views.count == 2)
                #expect(!(views.last ?? "").contains(fields[3]), "\(browser.output)")
            }
        }
    }
}

extension MeshMachine {
    /// Starts a node with no state but its port.
    fileprivate func startWithPort(_ port: Data?, _ options: [String]) async throws {
        let files = FileManager.default
        try files.createDirectory(
            atPath: state, withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
        let isWritten = files.createFile(
            atPath: "\(state)/port", contents: port, attributes: [.posixPermissions: 0o600])
        #expect(isWritten)
        _ = try await up(options)
    }
}

/// A private bus and avahi in the machine's network. Browses until a service is there, waits for
/// the file `$1`, and browses again; everything goes with the namespaces.
private let avahiBrowseScript = """
    set -u
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    mkdir -p /run/dbus /run/avahi-daemon
    cat > /run/dbus/bus.conf <<'END'
    <!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
     "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
    <auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true"/><allow receive_type="method_call"/>
    <allow receive_type="method_return"/><allow receive_type="signal"/>
    <allow receive_type="error"/></policy></busconfig>
    END
    printf '[server]\\nhost-name=bert\\n[publish]\\npublish-workstation=no\\n' \
        > /run/avahi-daemon/avahi.conf
    dbus-daemon --config-file=/run/dbus/bus.conf --nofork --nopidfile 2> /dev/null &
    until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
    avahi-daemon -f /run/avahi-daemon/avahi.conf --no-drop-root --no-chroot --no-rlimits \
        --no-proc-title 2> /dev/null &
    until [ -S /run/avahi-daemon/socket ]; do sleep 0.1; done
    seen=
    until case "$seen" in *'=;lan0;'*';192.168.60.1;'*) true ;; *) false ;; esac
    do seen=$(avahi-browse -rtp _edgevpn._udp 2> /dev/null); sleep 0.2; done
    echo "$seen"
    echo first view ends
    until [ -e "$1" ]; do sleep 0.1; done
    sleep 1.5
    avahi-browse -rtp _edgevpn._udp 2> /dev/null
    echo second view ends
    """
