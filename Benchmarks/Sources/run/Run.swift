import Foundation

/// Compares the tunnel with wireguard-go and with no tunnel at all, on this machine, now.
///
///     sudo swift run -c release --package-path Benchmarks run
///         [--binary .build/release/edgevpn-swift] [--wireguard-go wireguard-go]
///         [--rounds 3] [--seconds 2] [--all-cpus]
///
/// Candidates take turns inside each round, so that a noisy minute falls on all of them. A sample
/// during which the hypervisor took more than 5 % of the machine is taken again, three times at
/// most. Ratios are of medians within one run; figures of different runs are not comparable.
@main
enum Run {
    static func main() throws {
        var options = [
            "--binary": ".build/release/edgevpn-swift", "--wireguard-go": "wireguard-go",
            "--rounds": "3", "--seconds": "2",
        ]
        var processor: Int? = 0
        var words = CommandLine.arguments.dropFirst()
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
        for tool in ["ip", "iperf3", "ping", "taskset", "wg", other] {
            let found = try execute(["which", tool], mayFail: true)
            if found.status != 0 { throw Failure("\(tool) is not installed") }
        }
        let path = URL(fileURLWithPath: binary).path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure("\(path) is missing; build it with: swift build -c release")
        }
        try compare(
            binary: path, other: other, rounds: rounds, seconds: seconds, processor: processor)
    }

    static func compare(
        binary: String, other: String, rounds: Int, seconds: Int, processor: Int?
    ) throws {
        let lab = try Lab(processor: processor)
        defer { lab.remove() }
        let keys = [Side.a: try KeyPair(), .b: try KeyPair()]
        let candidates = [
            try lab.edgevpn(binary: binary, keys: keys),
            try lab.wireguardGo(binary: other, keys: keys), lab.bareWire(),
        ]
        for candidate in candidates { try lab.waitUntilReachable(candidate) }
        var samples = [[Sample]](repeating: [], count: candidates.count)
        for round in 1...rounds {
            for (index, candidate) in candidates.enumerated() {
                var sample = try lab.sample(candidate, seconds: seconds)
                var repeats = 0
                while sample.steal > 0.05, repeats < 3 {
                    repeats += 1
                    sample = try lab.sample(candidate, seconds: seconds)
                }
                let steal = String(format: "%.1f", sample.steal * 100)
                print("round \(round) of \(rounds), \(candidate.name): steal \(steal) %")
                samples[index].append(sample)
            }
        }
        report(candidates, samples, processor: processor)
    }

    static func report(_ candidates: [Candidate], _ samples: [[Sample]], processor: Int?) {
        let place = processor.map { "everything on CPU \($0)" } ?? "all CPUs"
        print("\nMedians of \(samples[0].count) rounds, \(place), MTU 1420:\n")
        let names = candidates.map(\.name)
        print("| | " + names.joined(separator: " | ") + " | ratio |")
        print("|---|" + String(repeating: "---|", count: names.count + 1))
        for metric in Metric.allCases {
            let medians = samples.map { median($0.compactMap { $0.values[metric] }) }
            let cells = medians.map { $0.map { String(format: "%.2f", $0) } ?? "-" }
            var ratio = "-"
            if let ours = medians[0], let theirs = medians[1], ours > 0, theirs > 0 {
                let value = metric.isBetterWhenLarger ? ours / theirs : theirs / ours
                ratio = String(format: "%.2f", value)
            }
            print("| \(metric.rawValue) | " + cells.joined(separator: " | ") + " | \(ratio) |")
        }
        print("\nThe ratio compares the first two columns; above 1 the first is better.")
    }
}

extension Lab {
    func waitUntilReachable(_ candidate: Candidate) throws {
        for _ in 0..<50 {
            let ping = inside(.a, ["ping", "-n", "-c", "1", "-W", "1", candidate.target])
            if try execute(ping, mayFail: true).status == 0 { return }
            Thread.sleep(forTimeInterval: 0.1)
        }
        let logs = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        let texts = logs.filter { $0.hasSuffix(".log") }.map { log in
            "\(log): "
                + ((try? String(contentsOfFile: "\(directory)/\(log)", encoding: .utf8)) ?? "")
        }
        throw Failure("\(candidate.name) does not answer\n" + texts.joined(separator: "\n"))
    }
}
