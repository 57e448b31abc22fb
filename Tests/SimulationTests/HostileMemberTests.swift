import Consensus
import Ledger
import MeshBase
import MeshNode
import Sabotage
import Simulator
import Testing

/// A member with a valid certificate and without a vote does what it can to keep the others from
/// founding: signed founding messages of every kind, with ballots as high as they get, a flood of
/// signed entries, entries in others' names, and a certificate that it made a voter's itself. In mode
/// `voters` this is all that the token leaves to whoever holds it.
@Suite struct HostileMemberTests {
    @Test(arguments: [GenesisPolicy.Mode.count, .voters], UInt64(1)...3)
    func itStopsNothingAndFillsNothing(mode: GenesisPolicy.Mode, seed: UInt64) throws {
        var options = SimulationOptions(
            seed: seed, machines: 5, policy: GenesisPolicy(mode: mode, voterLimit: 4, servers: 3))
        options.agents = 1
        options.startSpread = .zero
        let world = Simulation(options: options)
        world.run(until: world.now + .seconds(1))
        let honest = Array(0..<4)
        let configuration = try #require(world.node(of: 4)).configuration
        var saboteur = try Saboteur(configuration, seed: seed, at: world.now)

        // It goes on when they have founded.
        let (least, limit) = (world.now + .seconds(20), world.now + .seconds(60))
        while world.now < least || world.now < limit && !honest.allSatisfy({ isReady(world, $0) }) {
            world.run(until: world.now + .milliseconds(50))
            for victim in honest {
                let entries = try #require(world.node(of: victim)).ledgerEntries(bucket: nil)
                for frame in saboteur.round(entries: entries, at: world.now) {
                    world.say(frame, as: 4, to: victim)
                }
            }
        }
        #expect(honest.allSatisfy { isReady(world, $0) }, "\(world.storyTail())")
        #expect(world.violations.isEmpty, "\(world.violations)")
        for victim in honest {
            let node = try #require(world.node(of: victim))
            let kept = node.ledgerEntries(bucket: nil).filter { $0.owner == saboteur.id }
            #expect(kept.count <= LedgerLimits.entriesPerOwner + 1)
            #expect(kept.reduce(0) { $0 + $1.encodedCount } <= 2 * LedgerLimits.bytesPerOwner)
            // Nobody else's entry is its word.
            for entry in node.ledgerEntries(bucket: nil) where entry.owner != saboteur.id {
                #expect(entry.isSigned(meshID: node.configuration.token.meshID))
                #expect(entry.version < Saboteur.forgedVersion)
            }
            #expect(
                node.ledgerEntries(bucket: nil).contains {
                    $0.owner == node.configuration.identity.node && $0.id.isCertificate
                })
            // Nobody counts it.
            #expect(!node.foundingView.votersSeen.contains(saboteur.id))
            #expect(node.foundingView.votersSeen.count == 4)
        }
        #expect(saboteur.said > 2_000, "\(saboteur.said) messages")
        #expect(saboteur.forged > 200, "\(saboteur.forged) entries in others' names")
        // When it falls silent, everything becomes well.
        let isWell = world.run(until: world.now + .seconds(180)) { $0.complaints.isEmpty }
        #expect(isWell, "\(world.complaints) \(world.storyTail())")
    }

    private func isReady(_ world: Simulation, _ index: Int) -> Bool {
        world.node(of: index)?.foundingView.phase == .ready
    }
}
