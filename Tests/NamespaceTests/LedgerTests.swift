// Three machines on one switch:  anna --- bert --- carl, all on lan0.

import Foundation
import Testing

extension MeshTests {
    @Suite struct LedgerTests {
        @Test func peopleWriteReadWatchAndWithdraw() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                let (anna, bert) = (machines[0], machines[1])
                for machine in machines { _ = try await machine.up(["--interface", "none"]) }
                try await anna.sees(bert, "alive")
                try await bert.sees(anna, "alive")

                #expect(try await anna.ask(["ledger", "put", "notes", "door", "4711"]).status == 0)
                try await eventually("bert reads it") {
                    try await bert.ask(["ledger", "get", "notes", "door"]).output.contains("4711")
                }
                let watch = try bert.host.start(
                    [try Lab.binary()]
                        + ["ledger", "watch", "notes", "--json", "--count", "3", "--api", bert.api])
                try await eventually("the watch begins") { watch.output.contains("4711") }
                #expect(try await anna.ask(["ledger", "put", "notes", "door", "4712"]).status == 0)
                try await eventually("the watch goes on") { watch.output.contains("4712") }
                #expect(try await anna.ask(["ledger", "delete", "notes", "door"]).status == 0)
                try await watch.end(within: .seconds(20))
                let events = watch.output.split(separator: "\n")
                #expect(events.count == 3 && events.last?.contains(#""event":"delete""#) == true)

                // What a member writes commands nobody's terminal, and makes no line of its own.
                let nasty = "\u{1B}[2Jblank\nput notes/forged 0 1 x"
                #expect(try await anna.ask(["ledger", "put", "nasty", "text", nasty]).status == 0)
                try await eventually("bert reads the nasty value") {
                    try await bert.ask(["ledger", "get", "nasty"]).output.contains("blank")
                }
                for words in [["get", "nasty"], ["watch", "nasty", "--count", "1"]] {
                    let shown = try await bert.ask(["ledger"] + words).output
                    let lines = shown.split(separator: "\n")
                    #expect(
                        !shown.contains("\u{1B}") && !lines.contains { $0.hasPrefix("put notes") })
                    #expect(shown.contains(#"\u{1B}[2Jblank\nput notes/forged 0 1 x"#))
                }

                // Nobody writes for another one, nor what is the node's or the root's.
                #expect(try await anna.ask(["ledger", "put", "notes", "door", "4713"]).status == 0)
                try await eventually("bert reads it again") {
                    try await bert.ask(["ledger", "get", "notes", "door"]).output.contains("4713")
                }
                #expect(try await bert.ask(["ledger", "delete", "notes", "door"]).status == 2)
                for bucket in ["machines", "members", "cluster", "policy"] {
                    let answer = try await anna.ask(["ledger", "put", bucket, "self", "x"])
                    #expect(answer.status == 3 && answer.output.contains("refused"))
                }
                let long = String(repeating: "x", count: 300)
                #expect(try await anna.ask(["ledger", "put", "egress", "exit", long]).status == 2)
            }
        }

        @Test func aWithdrawnMachineIsAStranger() async throws {
            try await withLab { lab in
                let key = "\(lab.directory)/mesh.admin"
                let made = try await LabProcess.start(
                    [try Lab.binary()]
                        + ["token", "new", "--name", "lab", "--dht", "off", "--admin-key", key],
                    in: lab.directory
                ).succeed(within: .seconds(20))
                let token = String(try #require(made.split(separator: "\n").first))
                var machines: [MeshMachine] = []
                defer {
                    for machine in machines {
                        try? FileManager.default.removeItem(atPath: machine.state)
                    }
                }
                for name in ["anna", "bert", "carl"] {
                    let host = try await lab.host(name)
                    machines.append(
                        MeshMachine(
                            host: host, tokenPath: try lab.file("token-\(name)", "\(token)\n")))
                }
                _ = try await lab.lan("lan0", machines.map(\.host))
                for (index, machine) in machines.enumerated() {
                    try await machine.host.ip("addr add 192.168.60.\(index + 1)/24 dev lan0")
                }
                let (anna, bert, carl) = (machines[0], machines[1], machines[2])
                var bertsNode = try await bert.up(["--interface", "none"])
                for machine in [anna, carl] { _ = try await machine.up(["--interface", "none"]) }
                for machine in machines {
                    for other in machines where other.name != machine.name {
                        try await machine.sees(other, "alive")
                    }
                }
                #expect(try await carl.ask(["ledger", "put", "notes", "carl", "here"]).status == 0)
                try await eventually("bert reads carl's entry") {
                    try await bert.ask(["ledger", "get", "notes"]).output.contains("here")
                }

                let withdrawal = ["withdraw", "carl", "--admin-key"]
                let wrong = try lab.file("wrong.admin", "evpnadmin1AAAA\n")
                #expect(try await anna.ask(withdrawal + [wrong]).status == 2)
                #expect(try await bert.state(of: "carl") == "alive")
                let answer = try await anna.ask(withdrawal + [key])
                #expect(answer.status == 0, "\(answer.output)")
                for machine in [anna, bert] {
                    try await eventually("\(machine.name) forgets carl") {
                        let known = try await machine.status().peers.compactMap(\.hostname)
                        let notes = try await machine.ask(["ledger", "get", "notes"]).output
                        return !known.contains("carl") && !notes.contains("here")
                    }
                }
                // Also after a restart, and although carl knocks.
                bertsNode.send(SIGKILL)
                try await bertsNode.end(within: .seconds(20))
                bertsNode = try await bert.up(["--interface", "none"])
                try await bert.sees(anna, "alive")
                let pings = try await carl.ask(["ping", "bert", "--count", "2"])
                #expect(pings.status != 0)
                #expect(try await bert.status().peers.compactMap(\.hostname) == ["anna"])
            }
        }
    }
}
