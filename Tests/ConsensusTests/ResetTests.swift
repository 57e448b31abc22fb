import Consensus
import MeshBase
import Simulator
import Testing

/// The operator's last word: a reset that the mesh root signed.
@Suite struct ResetTests {
    static let three = GenesisPolicy(voterLimit: 3)

    static func reset(
        to generation: UInt32, policy: GenesisPolicy = three, by root: NodeID = testRoot
    ) -> [UInt8] {
        FoundingReset(generation: generation, meshID: testMesh, policyHash: policy.hash) {
            KeyedHashSigner(node: root).sign($0)
        }.encoded
    }

    /// With T = 3 and f = 1 all three must agree, so a lost owner stops everything.
    @Test func ownerThatIsLostBeforeReadyIsLeftBehind() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.hostWorks = false
        mesh.announceAll()
        mesh.run(seconds: 8)
        let owner = try #require(mesh.view(0)?.owner)
        let runs = mesh.members[owner]?.runs
        #expect(runs == 1)
        // The owner is cut off while its datastore runs; a machine takes its place with a new disk.
        mesh.unreachable = [owner]
        mesh.hostWorks = true
        mesh.add(nodeID(7), policy: Self.three)
        for node in mesh.nodes { mesh.announceVotersOnly(to: node) }
        mesh.run(seconds: 5)
        let rest = mesh.nodes.filter { $0 != owner }
        #expect(mesh.members[rest[0]]?.founding.view.generation == 1)
        try mesh.operatorReset(rest[0], Self.reset(to: 2))
        // The voters wait until nothing can run any more under a hold that they gave.
        mesh.run(seconds: 590)
        #expect(rest.allSatisfy { mesh.members[$0]?.starts == 0 })
        #expect(mesh.members[rest[0]]?.founding.view.reason.contains("was reset") == true)
        mesh.run(seconds: 700)
        #expect(mesh.members[owner]?.runs == nil)
        let successor = try #require(mesh.members[rest[0]]?.founding.view.owner)
        #expect(successor != owner)
        for node in rest {
            let view = try #require(mesh.members[node]?.founding.view)
            #expect(view.phase == .ready)
            #expect(view.generation == 2)
            #expect(mesh.members[node]?.resets.count == 1)
        }
        // The old owner comes back: its data is moved away and it learns who founded.
        mesh.unreachable = []
        mesh.refresh()
        mesh.run(seconds: 10)
        #expect(mesh.members[owner]?.fenced == [1])
        #expect(mesh.members[owner]?.founding.view.owner == successor)
    }

    @Test func readyClusterIsMadeAnew() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let first = try #require(mesh.view(0)?.owner)
        try mesh.operatorReset(nodeID(1), Self.reset(to: 2))
        mesh.run(seconds: 30)
        #expect(mesh.members[first]?.fenced == [1])
        mesh.step(first) { founding, at, random, actions in
            founding.datastoreFenced(at: at, random: &random, into: &actions)
        }
        mesh.run(seconds: 1_300)
        for node in mesh.nodes {
            #expect(mesh.members[node]?.founding.view.phase == .ready)
            #expect(mesh.members[node]?.founding.view.generation == 2)
            #expect(mesh.members[node]?.alarms == [])
        }
        // A machine that slept through it takes the reset from what is on the others' disks.
        mesh.restart(nodeID(0), policy: Self.three)
        #expect(mesh.view(0)?.generation == 2)
        #expect(mesh.view(0)?.phase == .ready)
    }

    @Test func whatTheRootDidNotSignChangesNothing() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        var damaged = Self.reset(to: 2)
        damaged[10] ^= 1
        let other = GenesisPolicy(voterLimit: 3, servers: 1)
        let forged = [
            damaged, Self.reset(to: 2, by: nodeID(0)), Self.reset(to: 2, policy: other), [],
            Array(Self.reset(to: 2).dropLast()),
        ]
        for bytes in forged {
            let before = mesh.fingerprint(nodeID(0))
            #expect(throws: FoundingRefusal.self) {
                try mesh.operatorReset(nodeID(0), bytes)
            }
            mesh.step(nodeID(0)) { founding, at, random, actions in
                founding.resetFound(bytes, at: at, random: &random, into: &actions)
            }
            #expect(mesh.fingerprint(nodeID(0)) == before)
        }
        try mesh.operatorReset(nodeID(0), Self.reset(to: 2))
        #expect(throws: FoundingRefusal.self) {
            try mesh.operatorReset(nodeID(0), Self.reset(to: 2))
        }
    }

    /// A record of the release before resets existed.
    @Test func recordsOfTheFormerLayoutAreRead() throws {
        var mesh = Mesh(policy: Self.three)
        mesh.announceAll()
        mesh.run(seconds: 8)
        let record = try #require(mesh.members[nodeID(0)]?.disk)
        let voters = 1 + 3 * 32
        let former = [1] + record[1..<record.count - voters - 2] + record.suffix(voters)
        let read = try FoundingRecord(decoding: Array(former))
        #expect(read.encoded == record)
    }
}

extension Mesh {
    mutating func operatorReset(_ node: NodeID, _ bytes: [UInt8]) throws {
        try step(node) { founding, at, random, actions in
            try founding.operatorReset(bytes, at: at, random: &random, into: &actions)
        }
    }
}
