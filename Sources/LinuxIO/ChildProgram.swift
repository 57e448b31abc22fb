import CLinux
import Glibc

/// Short programs of the system, and one child that outlives this process by a moment.
package enum ChildProgram {
    /// Where programs are looked for.
    private static let searchPath = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    /// The program called `name`; `nil` when the machine has none.
    package static func find(_ name: String) -> String? {
        searchPath.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// Runs `arguments` with `input` to its end; the exit code, or 128 and more for a signal.
    ///
    /// It blocks: for threads that nobody waits for.
    package static func run(_ arguments: [String], input: String = "") throws(SystemCallError)
        -> Int32
    {
        let (process, pipe) = try start(arguments)
        let bytes = Array(input.utf8)
        // A reader that went away is told by the exit code.
        _ = bytes.isEmpty ? 0 : write(pipe, bytes, bytes.count)
        close(pipe)
        return wait(process)
    }

    static func wait(_ process: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            guard errno == EINTR else { return -1 }
        }
        return status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F
    }

    /// Starts `arguments` with a pipe as its input and a fixed environment, and `kept` under the
    /// same number.
    static func start(_ arguments: [String], keeping kept: Int32? = nil)
        throws(SystemCallError) -> (process: pid_t, input: Int32)
    {
        let name = arguments.first ?? ""
        var ends: [Int32] = [0, 0]
        let piped = clinux_pipe(&ends)
        guard piped == 0 else { throw SystemCallError("make a pipe", code: piped) }
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
            close(ends[0])
        }
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        // Onto itself: that takes close-on-exec away in the child.
        if let kept { posix_spawn_file_actions_adddup2(&actions, kept, kept) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] = [
            strdup("PATH=\(searchPath.joined(separator: ":"))"), nil,
        ]
        defer { for word in words + environment { free(word) } }
        var process: pid_t = 0
        let status = posix_spawn(&process, name, &actions, &attributes, &words, &environment)
        guard status == 0 else {
            close(ends[1])
            throw SystemCallError("start \(name)", code: status)
        }
        return (process, ends[1])
    }
}

/// A child that waits for this process to end, however it ends, and then cleans up.
///
/// The kernel closes the pipe between both when this process is gone; a lock file stays locked as
/// long as either of them lives.
package final class EndGuard: Sendable {
    private let process: pid_t
    private let pipe: Int32
    private let lock: Int32

    /// - Parameters:
    ///   - arguments: the program that calls ``awaitEnd()`` and then cleans up.
    ///   - lockPath: waited for at most `patience` seconds, while an earlier guard cleans up.
    package init(_ arguments: [String], lockPath: String, patience: Int = 5)
        throws(SystemCallError)
    {
        let opened = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard opened >= 0 else { throw SystemCallError("open \(lockPath)") }
        for attempt in 0... {
            if flock(opened, LOCK_EX | LOCK_NB) == 0 { break }
            guard errno == EWOULDBLOCK, attempt < patience * 20 else {
                let failure = SystemCallError("lock \(lockPath)")
                close(opened)
                throw failure
            }
            usleep(50_000)
        }
        do throws(SystemCallError) {
            (process, pipe) = try ChildProgram.start(arguments, keeping: opened)
        } catch {
            close(opened)
            throw error
        }
        lock = opened
    }

    /// Lets the guard clean up, and waits until it has.
    ///
    /// - Returns: whether it succeeded.
    package func release() -> Bool {
        close(pipe)
        let code = ChildProgram.wait(process)
        close(lock)
        return code == 0
    }

    /// In the guard: returns when the other process has ended. Signals that a terminal or a service
    /// manager sends to both mean the other one.
    package static func awaitEnd() {
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] { Glibc.signal(signal, SIG_IGN) }
        var byte: UInt8 = 0
        while true {
            let count = read(STDIN_FILENO, &byte, 1)
            if count == 0 || count < 0 && errno != EINTR { return }
        }
    }
}
