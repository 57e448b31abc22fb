import Glibc
import Synchronization

/// A program that a lab runs. Its output goes to a file, so it can be read at any time and never
/// blocks the program.
final class LabProcess: Sendable {
    let identifier: Int32
    private let command: String
    private let outputPath: String
    private let status = Mutex<Int32?>(nil)
    private let core = Atomic<Bool>(false)

    /// For programs that are looked up.
    static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    private static let counter = Atomic<Int>(0)

    private init(identifier: Int32, command: String, outputPath: String) {
        self.identifier = identifier
        self.command = command
        self.outputPath = outputPath
    }

    /// Starts a program with a small fixed environment and nothing to read.
    static func start(_ arguments: [String], in directory: String) throws -> LabProcess {
        let command = arguments.joined(separator: " ")
        let number = counter.add(1, ordering: .relaxed).newValue
        let outputPath = "\(directory)/output-\(number)"
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // What this thread blocks or ignores must not reach the program.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
        var environment = ["PATH=\(path)", "HOME=/root", "LC_ALL=C"]
        if let libraries = getenv("LD_LIBRARY_PATH") {
            environment.append("LD_LIBRARY_PATH=\(String(cString: libraries))")
        }
        var identifier: pid_t = 0
        let program = arguments[0]
        let result = withCStrings(arguments) { arguments in
            withCStrings(environment) { environment in
                posix_spawnp(
                    &identifier, program, &actions, &attributes, arguments, environment)
            }
        }
        guard result == 0 else {
            throw LabFailure("cannot start \(command): \(String(cString: strerror(result)))")
        }
        return LabProcess(identifier: identifier, command: command, outputPath: outputPath)
    }

    /// Everything printed so far, to either stream.
    var output: String { Lab.contents(of: outputPath) ?? "" }

    /// The exit code once the program has ended, 128 plus the number of the signal that ended it.
    var exitCode: Int32? {
        status.withLock { known in
            if known == nil {
                var raw: Int32 = 0
                if waitpid(identifier, &raw, WNOHANG) == identifier {
                    let signal = raw & 0x7F
                    core.store(signal != 0 && raw & 0x80 != 0, ordering: .relaxed)
                    known = signal == 0 ? raw >> 8 & 0xFF : 128 + signal
                }
            }
            return known
        }
    }

    /// Whether the kernel wrote the memory of the program, which has ended, to a file (wait(2)).
    var leftCore: Bool { core.load(ordering: .relaxed) }

    func send(_ signal: Int32) {
        // A child that was waited for may have passed its number on.
        if exitCode == nil { kill(identifier, signal) }
    }

    /// Waits for the end; kills the program and fails the test when it takes longer.
    @discardableResult
    func end(within limit: Duration) async throws -> Int32 {
        let end = ContinuousClock.now + limit
        while true {
            if let code = exitCode { return code }
            guard ContinuousClock.now < end else {
                kill(identifier, SIGKILL)
                throw LabFailure("still running after \(limit): \(command)\n\(output)")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Waits for a successful end; the output.
    func succeed(within limit: Duration) async throws -> String {
        let code = try await end(within: limit)
        guard code == 0 else { throw LabFailure("exit code \(code): \(command)\n\(output)") }
        return output
    }

    /// Waits until the program has printed `text`; fails at once when it ends before.
    func prints(_ text: String, within limit: Duration = .seconds(20)) async throws {
        try await eventually("\(command) prints \"\(text)\", not only:\n\(output)", within: limit) {
            if output.contains(text) { return true }
            if let code = exitCode {
                throw LabFailure("exit code \(code) before \"\(text)\": \(command)\n\(output)")
            }
            return false
        }
    }
}

/// Lends the strings as an array of C strings that ends with a null pointer.
private func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
    let copies = strings.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies + [nil])
}
