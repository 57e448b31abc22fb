// Every pair of sites, each with a public member as their only acquaintance:
//
//     anna --- site of some kind ---+
//                                   +--- core --- rosa, public
//     bert --- site of some kind ---+
//
// One pass over all pairs and twenty tries of the named ones are part of the tests. Twenty of all:
//
//     .scripts/matrix all 20

import Foundation
import Testing

extension MeshTests {
    @Suite struct MatrixTests {
        static let kinds: [SiteKind] = [
            .open, .firewall, .fullCone, .addressRestricted, .portRestricted, .symmetricRandom,
            .symmetricSequential, .doubleNAT, .noUDP,
        ]

        struct Pair: Hashable, Sendable, CustomTestStringConvertible {
            var first: SiteKind
            var second: SiteKind
            var testDescription: String { "\(first.rawValue) and \(second.rawValue)" }

            private static let filters: Set<SiteKind> = [.firewall, .portRestricted, .doubleNAT]
            private static let moves: Set<SiteKind> = [.symmetricRandom, .symmetricSequential]

            /// Whether packets can go directly: a symmetric NAT gives another port to each
            /// stranger, which the other end must not need to know.
            var isDirectInTheory: Bool {
                guard first != .noUDP, second != .noUDP else { return false }
                if Pair.moves.contains(first) {
                    return !Pair.filters.contains(second) && !Pair.moves.contains(second)
                }
                return !(Pair.moves.contains(second) && Pair.filters.contains(first))
            }

            /// Whether the port can be guessed, since it is counted up.
            var isDirectByGuessing: Bool {
                let both = [first, second]
                return both.contains(.symmetricSequential)
                    && both.contains { Pair.filters.contains($0) }
            }
        }

        /// Those that people have most, and those that are hardest of what is possible.
        static let named = [
            Pair(first: .portRestricted, second: .portRestricted),
            Pair(first: .open, second: .symmetricRandom),
            Pair(first: .fullCone, second: .symmetricRandom),
            Pair(first: .firewall, second: .doubleNAT),
            Pair(first: .addressRestricted, second: .symmetricSequential),
            Pair(first: .portRestricted, second: .symmetricSequential),
        ]

        static var pairs: [Pair] {
            guard ProcessInfo.processInfo.environment["MATRIX"] != "named" else { return named }
            let all = kinds.enumerated().flatMap { index, first in
                kinds[index...].map { Pair(first: first, second: $0) }
            }
            // The half of two processes that share the work.
            let (part, parts) = (
                setting("MATRIX_PART", default: 0), setting("MATRIX_PARTS", default: 1)
            )
            return all.indices.filter { $0 % parts == part }.map { all[$0] }
        }

        private struct Outcome {
            var path: String
            var talks: Duration
            var direct: Duration?
        }

        @Test(arguments: pairs) func everyPairTalks(_ pair: Pair) async throws {
            let isNamed = MatrixTests.named.contains(pair)
            let tries = setting("MATRIX_TRIES", default: isNamed ? 20 : 1)
            var outcomes: [Outcome] = []
            for _ in 0..<tries { outcomes.append(try await meet(pair)) }
            let directs = outcomes.compactMap(\.direct)
            print(
                "matrix: \(pair.first.rawValue) | \(pair.second.rawValue) | "
                    + "\(outcomes.map(\.path).max() ?? "-") | \(directs.count)/\(tries) | "
                    + "\(typical(outcomes.map(\.talks))) | \(typical(directs))")
            if pair.isDirectInTheory { #expect(directs.count * 100 >= tries * 95) }
            // Whoever cannot be direct says how packets go.
            if !pair.isDirectInTheory, !pair.isDirectByGuessing {
                #expect(outcomes.allSatisfy { ["relay", "tcp", "tls"].contains($0.path) })
            }
        }

        private func meet(_ pair: Pair) async throws -> Outcome {
            var outcome = Outcome(path: "none", talks: .zero, direct: nil)
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(pair.first, pair.second)
                let begin = ContinuousClock.now
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                outcome.talks = ContinuousClock.now - begin
                if pair.isDirectInTheory || pair.isDirectByGuessing {
                    do {
                        try await trio.anna.becomesDirect(to: "bert")
                        try await trio.bert.becomesDirect(to: "anna")
                        outcome.direct = ContinuousClock.now - begin
                    } catch is LabFailure {
                        // Counted, and judged with the others.
                    }
                }
                let peer = try await trio.anna.peer("bert")
                outcome.path = peer.via ?? peer.path ?? "none"
            }
            return outcome
        }

        /// The median, and in brackets the longest.
        private func typical(_ durations: [Duration]) -> String {
            let ordered = durations.sorted()
            guard let longest = ordered.last else { return "-" }
            func text(_ duration: Duration) -> String {
                "\((duration / .milliseconds(100)).rounded() / 10)"
            }
            return "\(text(ordered[ordered.count / 2])) s (\(text(longest)) s)"
        }
    }
}
