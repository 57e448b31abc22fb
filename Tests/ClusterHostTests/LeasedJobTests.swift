import ClusterHost
import Glibc
import MeshBase
import Testing

/// Work under a lease tells how it ended, whichever signal it was.
@Suite struct LeasedJobTests {
    private func job(_ script: String, for seconds: Int) throws -> LeasedJob {
        try LeasedJob(
            ["sh", "-c", script], environment: ["PATH=/usr/bin:/bin"],
            deadline: bootTime() + .seconds(seconds))
    }

    private func end(of job: LeasedJob) -> LeasedJob.End? {
        var end: LeasedJob.End?
        _ = eventually {
            end = job.hasEnded()
            return end != nil
        }
        return end
    }

    @Test(arguments: [
        ("exit 7", Int32(7)), ("kill -KILL $$", 128 + SIGKILL), ("kill -TERM $$", 128 + SIGTERM),
        ("kill -SEGV $$", 128 + SIGSEGV), ("exit 143", 143),
    ])
    func whatEndsByItselfIsNotLost(script: String, code: Int32) throws {
        let job = try job(script, for: 600)
        #expect(end(of: job) == .ended(code))
        #expect(job.hasEnded() == .ended(code))
    }

    @Test func whatIsToldToEndIsNotLost() throws {
        let gentle = try job("sleep 600", for: 600)
        gentle.terminate()
        #expect(end(of: gentle) == .ended(128 + SIGTERM))
        let hard = try job("trap '' TERM; sleep 600; sleep 600", for: 600)
        hard.kill()
        #expect(end(of: hard) == .ended(128 + SIGKILL))
    }

    /// However it takes the news: it ends by the signal, says goodbye, or has to be killed.
    @Test(arguments: [
        "sleep 600", "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        "trap '' TERM; sleep 600; sleep 600",
    ])
    func whatTheLeaseEndsIsLost(script: String) throws {
        let job = try job(script, for: 3)
        #expect(end(of: job) == .lost)
    }
}
