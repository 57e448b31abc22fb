import ClusterPlan
import MeshBase
import NetAddress
import Testing

/// Whole stories of a mesh, told with virtual time.
@Suite struct CoordinatorTests {
    @Test(arguments: 1...40)
    func fiveNodesFormThreeServersAndTwoAgentsOverABadNetwork(seed: Int) {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 5), seed: UInt64(seed))
        mesh.lossPercent = 30
        mesh.duplicatePercent = 20
        mesh.longestDelay = .seconds(2)
        mesh.foundByNode0()
        let formed = mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 2) }
        #expect(formed, "\(mesh.story)")
        // Late duplicates must find everything as it is.
        mesh.run(for: .seconds(120)) { _ in false }
        #expect(mesh.isComplete(servers: 3, agents: 2), "\(mesh.story)")
        #expect(mesh.violations == [])
        #expect(mesh.grants.values.allSatisfy { $0 == 1 }, "a repeated request was granted anew")
    }

    @Test(arguments: 1...60)
    func nodesThatCrashAtAnyMomentGoOnWhereTheyStood(seed: Int) {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 5), seed: UInt64(seed))
        mesh.lossPercent = 10
        mesh.duplicatePercent = 20
        mesh.foundByNode0()
        var faults = SeededGenerator(seed: UInt64(seed) &+ 7_000)
        for _ in 0..<12 {
            let victim = Int(faults.next() % 5)
            mesh.run(for: faults.duration(in: .zero...Duration.seconds(10))) { _ in false }
            mesh.crash(victim, withProcess: faults.next() % 2 == 0)
            mesh.run(for: faults.duration(in: .zero...Duration.seconds(5))) { _ in false }
            mesh.restart(victim)
        }
        let formed = mesh.run(for: .seconds(1200)) { $0.isComplete(servers: 3, agents: 2) }
        #expect(formed, "\(mesh.story)")
        #expect(mesh.violations == [])
    }

    @Test func theFounderIsNotNeededAfterReady() {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 5))
        mesh.crash(4)
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 3, agents: 1) })
        mesh.crash(0, withProcess: true)
        mesh.restart(4)
        let joined = mesh.run(for: .seconds(300)) { $0.view(4).phase == .joined }
        #expect(joined, "\(mesh.story)")
        #expect(mesh.view(4).role == .agent)
        #expect(mesh.violations == [])
    }

    @Test func aServerThatMustNotBeAnAgentWaitsForAPlace() {
        var mesh = SimulatedMesh(roles: [.auto, .server], serverLimit: 1)
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { _ in false }
        #expect(mesh.view(1).phase == .joining)
        #expect(mesh.view(1).reason.contains("all places for servers are taken"))
        #expect(mesh.view(0).members.count == 1)
    }

    @Test func anAgentByWishNeverHoldsData() {
        var mesh = SimulatedMesh(roles: [.auto, .agent, .none])
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(120)) { $0.isComplete(servers: 1, agents: 1) })
        #expect(mesh.view(1).role == .agent)
        // A node that takes no part still knows the members, from the published facts.
        #expect(mesh.view(2).phase == .none)
        #expect(mesh.view(2).members.map { $0.name } == [mesh.name(0)])
        #expect(mesh.view(2).agents.map { $0.name } == [mesh.name(1)])
    }

    @Test func theOwnerStopsAtItsDeadlineAndGoesOnWithTheSameData() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.certify(
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: mesh.now + .seconds(60)),
            owner: 0)
        mesh.run(for: .seconds(50)) { _ in false }
        #expect(mesh.foundingReady != nil)
        #expect(mesh.store.running[1] != nil)
        mesh.run(for: .seconds(20)) { _ in false }
        #expect(mesh.store.running[1] == nil, "the datastore ran past the deadline")
        #expect(mesh.view(0).reason.contains("READY was not certified in time"))
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 2, agents: 0) })
        #expect(mesh.hosts[0].setAside == [])
        #expect(mesh.violations == [])
    }

    @Test func aRenewedHoldMovesTheDeadline() {
        var mesh = SimulatedMesh(roles: [.auto])
        let summary = { (seconds: Int, now: BootInstant) in
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: now + .seconds(seconds))
        }
        mesh.certify(summary(60, mesh.now), owner: 0)
        mesh.run(for: .seconds(50)) { _ in false }
        let ready = mesh.foundingReady
        mesh.foundingReady = nil
        mesh.certify(summary(60, mesh.now), owner: 0)
        mesh.run(for: .seconds(40)) { _ in false }
        #expect(mesh.store.running[1] != nil)
        // A new hold is a new start, which does not know that the datastore works.
        #expect(ready != nil && mesh.foundingReady == ready)
        mesh.run(for: .seconds(40)) { _ in false }
        #expect(mesh.store.running[1] == nil)
    }

    @Test func aFencedOwnerRenamesItsDataAndJoinsTheOthers() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.certify(
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: mesh.now + .seconds(600)),
            owner: 0)
        mesh.run(for: .seconds(30)) { $0.foundingReady != nil }
        // Given up on, but not decided yet: it stops, and its data stays.
        mesh.certify(FoundingSummary(phase: .fenced, generation: 1), owner: 0)
        mesh.run(for: .seconds(30)) { _ in false }
        #expect(mesh.store.running.isEmpty && mesh.hosts[0].setAside.isEmpty)
        mesh.certify(FoundingSummary(phase: .fenced, generation: 2), owner: 1)
        #expect(mesh.run(for: .seconds(30)) { $0.hosts[0].setAside == [1] })
        #expect(mesh.store.running.isEmpty)
        let stop = mesh.history.firstIndex { if case .stop = $0.command { true } else { false } }
        let aside = mesh.history.firstIndex { $0.command == .setAside(generation: 1) }
        #expect(stop != nil && aside != nil && (stop ?? 0) < (aside ?? 0))
        #expect(mesh.violations == [])
    }

    /// An attempt to certify ready may succeed after the hold behind it ended, under the authority
    /// that it named. The data with that authority must still be there.
    @Test func whatWasProposedAsReadyStaysWhileItMayBeDecided() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.certify(
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: mesh.now + .seconds(20)),
            owner: 0)
        mesh.run(for: .seconds(15)) { $0.foundingReady != nil }
        let proposed = mesh.foundingReady
        mesh.certify(FoundingSummary(phase: .fenced, generation: 1), owner: 0)
        mesh.run(for: .seconds(60)) { _ in false }
        mesh.certify(
            FoundingSummary(phase: .ready, generation: 1, caHash: proposed), owner: 0)
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 2, agents: 0) })
        #expect(mesh.hosts[0].setAside.isEmpty)
        #expect(mesh.violations == [])
    }

    /// Three servers, of which the founder is down and has the disk of before READY.
    private func aFounderWhoseDiskWentBack() throws -> (SimulatedMesh, ClusterIdentity) {
        var mesh = SimulatedMesh(roles: [.auto, .auto, .auto])
        mesh.foundByNode0()
        try #require(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 3, agents: 0) })
        let cluster = try #require(mesh.hosts[0].local.serverCluster)
        mesh.crash(0, withProcess: true)
        mesh.hosts[0].local = .founding(cluster)
        return (mesh, cluster)
    }

    /// Its disk went back to before READY, and meanwhile others joined. What is on it would come up as a
    /// cluster of one beside theirs.
    @Test func aFounderWhoseDiskWentBackJoinsAnew() throws {
        var mesh = try aFounderWhoseDiskWentBack().0
        mesh.restart(0)
        #expect(mesh.run(for: .seconds(60)) { $0.hosts[0].setAside == [1] })
        #expect(mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 0) })
        #expect(mesh.violations == [], "\(mesh.story)")
    }

    /// What others tell of themselves went back with its disk, and comes from them some time later.
    @Test func aFounderWhoseDiskWentBackHearsTheOthersFirst() throws {
        let (formed, cluster) = try aFounderWhoseDiskWentBack()
        var mesh = formed
        let facts = mesh.facts
        mesh.facts = [:]
        mesh.restart(0)
        let before = mesh.history.count
        mesh.run(for: .seconds(5)) { _ in false }
        #expect(!mesh.history[before...].contains { $0.command == .release(cluster) })
        mesh.tell(0, facts)
        #expect(mesh.run(for: .seconds(60)) { $0.hosts[0].setAside == [1] })
        #expect(mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 0) })
        #expect(mesh.violations == [], "\(mesh.story)")
    }

    /// The start was durable in the registers, and the machine died before there was any data. When
    /// that claim is abandoned the registers wait to hear that nothing is left of it.
    @Test func nothingIsSetAsideWhereNothingWasMade() {
        var mesh = SimulatedMesh(roles: [.auto])
        mesh.run(for: .seconds(5)) { _ in false }
        mesh.certify(FoundingSummary(phase: .fenced, generation: 2), owner: 1)
        #expect(mesh.run(for: .seconds(30)) { $0.hosts[0].setAside == [1] })
        mesh.run(for: .seconds(60)) { _ in false }
        #expect(mesh.hosts[0].setAside == [1], "once is enough")
    }

    @Test func anOwnerThatDiesBeforeReadyLearnsItsFateFromTheRegisters() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.certify(
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: mesh.now + .seconds(600)),
            owner: 0)
        mesh.run(for: .seconds(30)) { $0.foundingReady != nil }
        mesh.crash(0)
        #expect(mesh.store.running.isEmpty, "the datastore outlived the daemon before READY")
        mesh.certify(
            FoundingSummary(phase: .ready, generation: 1, caHash: mesh.foundingReady), owner: 0)
        mesh.restart(0)
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 2, agents: 0) })
        #expect(mesh.violations == [])
    }

    @Test func dataOfAnotherClusterStopsTheNodeAndCallsAPerson() {
        var mesh = SimulatedMesh(roles: [.auto])
        mesh.hosts[0].local = .server(
            ClusterIdentity(generation: 1, caHash: mesh.caHash(of: 5)))
        mesh.certify(
            FoundingSummary(phase: .ready, generation: 1, caHash: mesh.caHash(of: 0)), owner: 0)
        mesh.run(for: .seconds(30)) { $0.view(0).phase == .alarm }
        #expect(mesh.view(0).phase == .alarm)
        #expect(mesh.alarms.count == 1)
        #expect(mesh.hosts[0].setAside == [])
    }

    @Test func aMemberThatNeverComesUpIsEvicted() {
        var mesh = SimulatedMesh(roles: [.auto, .auto, .auto])
        mesh.crash(2)
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { $0.store.members.contains { !$0.isStarted } }
        #expect(mesh.store.members.contains { !$0.isStarted })
        mesh.crash(1)
        mesh.restart(2)
        let joined = mesh.run(for: .seconds(600)) { $0.view(2).phase == .joined }
        #expect(joined, "\(mesh.story)")
        #expect(mesh.view(2).role == .server)
        #expect(mesh.violations == [])
    }

    @Test(arguments: 1...10)
    func aMachineWhoseDatastoreNeverStartsDoesNotKeepTheOthersOut(seed: Int) {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 5), seed: UInt64(seed))
        mesh.hosts[1].isBroken = true
        mesh.hosts[2].isBroken = true
        mesh.foundByNode0()
        // Once all places are taken, the broken machines are agents.
        let formed = mesh.run(for: .seconds(1200)) { $0.isComplete(servers: 3, agents: 2) }
        #expect(formed, "\(mesh.story)")
        #expect(mesh.violations == [])
    }

    /// A server that fails again and again leaves its place to others for minutes; an agent has no
    /// place, and the machine is mended at some time.
    @Test func anAgentWhoseDatastoreFailedManyTimesJoinsSoonAfterItIsMended() {
        var mesh = SimulatedMesh(roles: [.auto, .agent])
        mesh.hosts[1].isBrokenAsAgent = true
        mesh.foundByNode0()
        #expect(!mesh.run(for: .seconds(300)) { $0.isComplete(servers: 1, agents: 1) })
        mesh.hosts[1].isBrokenAsAgent = false
        #expect(mesh.run(for: .seconds(40)) { $0.isComplete(servers: 1, agents: 1) })
        #expect(mesh.violations == [])
    }

    @Test func aStepThatFailsWithoutSayingHowFarItCameIsTakenUpFromTheDisk() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { mesh in
            if case .startJoined? = mesh.nodes[1].commands.first { true } else { false }
        }
        mesh.apply(1) {
            $0.hostReported(.failed(reason: "odd"), at: $1, random: &$2, into: &$3)
        }
        #expect(mesh.run(for: .seconds(120)) { $0.isComplete(servers: 2, agents: 0) })
        #expect(mesh.violations == [])
    }

    @Test func anExecutorThatNeverAnswersDoesNotStopTheNode() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { mesh in
            if case .startJoined? = mesh.nodes[1].commands.first { true } else { false }
        }
        // The report of the running command is lost.
        mesh.nodes[1].life += 1
        mesh.nodes[1].commands = []
        mesh.nodes[1].isBusy = false
        #expect(
            mesh.run(for: .seconds(400)) { $0.isComplete(servers: 2, agents: 0) },
            "\(mesh.story)")
    }

    /// Seed 991172 of the simulated sites.
    @Test func whoseJoinsFailedFoundsAtOnceAfterAReset() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.hosts[1].isBroken = true
        mesh.foundByNode0()
        let failed = mesh.run(for: .seconds(400)) { mesh in
            mesh.nodes[1].commands.isEmpty
                && mesh.history.count { step in
                    if case .startJoined = step.command { true } else { false }
                } == 4
        }
        // Its next join is a minute away or more.
        #expect(failed)
        mesh.hosts[1].isBroken = false
        mesh.foundAnew(by: 1)
        #expect(mesh.run(for: .seconds(10)) { $0.foundings.contains(1) }, "\(mesh.story)")
    }

    @Test func aResetInterruptsAJoin() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { mesh in
            if case .startJoined? = mesh.nodes[1].commands.first { true } else { false }
        }
        // It hangs: only a stop ends it.
        mesh.nodes[1].life += 1
        mesh.foundAnew(by: 1)
        #expect(mesh.run(for: .seconds(10)) { $0.foundings.contains(1) }, "\(mesh.story)")
        #expect(mesh.hosts[1].setAside == [1])
    }

    @Test func whoIsLeavingHasLeftAfterAReset() throws {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        mesh.foundByNode0()
        mesh.run(for: .seconds(120)) { $0.isComplete(servers: 2, agents: 0) }
        // It has seen that another server votes.
        mesh.run(for: .seconds(30)) { _ in false }
        mesh.crash(0)
        var problem: ClusterLeaveProblem?
        mesh.apply(1) { coordinator, now, random, actions in
            do throws(ClusterLeaveProblem) {
                try coordinator.leave(at: now, random: &random, into: &actions)
            } catch {
                problem = error
            }
        }
        #expect(problem == nil)
        #expect(!mesh.run(for: .seconds(60)) { $0.hosts[1].local == .retired })
        mesh.restart(0)
        mesh.foundAnew(by: 0)
        #expect(mesh.run(for: .seconds(60)) { $0.hosts[1].local == .retired }, "\(mesh.story)")
    }

    @Test func aSlowFoundingMayUseItsWholeDeadline() {
        var mesh = SimulatedMesh(roles: [.auto])
        let deadline = mesh.now + .seconds(600)
        mesh.run(for: .seconds(5)) { _ in false }
        mesh.nodes[0].isBusy = true
        mesh.certify(
            FoundingSummary(phase: .starting, generation: 1, startDeadline: deadline), owner: 0)
        mesh.run(for: .seconds(400)) { _ in false }
        let cluster = ClusterIdentity(generation: 1, caHash: mesh.caHash(of: 0))
        mesh.apply(0) { $0.hostReported(.founded(cluster), at: $1, random: &$2, into: &$3) }
        #expect(mesh.foundingReady == cluster.caHash)
    }

    @Test func theSameSeedTellsTheSameStory() {
        func trace(_ seed: UInt64) -> UInt64 {
            var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 5), seed: seed)
            mesh.lossPercent = 30
            mesh.foundByNode0()
            mesh.run(for: .seconds(120)) { _ in false }
            var print = Fingerprint()
            for node in mesh.nodes { node.coordinator.fingerprint(into: &print) }
            return print.value
        }
        #expect(trace(3) == trace(3))
        #expect(trace(3) != trace(4))
    }

    @Test(arguments: 1...20)
    func rejectedInputChangesNothing(seed: Int) {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 3), seed: UInt64(seed))
        mesh.foundByNode0()
        var noise = SeededGenerator(seed: UInt64(seed) &+ 99)
        for _ in 0..<150 {
            mesh.run(for: .milliseconds(400)) { _ in false }
            let index = Int(noise.next() % 3)
            let before = fingerprint(mesh, index)
            let drops = mesh.drops.count
            let sender = mesh.node(Int(noise.next() % 4))
            switch noise.next() % 4 {
            case 0:
                let bytes = noise.bytes(Int(noise.next() % 1400))
                mesh.apply(index) {
                    $0.receive(bytes, from: sender, at: $1, random: &$2, into: &$3)
                }
            case 1:
                let wait = JoinMessage.wait(nonce: noise.bytes(16), .busy).encoded
                mesh.apply(index) {
                    $0.receive(wait, from: sender, at: $1, random: &$2, into: &$3)
                }
            case 2:
                let value = noise.bytes(Int(noise.next() % 100))
                mesh.apply(index) {
                    $0.factChanged(
                        owner: sender, key: ClusterFactKey.members, value: value, at: $1,
                        random: &$2, into: &$3)
                }
            default:
                let nonce = noise.bytes(16)
                mesh.apply(index) {
                    $0.hostReported(
                        .postponed(joiner: sender, nonce: nonce, .busy), at: $1, random: &$2,
                        into: &$3)
                }
            }
            #expect(mesh.drops.count == drops + 1)
            #expect(fingerprint(mesh, index) == before)
        }
    }

    private func fingerprint(_ mesh: SimulatedMesh, _ index: Int) -> UInt64 {
        var print = Fingerprint()
        mesh.nodes[index].coordinator.fingerprint(into: &print)
        return print.value
    }
}

extension LocalDatastore {
    fileprivate var serverCluster: ClusterIdentity? {
        if case .server(let cluster) = self { cluster } else { nil }
    }
}
