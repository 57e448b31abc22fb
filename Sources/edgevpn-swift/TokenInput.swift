import ArgumentParser
import Configuration
import Glibc
import MeshNode

/// `--token` and `--token-file`, for the commands that look at a token.
struct TokenOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The token. Better: --token-file or EDGEVPN_TOKEN, which no other user can read.",
            valueName: "token"))
    var token: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file that holds the token; /dev/fd/N and /dev/stdin work.", valueName: "file"))
    var tokenFile: String?

    /// The token that the user means, from the flags or the environment.
    func read() throws(CommandFailure) -> NetworkToken {
        let environment = ProcessInput.current.environment
        var text = token
        var path = "--token"
        if let tokenFile {
            guard text == nil else {
                throw .mistake(
                    "--token-file", "both a token and a token file are given",
                    fix: "give one of them")
            }
            return try parseToken(inFile: tokenFile, path: "--token-file")
        }
        for name in ["EDGEVPN_TOKEN", "EDGEVPNTOKEN"] where text == nil {
            guard let value = environment[name], !value.isEmpty else { continue }
            text = value
            path = name
        }
        guard let text else {
            throw .mistake(
                "--token-file", "no token is given",
                fix: "give --token-file FILE or EDGEVPN_TOKEN; `token new` makes a token")
        }
        return try parseToken(text, path: path)
    }
}

/// Parses a token; `path` says where it stood.
func parseToken(_ text: String, path: String) throws(CommandFailure) -> NetworkToken {
    do throws(TokenProblem) {
        if let seeded = try PredecessorToken.token(from: text) { return seeded }
        return try NetworkToken(parsing: text)
    } catch {
        throw .mistake(
            path, "\(error)", fix: "copy the whole line that `token new` printed")
    }
}

/// Reads and parses the token in a file.
func parseToken(inFile file: String, path: String) throws(CommandFailure) -> NetworkToken {
    let bytes: [UInt8]
    do throws(ReadFailure) {
        bytes = try readFile(file, limit: 65_536)
    } catch {
        throw .mistake(path, "\(file) cannot be read: \(error.reason)", fix: "name a readable file")
    }
    return try parseToken(String(decoding: bytes, as: UTF8.self), path: path)
}

/// Why a file could not be read, in the system's words.
struct ReadFailure: Error {
    var reason: String
}

/// The first `limit` bytes of a file or a pipe.
func readFile(_ path: String, limit: Int) throws(ReadFailure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw ReadFailure(reason: String(cString: strerror(errno))) }
    defer { close(descriptor) }
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4_096)
    while result.count < limit {
        let count = Glibc.read(descriptor, &chunk, min(chunk.count, limit - result.count))
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw ReadFailure(reason: String(cString: strerror(errno))) }
        if count == 0 { break }
        result += chunk.prefix(count)
    }
    return result
}
