import ClusterPlan
import Consensus
import Cryptography
import MeshBase
import MeshNode

/// Feeds the founding log of a real node to the same cores, and compares what they want and how
/// they stand with what the node wrote, up to the first difference.
package struct NodeLogReplay {
    /// The first line that would be another one today.
    package struct Difference: Hashable, Sendable {
        /// From 1.
        package var line: Int
        package var written: String
        package var replayed: String
    }

    /// What the node did, in words.
    package private(set) var story: [String] = []
    package private(set) var steps = 0
    package private(set) var difference: Difference?
    /// The log reached its bound, and the node went on without it.
    package private(set) var isFull = false
    /// The rule of the founding that the node saw broken.
    package private(set) var violation: String?

    private var founding: Founding
    private var cluster: ClusterCoordinator
    private let signer = ReplayedSigner()
    private let start: BootInstant
    private var now: BootInstant
    private var step: Step?
    private var told: (founding: FoundingView.Phase, cluster: ClusterView.Phase)
    private var hostnames: [NodeID: String] = [:]

    /// The lines of one step as they were written, with their numbers.
    private struct Step {
        var line: Int
        var time: BootInstant
        var seed: UInt64
        var input: LoggedInput
        var signatures: [[UInt8]] = []
        var outcome: [(line: Int, text: Substring)] = []
    }

    /// Whether a text is such a log.
    package static func recognises(_ text: String) -> Bool {
        text.hasPrefix(LogHeader.title + "\n")
    }

    /// Plays a log, at most `steps` of it.
    ///
    /// - Throws: the line that is none of such a log.
    package init(_ text: String, steps limit: Int = .max) throws(FoundingLogProblem) {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        // What stands behind the last line break was cut off by a crash.
        lines.removeLast()
        let header: LogHeader
        do throws(LogProblem) {
            header = try LogHeader(lines.dropFirst().prefix(3))
        } catch {
            throw FoundingLogProblem(line: 1)
        }
        var configuration = header.founding
        configuration.rules.checksItself = false
        founding = Founding(
            configuration: configuration, restoring: header.record, at: header.start,
            signer: signer)
        cluster = ClusterCoordinator(configuration: header.cluster)
        start = header.start
        now = header.start
        hostnames[header.cluster.node] = header.cluster.hostname
        told = (founding.standing.phase, cluster.view.phase)
        for (index, line) in lines.enumerated().dropFirst(4) {
            guard steps < limit, difference == nil, violation == nil else { break }
            do throws(LogProblem) {
                try read(line, number: index + 1)
            } catch {
                throw FoundingLogProblem(line: index + 1)
            }
        }
    }

    /// How the node stands at the end.
    package var standing: [String] {
        let (phase, reason) = founding.standing
        let view = cluster.view
        return [
            "  founding: \(phase), generation \(founding.generation): \(reason)",
            "  datastore: \(view.phase)\(view.reason.isEmpty ? "" : ": \(view.reason)")",
        ]
    }

    private mutating func read(_ line: Substring, number: Int) throws(LogProblem) {
        switch line.first {
        case nil, "#": return
        case "+":
            var words = LogWords(line.dropFirst(2))
            let signature = try words.bytes()
            step?.signatures.append(signature)
        case ">", "!": step?.outcome.append((number, line))
        case "=":
            guard var step else { throw LogProblem() }
            step.outcome.append((number, line))
            self.step = nil
            play(step)
        default:
            guard step == nil else { throw LogProblem() }
            if line == "full" {
                isFull = true
                return
            }
            var words = LogWords(line)
            let time = try words.instant()
            let seed: UInt64 = try words.number()
            guard time >= now else { throw LogProblem() }
            step = Step(line: number, time: time, seed: seed, input: try LoggedInput(&words))
        }
    }

    private mutating func play(_ step: Step) {
        now = step.time
        steps += 1
        signer.load(step.signatures)
        var random = SeededGenerator(seed: step.seed)
        var outcome: [String]
        var state = Fingerprint()
        switch step.input {
        case .founding(let input):
            tell(input)
            var actions: [FoundingAction] = []
            var refusal: FoundingRefusal?
            do throws(FoundingRefusal) {
                try founding.take(input, at: now, random: &random, into: &actions)
            } catch {
                refusal = error
            }
            violation = founding.brokenInvariant
            founding.fingerprint(into: &state)
            outcome = actions.map { "> \($0.logText)" }
            if let refusal { outcome.append(NodeLogText.refusal(refusal.description)) }
            for action in actions { tell(action) }
        case .summary:
            outcome = feedCluster(.founding(FoundingSummary(founding)), &random, &state)
        case .cluster(let input):
            tell(input)
            outcome = feedCluster(input, &random, &state)
        }
        outcome.append(NodeLogText.state(state))
        compare(step, outcome)
        tellPhases()
    }

    private mutating func feedCluster(
        _ input: ClusterInput, _ random: inout SeededGenerator, _ state: inout Fingerprint
    ) -> [String] {
        var actions: [ClusterAction] = []
        var refusal: ClusterRefusal?
        // The planner asks for no time of day.
        let now = Now(boot: now, wall: WallTime(seconds: 0))
        do throws(ClusterRefusal) {
            try cluster.take(input, at: now, random: &random, into: &actions)
        } catch {
            refusal = error
        }
        cluster.withoutSecrets.fingerprint(into: &state)
        for action in actions { tell(action) }
        return actions.map { "> \($0.logText)" }
            + (refusal.map { [NodeLogText.refusal($0.text)] } ?? [])
    }

    private mutating func compare(_ step: Step, _ outcome: [String]) {
        for (index, written) in step.outcome.enumerated() {
            let replayed = index < outcome.count ? outcome[index] : "nothing more"
            guard written.text != replayed else { continue }
            difference = Difference(
                line: written.line, written: String(written.text), replayed: replayed)
            return
        }
        if let further = outcome.dropFirst(step.outcome.count).first {
            difference = Difference(
                line: step.outcome.last?.line ?? step.line, written: "nothing more",
                replayed: further)
        }
    }
}

// MARK: - In words

extension NodeLogReplay {
    private mutating func tell(_ text: String) {
        let milliseconds = (now - start).clampedNanoseconds / 1_000_000
        let fraction = "\(milliseconds % 1_000 + 1_000)".dropFirst()
        story.append("\(milliseconds / 1_000).\(fraction) s: \(text)")
    }

    private func name(_ node: NodeID) -> String { hostnames[node] ?? node.short }

    private mutating func tellPhases() {
        let (phase, reason) = founding.standing
        if phase != told.founding {
            told.founding = phase
            tell("the founding is \(phase): \(reason)")
        }
        let view = cluster.view
        if view.phase != told.cluster {
            told.cluster = view.phase
            tell(
                "the datastore here is \(view.phase)\(view.reason.isEmpty ? "" : ": ")\(view.reason)"
            )
        }
    }

    private mutating func tell(_ input: FoundingInput) {
        switch input {
        case .voterSeen(let voter): tell("\(name(voter)) is a voter")
        case .reachable(let nodes):
            tell("it can talk to " + (nodes.isEmpty ? "nobody" : list(nodes)))
        case .operatorInit: tell("an operator says `cluster init`")
        case .operatorTakeover: tell("an operator says `cluster takeover`")
        case .operatorReset: tell("an operator says `cluster reset`")
        case .message, .certificate, .reset, .datastoreReady, .datastoreFailed, .datastoreFenced,
            .timeout:
            break
        }
    }

    private func list(_ nodes: [NodeID]) -> String {
        nodes.map { name($0) }.joined(separator: ", ")
    }

    private mutating func tell(_ action: FoundingAction) {
        switch action {
        case .startDatastore(let generation, _): tell("it may start generation \(generation)")
        case .stopDatastore(let reason): tell("its datastore must stop: \(reason)")
        case .fenceDatastore(let generation):
            tell("the data of generation \(generation) must go aside")
        case .decided(let certificate): tell("decided: " + words(certificate))
        case .reset(let reset): tell("a reset begins generation \(reset.generation)")
        case .alarm(let text): tell("ALARM: \(text)")
        case .persist, .send, .voterUnknown, .dropped: break
        }
    }

    private func words(_ certificate: DecisionCertificate) -> String {
        let statement = certificate.statement
        let generation = "generation \(statement.generation)"
        let what =
            switch statement.value {
            case .claim(let claim): "\(name(claim.owner)) may found \(generation)"
            case .outcome(.ready(let owner, _, _)): "\(generation) of \(name(owner)) is ready"
            case .outcome(.abandoned(let node)):
                "\(generation) is abandoned, proposed by \(name(node))"
            }
        return "\(what) (\(certificate.votes.count) votes)"
    }

    private mutating func tell(_ input: ClusterInput) {
        switch input {
        case .peers(let peers):
            for peer in peers { hostnames[peer.id] = peer.hostname }
        case .report(.observed), .founding, .fact, .message, .timeout: break
        case .report(let report): tell("the host: " + NodeLogText.words(report))
        case .leave: tell("an operator says `cluster leave`")
        case .remove(let machine): tell("an operator says `cluster remove \(machine)`")
        }
    }

    private mutating func tell(_ action: ClusterAction) {
        switch action {
        case .host(.probe), .send, .publish, .dropped: break
        case .host(let command): tell("to the host: " + NodeLogText.words(command))
        case .foundingReady: tell("its datastore works")
        case .foundingFailed(let reason): tell("its datastore did not start: \(reason)")
        case .alarm(let text): tell("ALARM: \(text)")
        }
    }
}

/// Gives back the signatures that a node made, one after the other; its key is not needed.
private final class ReplayedSigner: FoundingSigner, @unchecked Sendable {
    /// Touched only by the replay that owns it.
    private var signatures: ArraySlice<[UInt8]> = []

    func load(_ signatures: [[UInt8]]) {
        self.signatures = signatures[...]
    }

    /// Where the node signed nothing: no signature.
    func sign(_ bytes: [UInt8]) -> [UInt8] {
        signatures.popFirst() ?? Array(repeating: 0, count: 64)
    }

    func verify(_ signature: [UInt8], _ bytes: [UInt8], by node: NodeID) -> Bool {
        Signature(signature)?.isValid(for: bytes, by: node) ?? false
    }
}
