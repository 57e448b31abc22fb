import Foundation

/// Compares our plain tunnel and our mesh with wireguard-go and with no tunnel at all, on this
/// machine, now.
///
///     sudo swift run -c release --package-path Benchmarks run
///         [--binary .build/release/edgevpn-swift] [--wireguard-go wireguard-go]
///         [--rounds 5] [--seconds 2] [--all-cpus] [--write docs/benchmarks.md]
///
/// Candidates take turns inside each round, so that a noisy minute falls on all of them. A sample
/// during which the hypervisor took more than 5 % of the CPU is taken again, three times at most,
/// and the least disturbed one counts. Ratios are of medians within one run; figures of different
/// runs are not comparable. `--write` also draws a chart beside the document.
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
        let path = URL(fileURLWithPath: binary).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure("\(path) is missing; build it with: swift build -c release")
        }
        let report = try compare(
            binary: path, other: other, rounds: rounds, seconds: seconds, processor: processor)
        print("\n" + report.table())
        if let document = options["--write"], !document.isEmpty {
            try report.write(to: document, arguments: arguments)
        }
    }

    private static func compare(
        binary: String, other: String, rounds: Int, seconds: Int, processor: Int?
    ) throws -> Report {
        let lab = try Lab(processor: processor)
        defer { lab.remove() }
        let keys = [Side.a: try KeyPair(), .b: try KeyPair()]
        let version = try execute([binary, "--version"]).output.firstLine
        let mesh = try lab.mesh(binary: binary, version: version)
        let candidates = [
            try lab.tunnel(binary: binary, version: version, keys: keys), mesh,
            try lab.wireguardGo(binary: other, keys: keys), lab.bareWire(),
        ]
        for candidate in candidates { try lab.waitUntilReachable(candidate) }
        var columns = zip(candidates, lab.idle(candidates, seconds: Report.idleSeconds)).map {
            Column(candidate: $0, once: $1)
        }
        for round in 1...rounds {
            for index in columns.indices {
                let candidate = columns[index].candidate
                var sample = try lab.sample(candidate, seconds: seconds)
                var repeats = 0
                while sample.steal > Report.stealLimit, repeats < 3 {
                    repeats += 1
                    let again = try lab.sample(candidate, seconds: seconds)
                    if again.steal < sample.steal { sample = again }
                }
                columns[index].samples.append(sample)
                columns[index].repeats += repeats
                let steal = String(format: "steal %.1f %%", sample.steal * 100)
                print("round \(round) of \(rounds), \(candidate.name): \(steal)", terminator: ", ")
                print("load \(sample.load), taken again \(repeats) times")
            }
        }
        for index in columns.indices {
            columns[index].once[.loadedMemory] = columns[index].candidate.residentMebibytes()
        }
        guard try lab.meshSuite(binary: binary) == mesh.suite else {
            throw Failure("the mesh changed its suite on the way; nothing is reported")
        }
        let control = try execute(
            lab.inside(.a, ["sysctl", "-n", "net.ipv4.tcp_congestion_control"]))
        return Report(
            columns: columns, processor: processor, seconds: seconds,
            congestionControl: control.output.firstLine)
    }
}

func isInstalled(_ tool: String) -> Bool {
    (try? execute(["which", tool], mayFail: true))?.status == 0
}

extension Lab {
    func waitUntilReachable(_ candidate: Candidate) throws {
        for _ in 0..<50 {
            let ping = inside(.a, ["ping", "-n", "-c", "1", "-W", "1", candidate.target])
            if try execute(ping, mayFail: true).status == 0 { return }
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
