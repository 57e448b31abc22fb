import Consensus
import Cryptography
import Ledger
import Membership
import MeshBase
import MeshNode
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
        var saboteur = try Saboteur(world, index: 4, seed: seed)

        // It goes on when they have founded.
        let (least, limit) = (world.now + .seconds(20), world.now + .seconds(60))
        while world.now < least || world.now < limit && !honest.allSatisfy({ isReady(world, $0) }) {
            world.run(until: world.now + .milliseconds(50))
            for victim in honest { saboteur.attack(victim, in: world) }
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

/// The fifth machine's keys in wrong hands.
private struct Saboteur {
    let id: NodeID
    private let index: Int
    private let meshID: [UInt8]
    private let policyHash: Bytes32
    private let signer: NodeKeySigner
    private var ledger: LedgerState
    private var random: SeededGenerator
    /// This member's certificate with a voter's roles written into it.
    private let votersCertificate: [UInt8]
    private var round = 0
    private(set) var said = 0
    private(set) var forged = 0

    /// Honest owners' counters do not come this far.
    static let forgedVersion = OwnerVersion(1) << 40

    init(_ world: Simulation, index: Int, seed: UInt64) throws {
        let node = try #require(world.node(of: index))
        let identity = node.configuration.identity
        id = node.configuration.identity.node
        self.index = index
        meshID = node.configuration.token.meshID
        policyHash = try #require(node.configuration.token.policy).hash
        signer = NodeKeySigner(identity.signingKey)
        random = SeededGenerator(seed: seed)
        let own = node.configuration.identity.node
        ledger = LedgerState(
            configuration: LedgerConfiguration(meshID: meshID, signer: identity.signingKey) { _ in
                own
            }, restored: [], at: world.now)
        let certificate = try #require(
            node.ledgerEntries(bucket: nil).first { $0.id == .certificate(of: own) })
        // Behind layout, node id, static key and address; the highest serial wins.
        var forged = certificate.value
        forged[81] = MembershipRoles([.member, .voter]).rawValue
        forged[89] = 0xFF
        votersCertificate = forged
        var actions: [LedgerAction] = []
        try ledger.put(
            bucket: "members", key: "certificate", value: certificate.value, at: world.now,
            random: &random, into: &actions)
    }

    mutating func attack(_ victim: Int, in world: Simulation) {
        round += 1
        let bodies: [FoundingMessage.Body] = [
            .prepare(.claim, highBallot), .prepare(.outcome, highBallot),
            .promise(.claim, highBallot, accepted: nil),
            .accept(highBallot, .claim(Claim(owner: id))),
            .refusal(.claim, highBallot, .promisedHigher(highBallot)),
            .refusal(.outcome, highBallot, .held),
            .accepted(.claim, highBallot, valueHash: .zero, vote: random.bytes(64)),
            .hold(nonce: random.next(), milliseconds: .max), .holdGrant(nonce: random.next()),
            .holdRefusal(nonce: random.next()),
        ]
        for body in bodies {
            let generation = UInt32(random.next() % 3)
            let message = FoundingMessage(
                policyHash: policyHash, generation: generation, body: body)
            say(.founding, message.encode(meshID: meshID, signer: signer), to: victim, in: world)
        }
        forgeEntries(to: victim, in: world)
        var actions: [LedgerAction] = []
        if round.isMultiple(of: 40) {
            _ = try? ledger.put(
                bucket: "members", key: "certificate", value: votersCertificate, at: world.now,
                random: &random, into: &actions)
        }
        let key = "junk \(round % 60)"
        _ = try? ledger.put(
            bucket: "users", key: key, value: random.bytes(900), at: world.now, random: &random,
            into: &actions)
        for case .persist(let entry) in actions {
            rumor(entry.encode(), to: victim, in: world)
        }
        for kind in ControlFrame.Kind.allCases {
            say(kind, random.bytes(Int(random.next() % 300)), to: victim, in: world)
        }
    }

    /// What the victim holds of others, newer and under this member's signature.
    private mutating func forgeEntries(to victim: Int, in world: Simulation) {
        guard let node = world.node(of: victim) else { return }
        let others = node.ledgerEntries(bucket: nil).filter { $0.owner != id }
        guard let entry = others.randomElement(using: &random) else { return }
        var bytes = entry.encode()
        // Behind layout, flags, the two names and the owner (docs/protocols/ledger.md).
        let place = 4 + entry.bucket.utf8.count + entry.key.utf8.count + 32
        for (index, shift) in stride(from: UInt64(56), through: 0, by: -8).enumerated() {
            bytes[place + index] = UInt8(truncatingIfNeeded: Self.forgedVersion >> shift)
        }
        bytes.replaceSubrange((bytes.count - 64)..., with: sign(bytes.dropLast(64)))
        forged += 1
        rumor(bytes, to: victim, in: world)
    }

    private func sign(_ fields: ArraySlice<UInt8>) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(shortText: "edgevpn-swift ledger entry 1")
        writer.write(raw: meshID)
        writer.write(raw: Array(fields))
        return signer.sign(writer.bytes)
    }

    private mutating func rumor(_ entry: [UInt8], to victim: Int, in world: Simulation) {
        var writer = ByteWriter()
        // docs/protocols/ledger.md
        writer.write(UInt8(6))
        writer.write(long: entry)
        say(.ledger, writer.bytes, to: victim, in: world)
    }

    private var highBallot: Ballot {
        Ballot(round: Ballot.roundLimit - UInt32(round % 1_000), node: id)
    }

    private mutating func say(
        _ kind: ControlFrame.Kind, _ body: [UInt8], to victim: Int, in world: Simulation
    ) {
        said += 1
        world.say(
            ControlFrame(kind: kind, requestID: UInt32(said), body: body), as: index, to: victim)
    }
}
