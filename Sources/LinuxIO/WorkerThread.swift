import CLinux
import Glibc

/// A named POSIX thread. It is joined exactly once, by ``join()``.
package struct WorkerThread: ~Copyable {
    private let thread: pthread_t

    /// Starts `body` on a new thread.
    ///
    /// - Parameters:
    ///   - name: Seen in `top -H`; the kernel keeps 15 bytes.
    ///   - processor: The CPU to stay on; `nil` leaves it to the scheduler.
    package init(
        name: String, processor: Int? = nil, _ body: @escaping @Sendable () -> Void
    ) throws(SystemCallError) {
        let start = ThreadStart(name: name, processor: processor, body: body)
        let argument = Unmanaged.passRetained(start)
        var created = pthread_t()
        let status = pthread_create(
            &created, nil,
            { context in
                guard let context else { return nil }
                let start = Unmanaged<ThreadStart>.fromOpaque(context).takeRetainedValue()
                start.run()
                return nil
            }, argument.toOpaque())
        guard status == 0 else {
            argument.release()
            throw SystemCallError("start thread \(name)", code: status)
        }
        thread = created
    }

    /// Waits until the body has returned.
    package consuming func join() {
        pthread_join(thread, nil)
    }

    /// Lets the thread end by itself; nobody joins it.
    package consuming func detach() {
        pthread_detach(thread)
    }
}

private final class ThreadStart: Sendable {
    let name: String
    let processor: Int?
    let body: @Sendable () -> Void

    init(name: String, processor: Int?, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.processor = processor
        self.body = body
    }

    func run() {
        clinux_thread_configure(name, Int32(clamping: processor ?? -1))
        // Signals belong to the control thread.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        body()
    }
}
