import ClusterPlan
import MeshBase
import NetAddress
import Testing

/// Machines that leave for good, and clusters that nobody should join.
@Suite struct LeavingTests {
    private func leave(_ mesh: inout SimulatedMesh, _ index: Int) -> ClusterLeaveProblem? {
        var problem: ClusterLeaveProblem?
        mesh.apply(index) { coordinator, now, random, actions in
            do throws(ClusterLeaveProblem) {
                try coordinator.leave(at: now, random: &random, into: &actions)
            } catch {
                problem = error
            }
        }
        return problem
    }

    @Test(arguments: 1...30)
    func aServerLeavesOverABadNetworkAndStaysAway(seed: Int) {
        var mesh = SimulatedMesh(roles: Array(repeating: .auto, count: 4), seed: UInt64(seed))
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 1) })
        mesh.lossPercent = 40
        mesh.duplicatePercent = 20
        let leaver = mesh.nodes.indices.first { $0 != 0 && mesh.view($0).role == .server } ?? 1
        #expect(leave(&mesh, leaver) == nil)
        let left = mesh.run(for: .seconds(600)) { mesh in
            mesh.hosts[leaver].local == .retired && mesh.store.members.count == 2
        }
        #expect(left, "\(mesh.story)")
        mesh.crash(leaver, withProcess: true)
        mesh.restart(leaver)
        mesh.run(for: .seconds(300)) { _ in false }
        #expect(mesh.view(leaver).phase == .none)
        #expect(mesh.view(leaver).reason.contains("has left"))
        #expect(mesh.store.members.count == 2)
        #expect(mesh.violations == [])
    }

    @Test func theLastServerAndAStrangerDoNotLeave() {
        var mesh = SimulatedMesh(roles: [.auto, .agent, .none])
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(300)) { $0.isComplete(servers: 1, agents: 1) })
        #expect(leave(&mesh, 0) == .lastServer)
        #expect(leave(&mesh, 2) == .notInside)
        #expect(leave(&mesh, 1) == nil)
        #expect(mesh.run(for: .seconds(120)) { $0.store.agents.isEmpty })
        #expect(mesh.isComplete(servers: 1, agents: 0) == false, "the agent is out")
        #expect(mesh.view(0).phase == .ready)
    }

    private func remove(
        _ mesh: inout SimulatedMesh, _ name: String, at server: Int
    ) -> ClusterRemoveProblem? {
        var problem: ClusterRemoveProblem? = .notServing
        mesh.apply(server) { coordinator, now, random, actions in
            do throws(ClusterRemoveProblem) {
                _ = try coordinator.remove(
                    machine: name, at: now, random: &random, into: &actions)
                problem = nil
            } catch {
                problem = error
            }
        }
        return problem
    }

    /// A machine that waited for a server's place gets that of the dead one, under another name.
    @Test(arguments: 1...20)
    func theDeadGiveTheirPlacesUpWhenAnOperatorSaysSo(seed: Int) {
        var mesh = SimulatedMesh(
            roles: [.auto, .auto, .auto, .server, .agent], seed: UInt64(seed))
        mesh.crash(3)
        mesh.foundByNode0()
        #expect(mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 1) })
        #expect(remove(&mesh, "n2", at: 1) == .alive(mesh.name(2)))
        #expect(remove(&mesh, "n1", at: 1) == .itself)
        #expect(remove(&mesh, "n3", at: 1) == .unknown)
        #expect(remove(&mesh, "", at: 1) == .unknown)
        #expect(remove(&mesh, "n0", at: 4) == .notServing)

        for index in [2, 4] { mesh.crash(index, withProcess: true) }
        mesh.restart(3)
        let waits = mesh.run(for: .seconds(120)) { _ in false }
        #expect(!waits && mesh.store.members.count == 3 && mesh.view(3).role == nil)
        #expect(remove(&mesh, mesh.name(2), at: 1) == nil)
        #expect(remove(&mesh, "n4", at: 1) == nil)
        let replaced = mesh.run(for: .seconds(600)) { $0.isComplete(servers: 3, agents: 0) }
        #expect(replaced, "\(mesh.story)")
        #expect(mesh.view(3).role == .server)
        #expect(remove(&mesh, "n2", at: 1) == .unknown)

        // The dead one comes back after all: its place is gone, and it becomes an agent.
        mesh.restart(2)
        let back = mesh.run(for: .seconds(900)) { $0.isComplete(servers: 3, agents: 1) }
        #expect(back, "\(mesh.story)")
        #expect(mesh.view(2).role == .agent)
        #expect(mesh.violations == [])
    }

    @Test func aForeignDatastoreAlarmsEverybodyAndIsForgottenWhenItIsGone() {
        var mesh = SimulatedMesh(roles: [.auto, .auto])
        let foreign = Bytes32(word0: 0xBAD, word1: 0, word2: 0, word3: 0)
        mesh.hosts[1].local = .foreign(caHash: foreign)
        mesh.foundByNode0()
        let told = mesh.run(for: .seconds(120)) { mesh in
            mesh.view(0).reason.contains("this mesh did not found")
                && mesh.view(0).members.count == 1
        }
        #expect(told, "\(mesh.story)")
        #expect(mesh.view(1).phase == .alarm)
        #expect(mesh.alarms.count >= 2)

        mesh.hosts[1].local = .none
        mesh.crash(1)
        mesh.restart(1)
        let joined = mesh.run(for: .seconds(300)) { $0.isComplete(servers: 2, agents: 0) }
        #expect(joined, "\(mesh.story)")
        #expect(!mesh.view(0).reason.contains("did not found"), "\(mesh.view(0).reason)")
    }
}
