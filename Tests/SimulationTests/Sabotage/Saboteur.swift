import Consensus
import Cryptography
import Ledger
import Membership
import MeshBase
import MeshNode

/// What a member with one valid certificate and without a vote can say: signed founding messages of
/// every kind, with ballots as high as they get, a flood of signed entries, entries in others' names,
/// a certificate that it made a voter's itself, what it heard from others once more, and rubbish.
///
/// It makes frames and sends nothing: the simulated world and a real process carry the same ones.
package struct Saboteur {
    package let id: NodeID
    private let meshID: [UInt8]
    private let policyHash: Bytes32
    private let signer: NodeKeySigner
    private var ledger: LedgerState
    private var random: SeededGenerator
    /// This member's certificate with a voter's roles written into it.
    private let votersCertificate: [UInt8]
    private var round = 0
    /// Of others, to be said again to somebody else.
    private var heard: [ControlFrame] = []
    package private(set) var said = 0
    /// Entries in others' names.
    package private(set) var forged = 0
    /// Frames of others, said again.
    package private(set) var replayed = 0

    /// Honest owners' counters do not come this far.
    package static let forgedVersion = OwnerVersion(1) << 40
    /// Enough that grants and votes stay in it for a while.
    private static let heardLimit = 256

    /// - Parameter configuration: of the member whose keys it has; its token has a policy.
    package init(
        _ configuration: NodeConfiguration, seed: UInt64, at now: BootInstant
    ) throws {
        let identity = configuration.identity
        let own = identity.node
        id = own
        meshID = configuration.token.meshID
        guard let policy = configuration.token.policy else { throw MissingPolicy() }
        policyHash = policy.hash
        signer = NodeKeySigner(identity.signingKey)
        random = SeededGenerator(seed: seed)
        ledger = LedgerState(
            configuration: LedgerConfiguration(meshID: meshID, signer: identity.signingKey) { _ in
                own
            }, restored: [], at: now)
        // Behind layout, node id, static key and address; the highest serial wins.
        let certificate = configuration.certificate.encode()
        var forged = certificate
        forged[81] = MembershipRoles([.member, .voter]).rawValue
        forged[89] = 0xFF
        votersCertificate = forged
        var actions: [LedgerAction] = []
        try ledger.put(
            bucket: "members", key: "certificate", value: certificate, at: now, random: &random,
            into: &actions)
    }

    package struct MissingPolicy: Error {}

    /// Keeps what another member said, for ``round(entries:at:)``.
    package mutating func hear(_ frame: ControlFrame) {
        if heard.count == Self.heardLimit {
            heard.remove(at: Int(random.next() % UInt64(heard.count)))
        }
        heard.append(frame)
    }

    /// One round against one victim.
    ///
    /// - Parameter entries: of the ledger, as far as this member knows it.
    package mutating func round(entries: [LedgerEntry], at now: BootInstant) -> [ControlFrame] {
        round += 1
        var frames: [ControlFrame] = []
        foundingMessages(into: &frames)
        forgeEntry(of: entries, into: &frames)
        writeEntries(at: now, into: &frames)
        for _ in 0..<min(4, heard.count) {
            frames.append(heard[Int(random.next() % UInt64(heard.count))])
            replayed += 1
        }
        for kind in ControlFrame.Kind.allCases {
            frames.append(frame(kind, random.bytes(Int(random.next() % 300))))
        }
        said += frames.count
        return frames
    }

    private mutating func foundingMessages(into frames: inout [ControlFrame]) {
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
            frames.append(frame(.founding, message.encode(meshID: meshID, signer: signer)))
        }
    }

    /// What somebody else wrote, newer and under this member's signature.
    private mutating func forgeEntry(
        of entries: [LedgerEntry], into frames: inout [ControlFrame]
    ) {
        let others = entries.filter { $0.owner != id }
        guard let entry = others.randomElement(using: &random) else { return }
        var bytes = entry.encode()
        // Behind layout, flags, the two names and the owner (docs/protocols/ledger.md).
        let place = 4 + entry.bucket.utf8.count + entry.key.utf8.count + 32
        for (index, shift) in stride(from: UInt64(56), through: 0, by: -8).enumerated() {
            bytes[place + index] = UInt8(truncatingIfNeeded: Self.forgedVersion >> shift)
        }
        bytes.replaceSubrange((bytes.count - 64)..., with: sign(bytes.dropLast(64)))
        forged += 1
        frames.append(rumor(bytes))
    }

    /// Its own entries, many and large, and the certificate that it wrote itself.
    private mutating func writeEntries(at now: BootInstant, into frames: inout [ControlFrame]) {
        var actions: [LedgerAction] = []
        if round.isMultiple(of: 40) {
            _ = try? ledger.put(
                bucket: "members", key: "certificate", value: votersCertificate, at: now,
                random: &random, into: &actions)
        }
        _ = try? ledger.put(
            bucket: "users", key: "junk \(round % 60)", value: random.bytes(900), at: now,
            random: &random, into: &actions)
        for case .persist(let entry) in actions { frames.append(rumor(entry.encode())) }
    }

    private func sign(_ fields: ArraySlice<UInt8>) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(shortText: "edgevpn-swift ledger entry 1")
        writer.write(raw: meshID)
        writer.write(raw: Array(fields))
        return signer.sign(writer.bytes)
    }

    private func rumor(_ entry: [UInt8]) -> ControlFrame {
        var writer = ByteWriter()
        // docs/protocols/ledger.md
        writer.write(UInt8(6))
        writer.write(long: entry)
        return frame(.ledger, writer.bytes)
    }

    private func frame(_ kind: ControlFrame.Kind, _ body: [UInt8]) -> ControlFrame {
        ControlFrame(kind: kind, requestID: UInt32(truncatingIfNeeded: said), body: body)
    }

    private var highBallot: Ballot {
        Ballot(round: Ballot.roundLimit - UInt32(round % 1_000), node: id)
    }
}
