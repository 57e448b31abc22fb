import ClusterPlan
import Consensus
import Cryptography
import MeshBase

/// Writes down every input of the founding registers and of the planner with what came of it, so
/// that the simulator can feed the same to the same cores.
///
///     NANOSECONDS SEED founding|cluster INPUT WORDS...     one step
///     + SIGNATURE                                          what the node signed in it, in order
///     > ACTION WORDS...                                    what the core wanted
///     ! TEXT                                               why an operator's wish was not granted
///     = FINGERPRINT                                        the core's state after it
///
/// With a log each step has a random generator of its own, and its seed is written: what a reader
/// can compute from it was drawn in that step and is on the wire. Signatures are public, the key is
/// not needed again. Sealed grants are zeros of the same length.
struct NodeLog: Sendable {
    let signer: WitnessedSigner

    /// The lines of one step.
    func lines(
        _ input: LoggedInput, seed: UInt64, actions: [String], refusal: String?,
        state: Fingerprint,
        at now: Now
    ) -> String {
        var lines = ["\(now.boot.nanoseconds) \(seed) \(input.text)"]
        lines += signer.takeSignatures().map { "+ \(word($0))" }
        lines += actions.map { "> \($0)" }
        if let refusal { lines.append(NodeLogText.refusal(refusal)) }
        lines.append(NodeLogText.state(state))
        return lines.joined(separator: "\n") + "\n"
    }
}

/// Lines of a founding log, for those who write it and those who compare with it.
package enum NodeLogText {
    package static func refusal(_ text: String) -> String { "! \(quoted(text))" }

    package static func state(_ state: Fingerprint) -> String {
        "= \(String(state.value, radix: 16))"
    }

    /// For people: the first words, without what only programs compare.
    package static func words(_ report: HostReport) -> String { plain(report.text) }
    package static func words(_ command: HostCommand) -> String { plain(command.logText) }

    /// Names and reasons as they are, and no bytes.
    private static func plain(_ line: String) -> String {
        line.split(separator: " " as Character).compactMap { word in
            if word.first == "x", word.count > 8 { return nil }
            guard word.first == "\"" else { return word.count > 32 ? nil : String(word) }
            var words = LogWords(word)
            return try? words.text()
        }.joined(separator: " ")
    }
}

/// Signs and remembers what it signed until somebody takes it.
final class WitnessedSigner: FoundingSigner, @unchecked Sendable {
    private let signer: NodeKeySigner
    /// Touched only while the node that owns it is stepped, by one at a time.
    private var signatures: [[UInt8]] = []

    init(_ signer: NodeKeySigner) {
        self.signer = signer
    }

    func sign(_ bytes: [UInt8]) -> [UInt8] {
        let signature = signer.sign(bytes)
        signatures.append(signature)
        return signature
    }

    func verify(_ signature: [UInt8], _ bytes: [UInt8], by node: NodeID) -> Bool {
        signer.verify(signature, bytes, by: node)
    }

    func takeSignatures() -> [[UInt8]] {
        defer { signatures = [] }
        return signatures
    }
}

extension Node {
    static func foundingSigner(
        _ configuration: NodeConfiguration
    ) -> (signer: any FoundingSigner, log: NodeLog?) {
        let signer = NodeKeySigner(configuration.identity.signingKey)
        guard configuration.keepsFoundingLog else { return (signer, nil) }
        let witness = WitnessedSigner(signer)
        return (witness, NodeLog(signer: witness))
    }

    func beginLog(_ record: [UInt8]?, at now: Now, into actions: inout [NodeAction]) {
        guard log != nil else { return }
        let header = LogHeader(
            founding: Node.foundingConfiguration(configuration), cluster: cluster.configuration,
            start: now.boot, record: record, wall: now.wall.seconds)
        actions.append(.record(header.lines.joined(separator: "\n") + "\n"))
    }

    mutating func stepFounding(
        _ input: FoundingInput, at now: Now, into results: inout [FoundingAction],
        recordingInto actions: inout [NodeAction]
    ) -> FoundingRefusal? {
        let seed = log == nil ? 0 : random.next()
        var refusal: FoundingRefusal?
        do throws(FoundingRefusal) {
            if log == nil {
                try founding.take(input, at: now.boot, random: &random, into: &results)
            } else {
                var own = SeededGenerator(seed: seed)
                try founding.take(input, at: now.boot, random: &own, into: &results)
            }
        } catch {
            refusal = error
        }
        if let log {
            var state = Fingerprint()
            founding.fingerprint(into: &state)
            actions.append(
                .record(
                    log.lines(
                        .founding(input), seed: seed, actions: results.map(\.logText),
                        refusal: refusal?.description, state: state, at: now)))
        }
        return refusal
    }

    mutating func stepCluster(
        _ input: ClusterInput, at now: Now, into results: inout [ClusterAction],
        recordingInto actions: inout [NodeAction]
    ) -> Result<String?, ClusterRefusal> {
        let seed = log == nil ? 0 : random.next()
        var outcome: Result<String?, ClusterRefusal>
        do throws(ClusterRefusal) {
            if log == nil {
                outcome = .success(
                    try cluster.take(input, at: now, random: &random, into: &results))
            } else {
                var own = SeededGenerator(seed: seed)
                outcome = .success(
                    try cluster.take(input, at: now, random: &own, into: &results))
            }
        } catch {
            outcome = .failure(error)
        }
        if let log {
            var state = Fingerprint()
            cluster.withoutSecrets.fingerprint(into: &state)
            let logged: LoggedInput =
                if case .founding = input { .summary } else { .cluster(input.withoutSecrets) }
            var refusal: String?
            if case .failure(let problem) = outcome { refusal = problem.text }
            actions.append(
                .record(
                    log.lines(
                        logged, seed: seed, actions: results.map(\.logText), refusal: refusal,
                        state: state, at: now)))
        }
        return outcome
    }
}
