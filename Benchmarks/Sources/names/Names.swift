import Foundation

/// Compares the name server of a node with unbound and dnsmasq, on this machine, now: names of a
/// zone of its own, and names from its cache.
///
///     sudo swift run -c release --package-path Benchmarks names
///         [--binary .build/release/edgevpn-swift] [--rounds 3] [--seconds 4]
///
/// The servers take turns inside each round. A second unbound is the upstream of all three. Answers
/// per CPU-second count the server's own time (/proc/PID/stat), so that the client's speed does not
/// matter; latencies are dnsperf's, at 10,000 questions a second.
@main
enum Names {
    static func main() {
        do {
            try run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("error: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        var options = [
            "--binary": ".build/release/edgevpn-swift", "--rounds": "3", "--seconds": "4",
        ]
        var words = arguments[...]
        while let word = words.popFirst() {
            guard options[word] != nil, let value = words.popFirst() else {
                throw Failure("unknown option \(word)")
            }
            options[word] = value
        }
        guard let rounds = Int(options["--rounds"] ?? ""), rounds > 0,
            let seconds = Int(options["--seconds"] ?? ""), seconds > 0
        else { throw Failure("--rounds and --seconds take positive numbers") }
        let binary = URL(fileURLWithPath: options["--binary"] ?? "").path
        for tool in [binary, "/usr/sbin/unbound", "/usr/sbin/dnsmasq", "/usr/bin/dnsperf"]
        where !FileManager.default.isExecutableFile(atPath: tool) {
            throw Failure("\(tool) is missing")
        }
        let lab = try NamesLab(binary: binary)
        defer { lab.remove() }
        print("question  server     answers/CPU-s      p50      p99  to unbound")
        for kind in ["zone", "cache"] {
            var samples: [String: [Sample]] = [:]
            for _ in 0..<rounds {
                for server in lab.servers {
                    samples[server.name, default: []].append(
                        try lab.sample(server, kind: kind, seconds: seconds))
                }
            }
            let reference = median(samples["unbound"]?.map(\.answersPerSecond) ?? [])
            for server in lab.servers {
                let all = samples[server.name] ?? []
                let rate = median(all.map(\.answersPerSecond))
                print(
                    kind.padded(10) + server.name.padded(11)
                        + String(
                            format: "%13.0f  %7.3f  %7.3f  %10.2f", rate,
                            median(all.map(\.median)), median(all.map(\.high)), rate / reference))
            }
        }
        print(
            "latencies in ms, medians of \(rounds) rounds; \(ProcessInfo.processInfo.activeProcessorCount) CPUs"
        )
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// One server in one round.
struct Sample {
    /// Of the server's CPU time, at full load.
    var answersPerSecond: Double
    /// Milliseconds at 10,000 questions a second.
    var median: Double
    var high: Double
}

struct Server {
    let name: String
    let port: Int
    let process: Process
}

func median(_ values: [Double]) -> Double {
    values.isEmpty ? .nan : values.sorted()[values.count / 2]
}

extension String {
    func padded(_ width: Int) -> String {
        padding(toLength: width, withPad: " ", startingAt: 0)
    }
}
