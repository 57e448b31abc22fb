// Four machines on one switch, each given the token in another way and the last one with its API on a
// TCP port, and everything that anybody could read of them.

import Foundation
import Testing

extension MeshTests {
    @Suite struct SecretTests {
        @Test func noSecretIsInLogsProcessesOrAnswers() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl", "dora"])
                let dora = TCPMachine(machine: machines[3])
                let program = try Lab.binary()
                var processes: [LabProcess] = []
                for (machine, way) in zip(machines, 0...) {
                    let usual = try machine.upCommand + ["--log-level", "trace"]
                    let rest = Array(usual.dropFirst(4))
                    let command =
                        switch way {
                        case 0: [program, "up", "--token", mesh.token] + rest
                        case 1: ["env", "EDGEVPN_TOKEN=\(mesh.token)", program, "up"] + rest
                        case 2: usual
                        default: usual + ["--api", dora.api]
                        }
                    processes.append(try machine.host.start(command))
                }
                for (machine, process) in zip(machines.dropLast(), processes) {
                    try await machine.answers(process)
                }
                try await dora.answers(processes[3])
                for machine in machines.dropLast() {
                    for other in machines where other.name != machine.name {
                        try await machine.sees(other, "alive")
                        if other.name != "dora" { try await machine.reaches(other) }
                    }
                }

                var secrets = try tokenSecrets(mesh.token)
                for machine in machines {
                    let identity = try #require(
                        FileManager.default.contents(atPath: "\(machine.state)/identity"))
                    // docs/protocols: a frame of 52 bytes, the signing seed, the tunnel's secret.
                    #expect(identity.count == 116)
                    secrets["\(machine.name)'s signing seed"] = identity[52..<84]
                    secrets["\(machine.name)'s tunnel secret"] = identity[84..<116]
                }

                let bearer = try String(
                    contentsOfFile: "\(machines[3].state)/api-token", encoding: .utf8)
                secrets["dora's API token"] = Data(bearer.utf8.prefix(64))

                var places: [String: Data] = [:]
                for (machine, process) in zip(machines, processes) {
                    for file in ["cmdline", "environ"] {
                        let path = "/proc/\(process.identifier)/\(file)"
                        let text = try Data(contentsOf: URL(fileURLWithPath: path))
                        #expect(file == "environ" || !text.isEmpty)
                        places["\(machine.name): \(path)"] = text
                    }
                    for words in [
                        ["status"], ["peers"], ["ledger", "get"], ["dns", "list"],
                        ["cluster", "status"], ["ping", machines[0].name, "--count", "1"],
                    ] {
                        for words in [words, words + ["--json"]] {
                            let answer =
                                machine.name == "dora"
                                ? try await dora.ask(words) : try await machine.ask(words).output
                            #expect(!answer.isEmpty)
                            places["\(machine.name): \(words)"] = Data(answer.utf8)
                        }
                    }
                }
                // What core files would hold of the others.
                for (machine, process) in zip(machines, processes) {
                    let memory = try ProcessMemory(of: process.identifier)
                    let found = memory.names(of: secrets.map { ($0.key, $0.value) })
                    #expect(found.contains("\(machine.name)'s signing seed"))
                    let foreign = found.filter {
                        $0.contains("'s ") && !$0.hasPrefix("\(machine.name)'s ")
                            && !$0.contains("issuer")
                    }
                    #expect(foreign == [], "in the memory of \(machine.name)")
                }
                for (machine, process) in zip(machines, processes) {
                    process.send(SIGTERM)
                    try await process.end(within: .seconds(20))
                    #expect(process.output.contains("known"))
                    places["\(machine.name): log"] = Data(process.output.utf8)
                }
                for (place, text) in places.sorted(by: { $0.key < $1.key }) {
                    for found in secretNames(in: text, secrets, mesh.token) {
                        Issue.record("\(found) is in \(place)")
                    }
                }

                // The search does find what is there.
                let file = try Data(contentsOf: URL(fileURLWithPath: machines[0].tokenPath))
                #expect(secretNames(in: file, secrets, mesh.token).contains("the token"))
                for (name, secret) in secrets {
                    for spelling in spellings(of: secret) {
                        let text = Data("log: ".utf8) + spelling + Data(" end".utf8)
                        #expect(secretNames(in: text, secrets, mesh.token) == [name])
                    }
                }
            }
        }
    }
}

/// A machine whose API is on a TCP port.
private struct TCPMachine {
    let machine: MeshMachine
    let api = "127.0.0.1:7380"

    func ask(_ words: [String]) async throws -> String {
        let answer = try await machine.host.attempt(
            [
                "env", "EDGEVPN_API_TOKEN_FILE=\(machine.state)/api-token", try Lab.binary(),
            ] + words + ["--api", api])
        #expect(answer.status == 0, "\(words): \(answer.output)")
        return answer.output
    }

    func answers(_ process: LabProcess) async throws {
        try await eventually("\(machine.name) answers\n\(process.output)") {
            guard FileManager.default.fileExists(atPath: "\(machine.state)/api-token") else {
                return false
            }
            let answer = try await machine.host.attempt([
                "env", "EDGEVPN_API_TOKEN_FILE=\(machine.state)/api-token", try Lab.binary(),
                "status", "--json", "--api", api,
            ])
            return answer.status == 0
        }
    }
}

/// The secrets of a token, by the layout in docs/protocols/token.md.
private func tokenSecrets(_ token: String) throws -> [String: Data] {
    var text = token.dropFirst("evpn1".count).replacing("-", with: "+").replacing("_", with: "/")
    text += String(repeating: "=", count: (4 - text.count % 4) % 4)
    let layout = [UInt8](try #require(Data(base64Encoded: String(text))))
    var place = 1 + 16 + 32
    var result: [String: Data] = [:]
    for name in ["discovery secret", "admission secret"] {
        result[name] = Data(layout[place..<place + 32])
        place += 32
    }
    place += 4
    place += 1 + Int(layout[place])
    place += 4 + 1 + 2 + 1
    #expect(layout[place] == 0, "this mesh has no peer hints")
    place += 1
    #expect(layout[place] == 2, "a founding token carries two issuers")
    place += 1
    for name in ["first issuer's key", "second issuer's key"] {
        place += 101
        result[name] = Data(layout[place..<place + 32])
        place += 32
    }
    return result
}

/// Raw, hexadecimal and base64, each shortened to what still identifies the secret.
private func spellings(of secret: Data) -> [Data] {
    let half = Data(secret.prefix(18))
    let hex = half.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    let base64 = half.base64EncodedString()
    let urlSafe = base64.replacing("+", with: "-").replacing("/", with: "_")
    return [half] + [hex, hex.uppercased(), base64, urlSafe].map { Data($0.utf8) }
}

private func secretNames(in text: Data, _ secrets: [String: Data], _ token: String) -> [String] {
    var found = secrets.keys.sorted().filter { name in
        spellings(of: secrets[name] ?? Data()).contains { text.range(of: $0) != nil }
    }
    // A piece from its middle, where it says more than which mesh it is.
    let piece = token.dropFirst(80).prefix(40)
    if text.range(of: Data(piece.utf8)) != nil { found.append("the token") }
    return found
}
