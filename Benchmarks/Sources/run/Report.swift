import Foundation

/// All that is known of one candidate after a run.
struct Column {
    let candidate: Candidate
    /// What is measured once in a run, not in every round.
    var once: [Metric: Double]
    var samples: [Sample] = []
    /// Samples that were thrown away because the hypervisor took too much.
    var repeats = 0

    init(candidate: Candidate, once: [Metric: Double]) {
        self.candidate = candidate
        self.once = once
    }

    var title: String { "\(candidate.name), \(candidate.suite)" }

    func values(_ metric: Metric) -> [Double] { samples.compactMap { $0.values[metric] } }

    func value(_ metric: Metric) -> Double? { once[metric] ?? median(values(metric)) }
}

/// The outcome of a run: our tunnel, our mesh, wireguard-go and the bare wire, in this order.
struct Report {
    static let stealLimit = 0.05
    static let idleSeconds = 10

    let columns: [Column]
    let processor: Int?
    let seconds: Int
    let congestionControl: String

    var rounds: Int { columns[0].samples.count }
    var place: String { processor.map { "everything on CPU \($0)" } ?? "all CPUs" }

    private var reference: Column { columns[2] }

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
        var lines = [
            row([""] + columns.map(\.title) + ratios),
            "|---|" + String(repeating: "---:|", count: columns.count + ratios.count),
        ]
        for metric in Metric.allCases {
            let cells = columns.map { $0.value(metric).map(metric.text) ?? "-" }
            let ratios = columns.prefix(2).map { column in
                ratio(metric, column).map { String(format: "%.2f", $0) } ?? "-"
            }
            lines.append(row([metric.label] + cells + ratios))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// The smallest and the largest sample of what was measured in every round.
    func spread() -> String {
        var lines = [
            row([""] + columns.map(\.title)),
            "|---|" + String(repeating: "---:|", count: columns.count),
        ]
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
        let samples = columns.flatMap(\.samples)
        let loads = samples.map(\.load)
        let worst = samples.map(\.steal).max() ?? 0
        let kept = samples.count { $0.steal > Self.stealLimit }
        let repeats = columns.reduce(0) { $0 + $1.repeats }
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

    private func row(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
}
