import Foundation

/// Where the figures come from.
enum Machine {
    static func text(_ path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }

    /// The one-minute load average.
    static func load() -> Double {
        text("/proc/loadavg").split(separator: " ").first.flatMap { Double($0) } ?? 0
    }

    /// Rows of a table: what, and its value here.
    static func description(congestionControl: String = "") -> [(String, String)] {
        let information = text("/proc/cpuinfo")
        let virtual = information.contains("hypervisor") ? ", virtual machine" : ""
        let system = value(of: "PRETTY_NAME", in: text("/etc/os-release"), separator: "=")
        return [
            ("CPU", value(of: "model name", in: information, separator: ":") + virtual),
            ("cores", "\(ProcessInfo.processInfo.activeProcessorCount)"),
            ("kernel", text("/proc/sys/kernel/osrelease").firstLine),
            ("system", system),
            ("TCP congestion control", congestionControl),
        ]
    }

    private static func value(of key: String, in text: String, separator: Character) -> String {
        for line in text.split(separator: "\n") where line.hasPrefix(key) {
            let value = line.split(separator: separator, maxSplits: 1).last ?? ""
            return value.trimmingCharacters(in: CharacterSet(charactersIn: " \t\""))
        }
        return "unknown"
    }
}

/// CPU time of one processor, or of all, from /proc/stat (proc(5)).
struct CPUTimes {
    private let total: Double
    private let stolen: Double

    init(processor: Int?) {
        let key = processor.map { "cpu\($0) " } ?? "cpu "
        let line = Machine.text("/proc/stat").split(separator: "\n").first { $0.hasPrefix(key) }
        let fields = (line ?? "").split(separator: " ").dropFirst().compactMap { Double($0) }
        total = fields.prefix(8).reduce(0, +)
        stolen = fields.count > 7 ? fields[7] : 0
    }

    func steal(since earlier: CPUTimes) -> Double {
        let span = total - earlier.total
        return span > 0 ? (stolen - earlier.stolen) / span : 0
    }
}

extension Candidate {
    /// User and system time of its processes so far. The kernel may bill its own network work to
    /// whoever happens to run; that falls on all candidates alike.
    func cpuSeconds() -> Double {
        processes.reduce(0) { sum, process in
            let text = Machine.text("/proc/\(process)/stat")
            let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12])
            else { return sum }
            return sum + (user + system) / 100
        }
    }

    /// Time on a CPU of every thread so far: an idle process uses less than one tick of `stat`.
    func threadNanoseconds() -> [String: Double] {
        var threads: [String: Double] = [:]
        for process in processes {
            let tasks = "/proc/\(process)/task"
            let names = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
            for name in names {
                let fields = Machine.text("\(tasks)/\(name)/schedstat").split(separator: " ")
                threads[name] = fields.first.flatMap { Double($0) } ?? 0
            }
        }
        return threads
    }

    /// VmRSS, the mean of its processes or that of b's end.
    func residentMebibytes(last: Bool = false) -> Double? {
        let sizes = processes.suffix(last ? 1 : processes.count).compactMap { process -> Double? in
            let status = Machine.text("/proc/\(process)/status")
            let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            return line?.split(whereSeparator: \.isWhitespace).dropFirst().first
                .flatMap { Double($0) }
        }
        return sizes.isEmpty ? nil : sizes.reduce(0, +) / Double(sizes.count) / 1024
    }
}
