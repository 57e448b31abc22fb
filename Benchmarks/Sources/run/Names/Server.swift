import Foundation

/// A server that was started and runs until it is ended.
///
/// Foundation's Process takes a program for ended as soon as that has closed a descriptor which it
/// inherited, and waits for it on the thread that watches all others. dnsmasq closes what it
/// inherits when it starts.
final class Server {
    let identifier: pid_t
    private var hasEnded = false

    /// - Parameter log: where its output goes.
    init(_ words: [String], log: String) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var arguments = words.map { strdup($0) }
        defer { for argument in arguments { free(argument) } }
        arguments.append(nil)
        var started: pid_t = 0
        let status = posix_spawnp(&started, words[0], &actions, nil, arguments, environ)
        guard status == 0 else {
            throw Failure("\(words[0]): \(String(cString: strerror(status)))")
        }
        identifier = started
    }

    var isRunning: Bool {
        if !hasEnded { hasEnded = waitpid(identifier, nil, WNOHANG) == identifier }
        return !hasEnded
    }

    func end() {
        guard isRunning else { return }
        kill(identifier, SIGTERM)
        waitpid(identifier, nil, 0)
        hasEnded = true
    }
}
