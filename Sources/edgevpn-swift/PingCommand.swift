import ArgumentParser
import HTTPAPI

struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping", abstract: "Probe a machine through its tunnel.",
        discussion: """
            The probe travels inside the tunnel and needs neither a TUN device nor root. The exit \
            code is 0 when at least one answer came, else 1.
            """)

    @Argument(help: "A node id, the beginning of one, a hostname, or an overlay address.")
    var target: String

    @Option(name: .long, help: "How many probes to send.")
    var count = 4

    @Option(name: .long, help: "Milliseconds from one probe to the next.")
    var interval = 1_000

    @Option(name: .long, help: "Milliseconds to wait for each answer.")
    var timeout = 1_000

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        for (name, value, range) in [
            ("count", count, 1...100_000), ("interval", interval, 0...3_600_000),
            ("timeout", timeout, 1...60_000),
        ] where !range.contains(value) {
            throw ValidationError(
                "--\(name) is \(value); give a number from \(range.lowerBound) to "
                    + "\(range.upperBound)")
        }
    }

    func run() async throws {
        let client = try node.client(timeout: .milliseconds(timeout + 5_000))
        var replies: [PingModel] = []
        for sequence in 1...count {
            if sequence > 1 { try await Task.sleep(for: .milliseconds(interval)) }
            let reply = try await asking { () async throws(APIClientFailure) in
                try await client.ping(target, timeoutMilliseconds: timeout)
            }
            replies.append(reply)
            if !output.json { print(describe(reply, sequence)) }
        }
        if output.json { try output.show(replies) { "" } }
        let answered = replies.compactMap(\.rttMs)
        if !output.json { print(summary(answered, sent: replies.count)) }
        if answered.isEmpty {
            throw CommandFailure.operating(
                "no answer from \(target)", fix: "see `edgevpn-swift peers` for its state")
        }
    }

    private func describe(_ reply: PingModel, _ sequence: Int) -> String {
        let name = "\(reply.hostname ?? target) (\(shortID(reply.id)))"
        guard let rtt = reply.rttMs else { return "\(name): seq=\(sequence) no answer" }
        let path = reply.path.map { " \($0.rawValue)" } ?? ""
        let way = reply.endpoint.map { " via \($0)" } ?? ""
        return "\(name): seq=\(sequence) time=\(rounded(rtt, 3)) ms\(path)\(way)"
    }

    private func summary(_ times: [Double], sent: Int) -> String {
        let counts = "\(sent) sent, \(times.count) answered"
        guard let least = times.min(), let most = times.max() else { return counts }
        let mean = times.reduce(0, +) / Double(times.count)
        let figures = [least, mean, most].map { rounded($0, 3) }.joined(separator: "/")
        return "\(counts), min/avg/max \(figures) ms"
    }
}
