import Foundation

/// What is measured, in the order of the table.
enum Metric: CaseIterable {
    case forward, forwardWork, reverse, reverseWork
    case forwardFour, forwardFourWork, reverseFour, reverseFourWork
    case floodSent, floodDelivered, floodLoss, floodReceiverLoss, steadyLoss
    case pingMedian, pingTail
    case idleShare, idleMemory, loadedMemory

    var label: String {
        switch self {
        case .forward: "TCP, 1 flow a to b, Gbit/s"
        case .reverse: "TCP, 1 flow b to a, Gbit/s"
        case .forwardFour: "TCP, 4 flows a to b, Gbit/s"
        case .reverseFour: "TCP, 4 flows b to a, Gbit/s"
        case .forwardWork, .reverseWork, .forwardFourWork, .reverseFourWork:
            "- Gbit per VPN CPU second"
        case .floodSent: "UDP, 64 bytes, \(Offer.flood)/s asked for: sent, packets/s"
        case .floodDelivered: "- delivered, packets/s"
        case .floodLoss: "- lost of those sent, %"
        case .floodReceiverLoss: "- of these lost in the receiving program's own socket, %"
        case .steadyLoss: "UDP, 64 bytes, \(Offer.steady)/s: lost, %"
        case .pingMedian: "ping, median, us"
        case .pingTail: "ping, 99th percentile, us"
        case .idleShare: "idle: CPU per process, % of a core"
        case .idleMemory: "idle: resident per process, MiB"
        case .loadedMemory: "after all rounds: resident per process, MiB"
        }
    }

    /// `nil` where a ratio says nothing: losses may be zero, and what was sent is no merit.
    var isBetterWhenLarger: Bool? {
        switch self {
        case .forward, .forwardWork, .reverse, .reverseWork, .forwardFour, .forwardFourWork,
            .reverseFour, .reverseFourWork, .floodDelivered:
            true
        case .pingMedian, .pingTail, .idleMemory, .loadedMemory: false
        case .floodSent, .floodLoss, .floodReceiverLoss, .steadyLoss, .idleShare: nil
        }
    }

    var decimals: Int {
        switch self {
        case .floodSent, .floodDelivered, .pingMedian, .pingTail: 0
        case .idleMemory, .loadedMemory: 1
        case .idleShare: 3
        default: 2
        }
    }

    func text(_ value: Double) -> String { String(format: "%.\(decimals)f", value) }
}

/// Packets per second that iperf3 is asked to send, 64 bytes of payload each.
enum Offer {
    /// More than one CPU can send, carry and receive.
    static let flood = 200_000
    /// Within the reach of every candidate, so that loss is compared at an equal rate.
    static let steady = 20_000
}

/// One sample of every metric.
struct Sample {
    var values: [Metric: Double] = [:]
    /// The worst share of CPU time that the hypervisor took during a part of it.
    var steal = 0.0
    /// The machine's one-minute load when the sample ended; it includes the benchmark's own.
    var load = 0.0
}

extension Lab {
    func sample(_ candidate: Candidate, seconds: Int) throws -> Sample {
        var sample = Sample()
        for (metric, work, options) in [
            (Metric.forward, Metric.forwardWork, [String]()),
            (.reverse, .reverseWork, ["-R"]),
            (.forwardFour, .forwardFourWork, ["-P", "4"]),
            (.reverseFour, .reverseFourWork, ["-P", "4", "-R"]),
        ] {
            let before = candidate.cpuSeconds()
            let end = try measure(&sample) {
                try iperf(candidate, options + ["-t", "\(seconds)"])
            }
            let used = candidate.cpuSeconds() - before
            let bits = try end.number("sum_received", "bytes") * 8
            sample.values[metric] = bits / Double(seconds) / 1e9
            if used > 0 { sample.values[work] = bits / used / 1e9 }
        }
        let full = try receiverOverflows()
        let flood = try measure(&sample) {
            try datagrams(candidate, perSecond: Offer.flood, seconds: seconds)
        }
        sample.values[.floodSent] = flood.sent / Double(seconds)
        sample.values[.floodDelivered] = flood.delivered / Double(seconds)
        sample.values[.floodLoss] = flood.loss
        let overflows = try receiverOverflows() - full
        sample.values[.floodReceiverLoss] =
            flood.sent > 0 ? overflows / flood.sent * 100 : 0
        sample.values[.steadyLoss] = try measure(&sample) {
            try datagrams(candidate, perSecond: Offer.steady, seconds: seconds).loss
        }
        let times = try measure(&sample) { try pings(candidate) }.sorted()
        guard let middle = median(times) else { throw Failure("\(candidate.name): no pings") }
        sample.values[.pingMedian] = middle
        sample.values[.pingTail] = times[(times.count * 99 + 99) / 100 - 1]
        sample.load = Machine.load()
        return sample
    }

    private func measure<Result>(_ sample: inout Sample, _ body: () throws -> Result) rethrows
        -> Result
    {
        let before = CPUTimes(processor: processor)
        let result = try body()
        sample.steal = max(sample.steal, CPUTimes(processor: processor).steal(since: before))
        return result
    }

    private func iperf(_ candidate: Candidate, _ options: [String]) throws -> IperfEnd {
        let output = try execute(inside(.a, ["iperf3", "-J", "-c", candidate.target] + options))
        return try IperfEnd(json: output.output)
    }

    private func datagrams(_ candidate: Candidate, perSecond: Int, seconds: Int) throws
        -> (sent: Double, delivered: Double, loss: Double)
    {
        let payload = 64
        let end = try iperf(
            candidate,
            ["-u", "-l", "\(payload)", "-b", "\(perSecond * payload * 8)", "-t", "\(seconds)"])
        let sent = try end.number("sum_sent", "packets")
        let delivered = try end.number("sum_received", "bytes") / Double(payload)
        // The server also misses what came after its last report: everything not delivered is lost.
        return (sent, delivered, sent > 0 ? max(0, (sent - delivered) / sent * 100) : 0)
    }

    /// Datagrams that reached b and found a full socket: the column Udp RcvbufErrors of
    /// /proc/net/snmp. Candidates receive in b, too, and count if theirs was full.
    private func receiverOverflows() throws -> Double {
        let text = try execute(inside(.b, ["cat", "/proc/net/snmp"])).output
        let rows = text.split(separator: "\n").filter { $0.hasPrefix("Udp:") }
            .map { $0.split(separator: " ") }
        guard rows.count == 2, let column = rows[0].firstIndex(of: "RcvbufErrors"),
            column < rows[1].count, let value = Double(rows[1][column])
        else { throw Failure("/proc/net/snmp has no RcvbufErrors") }
        return value
    }

    /// Round trips in microseconds.
    private func pings(_ candidate: Candidate) throws -> [Double] {
        let words = ["ping", "-n", "-c", "400", "-i", "0.005", candidate.target]
        return try execute(inside(.a, words)).output.split(separator: "\n").compactMap { line in
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

/// The "end" part of a report that iperf3 wrote with -J.
struct IperfEnd {
    private let end: [String: Any]

    init(json: String) throws {
        let report = try? JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        guard let end = report?["end"] as? [String: Any] else { throw Failure("iperf3: \(json)") }
        self.end = end
    }

    func number(_ sum: String, _ field: String) throws -> Double {
        guard let value = (end[sum] as? [String: Any])?[field] as? NSNumber else {
            throw Failure("iperf3 reports no \(sum).\(field)")
        }
        return value.doubleValue
    }
}

func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
