import Foundation

/// Three servers on loopback with the same names, and the upstream that they share.
final class NamesLab {
    let directory: String
    private(set) var servers: [Server] = []
    private var processes: [Process] = []
    /// A machine may have 64 entries in the ledger.
    private static let zoneNames = 50
    private static let foreignNames = 500

    init(binary: String) throws {
        directory = NSTemporaryDirectory() + "evlab-names-\(getpid())"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        do {
            try start(binary)
        } catch {
            remove()
            throw error
        }
    }

    func remove() {
        for process in processes where process.isRunning {
            process.terminate()
            process.waitUntilExit()
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private func start(_ binary: String) throws {
        let foreign = (1...NamesLab.foreignNames).map {
            " local-data: \"h\($0).example. 3600 IN A 198.51.100.\($0 % 250)\""
        }
        _ = try unbound("upstream", port: 5_390, [" local-zone: \"example.\" static"] + foreign)
        let own = (1...NamesLab.zoneNames).map {
            " local-data: \"n\($0).bench.internal. 20 IN A 10.1.0.\($0)\""
        }
        let process = try unbound(
            "unbound", port: 5_391,
            [" local-zone: \"bench.internal.\" static", " do-not-query-localhost: no"] + own
                + ["forward-zone:", " name: \".\"", " forward-addr: 127.0.0.1@5390"])
        servers.append(Server(name: "unbound", port: 5_391, process: process))

        var lines = [
            "port=5392", "listen-address=127.0.0.1", "bind-interfaces", "no-resolv", "no-hosts",
            "user=root", "pid-file=", "cache-size=10000", "server=127.0.0.1#5390",
            "local=/bench.internal/", "local-ttl=20", "dns-forward-max=1000",
        ]
        lines += (1...NamesLab.zoneNames).map { "host-record=n\($0).bench.internal,10.1.0.\($0)" }
        let configuration = try write("dnsmasq.conf", lines)
        servers.append(
            Server(
                name: "dnsmasq", port: 5_392,
                process: try launch(["/usr/sbin/dnsmasq", "-k", "-C", configuration])))
        try startOurs(binary)

        try Data(questions("n", "bench.internal", NamesLab.zoneNames).utf8)
            .write(to: URL(fileURLWithPath: "\(directory)/zone"))
        try Data(questions("h", "example", NamesLab.foreignNames).utf8)
            .write(to: URL(fileURLWithPath: "\(directory)/cache"))
    }

    private func startOurs(_ binary: String) throws {
        let token = try output([binary, "token", "new", "--name", "bench", "--dht", "off"])
        let tokenFile = try write(
            "token", token.split(separator: "\n").filter { $0.hasPrefix("evpn1") }.map(String.init))
        let api = "unix:\(directory)/api.sock"
        let process = try launch([
            binary, "up", "--token-file", tokenFile, "--state-dir", "\(directory)/state",
            "--interface", "none", "--hostname", "bench", "--api", api, "--no-mdns", "--dht",
            "off", "--dns", "127.0.0.1:5393", "--dns-upstream", "127.0.0.1:5390",
        ])
        servers.append(Server(name: "edgevpn", port: 5_393, process: process))
        for attempt in 0... {
            if (try? output([binary, "status", "--api", api])) != nil { break }
            guard attempt < 50 else { throw Failure("the node does not answer") }
            Thread.sleep(forTimeInterval: 0.1)
        }
        for number in 1...NamesLab.zoneNames {
            _ = try output([
                binary, "dns", "add", "n\(number)", "A", "10.1.0.\(number)", "--api", api,
            ])
        }
    }

    private func unbound(_ name: String, port: Int, _ lines: [String]) throws -> Process {
        let configuration = try write(
            "\(name).conf",
            [
                "server:", " directory: \"\(directory)\"", " chroot: \"\"", " username: \"\"",
                " pidfile: \"\"", " interface: 127.0.0.1@\(port)", " port: \(port)",
                " do-daemonize: no", " use-syslog: no", " num-threads: 1",
                " access-control: 127.0.0.0/8 allow", " module-config: \"iterator\"",
            ] + lines)
        return try launch(["/usr/sbin/unbound", "-d", "-c", configuration])
    }

    private func questions(_ prefix: String, _ zone: String, _ count: Int) -> String {
        (1...count).map { "\(prefix)\($0).\(zone) A\n" }.joined()
    }

    // MARK: Measuring

    func sample(_ server: Server, kind: String, seconds: Int) throws -> Sample {
        let questions = "\(directory)/\(kind)"
        let base = ["/usr/bin/dnsperf", "-s", "127.0.0.1", "-p", "\(server.port)", "-d", questions]
        _ = try output(base + ["-l", "1", "-q", "50"])
        let before = cpuSeconds(server.process)
        let full = try output(base + ["-l", "\(seconds)", "-q", "100", "-c", "10"])
        let spent = cpuSeconds(server.process) - before
        guard let line = full.split(separator: "\n").first(where: { $0.contains("completed:") }),
            let answers = line.split(separator: " ").compactMap({ Double($0) }).first, spent > 0
        else { throw Failure("dnsperf says:\n\(full)") }
        let paced = try output(base + ["-l", "\(seconds)", "-Q", "10000", "-q", "1000", "-v"])
        let latencies = paced.split(separator: "\n").filter { $0.hasPrefix("> ") }
            .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.sorted()
        guard latencies.count > 1_000 else { throw Failure("dnsperf says:\n\(paced.suffix(800))") }
        return Sample(
            answersPerSecond: answers / spent, median: latencies[latencies.count / 2] * 1_000,
            high: latencies[latencies.count * 99 / 100] * 1_000)
    }

    /// User and system time (proc(5), fields 14 and 15).
    private func cpuSeconds(_ process: Process) -> Double {
        let text =
            (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/stat", encoding: .utf8))
            ?? ""
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 13, let user = Double(fields[11]), let system = Double(fields[12])
        else { return 0 }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    // MARK: Programs

    private func write(_ name: String, _ lines: [String]) throws -> String {
        let path = "\(directory)/\(name)"
        try Data((lines.joined(separator: "\n") + "\n").utf8)
            .write(to: URL(fileURLWithPath: path))
        return path
    }

    private func launch(_ words: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: words[0])
        process.arguments = Array(words.dropFirst())
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        processes.append(process)
        return process
    }

    private func output(_ words: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: words[0])
        process.arguments = Array(words.dropFirst())
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure("\(words.joined(separator: " ")) failed")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
