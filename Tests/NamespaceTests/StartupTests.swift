// What stands in the way of a start, on one machine without a network: one clear message, the
// documented exit code (docs/how-to/exit-codes.md), and nothing changed on disk.

import Foundation
import Testing

extension MeshTests {
    @Suite struct RefusalTests {
        @Test func garbledTokens() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                let token = mesh.token
                let middle = token.index(token.startIndex, offsetBy: token.count / 2)
                let other = token[middle] == "A" ? "B" : "A"
                let changed = token.replacingCharacters(in: middle...middle, with: other)
                for (text, word) in [
                    (String(token.dropLast(40)), "checksum"), (changed, "checksum"),
                    ("", "token"), ("evpn1", "garbled"), ("b3RwOgogIGRodDo=", "evpn1"),
                ] {
                    let path = try mesh.lab.file("garbled", text)
                    let told = try await machine.expectRefusal(
                        ["--token-file", path], code: 2, mentions: [word])
                    #expect(text.isEmpty || !told.contains(text))
                }
            }
        }

        @Test func aStateDirectoryInUse() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                let first = try await machine.up(["--interface", "none"])
                let before = try machine.snapshot()
                try await machine.expectRefusal(
                    ["--interface", "none", "--api", "off"], code: 1,
                    mentions: [machine.state, "\(first.identifier)", "--state-dir"])
                #expect(try machine.snapshot() == before)
                #expect(try await machine.ask(["status"]).status == 0)
            }
        }

        @Test func anInterfaceNameThatIsTaken() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                try await machine.host.ip("link add taken0 type bridge")
                try await machine.expectRefusal(
                    ["--interface", "taken0"], code: 1, mentions: ["taken0", "--interface"])
                _ = try await machine.up()
                let second = try await mesh.machine(in: machine.host, called: "second")
                try await second.expectRefusal([], code: 1, mentions: ["edgevpn0", "--interface"])
            }
        }

        @Test func aPortThatIsTaken() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                _ = try await machine.up(["--listen", "7001"])
                let second = try await mesh.machine(in: machine.host, called: "second")
                try await second.expectRefusal(
                    ["--interface", "edgevpn1", "--listen", "7001"], code: 1,
                    mentions: ["7001", "--listen"])
                #expect(try await machine.ask(["status"]).status == 0)
            }
        }

        @Test func anAPISocketInUse() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                _ = try await machine.up()
                let second = try await mesh.machine(in: machine.host, called: "second")
                try await second.expectRefusal(
                    ["--interface", "none", "--api", machine.api], code: 1,
                    mentions: ["\(machine.api.dropFirst("unix:".count))", "--api"])
                // The first node's socket still leads to the first node.
                #expect(try await machine.status().node.hostname == "anna")
            }
        }

        @Test func aMachineWithoutTunDevices() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                let hidden = ["sh", "-c", "mount -t tmpfs none /dev/net && exec \"$@\"", "sh"]
                try await machine.expectRefusal(
                    [], behind: ["unshare", "-m"] + hidden, code: 1,
                    mentions: ["/dev/net/tun", "--interface none"])
            }
        }

        @Test func aUserWhoIsNotRoot() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                try FileManager.default.setAttributes(
                    [.posixPermissions: 0o777], ofItemAtPath: mesh.lab.directory)
                try await machine.host.run(["chown", "nobody", machine.tokenPath])
                try await machine.expectRefusal(
                    [], behind: ["setpriv", "--reuid", "nobody", "--clear-groups"], code: 1,
                    mentions: ["root", "--interface none"])
            }
        }

        @Test func aTokenOfAnotherMesh() async throws {
            try await withMesh { mesh in
                let machine = try await mesh.machine("anna")
                let process = try await machine.up()
                process.send(SIGTERM)
                try await process.end(within: .seconds(20))
                let before = try machine.snapshot()
                let other = try mesh.lab.file("other", try await MeshLab.newToken(mesh.lab))
                // Another port is asked for as well: not even that may be written.
                try await machine.expectRefusal(
                    ["--token-file", other, "--listen", "7001"], code: 3,
                    mentions: [machine.state, "another mesh", "--state-dir"])
                #expect(try machine.snapshot() == before)
            }
        }

        @Test func truncatedStateFiles() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                var processes: [LabProcess] = []
                for machine in machines { processes.append(try await machine.up()) }
                for machine in machines { try await machine.reaches(machines[0]) }
                for process in processes { process.send(SIGTERM) }
                for process in processes { try await process.end(within: .seconds(20)) }
                // Who started the handshakes has a stamp on disk as well.
                let whole =
                    { machine in try machine.snapshot() ?? [:] }
                    as (MeshMachine) throws -> [String: StateFile]
                let machine = try #require(machines.first { try whole($0)["timestamp"] != nil })
                let files = try whole(machine)
                #expect(
                    files.keys.sorted() == [
                        "founding", "identity", "leases", "ledger", "membership", "peers", "port",
                        "timestamp",
                    ])
                for (name, file) in files.sorted(by: { $0.key < $1.key }) {
                    let content = try #require(file.content)
                    for count in [0, 1, content.count / 2 - 1, content.count - 1] {
                        try content.prefix(count).write(to: machine.url(of: name))
                        try await machine.meetDamage(of: name, cutTo: count)
                        try machine.restore(files)
                    }
                }
            }
        }
    }
}

extension MeshLab {
    /// A second node, with a state directory and a socket of its own, on the same machine.
    fileprivate func machine(in host: LabHost, called name: String) async throws -> MeshMachine {
        let path = try lab.file("token-\(name)", "\(token)\n")
        return MeshMachine(
            host: LabHost(lab: lab, name: name, namespace: host.namespace), tokenPath: path)
    }
}

extension MeshMachine {
    /// Makes the state directory hold these files and no others.
    fileprivate func restore(_ files: [String: StateFile]) throws {
        for name in (try snapshot() ?? [:]).keys where files[name] == nil {
            try FileManager.default.removeItem(at: url(of: name))
        }
        for (name, file) in files { try file.content?.write(to: url(of: name)) }
    }

    fileprivate func url(of name: String) -> URL { URL(fileURLWithPath: "\(state)/\(name)") }

    /// Fails unless `up` with these further options ends with `code` and one line that contains
    /// every word, and leaves the state directory as it was: also not made.
    @discardableResult
    fileprivate func expectRefusal(
        _ options: [String], behind prefix: [String] = [], code: Int32, mentions words: [String],
        _ location: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let before = try snapshot()
        var command = try upCommand
        // A later token file takes the place of the earlier one.
        if let chosen = options.firstIndex(of: "--token-file"),
            let place = command.firstIndex(of: "--token-file")
        {
            command[place + 1] = options[chosen + 1]
        }
        var rest = options
        if let chosen = rest.firstIndex(of: "--token-file") {
            rest.removeSubrange(chosen...(chosen + 1))
        }
        let (status, output) = try await host.attempt(prefix + command + rest)
        #expect(status == code, "\(output)", sourceLocation: location)
        let lines = output.split(separator: "\n")
        #expect(lines.count == 1, "\(output)", sourceLocation: location)
        let start = code == 3 ? "refused: " : "error: "
        #expect(output.hasPrefix(start), "\(output)", sourceLocation: location)
        for word in words {
            #expect(output.contains(word), "\(word) is not in: \(output)", sourceLocation: location)
        }
        #expect(try snapshot() == before, "the disk changed", sourceLocation: location)
        return output
    }

    /// What a start does about a file that was cut short. A vote that may be forgotten makes a
    /// node that never votes; a torn end is what a crash leaves of a ledger, and is cut off. All
    /// else is refused.
    fileprivate func meetDamage(of name: String, cutTo count: Int) async throws {
        let path = "\(state)/\(name)"
        let votes = [
            "founding": "never votes again", "leases": "decides about leases no more",
        ]
        guard votes[name] != nil || name == "ledger" && count > 1 else {
            try await expectRefusal(["--interface", "none"], code: 1, mentions: [path, "damaged"])
            return
        }
        let damaged = try snapshot()
        let process = try await up(["--interface", "none"])
        process.send(SIGTERM)
        #expect(try await process.end(within: .seconds(20)) == 0)
        let word = votes[name] ?? "cut off"
        #expect(process.output.contains(word), "\(name) cut to \(count): \(process.output)")
        let after = try snapshot()
        #expect(after?["identity"] == damaged?["identity"])
        if votes[name] != nil {
            #expect(after?[name] == damaged?[name], "evidence was overwritten")
        }
    }
}
