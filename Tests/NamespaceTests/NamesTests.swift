// Whole nodes on one LAN, found by multicast DNS:
//
//     machines 192.168.60.1, .2, ... ---- switch

import Foundation
import Testing

extension MeshTests {
    @Suite struct NamesTests {
        @Test func whatOneMachinePublishesAllOthersAnswer() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                let (anna, bert, carl) = (machines[0], machines[1], machines[2])
                let process = try await anna.up()
                for machine in [bert, carl] { _ = try await machine.up() }
                for machine in [bert, carl] { try await machine.sees(anna, "alive") }

                let node = try await anna.status().node
                let address = try #require(node.ipv4)
                try await anna.does("dns add db A \(address)")
                try await anna.does("dns add www CNAME db")
                try await anna.does("dns add *.apps CNAME anna")
                try await anna.does("dns add /web-[0-9]+/ A \(address)")
                try await anna.does("dns service add _http._tcp 80 --name Wiki --text path=/w")
                for machine in machines {
                    try await machine.resolves("wiki._http._tcp", "SRV", to: ["anna.lab.internal."])
                    try await machine.resolves("db", "A", to: [address])
                    try await machine.resolves("www", "A", to: ["db.lab.internal.", address])
                    try await machine.resolves("x.apps", "A", to: ["anna.lab.internal.", address])
                    try await machine.resolves("web-7", "A", to: [address])
                    // What a browser of services asks (RFC 6763 sections 4, 9 and 11).
                    try await machine.resolves("b._dns-sd._udp", "PTR", to: ["lab.internal."])
                    try await machine.resolves(
                        "_services._dns-sd._udp", "PTR", to: ["_http._tcp.lab.internal."])
                    try await machine.resolves(
                        "_http._tcp", "PTR", to: ["Wiki._http._tcp.lab.internal."])
                }

                // Only the author's signature withdraws a record; a host's name is the host's.
                #expect(try await bert.ask(["dns", "rm", "db"]).status == 2)
                #expect(try await bert.ask(["dns", "add", "anna", "A", "10.1.0.1"]).status == 2)
                try await bert.does("dns add extra TXT hello")
                try await carl.resolves("extra", "TXT", to: ["\"hello\""])
                try await bert.does("dns rm extra")
                try await carl.resolves("extra", "TXT", to: nil)
                try await anna.does("dns rm www")
                try await carl.resolves("www", "A", to: nil)

                // A machine that dies takes with it what leads to it.
                process.send(SIGKILL)
                for name in ["anna", "db", "wiki._http._tcp", "_services._dns-sd._udp"] {
                    try await carl.resolves(name, "ANY", to: nil, within: .seconds(60))
                }
            }
        }

        /// NAMES_NODES machines, twenty if it is not set: how long until all answer, and until none
        /// does.
        @Test func namesSpreadAndGoInALargeMesh() async throws {
            try await withMesh { mesh in
                let names = (1...setting("NAMES_NODES", default: 20)).map { "node\($0)" }
                let machines = try await mesh.lan(names + ["late", "lost"])
                let others = Array(machines.prefix(names.count))
                var running = try others.map { try $0.start() }
                running.append(try machines[names.count + 1].start())
                for (machine, process) in zip(others, running) {
                    try await machine.answers(process)
                }
                let watch = try await NameWatch(others)
                for name in names + ["lost"] {
                    try await watch.all(answer: name, true, within: .seconds(120))
                }

                let late = machines[names.count]
                var begin = ContinuousClock.now
                let process = try late.start()
                try await watch.all(answer: "late", true, within: .seconds(60))
                report("a node's start until all answer its name", [.now - begin])

                begin = ContinuousClock.now
                process.send(SIGTERM)
                try await watch.all(answer: "late", false, within: .seconds(60))
                report("an orderly leave until no node answers its name", [.now - begin])

                begin = ContinuousClock.now
                running[names.count].send(SIGKILL)
                try await watch.all(answer: "lost", false, within: .seconds(120))
                report("a killed node until no node answers its name", [.now - begin])
            }
        }
    }
}

extension MeshMachine {
    /// Runs a command that must succeed; words separated by spaces.
    func does(_ words: String) async throws {
        let answer = try await ask(words.split(separator: " ").map(String.init))
        guard answer.status == 0 else { throw LabFailure("\(words): \(answer.output)") }
    }

    /// Waits until this machine's name server says so; `nil` for a name or type that is not there.
    func resolves(
        _ name: String, _ type: String, to expected: [String]?,
        within limit: Duration = .seconds(20)
    ) async throws {
        let server = try #require(try await status().node.ipv6)
        var last: (code: String, data: [String]) = ("", [])
        do {
            try await eventually("\(self.name) resolves \(name)", within: limit) {
                last = try await resolve("\(name).lab.internal", type, at: server)
                return expected == nil
                    ? last.code == "NXDOMAIN" || last.code == "NOERROR" && last.data.isEmpty
                    : last.data == expected
            }
        } catch {
            throw LabFailure("\(error): \(last)")
        }
    }
}
