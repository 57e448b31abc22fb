import Glibc
import LinuxIO
import Synchronization

/// SIGTERM and SIGINT as a descriptor to poll, whichever thread the kernel gives them to.
///
/// A signalfd would need every thread of the process to block the signals before it starts, and
/// the caller's runtime has threads already. Before and after, the signals do what they did.
struct StopSignals: ~Copyable {
    private let doorbell: Doorbell
    private let previous: [(number: Int32, action: sigaction)]

    /// One at a time in a process.
    init() throws(SystemCallError) {
        doorbell = try Doorbell()
        stopDescriptor.store(doorbell.descriptor, ordering: .sequentiallyConsistent)
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in
            // write(2) is all that a handler may do here, and errno belongs to whom it interrupts.
            let saved = errno
            var one: UInt64 = 1
            _ = write(stopDescriptor.load(ordering: .relaxed), &one, 8)
            errno = saved
        }
        action.sa_flags = SA_RESTART
        previous = [SIGTERM, SIGINT].map { number in
            var old = sigaction()
            sigaction(number, &action, &old)
            return (number, old)
        }
    }

    deinit {
        for entry in previous {
            var action = entry.action
            sigaction(entry.number, &action, nil)
        }
        stopDescriptor.store(-1, ordering: .sequentiallyConsistent)
    }

    /// Readable when a signal has come.
    var descriptor: Int32 { doorbell.descriptor }
}

/// Where the signal handler writes; -1 for nowhere.
private let stopDescriptor = Atomic<Int32>(-1)
