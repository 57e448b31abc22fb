import Consensus
import MeshBase
import Simulator
import Storage
import Testing

/// A voter that answers two rivals while its disk or its power fails at every single write,
/// synchronize and rename. Whatever it says in all its lives together must be what one voter with a perfect
/// memory could have said.
@Suite("A voter that crashes at every step")
struct VoteCrashTests {
    /// What others heard from the voter, in order.
    struct Heard {
        var promised: Ballot?
        var accepted: AcceptedValue?
        /// The newest ballot that a promise said was accepted before it.
        var reported: Ballot?
        var votes = 0
        var problems: [String] = []

        mutating func hear(_ bytes: [UInt8], asked value: RegisterValue) {
            guard let message = try? FoundingMessage(decoding: bytes) else {
                return problems.append("a message that is none")
            }
            switch message.body {
            case .promise(_, let ballot, let accepted):
                if let promised, ballot < promised {
                    problems.append("a promise of \(ballot) after one of \(promised)")
                }
                if let known = self.accepted, accepted.map({ $0.ballot < known.ballot }) ?? true {
                    problems.append("a promise forgets the vote for \(known)")
                }
                promised = ballot
                if let accepted { reported = max(reported ?? accepted.ballot, accepted.ballot) }
                votes += 1
            case .accepted(_, let ballot, let hash, _):
                // What was accepted before a promise may be said again after it.
                let isOld = [accepted?.ballot, reported].contains {
                    $0.map { $0 >= ballot } ?? false
                }
                if let promised, ballot < promised, !isOld {
                    problems.append("a vote under \(ballot) after a promise of \(promised)")
                }
                if let known = accepted, known.ballot == ballot, known.value.hash != hash {
                    problems.append("two votes under \(ballot)")
                }
                if accepted.map({ $0.ballot < ballot }) ?? true {
                    accepted = AcceptedValue(ballot: ballot, value: value)
                }
                promised = max(promised ?? ballot, ballot)
                votes += 1
            default: break
            }
        }
    }

    /// One life of the voter, from what its disk holds to the moment when that fails.
    struct Life {
        static let policy = GenesisPolicy(voterLimit: 3)
        static let voter = FoundingWorld.node(0)
        let register: RegisterFile
        var founding: Founding
        var random = SeededGenerator(seed: 1)
        var now = BootInstant.zero + .seconds(1)

        init(_ disk: CrashingDisk) throws {
            let directory = try StateDirectory(location, fileSystem: disk)
            register = try RegisterFile(
                name: "founding", kind: FileKind(tag: "EVfo", version: 1), slotSize: 4096,
                in: directory)
            let configuration = FoundingConfiguration(
                meshID: [UInt8](repeating: 7, count: 16), policy: Self.policy, node: Self.voter,
                isVoter: true, isDurable: true, mayFound: false, hasLocalData: false)
            founding = Founding(
                configuration: configuration, restoring: register.value, at: now,
                signer: KeyedHashSigner(node: Self.voter))
        }

        mutating func meet(_ rivals: [NodeID], _ heard: inout Heard) throws {
            founding.setReachable(rivals)
            for rival in rivals {
                var actions: [FoundingAction] = []
                founding.voterSeen(rival, at: now, random: &random, into: &actions)
                try carryOut(actions, &heard, .claim(Claim(owner: rival)))
            }
        }

        mutating func ask(
            _ body: FoundingMessage.Body, from rival: NodeID, _ heard: inout Heard
        ) throws {
            now = now + .milliseconds(10)
            let message = FoundingMessage(
                policyHash: Self.policy.hash, generation: 1, body: body)
            let bytes = message.encode(
                meshID: [UInt8](repeating: 7, count: 16), signer: KeyedHashSigner(node: rival))
            var actions: [FoundingAction] = []
            founding.receive(bytes, from: rival, at: now, random: &random, into: &actions)
            try carryOut(actions, &heard, .claim(Claim(owner: rival)))
        }

        /// In order, and nothing more after a write that failed: so does the runtime.
        private func carryOut(
            _ actions: [FoundingAction], _ heard: inout Heard, _ value: RegisterValue
        ) throws {
            for action in actions {
                switch action {
                case .persist(let record): try register.store(record)
                case .send(_, let bytes): heard.hear(bytes, asked: value)
                default: break
                }
            }
        }
    }

    private static let rivals = [FoundingWorld.node(1), FoundingWorld.node(2)]

    private static func ballot(_ round: UInt32, _ rival: Int) -> Ballot {
        Ballot(round: round, node: rivals[rival])
    }

    private static func claim(_ rival: Int) -> RegisterValue {
        .claim(Claim(owner: rivals[rival]))
    }

    /// Two rivals who ask in turn, each with ballots of its own.
    private static func interview(
        _ disk: CrashingDisk, from round: UInt32, _ heard: inout Heard
    ) throws {
        var life = try Life(disk)
        try life.meet(rivals, &heard)
        for (rival, round) in [(0, round), (1, round), (0, round + 1), (1, round + 1)] {
            let ballot = ballot(round, rival)
            try life.ask(.prepare(.claim, ballot), from: rivals[rival], &heard)
            try life.ask(.accept(ballot, claim(rival)), from: rivals[rival], &heard)
            // The other one's older questions come late.
            let late = Self.ballot(round, 1 - rival)
            try life.ask(.prepare(.claim, late), from: rivals[1 - rival], &heard)
            try life.ask(.accept(late, claim(1 - rival)), from: rivals[1 - rival], &heard)
        }
    }

    @Test func noLifeContradictsAnEarlierOne() throws {
        var before = Heard()
        var disks = 0
        var refused = 0
        var votes = 0
        try everyCrash(
            of: { disk in
                before = Heard()
                try? Self.interview(disk, from: 1, &before)
            },
            examine: { disk, story in
                disks += 1
                var heard = before
                do {
                    // The same questions again, then newer ones.
                    try Self.interview(disk, from: 1, &heard)
                    try Self.interview(disk.afterPowerCut(.none), from: 3, &heard)
                } catch is StorageError {
                    refused += 1
                }
                votes += heard.votes
                #expect(heard.problems.isEmpty, "\(story): \(heard.problems)")
            })
        print("\(disks) disks, \(refused) refused, \(votes) answers")
        #expect(disks > 500)
        #expect(votes > disks * 4)
        // A crash alone never makes a voter forget.
        #expect(refused == 0)
    }
}
