// One machine with nothing but loopback:
//
//     dig -> 127.0.0.1:5300  the node -> 127.0.0.2:5300  who knows the world
//                                     -> 127.0.0.3:5300  who knows cluster.local

import Foundation
import Testing

extension MeshTests {
    @Suite struct NameRoutesTests {
        @Test func namesBelowASuffixGoToItsOwnServerAndNowhereElse() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("alpha")
                let world = try machine.upstream(
                    "127.0.0.2", ["--address=/#/192.0.2.7", "--address=/rebind.example/10.9.9.9"])
                let cluster = try machine.upstream("127.0.0.3", ["--address=/#/10.43.0.1"])
                let node = try await machine.up(
                    machine.options + [
                        "--dns-route", "cluster.local=127.0.0.3:5300", "--dns-query-log",
                    ])
                func ask(_ name: String) async throws -> (code: String, data: [String]) {
                    try await machine.dig(name)
                }
                try await eventually("both upstreams answer") {
                    let first = try await ask("ready.example").data
                    let second = try await ask("ready.cluster.local").data
                    return first == ["192.0.2.7"] && second == ["10.43.0.1"]
                }
                #expect(try await ask("Api.Cluster.LOCAL").data == ["10.43.0.1"])
                #expect(try await ask("cluster.local").data == ["10.43.0.1"])
                // A whole label decides, not the letters at the end.
                #expect(try await ask("mycluster.local").data == ["192.0.2.7"])
                // Addresses of local networks are for suffixes with a route.
                #expect(try await ask("rebind.example").data == [])

                // Without its server a suffix has no answers, and the world does not hear of it.
                cluster.send(SIGKILL)
                try await cluster.end(within: .seconds(5))
                #expect(try await ask("secret.cluster.local").code == "SERVFAIL")
                #expect(try await ask("www.example").data == ["192.0.2.7"])
                // Spelled with random case on the way.
                #expect(world.output.lowercased().contains("www.example"))
                #expect(!world.output.lowercased().contains(".cluster.local"))

                // The log: client, question, code and source, and again from the cache.
                #expect(try await ask("www.example").data == ["192.0.2.7"])
                #expect(try await ask("nobody.lab.internal").code == "NXDOMAIN")
                let expected = [
                    "www.example A code 0 upstream", "www.example A code 0 cache",
                    "nobody.lab.internal A code 3 zone",
                    "secret.cluster.local A code 2 failure",
                ]
                for line in expected {
                    try await node.prints(line)
                    let found = node.output.split(separator: "\n").first { $0.contains(line) }
                    #expect(found?.contains("dns 127.0.0.1:") == true, "\(line)")
                }
            }
        }

        /// What people ask for is nobody's business: without the option no name is written.
        @Test func withoutTheQueryLogNoNameIsWritten() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("alpha")
                _ = try machine.upstream("127.0.0.2", ["--address=/#/192.0.2.7"])
                let node = try await machine.up(machine.options + ["--log-level", "trace"])
                try await eventually("the upstream answers") {
                    try await machine.dig("private.example").data == ["192.0.2.7"]
                }
                #expect(try await machine.dig("nobody.lab.internal").code == "NXDOMAIN")
                node.send(SIGTERM)
                #expect(try await node.end(within: .seconds(20)) == 0)
                for name in ["private.example", "nobody"] {
                    #expect(!node.output.contains(name), "\(node.output)")
                }
            }
        }
    }
}

extension MeshMachine {
    /// For a node that is a name server and little else.
    fileprivate var options: [String] {
        [
            "--interface", "none", "--no-mdns", "--role", "none", "--dns", "127.0.0.1:5300",
            "--dns-upstream", "127.0.0.2:5300",
        ]
    }

    /// A dnsmasq that prints what it is asked.
    fileprivate func upstream(_ address: String, _ records: [String]) throws -> LabProcess {
        try host.start(
            [
                "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file",
                "--no-resolv", "--no-hosts", "--port=5300", "--bind-interfaces",
                "--listen-address=\(address)", "--log-queries", "--log-facility=-",
                "--local-ttl=300",
            ] + records)
    }

    fileprivate func dig(_ name: String) async throws -> (code: String, data: [String]) {
        let answer = try await host.attempt([
            "dig", "-p", "5300", "+time=6", "+tries=1", "+noall", "+comments", "+answer",
            "@127.0.0.1", name, "A",
        ])
        let words = answer.output.split(whereSeparator: { " ,\n".contains($0) }).map(String.init)
        let code = words.firstIndex(of: "status:").map { words[$0 + 1] } ?? "none"
        let data = answer.output.split(separator: "\n").filter { !$0.hasPrefix(";") }
            .compactMap { $0.split(whereSeparator: \.isWhitespace).last.map(String.init) }
        return (code, data)
    }
}
