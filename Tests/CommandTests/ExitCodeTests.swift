import Foundation
import Testing

@Suite("Exit codes")
struct ExitCodeTests {
    @Test(arguments: [
        ["frobnicate"], ["up", "--frobnicate"], ["status", "surplus"], ["ping"],
        ["ping", "x", "--count", "0"], ["ledger", "put", "bucket"], ["tunnel"],
        ["demo", "--nodes", "0"], ["demo", "--cluster", "k3s"], ["status", "--api", "nowhere"],
        ["up", "--token-file", "/nonexistent"], ["up", "--config", "/nonexistent"], ["up"],
        ["tunnel", "--config", "/nonexistent"], ["lock", "x"], ["lock", "x", "--", "/nonexistent"],
        ["lock", "x", "--", "/tmp"], ["elect", "x", "--", "no-such-program"],
        ["wait-for", "rain"], ["wait-for", "peers:some"], ["cluster", "remove"],
    ])
    func aMistakeIsTwo(_ arguments: [String]) throws {
        let outcome = try Program.run(arguments)
        #expect(outcome.code == 2)
        #expect(outcome.output.isEmpty && !outcome.errors.isEmpty)
    }

    @Test(arguments: [
        ["status"], ["peers"], ["ping", "x"], ["dns"], ["cluster", "status"], ["ledger", "get"],
    ])
    func askingANodeThatIsNotThereIsOneAndNamesTheFlag(_ arguments: [String]) throws {
        let outcome = try Program.run(arguments + ["--api", "unix:/nonexistent/api.sock"])
        #expect(outcome.code == 1 && outcome.errors.contains("--api"))
    }

    @Test(arguments: [["--help"], ["--version"], ["help", "up"], ["up", "--help"]])
    func helpIsZeroAndGoesToStandardOutput(_ arguments: [String]) throws {
        let outcome = try Program.run(arguments)
        #expect(outcome.code == 0 && !outcome.output.isEmpty && outcome.errors.isEmpty)
    }

    @Test func everyMistakeOfUpIsToldAtOnceWithItsPlace() throws {
        try Program.withDirectory { directory in
            let file = "\(directory)/node.yaml"
            try Data("listen: high\nhostnam: x\n".utf8).write(to: URL(fileURLWithPath: file))
            let outcome = try Program.run(
                ["up", "--config", file, "--role", "boss", "--relay", "some"],
                environment: ["EDGEVPN_SHARDS": "many", "EDGEVPN_MTUU": "1"])
            #expect(outcome.code == 2)
            for place in [
                "\(file):1: ", "\(file):2: ", "--role: ", "--relay: ", "EDGEVPN_SHARDS: ",
                "EDGEVPN_MTUU: ",
            ] {
                #expect(outcome.errors.contains("error: \(place)"), "\(place)")
            }
        }
    }

    @Test func aTunnelFilesMistakesComeWithTheirLines() throws {
        try Program.withDirectory { directory in
            let file = "\(directory)/wg.conf"
            let text = "[Interface]\nPrivateKey = short\nDNS = 1.1.1.1\n[Peer]\nEndpoint = x\n"
            try Data(text.utf8).write(to: URL(fileURLWithPath: file))
            let outcome = try Program.run(["tunnel", "--config", file])
            #expect(outcome.code == 2)
            for line in [2, 3, 5] {
                #expect(outcome.errors.contains("\(file):\(line): "), "line \(line)")
            }
            #expect(!outcome.errors.contains("short"), "a key is not repeated")
        }
    }
}

@Suite("Secrets of the process")
struct ProcessSecretTests {
    /// The program blocks on a configuration that is a pipe without a writer; meanwhile its
    /// argument list and its environment are looked at from outside.
    @Test(arguments: [true, false])
    func nobodySeesTheTokenOfARunningProcess(_ asArgument: Bool) throws {
        try Program.withDirectory { directory in
            let pipe = "\(directory)/config"
            #expect(mkfifo(pipe, 0o600) == 0)
            let token = try Program.run(["token", "new"]).lines[0]
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Program.path)
            process.arguments =
                ["up", "--config", pipe] + (asArgument ? ["--token", token] : [])
            process.environment = Program.base.merging(
                asArgument ? [:] : ["EDGEVPNTOKEN": token, "EDGEVPN_TOKEN": token]
            ) { $1 }
            process.standardError = FileHandle.nullDevice
            try process.run()
            defer {
                process.terminate()
                process.waitUntilExit()
            }
            let about = "/proc/\(process.processIdentifier)"
            let end = try writingEnd(of: pipe)
            defer { try? end.close() }
            for file in ["cmdline", "environ"] {
                let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(about)/\(file)"))
                let text = String(decoding: bytes, as: UTF8.self)
                #expect(text.contains(file == "cmdline" ? "--config" : "PATH="))
                #expect(!text.contains(token.prefix(16)), "\(file) shows the token")
            }
        }
    }

    /// Opens the writing end, which works as soon as the program has opened the reading one: from
    /// then on it waits for what its configuration says.
    private func writingEnd(of pipe: String) throws -> FileHandle {
        for _ in 0..<1_000 {
            let descriptor = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
            if descriptor >= 0 { return FileHandle(fileDescriptor: descriptor) }
            usleep(10_000)
        }
        throw CocoaError(.fileReadUnknown)
    }
}
