import Configuration
import Glibc
import HTTPAPI

/// What the exit code says (docs/how-to/exit-codes.md).
enum ExitStatus: Int32 {
    case done = 0
    case operatingFailure = 1
    case userMistake = 2
    case refusedForSafety = 3
}

/// Why a command did not do what it was asked.
struct CommandFailure: Error, CustomStringConvertible {
    var code: ExitStatus
    var description: String

    /// Something in the world is not as it should be.
    static func operating(_ message: String, fix: String) -> CommandFailure {
        CommandFailure(code: .operatingFailure, description: "error: \(message); \(fix)")
    }

    /// The user wrote something that cannot be meant; all of it is told at once.
    static func mistakes(_ problems: [ConfigProblem]) -> CommandFailure {
        let lines = problems.map { "error: \($0)" }
        return CommandFailure(code: .userMistake, description: lines.joined(separator: "\n"))
    }

    static func mistake(_ path: String, _ message: String, fix: String) -> CommandFailure {
        mistakes([ConfigProblem(path: path, message: message, fix: fix)])
    }

    /// It could be done, and it would be dangerous.
    static func refused(_ message: String, fix: String) -> CommandFailure {
        CommandFailure(code: .refusedForSafety, description: "refused: \(message); \(fix)")
    }
}

extension CommandFailure {
    init(_ failure: APIClientFailure) {
        switch failure {
        case .unreachable(let address):
            self = .operating(
                "no node answers at \(address)",
                fix: "start one with `edgevpn-swift up`, or name its socket with --api")
        case .timedOut(let address):
            self = .operating(
                "the node at \(address) did not answer in time", fix: "look at its log")
        case .unintelligible(let what):
            self = .operating(what, fix: "use the same version for the command and the node")
        case .answered(let problem):
            let code: ExitStatus =
                switch problem.kind {
                case .invalid, .notFound: .userMistake
                case .refused: .refusedForSafety
                case .unavailable: .operatingFailure
                }
            let word = problem.kind == .refused ? "refused" : "error"
            self.init(code: code, description: "\(word): \(problem.message); \(problem.fix)")
        }
    }
}

func exitProgram(_ status: ExitStatus) -> Never {
    exit(status.rawValue)
}

/// Writes one message to standard error.
func printError(_ message: String) {
    write(bytes: Array("\(message)\n".utf8), to: STDERR_FILENO)
}

/// Writes everything, also to a slow pipe; a reader that went away is no error of ours.
func write(bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if count > 0 {
            rest = rest.dropFirst(count)
        } else if errno != EINTR {
            return
        }
    }
}
