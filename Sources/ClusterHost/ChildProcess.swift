import CProcess
import Glibc

/// What a finished command printed and how it ended.
struct CommandOutput: Sendable {
    /// The exit code; 128 + the signal's number when a signal ended it; negative errno when it
    /// could not be run.
    var status: Int
    var output: String
    var errors: String
    var wasInterrupted: Bool
    var timedOut: Bool

    var succeeded: Bool { status == 0 && !wasInterrupted && !timedOut }

    /// The last line of the error text, without the structured log lines that etcdctl prints.
    var problem: String {
        if wasInterrupted { return "interrupted" }
        if timedOut { return "no answer in time" }
        let lines = errors.split(separator: "\n").filter { !$0.hasPrefix("{") }
        return lines.last.map { String($0.prefix(200)) } ?? "ended with status \(status)"
    }
}

/// The environment of every child: nothing of the daemon's own, which may hold the token.
private let childEnvironment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]

/// 4,096 agents of at most 160 bytes each.
private let outputLimit = 1 << 20
private let errorLimit = 1 << 14

/// Runs a program to its end. Arguments carry no secrets: they are visible to every user.
///
/// - Parameters:
///   - limit: how long it may take, in milliseconds.
///   - interrupt: a descriptor that kills the program when it becomes readable.
func runCommand(
    _ arguments: [String], environment: [String] = [], limit: Int, interrupt: Int32
) -> CommandOutput {
    withCStrings(arguments) { argv in
        withCStrings(childEnvironment + environment) { envp in
            var result = cprocess_result()
            var errors = [CChar](repeating: 0, count: errorLimit)
            var output = [CChar](repeating: 0, count: outputLimit)
            cprocess_run(
                argv, envp, Int32(limit), interrupt, &output, outputLimit, &errors, errorLimit,
                &result)
            return CommandOutput(
                status: Int(result.status), output: text(output, Int(result.out_count)),
                errors: text(errors, Int(result.err_count)),
                wasInterrupted: result.interrupted != 0, timedOut: result.timed_out != 0)
        }
    }
}

private func text(_ buffer: [CChar], _ count: Int) -> String {
    String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Starts the supervisor on the calling thread, which must live as long as the process.
///
/// - Returns: the process id, or a negative errno.
func startBound(_ arguments: [String], control: Int32) -> pid_t {
    withCStrings(arguments) { argv in
        withCStrings(childEnvironment) { envp in cprocess_start_bound(argv, envp, control) }
    }
}

/// Runs the supervisor's loop in the process that ``startBound(_:control:)`` made.
///
/// The command's `main` calls it before it does anything else when its first argument is
/// ``supervisorArgument``; the result is the exit code.
///
///     internal-supervise PARENT DEADLINE LOG PROGRAM [ARGUMENT ...]
package func superviseDatastore(_ arguments: [String]) -> Int32 {
    let words = arguments.drop { $0 != supervisorArgument }.dropFirst()
    let list = Array(words)
    guard list.count >= 4, let parent = pid_t(list[0]), let deadline = UInt64(list[1]) else {
        return 2
    }
    return withCStrings(Array(list[3...])) { argv in
        withCStrings(childEnvironment) { envp in
            cprocess_supervise(parent, deadline, list[2], argv, envp)
        }
    }
}

/// The first argument that makes the command a supervisor.
package let supervisorArgument = "internal-supervise"

/// Lends a null-terminated array of C strings.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers)
}

/// The absolute path of a program: as given when it has a slash, else from the usual directories.
package func locateProgram(_ name: String) -> String? {
    if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
    let directories = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]
    return directories.map { $0 + "/" + name }.first { access($0, X_OK) == 0 }
}
