import CProcess
import Glibc
import MeshBase

/// A command that runs under a lease: it and its process group end before the lease can pass to
/// another machine, also when this process is killed or stopped. A keeper process of its own sees
/// to it (job.c).
package final class LeasedJob {
    private let keeper: pid_t
    private let control: Int32
    private var end: End?

    package enum End: Hashable, Sendable {
        /// By itself or because it was told to: its exit code, or 128 and the signal that ended it.
        case ended(Int32)
        /// The lease ended first, and the job was told so; what it did then counts for nothing. Or
        /// its keeper was killed, and nobody knows.
        case lost
    }

    /// Starts a command of the user's.
    ///
    /// - Parameters:
    ///   - arguments: the program, searched in PATH, and its arguments.
    ///   - environment: `NAME=value` each.
    ///   - deadline: when the work has ended at the latest.
    /// - Throws: the errno of what could not be done.
    package init(
        _ arguments: [String], environment: [String], deadline: BootInstant
    ) throws(LeasedJobFailure) {
        var ends: [Int32] = [-1, -1]
        guard
            socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
                == 0
        else { throw LeasedJobFailure(number: errno) }
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        let started = cprocess_start_job(&argv, &envp, ends[1], deadline.nanoseconds)
        close(ends[1])
        guard started > 0 else {
            close(ends[0])
            throw LeasedJobFailure(number: -started)
        }
        keeper = started
        control = ends[0]
    }

    deinit { close(control) }

    /// How the job ended; `nil` while it runs.
    package func hasEnded() -> End? {
        if end == nil {
            let code = cprocess_collect(keeper)
            if code >= 0 { end = wordOfKeeper == CPROCESS_ENDED ? .ended(code) : .lost }
        }
        return end
    }

    /// The kind of the last message, of a keeper that is gone.
    private var wordOfKeeper: Int {
        var message = [UInt8](repeating: 0, count: 9)
        let count = recv(control, &message, message.count, Int32(MSG_DONTWAIT))
        return count > 0 ? Int(message[0]) : 0
    }

    package func extend(to deadline: BootInstant) {
        tell("D", deadline.nanoseconds)
    }

    /// SIGTERM to the job and its process group.
    package func terminate() { tell("T", 0) }

    package func kill() { tell("K", 0) }

    private func tell(_ kind: Unicode.Scalar, _ number: UInt64) {
        var message: [UInt8] = [UInt8(ascii: kind)]
        for shift in stride(from: 0, to: 64, by: 8) {
            message.append(UInt8(truncatingIfNeeded: number >> UInt64(shift)))
        }
        // A keeper that is gone has ended the job.
        _ = send(control, message, message.count, Int32(MSG_NOSIGNAL))
    }
}

package struct LeasedJobFailure: Error, CustomStringConvertible {
    var number: Int32
    package var description: String { String(cString: strerror(number)) }
}

/// Signals that ask a command to end, noted instead of obeyed.
package enum EndingSignals {
    package static func catchThem() { cprocess_catch_ending() }
    /// The last one; `nil` while there was none.
    package static var last: Int32? {
        let number = cprocess_ending()
        return number == 0 ? nil : number
    }
}
