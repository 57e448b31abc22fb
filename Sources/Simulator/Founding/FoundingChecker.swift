import ClusterPlan
import Consensus
import MeshBase

/// Watches a world of foundings from outside and knows everything. The numbers of the rules are
/// those of docs/protocols/founding.md.
final class FoundingChecker {
    let course: FoundingCourse
    /// Numbers of identities with a voter's certificate.
    var voters: Set<Int> = []
    private(set) var violation: String?
    private(set) var generations: UInt32 = 1
    /// Founders and members whose disks are gone or went back.
    private(set) var hurt: Set<NodeID> = []
    private var claims: [UInt32: NodeID] = [:]
    private var outcomes: [UInt32: RegisterValue] = [:]
    /// Generations that began with a reset.
    private var resets: Set<UInt32> = []
    /// Who is known to have accepted what, from what is on the disks.
    private var acceptances: [VoteStatement: Set<Int>] = [:]
    private var cloned: Set<Int> = []
    private var released: [ClusterIdentity: Int] = [:]

    init(course: FoundingCourse) { self.course = course }

    var hasHurtDisks: Bool { !hurt.isEmpty }

    /// More disks and identities were in play than the policy allows for: only alarms are promised.
    var isBeyondPromise: Bool {
        course.excess + course.diskLosses + course.rollbacks + course.clones
            > course.policy.diskLosses
    }

    /// More voters are present than there may ever be: nobody decides anything any more.
    var expectsNothing: Bool {
        course.policy.voterLimit + course.excess > course.policy.identityLimit
    }

    private func fail(_ text: String) {
        if violation == nil { violation = text }
    }

    /// A rule that the protocol promises only within its assumptions.
    private func failWithin(_ text: String) {
        if !isBeyondPromise { fail(text) }
    }

    // MARK: - What happens to machines

    func isLost(_ machine: FoundingMachine) { hurt.insert(machine.identity) }

    func isRolledBack(_ machine: FoundingMachine) { hurt.insert(machine.identity) }

    func isCloned(_ machine: FoundingMachine) {
        cloned.insert(machine.number)
        hurt.insert(machine.identity)
    }

    func isReset(to generation: UInt32) { resets.insert(generation) }

    // MARK: - Decisions

    func persisted(_ machine: FoundingMachine, in world: FoundingWorld) {
        guard let record = machine.disk.decoded else { return fail("a record does not decode") }
        // The machine may stop before it says so.
        if let reset = record.reset { isReset(to: reset.generation) }
        for register in [record.claim, record.outcome] {
            guard let accepted = register.acceptor.accepted else { continue }
            let statement = VoteStatement(
                generation: record.generation, ballot: accepted.ballot, value: accepted.value)
            guard acceptances[statement, default: []].insert(machine.number).inserted,
                acceptances[statement]?.count == course.policy.quorum
            else { continue }
            chosen(statement, in: world)
        }
    }

    func decided(_ certificate: DecisionCertificate, in world: FoundingWorld) {
        if course.rules.quorumOffset == 0 {
            let known = voters
            let isValid = certificate.isValid(
                meshID: FoundingWorld.meshID, policy: course.policy,
                signer: KeyedHashSigner(node: FoundingWorld.root),
                isVoter: { known.contains(FoundingWorld.number(of: $0)) })
            if !isValid { fail("I1: a node believes an invalid certificate") }
        }
        chosen(certificate.statement, in: world)
    }

    /// A value is chosen the moment a quorum has accepted it, whether anybody knows or not.
    private func chosen(_ statement: VoteStatement, in world: FoundingWorld) {
        let generation = statement.generation
        generations = max(generations, generation)
        switch statement.value {
        case .claim(let claim):
            if let known = claims[generation] {
                if known != claim.owner { failWithin("I1: two owners of claim[\(generation)]") }
                return
            }
            claims[generation] = claim.owner
            if generation > 1, !resets.contains(generation),
                outcomes[generation - 1]?.isAbandoned != true
            {
                failWithin("I4: claim[\(generation)] although \(generation - 1) is not abandoned")
            }
        case .outcome(let outcome):
            if let known = outcomes[generation] {
                if known != statement.value {
                    failWithin("I1: two values in outcome[\(generation)]")
                }
                return
            }
            outcomes[generation] = statement.value
            switch outcome {
            case .ready(let owner, _, _):
                if claims[generation] != owner {
                    failWithin("I3: ready under an owner that has no claim")
                }
            case .abandoned:
                let obeys = course.rules.obeysDeadline
                for machine in world.machines
                where machine.runsUncertified(at: world.now, obeysDeadline: obeys) == generation {
                    failWithin(
                        "I7: generation \(generation) is abandoned while \(machine.name) runs it")
                }
            }
        }
        checkFinality(of: generation)
    }

    /// After ready nothing is decided, except in a generation that the mesh root began.
    private func checkFinality(of generation: UInt32) {
        let former = outcomes.filter { $0.value.isReady && $0.key < generation }.keys.max()
        guard let former, !resets.contains(where: { $0 > former && $0 <= generation }) else {
            return
        }
        failWithin("I5: generation \(generation) goes on after \(former) was ready")
    }

    // MARK: - Datastores

    func starts(
        _ generation: UInt32, on machine: FoundingMachine, in world: FoundingWorld
    ) {
        if claims[generation] != machine.identity {
            failWithin("I2: \(machine.name) starts a datastore without the claim")
        }
        if outcomes[generation]?.isAbandoned == true {
            failWithin("I7: a datastore starts after its generation was abandoned")
        }
        let former = outcomes.filter { $0.value.isReady && $0.key != generation }.keys
        for ready in former where !resets.contains(where: { $0 > min(ready, generation) }) {
            failWithin("I5: a datastore starts beside the ready cluster of \(ready)")
        }
        for other in world.machines
        where other !== machine
            && other.runsUncertified(
                at: world.now, obeysDeadline: course.rules.obeysDeadline) != nil
        {
            // Two machines with one key have the claim both; one datastore becomes ready.
            if other.number == machine.number, cloned.contains(machine.number) { continue }
            failWithin("I7: \(other.name) and \(machine.name) run two datastores at once")
        }
    }

    func releases(
        _ cluster: ClusterIdentity, on machine: FoundingMachine, in world: FoundingWorld
    ) {
        guard case .outcome(.ready(_, cluster.caHash, _))? = outcome(cluster.generation) else {
            return failWithin("I3: \(machine.name) releases what is not ready")
        }
        released[cluster] = machine.index
        let rivals = released.keys.filter { other in
            other != cluster
                && !resets.contains {
                    $0 > min(other.generation, cluster.generation)
                        && $0 <= max(other.generation, cluster.generation)
                }
        }
        if !rivals.isEmpty { failWithin("I5: two clusters were founded") }
        let members = world.datastores.clusters[cluster]?.members.count ?? 0
        if case .founding = machine.disk.data, members > 1,
            machine.releasesBesideOthers
        {
            failWithin("\(machine.name) starts the cluster anew from before others joined it")
        }
    }

    func admits(_ cluster: ClusterIdentity, on machine: FoundingMachine) {
        if released[cluster] == nil { failWithin("I3: \(machine.name) admits before READY") }
    }

    func restarts(_ machine: FoundingMachine, in world: FoundingWorld) {
        if case .founding = machine.disk.data {
            fail("I3: \(machine.name) starts an uncertified datastore as if it were ready")
        }
    }

    private func outcome(_ generation: UInt32) -> RegisterValue? { outcomes[generation] }

    // MARK: - Messages

    func sends(_ bytes: [UInt8], _ wire: FoundingWire, from machine: FoundingMachine) {
        guard bytes.count <= FoundingMessage.encodedLimit else {
            return fail("a message of \(bytes.count) bytes")
        }
        // Promises and votes; the kinds are those of the wire format.
        guard wire == .founding, course.checksDurability, bytes[1] == 4 || bytes[1] == 6,
            let message = try? FoundingMessage(decoding: bytes)
        else { return }
        if course.policy.identityLimit < machine.disk.decoded?.voterCount ?? 0 {
            fail("I8: \(machine.name) votes and has seen too many voters")
        }
        guard let record = machine.disk.decoded, record.generation == message.generation else {
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

    // MARK: - The end

    func finish(_ world: FoundingWorld) {
        if resets.isEmpty, !isBeyondPromise, hurt.isEmpty,
            let violation = world.datastores.violations.first
        {
            fail(violation)
        }
        if course.policy.mode == .voters {
            for machine in world.machines where machine.part == .growth {
                if case .server = machine.disk.data {
                    fail("I2: \(machine.name) is a server, and nobody named it a voter")
                }
            }
        }
        let present = world.machines.filter { !$0.isClone }
        if expectsNothing {
            for machine in present where machine.founding?.view.alarm == nil {
                fail("I8: \(machine.name) raises no alarm about too many voters")
            }
            return
        }
        guard !isBeyondPromise else { return }
        guard world.decidedAt != nil else {
            if world.canDecide { fail("liveness: no decision within a minute after healing") }
            return
        }
        if let decided = world.decidedAt, decided - world.healedAt > FoundingCourse.decisionLimit {
            fail("liveness: the decision took more than a minute")
        }
        if !world.isComplete, !world.needsAPerson {
            fail("liveness: the datastore does not get all its members")
        }
    }
}
