import Foundation
import Testing

@Suite("token and id")
struct TokenCommandTests {
    @Test func newPrintsOneLineAndWarnsThatTheRootKeyIsGone() throws {
        let made = try Program.run(["token", "new", "--nodes", "3"])
        #expect(made.code == 0 && made.lines.count == 1)
        #expect(made.output.hasPrefix("evpn1"))
        #expect(made.errors.contains("--admin-key"))
        let other = try Program.run(["token", "new", "--nodes", "3"])
        #expect(other.output != made.output)
    }

    @Test func theRootKeyIsKeptOnRequestAndNeverOverwritten() throws {
        try Program.withDirectory { directory in
            let file = "\(directory)/root.key"
            let made = try Program.run(["token", "new", "--admin-key", file])
            #expect(made.code == 0 && made.errors.isEmpty)
            #expect(try Program.mode(of: file) == 0o600)
            let content = try String(contentsOfFile: file, encoding: .utf8)
            #expect(content.hasPrefix("evpnadmin1"))
            let again = try Program.run(["token", "new", "--admin-key", file])
            #expect(again.code == 1 && again.output.isEmpty)
            #expect(try String(contentsOfFile: file, encoding: .utf8) == content)
        }
    }

    @Test func everyMistakeOfNewIsToldAtOnce() throws {
        let made = try Program.run([
            "token", "new", "--name", "No_Label", "--cidr", "10.0.0.0/4", "--mtu", "99", "--dht",
            "maybe", "--peer", "nowhere", "--nodes", "3", "--servers", "4", "--takeover", "soon",
        ])
        #expect(made.code == 2 && made.output.isEmpty)
        for option in ["--name", "--cidr", "--mtu", "--dht", "--peer", "--servers", "--takeover"] {
            #expect(made.errors.contains("error: \(option): "), "\(option) in \(made.errors)")
        }
    }

    @Test(arguments: [
        ["--nodes", "3", "--disk-losses", "3"], ["--nodes", "0"], ["--nodes", "65"],
        ["--servers", "3"], ["--genesis", "designated:abc", "--nodes", "1"],
        ["--genesis", "voters", "--nodes", "3"], ["--nodes", "three"],
    ])
    func aPolicyThatCannotHoldIsRefused(_ arguments: [String]) throws {
        let made = try Program.run(["token", "new"] + arguments)
        #expect(made.code == 2 && made.output.isEmpty && !made.errors.isEmpty)
    }

    @Test func showTellsWhatATokenGrantsAndNoSecret() throws {
        try Program.withDirectory { directory in
            let token = try Program.run(["token", "new", "--nodes", "5", "--name", "home"]).lines[0]
            let file = "\(directory)/token"
            try Data("\(token)\n".utf8).write(to: URL(fileURLWithPath: file))
            let shown = try Program.run(["token", "show", "--json", "--token-file", file])
            #expect(shown.code == 0 && shown.errors.isEmpty)
            let json = try JSONSerialization.jsonObject(with: Data(shown.output.utf8))
            let object = try #require(json as? [String: Any])
            #expect(object["name"] as? String == "home")
            #expect(object["grants"] as? [String] == ["member", "voter"])
            let issuers = try #require(object["issuers"] as? [String])
            #expect(issuers.count == 2 && issuers.allSatisfy { $0.count == 64 })
            let policy = try #require(object["policy"] as? [String: Any])
            #expect(policy["quorum"] as? Int == 4 && policy["servers"] as? Int == 3)

            let environment = try Program.run(
                ["token", "show", "--json"], environment: ["EDGEVPNTOKEN": token])
            #expect(environment.output == shown.output)
            let argument = try Program.run(["token", "show", "--json", "--token", token])
            #expect(argument.output == shown.output)
            #expect(argument.errors.contains("warning"))
            // No twenty characters of the token come back: every secret is longer than that.
            let body = Array(token.dropFirst(5))
            for start in stride(from: 0, to: body.count - 20, by: 4) {
                #expect(!shown.output.contains(String(body[start..<start + 20])))
            }
        }
    }

    @Test func aGrownTokenLetsMachinesJoinAndNeverVote() throws {
        let token = try Program.run(["token", "new", "--nodes", "3"]).lines[0]
        let grown = try Program.run(
            ["token", "grow"], environment: ["EDGEVPN_TOKEN": token])
        #expect(grown.code == 0 && grown.lines.count == 1 && grown.output != token + "\n")
        let shown = try Program.run(
            ["token", "show", "--json", "--token-file", "/dev/stdin"], input: grown.output)
        #expect(shown.output.contains(#""member""#) && !shown.output.contains(#""voter""#))
    }

    @Test func theAdminKeyNamesVoters() throws {
        try Program.withDirectory { directory in
            let file = "\(directory)/root.key"
            let token = try Program.run([
                "token", "new", "--nodes", "2", "--genesis", "voters", "--admin-key", file,
            ]).lines[0]
            func name(_ id: String, _ token: String, key: String = file) throws -> Program.Outcome {
                try Program.run(
                    ["token", "voter", id, "--admin-key", key],
                    environment: ["EDGEVPN_TOKEN": token])
            }
            var named = token
            for digit in ["a", "b", "c"] {
                let id = String(repeating: digit, count: 64)
                let made = try name(id, named)
                #expect(made.code == 0 && made.lines.count == 1, "\(made.errors)")
                named = made.lines[0]
                let shown = try Program.run(
                    ["token", "show"], environment: ["EDGEVPN_TOKEN": named])
                #expect(shown.output.contains(id))
            }
            let fourth = String(repeating: "d", count: 64)
            #expect(try name(fourth, named).code == 3, "two voters and one lost disk are three")
            #expect(try name("abc", token).code == 2)
            let other = "\(directory)/other.key"
            let count = try Program.run(["token", "new", "--nodes", "3", "--admin-key", other])
            #expect(try name(fourth, token, key: other).code == 2)
            #expect(try name(fourth, count.lines[0], key: other).code == 2)
            #expect(try name(fourth, token, key: "/dev/null").code == 2)
        }
    }

    @Test func aGarbledTokenIsRefusedWithoutBeingRepeated() throws {
        let token = try Program.run(["token", "new"]).lines[0]
        for text in [String(token.dropLast()), token + "x", "nonsense-\(token)", ""] {
            let shown = try Program.run(
                ["token", "show", "--token-file", "/dev/stdin"], input: text)
            #expect(shown.code == 2 && shown.output.isEmpty)
            #expect(!shown.errors.contains(token.dropFirst(5).prefix(20)))
        }
    }

    @Test func aMachineHasOneIdForEver() throws {
        try Program.withDirectory { directory in
            let state = "\(directory)/state"
            let first = try Program.run(["id", "--state-dir", state])
            #expect(first.code == 0 && first.lines.first?.count == 64)
            #expect(try Program.mode(of: state) == 0o700)
            #expect(try Program.mode(of: "\(state)/identity") == 0o600)
            #expect(try Program.run(["id", "--state-dir", state]).output == first.output)

            let file = URL(fileURLWithPath: "\(state)/identity")
            let content = try Data(contentsOf: file)
            try content.dropLast(7).write(to: file)
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o600], ofItemAtPath: file.path)
            let damaged = try Program.run(["id", "--state-dir", state])
            #expect(damaged.code == 1 && damaged.output.isEmpty)
            #expect(try Data(contentsOf: file) == content.dropLast(7), "it is left as it is")
        }
    }
}
