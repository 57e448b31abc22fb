import Glibc
import Synchronization

/// Remembers that somebody pressed Ctrl-C or asked the process to end, so that a command can clear
/// away what it made before it goes.
enum Interruption {
    /// Starts remembering, in place of ending at once.
    static func watch() {
        caught.store(0, ordering: .relaxed)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            Glibc.signal(number) { caught.store($0, ordering: .relaxed) }
        }
    }

    /// The signal that came, if any.
    static var signal: Int32? {
        let number = caught.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }
}

private let caught = Atomic<Int32>(0)
