import FoundationEssentials
import Glibc

/// What the process was started with, after every token was taken out of reach.
///
/// The argument list and the environment of a process can be read by others for as long as it
/// runs, and children inherit the latter. So the first thing the program does is to copy both and
/// to overwrite the tokens in place.
struct ProcessInput {
    /// Without the program's own name.
    let arguments: [String]
    /// As it was at the start: with the tokens.
    let environment: [String: String]
    /// Whether a token stood on the command line.
    let hadTokenArgument: Bool

    private static let tokenVariables = ["EDGEVPN_TOKEN", "EDGEVPNTOKEN", "EDGEVPN_API_TOKEN"]

    /// Taken at its first use, which is the first thing that the program does.
    static let current = take()

    private static func take() -> ProcessInput {
        let arguments = Array(CommandLine.arguments.dropFirst())
        let environment = ProcessInfo.processInfo.environment
        for name in tokenVariables {
            if let value = getenv(name) { memset(value, 0, strlen(value)) }
            unsetenv(name)
        }
        return ProcessInput(
            arguments: arguments, environment: environment,
            hadTokenArgument: overwriteTokenArguments())
    }

    /// Overwrites what follows `--token` and `--token=` in the memory that /proc shows.
    private static func overwriteTokenArguments() -> Bool {
        var found = false
        var nextIsToken = false
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let argument = CommandLine.unsafeArgv[index] else { break }
            let text = String(cString: argument)
            var secret: UnsafeMutablePointer<Int8>?
            if nextIsToken {
                secret = argument
            } else if text.hasPrefix("--token=") {
                secret = argument + "--token=".utf8.count
            }
            nextIsToken = !nextIsToken && text == "--token"
            if let secret {
                memset(secret, Int32(UInt8(ascii: "x")), strlen(secret))
                found = true
            }
        }
        return found
    }
}
