import Foundation

/// Two network namespaces and a wire:
///
///     [NAME-a 192.168.211.1] ---- veth, MTU 1500 ---- [NAME-b 192.168.211.2]
///
/// Candidates put a tunnel over it; iperf3's server always runs in b.
final class Lab {
    let name = "bench\(ProcessInfo.processInfo.processIdentifier)"
    let directory: String
    /// Everything is kept on one CPU: throughput is then the inverse of all the work per bit, which
    /// repeats better than anything that the scheduler decides. `nil` lets it decide.
    let processor: Int?
    private var running: [Process] = []

    init(processor: Int?) throws {
        self.processor = processor
        directory = NSTemporaryDirectory() + "/" + name
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        for side in Side.allCases { try execute(["ip", "netns", "add", space(side)]) }
        try execute([
            "ip", "link", "add", "wire", "netns", space(.a), "type", "veth", "peer", "name", "wire",
            "netns", space(.b),
        ])
        for side in Side.allCases {
            let prefix = ["ip", "-n", space(side)]
            try execute(prefix + ["address", "add", "\(side.outer)/24", "dev", "wire"])
            try execute(prefix + ["link", "set", "lo", "up"])
            try execute(prefix + ["link", "set", "wire", "up"])
        }
        _ = try start(inside(.b, ["iperf3", "-s"]), log: "iperf3")
    }

    func space(_ side: Side) -> String { "\(name)-\(side.rawValue)" }

    /// The words that run a program inside a namespace, on the chosen CPU.
    func inside(_ side: Side, _ words: [String]) -> [String] {
        let pinned = processor.map { ["taskset", "-c", "\($0)"] } ?? []
        return ["ip", "netns", "exec", space(side)] + pinned + words
    }

    func start(_ words: [String], log: String, environment: [String: String] = [:]) throws
        -> Process
    {
        let process = try launch(words, log: "\(directory)/\(log).log", environment: environment)
        running.append(process)
        return process
    }

    /// Ends what was started here and removes what was made here.
    func remove() {
        for process in running.reversed() where process.isRunning {
            process.terminate()
            process.waitUntilExit()
        }
        for side in Side.allCases { _ = try? execute(["ip", "netns", "delete", space(side)]) }
        try? FileManager.default.removeItem(atPath: directory)
    }
}

enum Side: String, CaseIterable {
    case a, b

    var number: Int { self == .a ? 1 : 2 }
    var other: Side { self == .a ? .b : .a }
    var outer: String { "192.168.211.\(number)" }
}
