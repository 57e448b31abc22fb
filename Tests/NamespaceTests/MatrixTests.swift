// Every pair of sites, each with a public member as their only acquaintance:
//
//     anna --- site of some kind ---+
//                                   +--- core --- rosa, public
//     bert --- site of some kind ---+
//
// One pass over a few pairs is part of the tests. The whole matrix:
//
//     MATRIX=all swift test -c release --filter MatrixTests

import Foundation
import Testing

extension MeshTests {
    @Suite struct MatrixTests {
        static let kinds: [SiteKind] = [
            .open, .firewall, .fullCone, .addressRestricted, .portRestricted, .symmetricRandom,
            .symmetricSequential, .doubleNAT,
        ]

        struct Pair: Sendable, CustomTestStringConvertible {
            var first: SiteKind
            var second: SiteKind
            var testDescription: String { "\(first.rawValue) and \(second.rawValue)" }

            /// Whether packets can go directly: a symmetric NAT gives another port to each
            /// stranger, which the other end must not need to know.
            var isDirectInTheory: Bool {
                let filters: Set<SiteKind> = [.firewall, .portRestricted, .doubleNAT]
                let moves: Set<SiteKind> = [.symmetricRandom, .symmetricSequential]
                if moves.contains(first) {
                    return !filters.contains(second) && !moves.contains(second)
                }
                return !(moves.contains(second) && filters.contains(first))
            }
        }

        static var pairs: [Pair] {
            guard ProcessInfo.processInfo.environment["MATRIX"] == "all" else {
                return [
                    Pair(first: .open, second: .symmetricRandom),
                    Pair(first: .fullCone, second: .symmetricRandom),
                    Pair(first: .firewall, second: .doubleNAT),
                    Pair(first: .addressRestricted, second: .symmetricSequential),
                ]
            }
            return kinds.enumerated().flatMap { index, first in
                kinds[index...].map { Pair(first: first, second: $0) }
            }
        }

        @Test(arguments: pairs) func everyPairTalks(_ pair: Pair) async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(pair.first, pair.second)
                let begin = ContinuousClock.now
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                let talks = ContinuousClock.now - begin
                if pair.isDirectInTheory {
                    try await trio.anna.becomesDirect(to: "bert")
                    try await trio.bert.becomesDirect(to: "anna")
                }
                let path = try await trio.anna.path(to: "bert") ?? "none"
                let direct = path == "direct" ? ContinuousClock.now - begin : nil
                let figures = [talks, direct].compactMap { $0 }.map {
                    "\(($0 / .milliseconds(1)).rounded()) ms"
                }
                print(
                    "matrix: \(pair.testDescription): \(path), \(figures.joined(separator: ", "))")
            }
        }
    }
}
