import Glibc
import LinuxIO
import MeshBase
import Synchronization

/// What a program printed and how it ended.
struct ProgramResult: Sendable {
    let status: Int32
    let output: String

    /// The value behind `key:` in dig's header comment, such as `status` or `flags`.
    func field(_ key: String) -> String? {
        guard let range = output.firstRange(of: "\(key): ") else { return nil }
        let rest = output[range.upperBound...]
        return String(rest.prefix { $0 != "," && $0 != ";" && $0 != "\n" })
    }

    var lines: [String] { output.split(separator: "\n").map(String.init) }
}

/// Runs `body` on a thread of its own inside a new, empty network namespace, whose loopback is up.
/// The namespace goes with the thread. Expectations belong in the caller: a foreign thread has no
/// current test.
func inNewNamespace<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) throws -> Value {
    try onItsOwnThread {
        try NetworkNamespace.enterNew()
        try Netlink().bringUp(1)
        return try body()
    }
}

/// Runs `body` on a thread of its own inside the namespace called `name`; sockets that it opens
/// stay there.
func inNamespace<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable () throws -> Value
) throws -> Value {
    try onItsOwnThread {
        try NetworkNamespace(named: name).enter()
        return try body()
    }
}

private func onItsOwnThread<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) throws -> Value {
    let box = ResultBox<Value>()
    let thread = try WorkerThread(name: "namespace") { box.set(Result { try body() }) }
    thread.join()
    return try box.take()
}

private final class ResultBox<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)

    func set(_ value: Result<Value, any Error>) {
        result.withLock { $0 = value }
    }

    func take() throws -> Value {
        guard let value = result.withLock({ $0 }) else { throw SystemCallError("run", code: EIO) }
        return try value.get()
    }
}

/// Runs a program of the system from the calling thread, in its namespaces, and waits for it.
@discardableResult
func runProgram(_ arguments: [String], input: [UInt8] = []) throws -> ProgramResult {
    let running = try startProgram(arguments)
    return running.finish(input: input)
}

struct RunningProgram {
    let process: pid_t
    /// The reading end of what the program prints.
    let output: Int32
    fileprivate let input: Int32

    /// Gives the program a line to read.
    func goOn() {
        _ = write(input, "\n", 1)
    }

    /// What the program has printed since the last call, without waiting; `nil` when it ended.
    func read() -> String? {
        var entry = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 0) > 0 else { return "" }
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = Glibc.read(output, &chunk, chunk.count)
        return count > 0 ? String(decoding: chunk[..<count], as: UTF8.self) : nil
    }

    /// Gives the input, takes the whole output, waits for the end.
    func finish(input bytes: [UInt8] = []) -> ProgramResult {
        _ = bytes.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
        close(input)
        var collected: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(output, &chunk, chunk.count)
            guard count > 0 else { break }
            collected += chunk[..<count]
        }
        close(output)
        var status: Int32 = 0
        waitpid(process, &status, 0)
        return ProgramResult(
            status: status & 0x7F == 0 ? status >> 8 & 0xFF : -1,
            output: String(decoding: collected, as: UTF8.self))
    }

    /// Ends the program, if it has not ended, and takes what is left of what it printed.
    @discardableResult
    func terminate() -> ProgramResult {
        kill(process, SIGKILL)
        return finish()
    }
}

/// Starts a program with its output, errors included, in a pipe.
func startProgram(_ arguments: [String]) throws -> RunningProgram {
    var output: [Int32] = [0, 0]
    var input: [Int32] = [0, 0]
    guard pipe(&output) == 0, pipe(&input) == 0 else { throw SystemCallError("make a pipe") }
    for end in [output[0], input[1]] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, input[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    posix_spawn_file_actions_adddup2(&actions, output[1], 2)
    posix_spawn_file_actions_addclose(&actions, output[1])
    posix_spawn_file_actions_addclose(&actions, input[0])
    defer { posix_spawn_file_actions_destroy(&actions) }
    // The thread blocks signals; its children must not.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
    words.append(nil)
    defer { for word in words { free(word) } }
    var process: pid_t = 0
    guard let program = words.first ?? nil else { throw SystemCallError("start", code: ENOENT) }
    let status = posix_spawnp(&process, program, &actions, &attributes, words, environ)
    close(output[1])
    close(input[0])
    guard status == 0 else {
        close(output[0])
        close(input[1])
        throw SystemCallError("start \(arguments.first ?? "nothing")", code: status)
    }
    return RunningProgram(process: process, output: output[0], input: input[1])
}
