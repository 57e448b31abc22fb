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
    /// The path of benchmark-tools.
    let tools: String
    private var running: [Process] = []
    private var daemons: [Int32] = []
    private var spaces: [String] = []

    /// A port in b that is open and that nobody reads.
    static let discardPort = 7302

    init(processor: Int?, tools: String) throws {
        self.processor = processor
        self.tools = tools
        directory = NSTemporaryDirectory() + "/" + name
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        for side in Side.allCases { try addSpace(side.rawValue) }
        try wire("a", Side.a.outer, "b", Side.b.outer)
        _ = try start(inside(.b, ["iperf3", "-s"]), log: "iperf3")
        _ = try start(inside(.b, [tools, "discard", "\(Lab.discardPort)"]), log: "discard")
    }

    func addSpace(_ letter: String) throws {
        spaces.append(space(letter))
        try execute(["ip", "netns", "add", space(letter)])
        try execute(["ip", "-n", space(letter), "link", "set", "lo", "up"])
    }

    /// Connects two namespaces by a veth pair, each end named after the namespace at the other.
    func wire(_ first: String, _ firstAddress: String, _ second: String, _ secondAddress: String)
        throws
    {
        try execute([
            "ip", "link", "add", "to-\(second)", "netns", space(first), "type", "veth", "peer",
            "name", "to-\(first)", "netns", space(second),
        ])
        for (own, address, device) in [
            (first, firstAddress, "to-\(second)"), (second, secondAddress, "to-\(first)"),
        ] {
            let prefix = ["ip", "-n", space(own)]
            try execute(prefix + ["address", "add", "\(address)/24", "dev", device])
            try execute(prefix + ["link", "set", device, "up"])
        }
    }

    func space(_ letter: String) -> String { "\(name)-\(letter)" }

    func space(_ side: Side) -> String { space(side.rawValue) }

    /// The words that run a program inside a namespace, on the chosen CPU.
    func inside(_ letter: String, _ words: [String], on other: Int? = nil) -> [String] {
        let pinned = (other ?? processor).map { ["taskset", "-c", "\($0)"] } ?? []
        return ["ip", "netns", "exec", space(letter)] + pinned + words
    }

    func inside(_ side: Side, _ words: [String]) -> [String] { inside(side.rawValue, words) }

    /// Starts a program that keeps running; its process.
    func start(_ words: [String], log: String, environment: [String: String] = [:]) throws -> Int32
    {
        let process = try launch(words, log: "\(directory)/\(log).log", environment: environment)
        running.append(process)
        return process.processIdentifier
    }

    /// Starts a program that goes to the background by itself and writes its process to a file.
    /// (Foundation loses track of programs that close the descriptors they inherit.)
    func startDaemon(_ words: [String], log: String, file: String) throws -> Int32 {
        try launch(words, log: "\(directory)/\(log).log").waitUntilExit()
        for _ in 0..<50 {
            if let process = Int32(Machine.text(file).firstLine.split(separator: " ").first ?? "") {
                daemons.append(process)
                return process
            }
            Thread.sleep(forTimeInterval: 0.1)
        }
        throw Failure("\(file) does not appear\n" + logs())
    }

    /// Ends what was started here and removes what was made here.
    func remove() {
        for process in running.reversed() where process.isRunning {
            process.terminate()
            process.waitUntilExit()
        }
        for process in daemons { kill(process, SIGTERM) }
        for space in spaces { _ = try? execute(["ip", "netns", "delete", space]) }
        try? FileManager.default.removeItem(atPath: directory)
    }
}

enum Side: String, CaseIterable {
    case a, b

    var number: Int { self == .a ? 1 : 2 }
    var other: Side { self == .a ? .b : .a }
    var outer: String { "192.168.211.\(number)" }
}
