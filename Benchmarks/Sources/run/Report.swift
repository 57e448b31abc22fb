import Foundation

/// All that is known of one candidate after a run.
struct Column {
    let candidate: Candidate
    /// What is measured once in a run, not in every round.
    var once: [Metric: Double]
    var samples: [Sample] = []
    /// Samples that were thrown away because the hypervisor took too much.
    var repeats = 0

    init(candidate: Candidate, once: [Metric: Double] = [:]) {
        self.candidate = candidate
        self.once = once
    }

    var title: String { "\(candidate.name), \(candidate.suite)" }

    func values(_ metric: Metric) -> [Double] { samples.compactMap { $0.values[metric] } }

    func value(_ metric: Metric) -> Double? {
        // Memory that each round gained adds up.
        if metric == .initiationMemory {
            return samples.isEmpty
                ? nil : values(metric).isEmpty ? nil : values(metric).reduce(0, +)
        }
        return once[metric] ?? median(values(metric))
    }
}

/// The outcome of a run.
struct Report {
    static let stealLimit = 0.05
    static let idleSeconds = 10

    /// Our tunnel, our mesh, wireguard-go, our engine with the null cipher and the bare wire.
    let columns: [Column]
    /// Our mesh through a relay.
    let relayed: Column?
    /// Our engine with the mesh's cipher.
    let bareEngine: Column?
    /// Other tunnels that are installed, and why the rest is missing.
    let others: [Column]
    let missing: [String]
    /// Single facts: what, and its value here.
    let facts: [(String, String)]
    let processor: Int?
    let seconds: Int
    let congestionControl: String

    var rounds: Int { columns[0].samples.count }
    var place: String { processor.map { "everything on CPU \($0)" } ?? "all CPUs" }

    private var tunnel: Column { columns[0] }
    private var mesh: Column { columns[1] }
    private var reference: Column { columns[2] }
    private var limit: Column { columns[3] }

    /// How many times better than wireguard-go.
    func ratio(_ metric: Metric, _ column: Column) -> Double? {
        guard let larger = metric.isBetterWhenLarger, let ours = column.value(metric),
            let theirs = reference.value(metric), ours > 0, theirs > 0
        else { return nil }
        return larger ? ours / theirs : theirs / ours
    }

    /// Medians and ratios, as Markdown.
    func table() -> String {
        let ratios = columns.prefix(2).map { "ratio, \($0.candidate.suite)" }
        var lines = header(columns.map(\.title) + ratios)
        for metric in Metric.allCases {
            let ratios = columns.prefix(2).map { column in
                ratio(metric, column).map { String(format: "%.2f", $0) } ?? "-"
            }
            lines.append(row([metric.label] + cells(metric, columns) + ratios))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What the ciphers leave of the engine's own speed, in percent.
    func limits() -> String {
        var lines = header([tunnel, mesh].map(\.title))
        for metric in Metric.throughput {
            let shares = [tunnel, mesh].map { share(metric, of: $0, in: limit) }
            lines.append(row([metric.label] + shares))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    func relay() -> String {
        beside(relayed, "relayed, % of direct") { ($0, mesh) }
    }

    func control() -> String {
        beside(bareEngine, "the mesh, % of its engine") { (mesh, $0) }
    }

    /// Our mesh, another column, and one of them in percent of the other.
    private func beside(
        _ other: Column?, _ title: String, _ parts: (Column) -> (part: Column, whole: Column)
    ) -> String {
        guard let other else { return "Not measured.\n" }
        let metrics: [Metric] = [
            .forward, .forwardWork, .reverse, .reverseWork, .pingMedian, .pingTail,
        ]
        var lines = header([mesh.title, other.title, title])
        for metric in metrics {
            let (part, whole) = parts(other)
            lines.append(
                row(
                    [metric.label] + cells(metric, [mesh, other])
                        + [share(metric, of: part, in: whole)]))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    func otherTunnels() -> String {
        guard !others.isEmpty else { return "None is installed.\n" }
        let metrics: [Metric] = [
            .forward, .forwardWork, .reverse, .reverseWork, .floodSent, .floodDelivered,
            .steadyLoss, .pingMedian, .pingTail, .idleMemory,
        ]
        var lines = header(others.map(\.title))
        for metric in metrics { lines.append(row([metric.label] + cells(metric, others))) }
        return lines.joined(separator: "\n") + "\n"
    }

    /// The smallest and the largest sample of what was measured in every round.
    func spread() -> String {
        var lines = header(columns.map(\.title))
        for metric in Metric.allCases where !columns[0].values(metric).isEmpty {
            let cells = columns.map { column in
                guard let least = column.values(metric).min(),
                    let most = column.values(metric).max()
                else { return "-" }
                return metric.text(least) + " - " + metric.text(most)
            }
            lines.append(row([metric.label] + cells))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// How disturbed the machine was.
    func disturbance() -> String {
        let all = columns + others + [relayed, bareEngine].compactMap(\.self)
        let samples = all.flatMap(\.samples)
        let loads = samples.map(\.load)
        let worst = samples.map(\.steal).max() ?? 0
        let kept = samples.count { $0.steal > Self.stealLimit }
        let repeats = all.reduce(0) { $0 + $1.repeats }
        let span = String(format: "%.1f to %.1f", loads.min() ?? 0, loads.max() ?? 0)
        let steal = String(format: "%.1f", worst * 100)
        return """
            One-minute load during the run, the benchmark's own included: \(span). Steal in the
            worst sample that counts: \(steal) %. Samples taken again because of steal above 5 %:
            \(repeats); samples that count in spite of more than 5 %: \(kept) of \(samples.count).
            Nothing is taken again because of neighbours: their share of the CPU is missing in rows
            of throughput, packet rate and ping, not evenly, and their ratios inherit it. The spread
            below shows how much; work per CPU second is the steadiest.
            """
    }

    private func cells(_ metric: Metric, _ columns: [Column]) -> [String] {
        columns.map { $0.value(metric).map(metric.text) ?? "-" }
    }

    private func share(_ metric: Metric, of column: Column, in whole: Column) -> String {
        guard let part = column.value(metric), let all = whole.value(metric), all > 0 else {
            return "-"
        }
        return String(format: "%.0f", part / all * 100)
    }

    private func header(_ titles: [String]) -> [String] {
        [row([""] + titles), "|---|" + String(repeating: "---:|", count: titles.count)]
    }

    private func row(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
}
