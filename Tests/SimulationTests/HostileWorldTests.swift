import Glibc
import MeshBase
import Simulator
import Testing

/// Loss, duplicates, reordering, partitions, crashes in the middle of writes, wrong and drifting
/// clocks, lost disks, moving addresses, failing datastores: for 90 seconds rules must hold, and
/// within 180 seconds after that there must be one mesh with one cluster.
@Suite struct HostileWorldTests {
    @Test(arguments: UInt64(1)...100) func aWorldStaysSafeAndBecomesWell(seed: UInt64) {
        let trial = Trial(.hostile(seed: seed))
        #expect(trial.problems.isEmpty, "\(trial.story())")
    }

    /// Replays the seed in the environment variable EDGEVPN_SEED with its whole story.
    @Test(.enabled(if: getenv("EDGEVPN_SEED") != nil)) func oneChosenWorld() throws {
        let text = try #require(getenv("EDGEVPN_SEED").map { String(cString: $0) })
        let trial = Trial(.hostile(seed: try #require(UInt64(text))))
        #expect(trial.problems.isEmpty, "\(trial.story(lines: .max))")
    }
}
