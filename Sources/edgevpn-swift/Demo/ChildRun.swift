import Glibc
import LinuxIO
import Synchronization

/// A program that the demonstration started.
struct ChildRun: Sendable {
    let pid: pid_t

    /// Starts a program in a process group of its own, so that Ctrl-C reaches only us.
    ///
    /// - Parameters:
    ///   - arguments: the program, found along PATH, and what it is told.
    ///   - log: a file that takes both of its outputs; `nil` throws them away.
    static func start(_ arguments: [String], log: String?, environment: [String: String])
        throws(CommandFailure) -> ChildRun
    {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let target = log ?? "/dev/null"
        let mode = O_WRONLY | O_CREAT | O_APPEND
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, target, mode, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setpgroup(&attributes, 0)
        // Worker threads block every signal, and a child inherits that.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK))

        var pid: pid_t = 0
        let variables = environment.map { "\($0.key)=\($0.value)" }.sorted()
        let status = withStrings(arguments) { argv in
            withStrings(variables) {
                posix_spawnp(&pid, arguments[0], &actions, &attributes, argv, $0)
            }
        }
        guard status == 0 else {
            throw .operating(
                "\(arguments[0]) cannot be started: \(String(cString: strerror(status)))",
                fix: "install it")
        }
        return ChildRun(pid: pid)
    }

    /// The exit code, or 128 plus the signal that ended it; blocks the thread until then.
    func wait() -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return ChildRun.code(status)
    }

    /// The exit code when the program has ended, else `nil`.
    func poll() -> Int32? {
        var status: Int32 = 0
        return waitpid(pid, &status, WNOHANG) == pid ? ChildRun.code(status) : nil
    }

    private static func code(_ status: Int32) -> Int32 {
        let signal = status & 0x7F
        return signal == 0 ? status >> 8 & 0xFF : 128 + signal
    }
}

/// Lends `strings` as a null-terminated array of C strings.
private func withStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers)
}

/// Runs a program to its end and returns what it printed.
///
/// - Throws: when it cannot be started or ends with another code than 0.
func output(
    of arguments: [String], log: String, environment: [String: String]
) throws(CommandFailure) -> String {
    unlink(log)
    let child = try ChildRun.start(arguments, log: log, environment: environment)
    let code = child.wait()
    let text = String(decoding: (try? readFile(log, limit: 1 << 20)) ?? [], as: UTF8.self)
    unlink(log)
    guard code == 0 else {
        let last = text.split(separator: "\n").last.map(String.init) ?? "no output"
        throw .operating(
            "`\(arguments.prefix(8).joined(separator: " "))` ended with \(code): \(last)",
            fix: "run it by hand to see more")
    }
    return text
}

/// Runs blocking work on a thread of its own, in a network namespace when one is named. Sockets
/// that it opens stay in that namespace.
func onThread<Value: Sendable>(
    in namespace: String? = nil, _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    let box = OneResult<Value>()
    let thread = try WorkerThread(name: "demo") {
        box.fulfil(
            Result {
                if let namespace { try NetworkNamespace(named: namespace).enter() }
                return try body()
            })
    }
    let result = await box.wait()
    thread.join()
    return try result.get()
}

/// A result that one thread leaves and one task picks up.
private final class OneResult<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case waiting(CheckedContinuation<Result<Value, any Error>, Never>)
        case full(Result<Value, any Error>)
    }

    private let state = Mutex(State.empty)

    func fulfil(_ result: Result<Value, any Error>) {
        state.withLock { state in
            if case .waiting(let continuation) = state { continuation.resume(returning: result) }
            state = .full(result)
        }
    }

    func wait() async -> Result<Value, any Error> {
        await withCheckedContinuation { continuation in
            state.withLock { state in
                if case .full(let result) = state {
                    continuation.resume(returning: result)
                } else {
                    state = .waiting(continuation)
                }
            }
        }
    }
}
