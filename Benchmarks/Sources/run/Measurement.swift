import Foundation

/// What is measured, in the order of the table.
enum Metric: String, CaseIterable {
    case forward = "TCP a to b, Gbit/s"
    case forwardEfficiency = "  per VPN CPU second, Gbit"
    case reverse = "TCP b to a, Gbit/s"
    case reverseEfficiency = "  per VPN CPU second, Gbit "
    case parallel = "TCP 4 flows, Gbit/s"
    case latency = "ping, median us"

    var isBetterWhenLarger: Bool { self != .latency }
}

/// One sample of every metric.
struct Sample {
    var values: [Metric: Double] = [:]
    /// The worst share of CPU time that the hypervisor took during a part of it.
    var steal = 0.0
}

extension Lab {
    func sample(_ candidate: Candidate, seconds: Int) throws -> Sample {
        var sample = Sample()
        for (metric, efficiency, options) in [
            (Metric.forward, Metric.forwardEfficiency as Metric?, [String]()),
            (.reverse, .reverseEfficiency, ["-R"]), (.parallel, nil, ["-P", "4"]),
        ] {
            let before = (cpuSeconds(candidate), CPUTimes())
            let words = ["iperf3", "-J", "-c", candidate.target, "-t", "\(seconds)"] + options
            let output = try execute(inside(.a, words)).output
            let used = cpuSeconds(candidate) - before.0
            sample.steal = max(sample.steal, CPUTimes().steal(since: before.1))
            guard let bits = receivedBits(output) else { throw Failure("iperf3: \(output)") }
            sample.values[metric] = bits / Double(seconds) / 1e9
            if let efficiency, used > 0 { sample.values[efficiency] = bits / used / 1e9 }
        }
        let pings = try execute(
            inside(.a, ["ping", "-n", "-c", "200", "-i", "0.005", candidate.target])
        ).output
        let times = pings.split(separator: "\n").compactMap { line in
            line.split(separator: "=").last.flatMap { part in
                line.contains("time=") ? Double(part.dropLast(3)) : nil
            }
        }
        if let middle = median(times) { sample.values[.latency] = middle * 1000 }
        return sample
    }

    private func receivedBits(_ json: String) -> Double? {
        let report = try? JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        let end = report?["end"] as? [String: Any]
        let received = end?["sum_received"] as? [String: Any]
        return (received?["bytes"] as? Double).map { $0 * 8 }
    }

    /// User and system time of the candidate's processes so far. The kernel may bill its own
    /// network work to whoever happens to run; that falls on all candidates alike.
    private func cpuSeconds(_ candidate: Candidate) -> Double {
        candidate.processes.reduce(0) { sum, process in
            let path = "/proc/\(process.processIdentifier)/stat"
            let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12])
            else { return sum }
            return sum + (user + system) / 100
        }
    }
}

/// The first line of /proc/stat (proc(5)).
struct CPUTimes {
    let total: Double
    let stolen: Double

    init() {
        let text = (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)) ?? ""
        let fields = text.firstLine.split(separator: " ").dropFirst().compactMap { Double($0) }
        total = fields.prefix(8).reduce(0, +)
        stolen = fields.count > 7 ? fields[7] : 0
    }

    func steal(since earlier: CPUTimes) -> Double {
        let span = total - earlier.total
        return span > 0 ? (stolen - earlier.stolen) / span : 0
    }
}

func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
