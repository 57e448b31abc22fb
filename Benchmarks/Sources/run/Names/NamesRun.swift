import Foundation

/// Compares our name server with unbound and dnsmasq, on this machine, now.
///
///     sudo swift run -c release --package-path Benchmarks run names
///         [--binary .build/release/edgevpn-swift] [--rounds 3] [--seconds 3]
///         [--write docs/benchmarks-dns.md]
///
/// All three have the same records and ask the same upstream. They take turns inside each round, so
/// that a noisy minute falls on all of them.
enum NamesRun {
    static func run(_ arguments: [String]) throws {
        var options = [
            "--binary": ".build/release/edgevpn-swift", "--rounds": "3", "--seconds": "3",
            "--write": "",
        ]
        var words = arguments[...]
        while let word = words.popFirst() {
            guard options[word] != nil, let value = words.popFirst() else {
                throw Failure("unknown option \(word)")
            }
            options[word] = value
        }
        guard let rounds = Int(options["--rounds"] ?? ""), rounds > 0,
            let seconds = Int(options["--seconds"] ?? ""), seconds > 0,
            let binary = options["--binary"]
        else { throw Failure("--rounds and --seconds take positive numbers") }
        guard getuid() == 0 else { throw Failure("namespaces need root") }
        for tool in ["ip", "dnsperf", "unbound", "dnsmasq", "taskset"] where !isInstalled(tool) {
            throw Failure("\(tool) is not installed")
        }
        let path = URL(fileURLWithPath: binary).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure("\(path) is missing; build it with: swift build -c release")
        }
        let lab = try NamesLab()
        defer { lab.remove() }
        let servers = [try lab.ours(binary: path), try lab.unbound(), try lab.dnsmasq()]
        for server in servers { try lab.warmUp(server) }
        var report = NamesReport(rounds: rounds, seconds: seconds, servers: servers.map(\.name))
        for round in 1...rounds {
            for questions in Questions.allCases {
                for server in servers {
                    let sample = try lab.sample(server, questions, seconds: seconds)
                    report.add(sample, of: server.name, questions)
                    print("round \(round) of \(rounds), \(server.name): \(questions.words)")
                }
            }
        }
        print("\n" + report.table())
        if let document = options["--write"], !document.isEmpty {
            try report.write(to: document, arguments: ["names"] + arguments)
        }
    }
}

/// What is asked.
enum Questions: String, CaseIterable {
    case zone, cache

    var words: String {
        switch self {
        case .zone: "authoritative answers"
        case .cache: "cached answers"
        }
    }

    /// One question a line, in an order that repeats.
    var lines: [String] {
        switch self {
        case .zone:
            var lines = (1...Zone.hosts).map { "\(Zone.host($0)).\(Zone.name) A" }
            lines += (1...10).map { "missing-\($0).\(Zone.name) A" }
            lines += (1...5).map { "\(Zone.host($0)).\(Zone.name) MX" }
            return lines + ["alias.\(Zone.name) A"]
        case .cache: return (1...5_000).map { "n\($0 * 7919 % 5_003).example A" }
        }
    }
}

/// The records that all servers have.
enum Zone {
    static let name = "bench.internal"
    static let hosts = 40

    static func host(_ number: Int) -> String { "host-\(number)" }
    static func address(_ number: Int) -> String { "10.1.5.\(number)" }
}
