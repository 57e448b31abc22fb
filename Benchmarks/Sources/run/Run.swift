import Foundation

/// Compares our plain tunnel and our mesh with wireguard-go, with our own engine under a cipher
/// that only copies, with no tunnel at all, and with other tunnels, on this machine, now.
///
///     sudo swift run -c release --package-path Benchmarks run
///         [--binary .build/release/edgevpn-swift] [--wireguard-go wireguard-go]
///         [--rounds 5] [--seconds 2] [--all-cpus] [--write docs/benchmarks.md]
///
/// The programs benchmark-tools and packet-benchmarks must be beside the binary. Candidates take
/// turns inside each round, so that a noisy minute falls on all of them. A sample during which the
/// hypervisor took more than 5 % of the CPU is taken again, three times at most, and the least
/// disturbed one counts. Ratios are of medians within one run; figures of different runs are not
/// comparable. `--write` also draws a chart beside the document.
///
/// ``NamesRun`` compares name servers.
@main
enum Run {
    static func main() {
        do {
            let arguments = Array(CommandLine.arguments.dropFirst())
            if arguments.first == "names" {
                try NamesRun.run(Array(arguments.dropFirst()))
            } else {
                try run(arguments)
            }
        } catch {
            FileHandle.standardError.write(Data("error: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        var options = [
            "--binary": ".build/release/edgevpn-swift", "--wireguard-go": "wireguard-go",
            "--rounds": "5", "--seconds": "2", "--write": "",
        ]
        var processor: Int? = 0
        var words = arguments[...]
        while let word = words.popFirst() {
            if word == "--all-cpus" {
                processor = nil
            } else if options[word] != nil, let value = words.popFirst() {
                options[word] = value
            } else {
                throw Failure("unknown option \(word)")
            }
        }
        guard let rounds = Int(options["--rounds"] ?? ""), rounds > 0,
            let seconds = Int(options["--seconds"] ?? ""), seconds > 0,
            let binary = options["--binary"], let other = options["--wireguard-go"]
        else { throw Failure("--rounds and --seconds take positive numbers") }
        guard getuid() == 0 else { throw Failure("namespaces need root") }
        for tool in ["ip", "iperf3", "ping", "taskset", "wg", other] where !isInstalled(tool) {
            throw Failure("\(tool) is not installed")
        }
        let programs = try Programs(binary: binary)
        let lab = try Lab(processor: processor, tools: programs.tools)
        defer { lab.remove() }
        // The run ends at the next step, and removes what it made.
        for number in [SIGINT, SIGTERM] { signal(number) { _ in isInterrupted = true } }
        let report = try lab.compare(programs, other: other, rounds: rounds, seconds: seconds)
        print("\n" + report.table())
        if let document = options["--write"], !document.isEmpty {
            try report.write(to: document, arguments: arguments)
        }
    }
}

/// Our own programs, all in one directory.
struct Programs {
    let binary: String
    let tools: String
    let micro: String

    init(binary: String) throws {
        let url = URL(fileURLWithPath: binary)
        let directory = url.deletingLastPathComponent()
        self.binary = url.path
        tools = directory.appendingPathComponent("benchmark-tools").path
        micro = directory.appendingPathComponent("packet-benchmarks").path
        for path in [self.binary, tools, micro]
        where !FileManager.default.isExecutableFile(atPath: path) {
            throw Failure("\(path) is missing; build it with: swift build -c release")
        }
    }
}

extension Lab {
    fileprivate func compare(
        _ programs: Programs, other: String, rounds: Int, seconds: Int
    ) throws -> Report {
        let keys = [Side.a: try KeyPair(), .b: try KeyPair()]
        let version = try execute([programs.binary, "--version"]).output.firstLine
        let mesh = try mesh(binary: programs.binary, version: version)
        let candidates = [
            try tunnel(binary: programs.binary, version: version, keys: keys), mesh,
            try wireguardGo(binary: other, keys: keys), try nullEngine(), bareWire(),
        ]
        let relayed = try relayed(binary: programs.binary, version: version)
        var others: [Candidate] = []
        var missing: [String] = []
        for (name, program, start) in Lab.others {
            if isInstalled(program) {
                others.append(try start(self))
            } else {
                missing.append("\(name): not installed.")
            }
        }
        let all = candidates + [relayed, try bareEngine()] + others
        for candidate in all { try waitUntilReachable(candidate) }
        var columns = zip(all, idle(all, seconds: Report.idleSeconds)).map {
            Column(candidate: $0, once: $1)
        }
        for round in 1...rounds {
            for index in columns.indices {
                // Other tunnels and floods take turns every second round: time is short.
                let isFull = round % 2 == 1
                if index > candidates.count + 1, !isFull { continue }
                let note = try take(&columns[index], seconds: seconds, isFull: isFull)
                print("round \(round) of \(rounds), \(columns[index].candidate.name): \(note)")
            }
        }
        for index in columns.indices {
            columns[index].once[.loadedMemory] = columns[index].candidate.residentMebibytes()
        }
        guard try meshSuite(binary: programs.binary) == mesh.suite else {
            throw Failure("the mesh changed its suite on the way; nothing is reported")
        }
        let control = try execute(
            inside(.a, ["sysctl", "-n", "net.ipv4.tcp_congestion_control"]))
        return Report(
            columns: Array(columns.prefix(candidates.count)), relayed: columns[candidates.count],
            bareEngine: columns[candidates.count + 1],
            others: Array(columns.dropFirst(candidates.count + 2)), missing: missing,
            facts: try facts(programs), processor: processor, seconds: seconds,
            congestionControl: control.output.firstLine)
    }

    /// Adds a sample; what to say about it.
    private func take(_ column: inout Column, seconds: Int, isFull: Bool) throws -> String {
        var candidate = column.candidate
        if !isFull { candidate.handshakes = nil }
        var sample = try sample(candidate, seconds: seconds)
        var repeats = 0
        while sample.steal > Report.stealLimit, repeats < 3 {
            repeats += 1
            let again = try self.sample(candidate, seconds: seconds)
            if again.steal < sample.steal { sample = again }
        }
        column.samples.append(sample)
        column.repeats += repeats
        let steal = String(format: "steal %.1f %%", sample.steal * 100)
        return "\(steal), load \(sample.load), taken again \(repeats) times"
    }

    func waitUntilReachable(_ candidate: Candidate) throws {
        for _ in 0..<100 {
            let words = ["ping", "-n", "-c", "1", "-W", "1", candidate.target]
            if try execute(inside(candidate.from, words), mayFail: true).status == 0 { return }
            Thread.sleep(forTimeInterval: 0.1)
        }
        throw Failure("\(candidate.name) does not answer\n" + logs())
    }

    /// What the started programs wrote.
    func logs() -> String {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return files.filter { $0.hasSuffix(".log") }.sorted()
            .map { "\($0): " + Machine.text("\(directory)/\($0)") }.joined(separator: "\n")
    }
}

func isInstalled(_ tool: String) -> Bool {
    (try? execute(["which", tool], mayFail: true))?.status == 0
}
