import Consensus
import MeshBase
import Simulator
import Storage
import Testing

/// The one voter on leases, whose disk or power fails at every single write, synchronize and
/// rename: a number that it gave to one piece of work it never gives to another.
@Suite("A voter on leases that crashes at every step")
struct LeaseCrashTests {
    private struct Life {
        static let node = FoundingWorld.node(0)
        let records: RegisterFile
        let voters: AtomicFile
        var board: LeaseBoard
        var random = SeededGenerator(seed: 1)
        var now = BootInstant.zero + .seconds(1)

        init(_ disk: CrashingDisk) throws {
            let directory = try StateDirectory(location, fileSystem: disk)
            records = try RegisterFile(
                name: "leases", kind: FileKind(tag: "EVls", version: 1), slotSize: 4096,
                in: directory)
            voters = AtomicFile(
                name: "voters", kind: FileKind(tag: "EVvo", version: 1), limit: 4096,
                in: directory)
            let meshID = [UInt8](repeating: 7, count: 16)
            board = LeaseBoard(
                configuration: LeaseConfiguration(
                    meshID: meshID, node: Self.node, mayVote: true),
                record: records.value, voters: try voters.load()?.payload, at: now,
                signer: KeyedHashSigner(node: Self.node))
        }

        /// - Returns: the number under which `session` held the lease; `nil` when it did not.
        mutating func elect(_ session: UInt64, generation: UInt32 = 1) throws -> UInt64? {
            var actions: [LeaseAction] = []
            board.founded(
                generation: generation, founder: Self.node, at: now, random: &random,
                into: &actions)
            try carryOut(actions)
            // Twice as long as a voter waits after its start.
            for _ in 0..<200 {
                actions = []
                let status = board.campaign(
                    "job", session: session, at: now, random: &random, into: &actions)
                try carryOut(actions)
                if status.phase == .held { return status.number }
                now = now + .milliseconds(200)
            }
            return nil
        }

        private func carryOut(_ actions: [LeaseAction]) throws {
            for action in actions {
                switch action {
                case .persist(let record): try records.store(record)
                case .persistVoters(let chain): try voters.store(chain)
                default: break
                }
            }
        }
    }

    @Test func noNumberIsGivenTwice() throws {
        var heard: UInt64 = 0
        try everyCrash(
            of: { disk in
                heard = 0
                guard var life = try? Life(disk) else { return }
                heard = (try? life.elect(1)) ?? 0
            },
            examine: { disk, story in
                var life = try Life(disk)
                let second = try life.elect(2) ?? 0
                #expect(second > heard, "\(story)")
                var next = try Life(disk.afterPowerCut(.none))
                let third = try next.elect(3) ?? 0
                #expect(third > second, "\(story), and again")
            })
    }

    /// A reset founds anew: numbers of the new generation are larger than all before.
    @Test func aNewGenerationBeginsAbove() throws {
        let before = CrashingDisk()
        var first = try Life(before)
        let old = try #require(try first.elect(1))
        try everyCrash(
            of: { disk in
                guard var life = try? Life(disk) else { return }
                _ = try? life.elect(2, generation: 2)
            },
            from: { before.afterPowerCut(.none) },
            survivals: [.none, .all, .some(seed: 1), .some(seed: 2), .some(seed: 3)],
            examine: { disk, story in
                var life = try Life(disk)
                let second = try #require(try life.elect(3, generation: 2), "\(story)")
                #expect(second > old && second >> 31 == 1, "\(story)")
            })
    }

    /// A memory that is gone is not a fresh one.
    @Test(arguments: ["leases", "voters"])
    func aVoterWithoutItsMemoryDecidesNothing(file: String) throws {
        let disk = CrashingDisk()
        var life = try Life(disk)
        #expect(try life.elect(1) != nil)
        try disk.remove("/s/" + file)
        var lost = try Life(disk.afterKill())
        #expect(try lost.elect(2) == nil)
    }
}
