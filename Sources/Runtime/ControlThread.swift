import LinuxIO
import MeshBase
import Synchronization

/// The one thread that owns the node: it runs the jobs of ``NodeRuntime`` and waits for
/// descriptors and deadlines in between.
///
/// Being the actor's executor, it makes every call to the actor run here, so the node is never
/// touched by two threads and never waits for the cooperative pool.
package final class ControlThread: SerialExecutor {
    private let jobs = Mutex<[UnownedJob]>([])
    private let doorbell: Doorbell
    private let identity = Mutex<ThreadIdentity?>(nil)

    package init() throws(SystemCallError) {
        doorbell = try Doorbell()
    }

    /// Lets `assumeIsolated` succeed on this thread outside of jobs, and nowhere else.
    package func checkIsolated() {
        precondition(
            identity.withLock { $0 } == .current, "the node belongs to the control thread")
    }

    /// Makes the calling thread the one that this executor stands for.
    func adoptCurrentThread() {
        identity.withLock { $0 = .current }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        doorbell.ring()
    }

    package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        UnownedSerialExecutor(ordinary: self)
    }

    /// Runs until `next` returns `nil`. Called once, on the thread.
    ///
    /// - Parameters:
    ///   - descriptors: what to watch; each is reported by its position.
    ///   - next: handles what is ready and says until when to wait; `.some(nil)` waits for input
    ///     alone, `nil` ends the loop.
    func run(
        watching descriptors: [Int32], next: (_ ready: [Int]) -> BootInstant??
    ) throws(SystemCallError) {
        let poller = try Poller()
        let ownToken = UInt64.max - 1
        try poller.add(doorbell.descriptor, token: ownToken)
        for (index, descriptor) in descriptors.enumerated() {
            try poller.add(descriptor, token: UInt64(index))
        }
        var ready: [Int] = []
        while let deadline = next(ready) {
            ready = []
            for token in poller.wait(until: deadline) {
                if token == ownToken {
                    doorbell.answer()
                } else {
                    ready.append(Int(token))
                }
            }
            runJobs()
        }
        // Whoever still waits for an answer gets it from the stopped node.
        runJobs()
    }

    private func runJobs() {
        let pending = jobs.withLock { jobs in
            defer { jobs = [] }
            return jobs
        }
        for job in pending { job.runSynchronously(on: asUnownedSerialExecutor()) }
    }
}
