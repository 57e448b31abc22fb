import Foundation
import Testing

/// What may happen to a site of five machines with three servers of etcd, again and again. A few times
/// here, and as often as the environment says in `.scripts/campaign`.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /
///       +-----+-switch-+----+
@Suite(.serialized) struct SiteCampaignTests {
    private static let policy = ["--nodes", "5", "--servers", "3"]

    /// A cold start, then the founder's disk is lost: it joins what it once founded, and founds nothing.
    @Test func aWipedFounderJoins() async throws {
        for number in 1...setting("SITE_WIPES", default: 5) {
            try await withClusterLab(count: 5, policy: Self.policy) { cluster in
                let story = try await ClusterStory(founding: cluster)
                try await story.theFounderLosesItsDisk()
            }
            print("wipe \(number): the founder joined")
        }
    }

    /// The same cluster, addresses and roles after every power cut.
    @Test func aSiteComesBackAfterPowerCuts() async throws {
        try await withClusterLab(count: 5, policy: Self.policy) { cluster in
            let story = try await ClusterStory(founding: cluster)
            // It writes what every power cut must leave.
            try await story.theLeadersMachineDies()
            for number in 1...setting("SITE_POWER_CUTS", default: 5) {
                try await story.everyMachineDies()
                print("power cut \(number): nothing changed")
            }
        }
    }

    @Test func leadersDie() async throws {
        try await withClusterLab(count: 5, policy: Self.policy) { cluster in
            let story = try await ClusterStory(founding: cluster)
            for number in 1...setting("SITE_LEADER_KILLS", default: 5) {
                try await story.theLeadersMachineDies()
                print("leader kill \(number): nothing changed")
            }
        }
    }
}
