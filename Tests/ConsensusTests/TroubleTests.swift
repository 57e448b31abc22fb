import Consensus
import MeshBase
import Simulator
import Testing

/// How a founding goes when something is wrong.
@Suite struct TroubleTests {
    static let three = GenesisPolicy(voterLimit: 3)
    /// q = 3 of 5 without disk losses, so that two can be missing.
    static let five = GenesisPolicy(voterLimit: 5, diskLosses: 0)

    /// Three nodes of which one has the claim and a datastore that never comes up.
    private func stuck(_ policy: GenesisPolicy) throws -> (mesh: Mesh, owner: NodeID) {
        var mesh = Mesh(policy: policy)
        mesh.hostWorks = false
        mesh.announceAll()
        mesh.run(seconds: 10)
        let owner = try #require(mesh.view(0)?.owner)
        #expect(mesh.members[owner]?.runs == 1)
        return (mesh, owner)
    }

    @Test func ownerStopsItselfAndTriesAgain() throws {
        var (mesh, owner) = try stuck(Self.three)
        let deadline = try #require(mesh.members[owner]?.deadline)
        #expect(deadline <= mesh.now + .seconds(600))
        let others = mesh.nodes.filter { $0 != owner }
        mesh.unreachable = Set(others)
        mesh.refresh()
        while mesh.now < deadline - .milliseconds(1) { mesh.run(seconds: 1) }
        mesh.run(seconds: 2)
        #expect(mesh.members[owner]?.runs == nil)
        #expect(mesh.members[owner]?.founding.view.phase == .fenced)
        mesh.hostWorks = true
        mesh.unreachable = []
        mesh.refresh()
        mesh.run(seconds: 10)
        #expect(mesh.members[owner]?.founding.view.phase == .ready)
        #expect(mesh.members[owner]?.starts == 2)
    }

    @Test func restartedOwnerTakesNewHoldsFirst() throws {
        var (mesh, owner) = try stuck(Self.three)
        let others = mesh.nodes.filter { $0 != owner }
        mesh.unreachable = Set(others)
        mesh.restart(owner, policy: Self.three) { $0.hasLocalData = true }
        mesh.run(seconds: 60)
        #expect(mesh.members[owner]?.starts == 0)
        #expect(mesh.members[owner]?.founding.view.phase == .claiming)
        mesh.unreachable = []
        mesh.hostWorks = true
        mesh.refresh()
        mesh.run(seconds: 10)
        #expect(mesh.members[owner]?.founding.view.phase == .ready)
    }

    @Test func takeoverWaitsForTheHoldsAndOpensTheNextGeneration() throws {
        var (mesh, owner) = try stuck(Self.five)
        mesh.hostWorks = true
        mesh.unreachable = [owner]
        mesh.refresh()
        let taker = try #require(mesh.nodes.first { $0 != owner })
        try mesh.step(taker) { founding, at, random, actions in
            try founding.operatorTakeover(at: at, random: &random, into: &actions)
        }
        mesh.run(seconds: 1_150)
        #expect(mesh.members[taker]?.founding.view.generation == 1)
        #expect(mesh.members[owner]?.runs == nil)
        mesh.run(seconds: 120)
        let view = try #require(mesh.members[taker]?.founding.view)
        #expect(view.phase == .ready)
        #expect(view.generation == 2)
        #expect(view.owner != owner)
        // The former owner comes back: its data is moved away and it learns who founded.
        mesh.unreachable = []
        mesh.refresh()
        mesh.run(seconds: 10)
        #expect(mesh.members[owner]?.fenced == [1])
        #expect(mesh.members[owner]?.founding.view.phase == .ready)
        #expect(mesh.members[owner]?.founding.view.owner == view.owner)
    }

    @Test func takeoverIsRefusedWhereEverybodyMustAgree() throws {
        var (mesh, owner) = try stuck(Self.three)
        let taker = try #require(mesh.nodes.first { $0 != owner })
        #expect(throws: FoundingRefusal.self) {
            try mesh.step(taker) { founding, at, random, actions in
                try founding.operatorTakeover(at: at, random: &random, into: &actions)
            }
        }
        mesh.run(seconds: 1)
    }

    @Test func timedTakeoverNeedsNoOperator() throws {
        var policy = Self.five
        policy.takeover = .minutes(30)
        var (mesh, owner) = try stuck(policy)
        mesh.hostWorks = true
        mesh.unreachable = [owner]
        mesh.refresh()
        mesh.run(seconds: 1_790)
        #expect(mesh.nodes.allSatisfy { mesh.members[$0]?.founding.view.generation == 1 })
        mesh.run(seconds: 200)
        let taker = try #require(mesh.nodes.first { $0 != owner })
        #expect(mesh.members[taker]?.founding.view.generation == 2)
        #expect(mesh.members[taker]?.founding.view.phase == .ready)
    }

    @Test func tooManyVotersStopTheFounding() throws {
        var mesh = Mesh(policy: Self.three, count: 5)
        mesh.announceAll()
        mesh.run(seconds: 60)
        for node in mesh.nodes {
            let member = try #require(mesh.members[node])
            #expect(member.founding.view.phase == .alarm)
            #expect(member.alarms.count == 1)
            #expect(member.decided.isEmpty)
        }
        // The alarm outlives the daemon.
        mesh.unreachable = Set(mesh.nodes)
        let disk = try #require(mesh.members[nodeID(0)]?.disk)
        mesh.add(nodeID(0), policy: Self.three, restored: disk)
        #expect(mesh.view(0)?.phase == .alarm)
    }

    @Test func voterTooManyAfterwardsIsAlarmedAndHarmsNothing() {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        for number in [7, 8] { mesh.add(nodeID(number), policy: Self.three) }
        mesh.announceAll()
        mesh.run(seconds: 8)
        #expect(mesh.view(0)?.phase == .ready)
        #expect(mesh.view(0)?.alarm != nil)
        #expect(mesh.view(8)?.phase == .ready)
    }

    @Test func amnesiacNeverVotesAgain() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.members[nodeID(0)] = nil
        mesh.add(nodeID(0), policy: Self.three) { $0.isAmnesiac = true }
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .alarm)
        #expect(mesh.view(1)?.phase == .waiting)
        // Its next record is intact, and says so.
        mesh.restart(nodeID(0), policy: Self.three)
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .alarm)
        #expect(mesh.view(1)?.answering == 2)
        for (from, _, bytes) in mesh.sent where from == nodeID(0) {
            #expect(bytes[1] == 1 || bytes[1] == 2)
        }
    }

    @Test func unreadableRecordMakesAnAmnesiac() {
        let configuration = FoundingConfiguration(
            meshID: testMesh, policy: Self.three, node: nodeID(0), isVoter: true, isDurable: true,
            mayFound: true, hasLocalData: false)
        func phase(_ bytes: [UInt8]?) -> FoundingView.Phase {
            Founding(
                configuration: configuration, restoring: bytes, at: .zero,
                signer: KeyedHashSigner(node: nodeID(0))
            ).view.phase
        }
        #expect(phase(nil) == .waiting)
        #expect(phase([]) == .alarm)
        #expect(phase([1, 2, 3]) == .alarm)
    }

    @Test func volatileStateNeverVotes() {
        var mesh = Mesh(policy: Self.three)
        mesh.members[nodeID(0)] = nil
        mesh.add(nodeID(0), policy: Self.three) { $0.isDurable = false }
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .refused)
        #expect(mesh.view(1)?.phase == .waiting)
        #expect(mesh.sent.filter { $0.from == nodeID(0) }.allSatisfy { $0.bytes[1] <= 2 })
    }

    @Test func localDataStopsEverybody() {
        var mesh = Mesh(policy: Self.three)
        mesh.members[nodeID(0)] = nil
        mesh.add(nodeID(0), policy: Self.three) { $0.hasLocalData = true }
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .refused)
        #expect(mesh.view(1)?.phase == .waiting)
        #expect(mesh.view(1)?.reason.contains("has data of a datastore") == true)
    }

    @Test func anotherPolicyIsRefusedAndAlarmed() {
        var mesh = Mesh(policy: Self.three)
        mesh.members[nodeID(2)] = nil
        mesh.add(nodeID(2), policy: GenesisPolicy(voterLimit: 3, servers: 1))
        mesh.announceAll()
        mesh.run(seconds: 60)
        #expect(mesh.view(0)?.phase == .alarm)
        #expect(mesh.members[nodeID(0)]?.alarms.count == 1)
        #expect(mesh.members[nodeID(0)]?.drops.contains(.foreignPolicy) == true)
        #expect(mesh.nodes.allSatisfy { mesh.members[$0]?.decided.isEmpty == true })
    }

    @Test func stateOfAnotherMeshIsNeitherUsedNorOverwritten() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let disk = try #require(mesh.members[nodeID(0)]?.disk)
        mesh.add(nodeID(0), policy: Self.three, restored: disk) {
            $0.meshID = [UInt8](repeating: 1, count: 16)
        }
        mesh.run(seconds: 5)
        #expect(mesh.view(0)?.phase == .alarm)
        #expect(mesh.members[nodeID(0)]?.disk == disk)
    }

    @Test func everythingDecidedSurvivesARestart() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let before = try #require(mesh.view(1))
        mesh.unreachable = Set(mesh.nodes)
        mesh.restart(nodeID(1), policy: Self.three) { $0.hasLocalData = true }
        let after = try #require(mesh.view(1))
        #expect(after.phase == .ready)
        #expect(after.readyCertificate == before.readyCertificate)
        #expect(after.claimCertificate == before.claimCertificate)
    }

    @Test func failedStartIsTriedAgain() throws {
        var (mesh, owner) = try stuck(Self.three)
        mesh.step(owner) { founding, at, random, actions in
            founding.datastoreFailed(
                reason: "port 2379 is taken", at: at, random: &random, into: &actions)
        }
        #expect(mesh.members[owner]?.runs == nil)
        #expect(mesh.members[owner]?.founding.view.reason.contains("2379") == true)
        mesh.hostWorks = true
        mesh.run(seconds: 30)
        #expect(mesh.members[owner]?.founding.view.phase == .ready)
    }

    @Test func rejectedInputChangesNothing() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 2)
        let genuine = mesh.sent
        var dice = Dice(5)
        let victim = nodeID(1)
        for (from, _, bytes) in genuine.prefix(200) where from != victim {
            var garbled = bytes
            garbled[dice.pick(0..<garbled.count)] ^= UInt8(1 << dice.pick(0..<8))
            let cut = Array(bytes.prefix(dice.pick(0..<bytes.count)))
            for hostile in [garbled, cut] {
                let before = mesh.fingerprint(victim)
                mesh.members[victim]?.drops = []
                mesh.receive(hostile, at: victim, from: from)
                #expect(mesh.fingerprint(victim) == before)
                #expect(mesh.members[victim]?.drops.count == 1)
            }
            let before = mesh.fingerprint(victim)
            mesh.receive(bytes, at: victim, from: nodeID(77))
            #expect(mesh.fingerprint(victim) == before)
        }
    }

    @Test func requestsOfStrangersChangeNothing() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let stranger = nodeID(50)
        let ballot = Ballot(round: 9_999, node: stranger)
        let claim = RegisterValue.claim(Claim(owner: stranger))
        let bodies: [FoundingMessage.Body] = [
            .prepare(.claim, ballot), .accept(ballot, claim), .hold(nonce: 1, milliseconds: 1),
            .holdGrant(nonce: 1), .holdRefusal(nonce: 1), .promise(.claim, ballot, accepted: nil),
            .prepare(.claim, Ballot(round: 9_999, node: nodeID(0))),
        ]
        for body in bodies {
            let before = mesh.fingerprint(nodeID(1))
            let bytes = FoundingMessage(policyHash: Self.three.hash, generation: 1, body: body)
                .encode(meshID: testMesh, signer: KeyedHashSigner(node: stranger))
            mesh.receive(bytes, at: nodeID(1), from: stranger)
            #expect(mesh.fingerprint(nodeID(1)) == before, "\(body)")
        }
    }

    /// A machine that runs twice, or whose disk went back, may use a ballot for two values. One of them may
    /// be chosen; a proposer that hears of both cannot tell and proposes neither.
    @Test func twoValuesUnderOneBallotStopAnAttempt() {
        let rules = FoundingRules()
        let old = Ballot(round: 5, node: nodeID(1))
        let one = AcceptedValue(ballot: old, value: .claim(Claim(owner: nodeID(1))))
        let other = AcceptedValue(ballot: old, value: .claim(Claim(owner: nodeID(2))))
        var proposer = Proposer(
            generation: 1, ballot: Ballot(round: 9, node: nodeID(0)),
            wanted: .claim(Claim(owner: nodeID(0))), quorum: 3)
        for (number, accepted) in [one, other, nil].enumerated() {
            let isComplete = proposer.promised(
                by: nodeID(number), accepted: accepted, rules: rules)
            #expect(!isComplete)
        }
        #expect(proposer.isContradicted && proposer.stage == .preparing)
        // A newer ballot settles it.
        let newer = AcceptedValue(
            ballot: Ballot(round: 7, node: nodeID(2)), value: .claim(Claim(owner: nodeID(2))))
        let isComplete = proposer.promised(by: nodeID(3), accepted: newer, rules: rules)
        #expect(isComplete)
        #expect(proposer.value == newer.value)
    }

    /// Operators give up on an owner that is well. That cannot succeed while its hold lasts, and must
    /// not keep its own `ready` from being decided.
    @Test func hastyTakeoversDoNotStarveAnOwner() throws {
        var (mesh, owner) = try stuck(Self.five)
        let others = mesh.nodes.filter { $0 != owner }
        for node in others {
            try mesh.step(node) { founding, at, random, actions in
                try founding.operatorTakeover(at: at, random: &random, into: &actions)
            }
        }
        mesh.run(seconds: 30)
        let promises = mesh.sent.compactMap { sent -> Ballot? in
            guard let message = try? FoundingMessage(decoding: sent.bytes),
                case .promise(.outcome, let ballot, _) = message.body
            else { return nil }
            return ballot
        }
        #expect(promises.isEmpty, "nobody but the owner may ask for promises now")
        for node in others {
            let record = try FoundingRecord(decoding: try #require(mesh.members[node]?.disk))
            #expect(record.outcome.acceptor.promised == nil, "nor may anybody promise itself")
        }
        mesh.step(owner) { founding, at, random, actions in
            founding.datastoreReady(
                caHash: owner.bytes, at: at, random: &random, into: &actions)
        }
        mesh.run(seconds: 3)
        #expect(mesh.nodes.allSatisfy { mesh.members[$0]?.founding.view.phase == .ready })
    }
}
