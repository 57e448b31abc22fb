import Consensus
import MeshBase
import Testing

@Suite struct PolicyTests {
    @Test(arguments: [
        (1, 0, 1), (2, 0, 2), (2, 1, 2), (3, 0, 2), (3, 1, 3), (3, 2, 3), (4, 1, 3), (4, 2, 4),
        (5, 1, 4), (7, 1, 5), (7, 3, 6), (64, 1, 33), (64, 63, 64),
    ])
    func quorum(voters: Int, losses: Int, expected: Int) {
        let policy = GenesisPolicy(voterLimit: voters, diskLosses: losses, servers: 1)
        #expect(policy.quorum == expected)
        #expect(policy.problems.isEmpty)
    }

    @Test func twoQuorumsAlwaysShareAVoterAndNoSmallerOnesDo() {
        for voters in 1...64 {
            for losses in 0...64 {
                let policy = GenesisPolicy(voterLimit: voters, diskLosses: losses, servers: 1)
                #expect(2 * policy.quorum > voters + losses)
                #expect(2 * (policy.quorum - 1) <= voters + losses)
                #expect(policy.problems.isEmpty == (policy.quorum <= voters))
            }
        }
    }

    @Test func defaults() {
        #expect(GenesisPolicy(voterLimit: 1).diskLosses == 0)
        #expect(GenesisPolicy(voterLimit: 2).diskLosses == 1)
        #expect(GenesisPolicy(voterLimit: 2).servers == 1)
        #expect(GenesisPolicy(voterLimit: 3).servers == 3)
        #expect(GenesisPolicy(voterLimit: 5).takeover == .manual)
    }

    @Test func everyProblemIsNamedAtOnce() {
        let policy = GenesisPolicy(
            mode: .single, voterLimit: 3, diskLosses: 3, servers: 2, takeover: .minutes(0))
        #expect(
            policy.problems.map(\.option) == [
                "--nodes", "--disk-losses", "--servers", "--takeover",
            ])
        #expect(GenesisPolicy(voterLimit: 0).problems.first?.option == "--nodes")
        #expect(GenesisPolicy(voterLimit: 65).problems.first?.option == "--nodes")
        #expect(GenesisPolicy(voterLimit: 3, servers: 5).problems.first?.option == "--servers")
    }

    @Test func tokenAloneIsNotEnoughForOneVoter() {
        #expect(!GenesisPolicy(voterLimit: 1).foundsFromTokenAlone)
        #expect(!GenesisPolicy(mode: .single, voterLimit: 1).foundsFromTokenAlone)
        #expect(!GenesisPolicy(mode: .external, voterLimit: 3).foundsFromTokenAlone)
        #expect(GenesisPolicy(mode: .designated(nodeID(1)), voterLimit: 1).foundsFromTokenAlone)
        #expect(GenesisPolicy(voterLimit: 2).foundsFromTokenAlone)
    }

    static let samples = [
        GenesisPolicy(voterLimit: 3),
        GenesisPolicy(mode: .voters, voterLimit: 5, diskLosses: 2, takeover: .minutes(30)),
        GenesisPolicy(mode: .designated(nodeID(4)), voterLimit: 1),
        GenesisPolicy(mode: .single, voterLimit: 1),
        GenesisPolicy(mode: .external, voterLimit: 64, diskLosses: 63, servers: 5),
    ]

    @Test(arguments: samples) func encodingSurvives(_ policy: GenesisPolicy) throws {
        let bytes = policy.encoded
        #expect(try GenesisPolicy(decoding: bytes) == policy)
        for count in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) {
                try GenesisPolicy(decoding: Array(bytes.prefix(count)))
            }
        }
        #expect(throws: DecodingFailure.self) { try GenesisPolicy(decoding: bytes + [0]) }
    }

    @Test func everyFieldIsInTheHash() {
        let hashes = Set(Self.samples.map(\.hash))
        #expect(hashes.count == Self.samples.count)
        let base = GenesisPolicy(voterLimit: 5)
        var other = base
        other.diskLosses = 2
        #expect(base.hash != other.hash)
        other = base
        other.servers = 1
        #expect(base.hash != other.hash)
        other = base
        other.takeover = .minutes(1)
        #expect(base.hash != other.hash)
    }

    @Test func policyThatNeedsMoreVotersThanThereAreDoesNotDecode() throws {
        var bytes = GenesisPolicy(voterLimit: 3).encoded
        bytes[5] = 3
        #expect(throws: DecodingFailure.field("genesis policy")) {
            try GenesisPolicy(decoding: bytes)
        }
    }
}
