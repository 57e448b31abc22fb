import Foundation

/// What is measured of a server, in the order of the table.
enum NamesMetric: CaseIterable {
    case rate, work, median, tail, lost

    var label: String {
        switch self {
        case .rate: "answers/s"
        case .work: "- per CPU second of the server"
        case .median: "median at \(NamesSample.steadyRate) questions/s, us"
        case .tail: "99th percentile at \(NamesSample.steadyRate) questions/s, us"
        case .lost: "questions without an answer"
        }
    }
}

struct NamesSample {
    var values: [NamesMetric: Double] = [:]
    /// The share of CPU time that the hypervisor took.
    var steal = 0.0
    /// The machine's one-minute load; it includes the benchmark's own.
    var load = 0.0

    /// Questions per second at which latency is measured: within the reach of every server.
    static let steadyRate = 10_000
}

struct NamesReport {
    let rounds: Int
    let seconds: Int
    let servers: [String]
    private var samples: [String: [NamesSample]] = [:]

    init(rounds: Int, seconds: Int, servers: [String]) {
        self.rounds = rounds
        self.seconds = seconds
        self.servers = servers
    }

    mutating func add(_ sample: NamesSample, of server: String, _ questions: Questions) {
        samples["\(server) \(questions)", default: []].append(sample)
    }

    private func values(_ metric: NamesMetric, _ server: String, _ questions: Questions)
        -> [Double]
    {
        samples["\(server) \(questions)", default: []].compactMap { $0.values[metric] }
    }

    /// Medians and, where more is better, how we stand beside the second server.
    func table() -> String {
        var lines = [
            row([""] + servers + ["ours / unbound"]),
            "|---|" + String(repeating: "---:|", count: servers.count + 1),
        ]
        for questions in Questions.allCases {
            for metric in NamesMetric.allCases {
                let figures = servers.map { server in
                    let all = values(metric, server, questions)
                    // Losses add up.
                    return metric == .lost ? all.reduce(0, +) : median(all) ?? 0
                }
                let ratio =
                    metric == .lost || figures[1] == 0
                    ? "-" : String(format: "%.2f", figures[0] / figures[1])
                lines.append(
                    row(
                        ["\(questions.words): \(metric.label)"]
                            + figures.map { String(format: "%.0f", $0) } + [ratio]))
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func spread() -> String {
        var lines = [
            row([""] + servers), "|---|" + String(repeating: "---:|", count: servers.count),
        ]
        for questions in Questions.allCases {
            for metric in NamesMetric.allCases where metric != .lost {
                let cells = servers.map { server in
                    let all = values(metric, server, questions)
                    return String(format: "%.0f - %.0f", all.min() ?? 0, all.max() ?? 0)
                }
                lines.append(row(["\(questions.words): \(metric.label)"] + cells))
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func row(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }

    func write(to path: String, arguments: [String]) throws {
        let date = ISO8601DateFormatter()
        date.formatOptions = [.withFullDate]
        // Other people's directories say nothing; only the programs' names do.
        let words = arguments.map { $0.hasPrefix("/") ? ($0 as NSString).lastPathComponent : $0 }
        let dnsperf = try execute(["dnsperf", "-h"], mayFail: true).output.split(separator: "\n")
            .first { $0.contains("Version") }.map { $0.replacing("Version ", with: "") }
            .map(String.init)
        var machine = Machine.description().filter { $0.0 != "TCP congestion control" }
        machine.append(("dnsperf", dnsperf ?? "unknown"))
        machine.append(("date", date.string(from: Date())))
        let all = samples.values.flatMap { $0 }
        let loads = all.map(\.load)
        let load = String(format: "%.1f to %.1f", loads.min() ?? 0, loads.max() ?? 0)
        let steal = String(format: "%.1f", (all.map(\.steal).max() ?? 0) * 100)
        let text = """
            # Benchmarks of the name server

            One program writes this page; do not edit it. It asks our name server, unbound and
            dnsmasq, on one machine and in one run, for the same names: records of a zone that each
            of them has, and \(Questions.cache.lines.count) names that each of them has in its cache.

            ## Result

            Medians of \(rounds) rounds, \(seconds) s per sample.

            \(table())
            One-minute load during the run, the benchmark's own included: \(load). Steal in the
            worst sample: \(steal) %.

            ## Machine

            | | |
            |---|---|
            \(machine.map { "| \($0.0) | \($0.1) |" }.joined(separator: "\n"))

            ## How to repeat it

            Directories are left out. It needs root, dnsperf, unbound, dnsmasq, ip and taskset.

                sudo swift run -c release --package-path Benchmarks run \(words.joined(separator: " "))

            - Servers run on CPU 0 and take turns; dnsperf runs on CPU 1, over loopback, with four
              sockets: 60 questions under way for the rates, \(NamesSample.steadyRate) a second for
              the times.
            - CPU time is that of the whole process: of our node with all its threads, too.
            - The zone's questions are for \(Zone.hosts) addresses, names without data, names that
              do not exist and one alias. dnsmasq says NXDOMAIN without an SOA record there.
            - unbound has one thread and no validation, as ours. Queries carry no EDNS.
            - Our query log and rate limit are as by default; loopback is not limited.

            ## Smallest and largest sample

            \(spread())
            ## Not measured

            - TCP, TLS, questions that go upstream, more than one CPU for a server.
            - Real networks.

            """
        try text.write(to: URL(fileURLWithPath: path), atomically: true, encoding: .utf8)
    }
}
