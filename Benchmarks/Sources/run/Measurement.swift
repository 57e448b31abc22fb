import Foundation

/// What is measured, in the order of the table.
enum Metric: CaseIterable {
    case forward, forwardWork, reverse, reverseWork
    case forwardFour, forwardFourWork, reverseFour, reverseFourWork
    case floodSent, floodDelivered, floodLoss, steadyLoss
    case splitSent, splitDelivered, splitLoss
    case pingMedian, pingTail
    case initiations, besideDiscarded, besideInitiations, besideShare, initiationMemory
    case idleShare, idleMemory, loadedMemory

    var label: String {
        switch self {
        case .forward: "TCP, 1 flow a to b, Gbit/s"
        case .reverse: "TCP, 1 flow b to a, Gbit/s"
        case .forwardFour: "TCP, 4 flows a to b, Gbit/s"
        case .reverseFour: "TCP, 4 flows b to a, Gbit/s"
        case .forwardWork, .reverseWork, .forwardFourWork, .reverseFourWork:
            "- Gbit per VPN CPU second"
        case .floodSent: "UDP, 64 bytes, one CPU, \(Offer.flood)/s asked for: sent, packets/s"
        case .floodDelivered, .splitDelivered: "- delivered, packets/s"
        case .floodLoss, .splitLoss: "- lost of those sent, %"
        case .steadyLoss: "- lost when \(Offer.steady)/s are asked for, %"
        case .splitSent: "UDP, 64 bytes, two CPUs, \(Offer.split)/s asked for: sent, packets/s"
        case .pingMedian: "ping, median, us"
        case .pingTail: "ping, 99th percentile, us"
        case .initiations: "bogus initiations to b beside TCP a to b: sent, per second"
        case .besideDiscarded: "- Gbit/s while as many go to a port that nobody reads"
        case .besideInitiations: "- Gbit/s while they go to the VPN"
        case .besideShare: "- of that, %"
        case .initiationMemory: "- memory that b gained in all rounds, MiB"
        case .idleShare: "idle: CPU per process, % of a core"
        case .idleMemory: "idle: resident per process, MiB"
        case .loadedMemory: "after all rounds: resident per process, MiB"
        }
    }

    /// `nil` where a ratio says nothing: losses may be zero, and what was sent is no merit.
    var isBetterWhenLarger: Bool? {
        switch self {
        case .forward, .forwardWork, .reverse, .reverseWork, .forwardFour, .forwardFourWork,
            .reverseFour, .reverseFourWork, .floodDelivered, .splitDelivered, .besideInitiations:
            true
        case .pingMedian, .pingTail, .idleMemory, .loadedMemory: false
        case .floodSent, .floodLoss, .steadyLoss, .splitSent, .splitLoss, .initiations,
            .besideDiscarded, .besideShare, .initiationMemory, .idleShare:
            nil
        }
    }

    /// Throughput and work per CPU second, of which the null cipher's is the limit.
    static let throughput: [Metric] = [
        .forward, .forwardWork, .reverse, .reverseWork, .forwardFour, .forwardFourWork,
        .reverseFour, .reverseFourWork,
    ]

    private var decimals: Int {
        switch self {
        case .floodSent, .floodDelivered, .splitSent, .splitDelivered, .pingMedian, .pingTail,
            .initiations, .besideShare:
            0
        case .idleMemory, .loadedMemory, .initiationMemory: 1
        case .idleShare: 3
        default: 2
        }
    }

    func text(_ value: Double) -> String { String(format: "%.\(decimals)f", value) }
}

/// Packets per second that senders are asked for.
enum Offer {
    /// More than one CPU can send, carry and receive.
    static let flood = 200_000
    /// More than two can.
    static let split = 500_000
    /// Within the reach of every candidate, so that loss is compared at an equal rate.
    static let steady = 20_000
    static let initiations = 50_000
}

/// One sample of every metric.
struct Sample {
    var values: [Metric: Double] = [:]
    /// The worst share of CPU time that the hypervisor took during a part of it.
    var steal = 0.0
    /// The machine's one-minute load when the sample ended; it includes the benchmark's own.
    var load = 0.0

    /// Runs a part of the sample, and notes what the hypervisor took meanwhile.
    mutating func part<Result>(_ processor: Int?, _ body: () throws -> Result) rethrows -> Result {
        let before = CPUTimes(processor: processor)
        let result = try body()
        steal = max(steal, CPUTimes(processor: processor).steal(since: before))
        return result
    }
}

extension Lab {
    func sample(_ candidate: Candidate, seconds: Int) throws -> Sample {
        var sample = Sample()
        let probes = candidate.probes
        for (metric, work, options) in [
            (Metric.forward, Metric.forwardWork, [String]()),
            (.reverse, .reverseWork, ["-R"]),
            (.forwardFour, .forwardFourWork, ["-P", "4"]),
            (.reverseFour, .reverseFourWork, ["-P", "4", "-R"]),
        ] where probes.contains(.fourFlows) || !options.contains("-P") {
            let before = candidate.cpuSeconds()
            let gigabits = try sample.part(processor) {
                try throughput(candidate, options, seconds: seconds)
            }
            let used = candidate.cpuSeconds() - before
            sample.values[metric] = gigabits
            if used > 0 { sample.values[work] = gigabits * Double(seconds) / used }
        }
        if probes.contains(.datagrams) {
            try sampleDatagrams(candidate, seconds: seconds, into: &sample)
        }
        if probes.contains(.twoProcessors) {
            try sampleTwoProcessors(candidate, seconds: seconds, into: &sample)
        }
        if let target = candidate.handshakes {
            try sampleInitiations(candidate, target, seconds: seconds, into: &sample)
        }
        if probes.contains(.pings) {
            let times = try sample.part(processor) { try pings(candidate) }.sorted()
            guard let middle = median(times) else { throw Failure("\(candidate.name): no pings") }
            sample.values[.pingMedian] = middle
            sample.values[.pingTail] = times[(times.count * 99 + 99) / 100 - 1]
        }
        sample.load = Machine.load()
        return sample
    }

    /// Gbit/s that iperf3's receiver counted.
    func throughput(_ candidate: Candidate, _ options: [String] = [], seconds: Int) throws -> Double
    {
        let words = ["iperf3", "-J", "-c", candidate.target, "-t", "\(seconds)"] + options
        let output = try execute(inside(candidate.from, words)).output
        let report = try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
        guard let end = report?["end"] as? [String: Any],
            let bytes = (end["sum_received"] as? [String: Any])?["bytes"] as? NSNumber
        else { throw Failure("\(candidate.name): iperf3: \(output)") }
        return bytes.doubleValue * 8 / Double(seconds) / 1e9
    }

    /// Round trips in microseconds.
    private func pings(_ candidate: Candidate) throws -> [Double] {
        let words = ["ping", "-n", "-c", "400", "-i", "0.0025", candidate.target]
        return try execute(inside(candidate.from, words)).output.split(separator: "\n").compactMap {
            line in
            guard line.contains("time="), let last = line.split(separator: "=").last else {
                return nil
            }
            return Double(last.dropLast(3)).map { $0 * 1000 }
        }
    }

    /// What every candidate costs while nothing uses any of them.
    func idle(_ candidates: [Candidate], seconds: Int) -> [[Metric: Double]] {
        let before = candidates.map { $0.threadNanoseconds() }
        Thread.sleep(forTimeInterval: Double(seconds))
        return zip(candidates, before).map { candidate, before in
            guard !candidate.processes.isEmpty, let memory = candidate.residentMebibytes() else {
                return [:]
            }
            var nanoseconds = 0.0
            for (thread, total) in candidate.threadNanoseconds() {
                nanoseconds += total - (before[thread] ?? 0)
            }
            let share = nanoseconds / 1e9 / Double(seconds) / Double(candidate.processes.count)
            return [.idleShare: share * 100, .idleMemory: memory]
        }
    }
}

func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
