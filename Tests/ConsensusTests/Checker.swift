import Consensus
import MeshBase

/// Watches a simulation from outside and knows everything. Numbers are those of
/// docs/protocols/founding.md.
struct Checker {
    let course: Course
    var voters: Set<NodeID> = []
    var alarms: [String] = []
    private(set) var violation: String?
    private(set) var isReady = false
    private(set) var hasRecovered = true
    private(set) var lastClaimOwner: NodeID?
    private(set) var generations: UInt32 = 1
    private var claims: [UInt32: RegisterValue] = [:]
    private var outcomes: [UInt32: RegisterValue] = [:]
    /// Who is known to have accepted what, from what is on the disks.
    private var acceptances: [VoteStatement: Set<NodeID>] = [:]

    init(course: Course) { self.course = course }

    private mutating func fail(_ text: String) {
        if violation == nil { violation = text }
    }

    mutating func persisted(_ bytes: [UInt8], by node: NodeID, in simulation: Simulation) {
        guard let record = try? FoundingRecord(decoding: bytes) else {
            return fail("a record does not decode")
        }
        for register in [record.claim, record.outcome] {
            guard let accepted = register.acceptor.accepted else { continue }
            let statement = VoteStatement(
                generation: record.generation, ballot: accepted.ballot, value: accepted.value)
            guard acceptances[statement, default: []].insert(node).inserted,
                acceptances[statement]?.count == course.policy.quorum
            else { continue }
            chosen(statement, in: simulation)
        }
    }

    mutating func decided(_ certificate: DecisionCertificate, in simulation: Simulation) {
        if course.rules.quorumOffset == 0 {
            let known = voters
            let isValid = certificate.isValid(
                meshID: testMesh, policy: course.policy,
                signer: KeyedHashSigner(node: nodeID(0)), isVoter: { known.contains($0) })
            if !isValid { fail("I1: a node believes an invalid certificate") }
        }
        chosen(certificate.statement, in: simulation)
    }

    /// A value is chosen the moment a quorum has accepted it, whether anybody knows or not.
    private mutating func chosen(_ statement: VoteStatement, in simulation: Simulation) {
        let generation = statement.generation
        generations = max(generations, generation)
        let known = statement.register == .claim ? claims[generation] : outcomes[generation]
        if let known {
            if known != statement.value {
                fail("I1: two values in \(statement.register)[\(generation)]")
            }
            return
        }
        if let ready = outcomes.first(where: { $0.value.isReady }), generation > ready.key {
            fail("I5: something is decided after generation \(ready.key) was ready")
        }
        switch statement.value {
        case .claim(let claim):
            claims[generation] = statement.value
            lastClaimOwner = claim.owner
            if generation > 1, outcomes[generation - 1]?.isAbandoned != true {
                fail("I4: claim[\(generation)] although \(generation - 1) is not abandoned")
            }
        case .outcome(.ready(let owner, _, _)):
            outcomes[generation] = statement.value
            isReady = true
            if claims[generation] != .claim(Claim(owner: owner)) {
                fail("I3: ready under an owner that has no claim")
            }
        case .outcome(.abandoned):
            outcomes[generation] = statement.value
            if simulation.machines.contains(where: { $0.running == generation }) {
                fail("I7: generation \(generation) is abandoned while its datastore runs")
            }
        }
    }

    mutating func starts(_ generation: UInt32, on machine: Int, in simulation: Simulation) {
        let owner = simulation.machines[machine].identity
        if claims[generation] != .claim(Claim(owner: owner)) {
            fail("I2: a node starts a datastore without the claim")
        }
        if outcomes[generation]?.isAbandoned == true {
            fail("I7: a datastore starts after its generation was abandoned")
        }
        if outcomes.contains(where: { $0.key != generation && $0.value.isReady }) {
            fail("I5: a datastore starts beside a ready cluster")
        }
        for other in simulation.machines.indices where other != machine {
            if simulation.machines[other].running != nil {
                fail("I7: two datastores run at the same time")
            }
        }
    }

    mutating func sends(_ bytes: [UInt8], from machine: Simulation.Machine) {
        guard bytes.count <= 1_200 else { return fail("a message of \(bytes.count) bytes") }
        guard course.checksDurability, bytes[1] == 4 || bytes[1] == 6,
            let message = try? FoundingMessage(decoding: bytes)
        else { return }
        let record = machine.disk.flatMap { try? FoundingRecord(decoding: $0) }
        guard let record, record.generation == message.generation else {
            return fail("I6: a vote leaves before the record is on disk")
        }
        switch message.body {
        case .promise(let register, let ballot, let accepted):
            let acceptor = (register == .claim ? record.claim : record.outcome).acceptor
            if acceptor.promised != ballot || acceptor.accepted != accepted {
                fail("I6: a promise leaves before it is on disk")
            }
        case .accepted(let register, let ballot, let hash, _):
            let acceptor = (register == .claim ? record.claim : record.outcome).acceptor
            if acceptor.accepted?.ballot != ballot || acceptor.accepted?.value.hash != hash {
                fail("I6: a vote leaves before it is on disk")
            }
        default: break
        }
    }

    /// After all faults are gone the mesh must come to its end.
    mutating func finish(_ simulation: Simulation) {
        guard violation == nil else { return }
        for machine in simulation.machines {
            guard let view = machine.founding?.view else { continue }
            if view.phase == .ready, !isReady { fail("I3: ready without a certified outcome") }
            if view.votersSeen.count > course.policy.identityLimit {
                fail("I8: more voters than the policy knows")
            }
        }
        hasRecovered = simulation.machines.allSatisfy { $0.founding?.view.phase == .ready }
    }
}
