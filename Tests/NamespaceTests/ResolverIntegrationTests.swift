// One machine without any network but loopback, in a mount namespace of its own:
//
//     getent -> resolv.conf | systemd-resolved | resolvconf -> node -> 192.0.2.53, which knows all
//                                                                     names as 192.0.2.7

import Foundation
import Testing

extension MeshTests {
    @Suite struct ResolverIntegrationTests {
        @Test(arguments: ResolverWorld.Manager.allCases)
        func programsFindTheMeshAndNothingElseChanges(_ manager: ResolverWorld.Manager) async throws
        {
            try await withMesh { mesh in
                var world = try await ResolverWorld(manager, try await mesh.machine("alpha"))
                let before = try await world.resolvConf
                let elsewhere = ResolverWorld.elsewhere
                #expect(try await world.lookUp("alpha.lab.internal") == elsewhere)

                var node = try await world.up("auto")
                let own = try await world.machine.status().node
                let address = try #require(own.ipv6)
                func works() async throws {
                    for name in ["alpha.lab.internal", "alpha"] {
                        try await eventually("\(name) is the node's") {
                            try await world.lookUp(name) == address
                        }
                    }
                    #expect(try await world.lookUp("www.example.com") == elsewhere)
                }
                func isBack(_ when: String) async throws {
                    try await eventually("everything is back \(when)") {
                        let now = try await world.resolvConf
                        let other = try await world.lookUp("www.example.com")
                        let mine = try await world.lookUp("alpha.lab.internal")
                        return now == before && other == elsewhere && mine == elsewhere
                    }
                }
                try await works()
                if manager == .file {
                    #expect(try await world.resolvConf.contains("search lab.internal corp.example"))
                    // The file itself is untouched: a machine that loses its power has it back.
                    #expect(try await world.onDisk("resolv.conf") == before)
                }
                let doctor = try await world.run(
                    [try Lab.binary(), "doctor", "--api", world.machine.api])
                #expect(doctor.status == 0, "\(doctor.output)")
                #expect(doctor.output.contains("programs of this machine find alpha.lab.internal"))
                #expect(doctor.output.contains(manager.words), "\(doctor.output)")
                node.send(SIGTERM)
                try await node.end(within: .seconds(20))
                try await isBack("after an orderly end")

                node = try await world.up(manager.method)
                try await works()
                node.send(SIGKILL)
                try await node.end(within: .seconds(20))
                try await isBack("after SIGKILL")

                // The worst: the child that cleans up is killed, too. The next life mends it.
                node = try await world.up("auto")
                try await works()
                for child in try await world.children(of: node) {
                    _ = try await world.run(["kill", "-KILL", child])
                }
                node.send(SIGKILL)
                try await node.end(within: .seconds(20))
                node = try await world.up("auto")
                try await works()
                node.send(SIGTERM)
                try await node.end(within: .seconds(20))
                try await isBack("after a life that mended the one before")

                // The power is cut: nobody gets to clean up, and memory is empty afterwards.
                node = try await world.up("auto")
                try await works()
                for child in try await world.children(of: node) {
                    _ = try await world.run(["kill", "-KILL", child])
                }
                node.send(SIGKILL)
                try await node.end(within: .seconds(20))
                world = try await world.rebooted()
                try await isBack("after a reboot without a node")
                node = try await world.up("auto")
                try await works()
                node.send(SIGTERM)
                try await node.end(within: .seconds(20))
                try await isBack("after the life that followed the reboot")
            }
        }

        /// NetworkManager replaces resolv.conf by renaming, which the node's file does not let it;
        /// it also keeps a list of its own, and that is what the node follows.
        @Test(arguments: [SIGTERM, SIGKILL])
        func networkManagersNewUpstreamsAreFollowed(_ end: Int32) async throws {
            try await withMesh { mesh in
                let world = try await ResolverWorld(
                    .networkManager, try await mesh.machine("alpha"))
                _ = try world.start([
                    "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file",
                    "--no-resolv", "--no-hosts", "--bind-interfaces",
                    "--listen-address=127.0.0.54", "--address=/#/2001:db8::54",
                ])
                let node = try await world.up("auto")
                try await eventually("the first network's server is asked") {
                    try await world.lookUp("a.example.com") == ResolverWorld.elsewhere
                }
                for words in [
                    "connection modify net0 ipv4.dns 127.0.0.54", "device reapply net0",
                ] {
                    let done = try await world.run(
                        ["nmcli"] + words.split(separator: " ").map(String.init))
                    #expect(done.status == 0, "\(done.output)")
                }
                try await eventually("the next network's server is asked") {
                    try await world.lookUp("b.example.com") == "2001:db8::54"
                }
                let own = try await world.machine.status().node
                let found = try await world.lookUp("alpha")
                #expect([own.ipv4, own.ipv6].contains(found))
                node.send(end)
                try await node.end(within: .seconds(20))
                // It could not write this while the node's file lay over its own.
                try await eventually("NetworkManager's file is up to date") {
                    try await world.resolvConf.contains("nameserver 127.0.0.54")
                }
                #expect(try await world.lookUp("c.example.com") == "2001:db8::54")
            }
        }

        /// Whoever captures all names must know whom to ask for them.
        @Test func aMachineWithoutUpstreamsKeepsItsResolver() async throws {
            try await withMesh { mesh in
                let world = try await ResolverWorld(.file, try await mesh.machine("alpha"))
                _ = try await world.run(["sh", "-c", "echo '# nobody' >/etc/resolv.conf"])
                let node = try world.start(
                    try world.machine.upCommand + ["--no-mdns", "--dns-integration", "file"])
                try await node.prints("nobody is known whom other names could be asked")
                #expect(try await world.resolvConf == "# nobody\n")
            }
        }

        /// The upstreams of the machine change while the node runs.
        @Test func newUpstreamsAreNoticed() async throws {
            try await withMesh { mesh in
                let world = try await ResolverWorld(.file, try await mesh.machine("alpha"))
                _ = try await world.run([
                    "sh", "-c", "echo nameserver 127.0.0.98 >/etc/resolv.conf",
                ])
                let node = try world.start(try world.machine.upCommand + ["--no-mdns"])
                try await world.machine.answers(node)
                let server = try #require(try await world.machine.status().node.ipv6)
                #expect(
                    try await world.machine.resolve("www.example.com", "A", at: server).code
                        == "SERVFAIL")
                _ = try await world.run([
                    "sh", "-c",
                    "echo nameserver 192.0.2.53 >/etc/new && mv /etc/new /etc/resolv.conf",
                ])
                try await eventually("the new upstream is asked") {
                    try await world.machine.resolve("other.example.com", "A", at: server).data
                        == ["192.0.2.7"]
                }
            }
        }
    }
}
