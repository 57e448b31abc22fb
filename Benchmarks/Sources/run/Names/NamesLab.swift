import Foundation

/// A server under test.
struct NamesServer {
    let name: String
    let address: String
    let process: Server

    /// User and system time so far, of all threads.
    func cpuSeconds() throws -> Double {
        let text = Machine.text("/proc/\(process.identifier)/stat")
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12])
        else { throw Failure("\(name) ended") }
        return (user + system) / 100
    }
}

/// One network namespace with nothing but loopback:
///
///     dnsperf, CPU 1 -> 127.0.0.1 ours, .2 unbound, .3 dnsmasq, CPU 0 -> 127.0.0.9, all port 5300
final class NamesLab {
    private let space = "names\(ProcessInfo.processInfo.processIdentifier)"
    let directory: String
    private var running: [Server] = []
    private static let port = 5300
    private static let upstream = "127.0.0.9"

    init() throws {
        directory = NSTemporaryDirectory() + "/" + space
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        try execute(["ip", "netns", "add", space])
        try execute(["ip", "-n", space, "link", "set", "lo", "up"])
        for questions in Questions.allCases {
            try write(questions.lines, to: "\(questions.rawValue).questions")
        }
        // Every name that is asked for exists, and may be kept for an hour.
        _ = try start(
            dnsmasq(at: NamesLab.upstream) + ["--address=/#/192.0.2.7", "--local-ttl=3600"],
            log: "upstream")
    }

    // MARK: Servers

    /// A mesh of one machine, which publishes the records.
    func ours(binary: String) throws -> NamesServer {
        let token = "\(directory)/token"
        let made = try execute([
            binary, "token", "new", "--name", "bench", "--dht", "off", "--admin-key",
            "\(directory)/root.key",
        ])
        guard made.output.split(separator: "\n").count == 1 else {
            throw Failure("token new printed more than the token")
        }
        try write([made.output.firstLine], to: "token")
        let api = "unix:\(directory)/api.sock"
        let process = try start(
            pinned(0) + [
                binary, "up", "--token-file", token, "--state-dir", "\(directory)/state",
                "--hostname", "a", "--api", api, "--dht", "off", "--no-mdns", "--interface",
                "none", "--role", "none", "--dns", "127.0.0.1:\(NamesLab.port)",
                "--dns-upstream", "\(NamesLab.upstream):\(NamesLab.port)",
            ], log: "ours")
        try wait(for: process, "our node") {
            try execute([binary, "status", "--api", api], mayFail: true).status == 0
        }
        for number in 1...Zone.hosts {
            try execute([
                binary, "dns", "add", Zone.host(number), "A", Zone.address(number), "--api", api,
            ])
        }
        try execute([binary, "dns", "add", "alias", "CNAME", Zone.host(1), "--api", api])
        let version = try execute([binary, "--version"]).output.firstLine
        return NamesServer(
            name: "edgevpn-swift \(version)", address: "127.0.0.1", process: process)
    }

    /// One thread, as ours; no validation, which ours leaves to its upstreams.
    func unbound() throws -> NamesServer {
        let apex = "\(Zone.name)."
        try write(
            [
                "\(apex) 20 IN SOA a.\(apex) hostmaster.\(apex) 1 3600 600 86400 10",
                "\(apex) 20 IN NS a.\(apex)", "a.\(apex) 20 IN A 10.1.0.1",
                "alias.\(apex) 20 IN CNAME \(Zone.host(1)).\(apex)",
            ] + (1...Zone.hosts).map { "\(Zone.host($0)).\(apex) 20 IN A \(Zone.address($0))" },
            to: "zone")
        try write(
            [
                "server:", " directory: \"\(directory)\"", " chroot: \"\"", " username: \"\"",
                " pidfile: \"\"", " interface: 127.0.0.2@\(NamesLab.port)", " do-daemonize: no",
                " use-syslog: no", " access-control: 127.0.0.0/8 allow",
                " do-not-query-localhost: no", " module-config: \"iterator\"",
                " minimal-responses: yes", " num-threads: 1", "auth-zone:", " name: \"\(apex)\"",
                " zonefile: \"\(directory)/zone\"", " for-downstream: yes", " for-upstream: no",
                " fallback-enabled: no", "forward-zone:", " name: \".\"",
                " forward-addr: \(NamesLab.upstream)@\(NamesLab.port)",
            ], to: "unbound.conf")
        let process = try start(
            pinned(0) + ["unbound", "-d", "-c", "\(directory)/unbound.conf"], log: "unbound")
        let words = try execute(["unbound", "-V"]).output.firstLine.split(separator: " ")
        return NamesServer(
            name: "unbound \(words.last ?? "")", address: "127.0.0.2", process: process)
    }

    func dnsmasq() throws -> NamesServer {
        let records = (1...Zone.hosts).map {
            "--host-record=\(Zone.host($0)).\(Zone.name),\(Zone.address($0))"
        }
        let process = try start(
            pinned(0) + dnsmasq(at: "127.0.0.3") + records + [
                "--local=/\(Zone.name)/", "--local-ttl=20", "--cache-size=10000",
                "--dns-forward-max=1000",
                "--cname=alias.\(Zone.name),\(Zone.host(1)).\(Zone.name)",
                "--server=\(NamesLab.upstream)#\(NamesLab.port)",
            ], log: "dnsmasq")
        let words = try execute(["dnsmasq", "--version"]).output.split(separator: " ")
        return NamesServer(
            name: "dnsmasq \(words.count > 2 ? words[2] : "")", address: "127.0.0.3",
            process: process)
    }

    private func dnsmasq(at address: String) -> [String] {
        [
            "dnsmasq", "-k", "-u", "root", "--conf-file=/dev/null", "--pid-file=", "--no-resolv",
            "--no-hosts", "--port=\(NamesLab.port)", "--bind-interfaces",
            "--listen-address=\(address)",
        ]
    }

    // MARK: Measuring

    /// Asks every question until all are answered, so that caches are full.
    func warmUp(_ server: NamesServer) throws {
        for questions in Questions.allCases {
            try wait(for: server.process, server.name) {
                let run = try dnsperf(
                    server, questions, ["-n", "1", "-q", "20", "-t", "1"], mayFail: true)
                return run.completed == questions.lines.count
            }
        }
    }

    func sample(
        _ server: NamesServer, _ questions: Questions, seconds: Int
    ) throws -> NamesSample {
        let steal = CPUTimes(processor: nil)
        let before = try server.cpuSeconds()
        let full = try dnsperf(server, questions, ["-l", "\(seconds)", "-c", "4", "-q", "60"])
        let used = try server.cpuSeconds() - before
        let steady = try dnsperf(
            server, questions,
            ["-l", "\(seconds)", "-c", "4", "-q", "100", "-Q", "\(NamesSample.steadyRate)", "-v"])
        let times = steady.microseconds.sorted()
        guard used > 0, !times.isEmpty else { throw Failure("\(server.name) was not measured") }
        var sample = NamesSample()
        sample.values = [
            .rate: Double(full.completed) / full.seconds,
            .work: Double(full.completed) / used,
            .median: times[times.count / 2],
            .tail: times[(times.count * 99 + 99) / 100 - 1],
            .lost: Double(full.sent - full.completed + steady.sent - steady.completed),
        ]
        sample.steal = CPUTimes(processor: nil).steal(since: steal)
        sample.load = Machine.load()
        return sample
    }

    private func dnsperf(
        _ server: NamesServer, _ questions: Questions, _ options: [String], mayFail: Bool = false
    ) throws -> DnsperfRun {
        let words = [
            "dnsperf", "-s", server.address, "-p", "\(NamesLab.port)", "-d",
            "\(directory)/\(questions.rawValue).questions",
        ]
        let done = try execute(inside(pinned(1) + words + options), mayFail: mayFail)
        return try DnsperfRun(done.output)
    }

    // MARK: Programs

    private func pinned(_ processor: Int) -> [String] {
        let count = ProcessInfo.processInfo.activeProcessorCount
        return ["taskset", "-c", "\(processor % max(count, 1))"]
    }

    private func inside(_ words: [String]) -> [String] { ["ip", "netns", "exec", space] + words }

    private func start(_ words: [String], log: String) throws -> Server {
        let process = try Server(inside(words), log: "\(directory)/\(log).log")
        running.append(process)
        return process
    }

    private func wait(
        for process: Server, _ name: String, until isReady: () throws -> Bool
    ) throws {
        for _ in 0..<100 {
            if try isReady() { return }
            guard process.isRunning else { break }
            Thread.sleep(forTimeInterval: 0.1)
        }
        throw Failure("\(name) does not answer\n" + logs())
    }

    private func logs() -> String {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return files.filter { $0.hasSuffix(".log") }.sorted()
            .map { "\($0): " + Machine.text("\(directory)/\($0)") }.joined(separator: "\n")
    }

    /// Writes a file that no other user can read.
    private func write(_ lines: [String], to name: String) throws {
        let text = lines.joined(separator: "\n") + "\n"
        let made = FileManager.default.createFile(
            atPath: "\(directory)/\(name)", contents: Data(text.utf8),
            attributes: [.posixPermissions: 0o600])
        guard made else { throw Failure("cannot write \(name)") }
    }

    /// Ends what was started here and removes what was made here.
    func remove() {
        for server in running.reversed() { server.end() }
        _ = try? execute(["ip", "netns", "delete", space])
        try? FileManager.default.removeItem(atPath: directory)
    }
}

/// What dnsperf printed.
struct DnsperfRun {
    let sent: Int
    let completed: Int
    let seconds: Double
    /// The round trip of every answer, when it was asked for them.
    let microseconds: [Double]

    init(_ output: String) throws {
        var figures: [String: Double] = [:]
        var times: [Double] = []
        for line in output.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            if words.first == ">" {
                if let last = words.last, let time = Double(last) { times.append(time * 1e6) }
            } else if let colon = line.firstIndex(of: ":") {
                let key = line[..<colon].trimmingCharacters(in: .whitespaces)
                let value = line[line.index(after: colon)...].split(separator: " ").first
                figures[key] = value.flatMap { Double($0) }
            }
        }
        guard let sent = figures["Queries sent"], let completed = figures["Queries completed"],
            let seconds = figures["Run time (s)"], seconds > 0
        else { throw Failure("dnsperf: \(output.suffix(2_000))") }
        self.sent = Int(sent)
        self.completed = Int(completed)
        self.seconds = seconds
        microseconds = times
    }
}
