/// How far a campaign of seeds has come, as lines of text that a later run goes on from.
///
///     KIND FIRST COUNT EVENTS DECIDED WHOLE VIOLATIONS [SEED...]
///
/// One line for each part that is done; the seeds at its end are those that broke a rule.
package struct SeedProgress: Hashable, Sendable {
    package let kind: WorldKind
    package private(set) var next: UInt64
    package private(set) var count: UInt64 = 0
    package private(set) var events: UInt64 = 0
    package private(set) var decided: UInt64 = 0
    package private(set) var whole: UInt64 = 0
    package private(set) var broken: [UInt64] = []

    package init(kind: WorldKind, first: UInt64) {
        self.kind = kind
        next = first
    }

    /// Goes on from what an earlier run wrote; `nil` when a line is not of this campaign. A last line
    /// without its end was cut off while it was written, and its part is done again.
    package init?(kind: WorldKind, first: UInt64, text: String) {
        self.init(kind: kind, first: first)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            let words = line.split(separator: " ")
            let numbers = words.dropFirst().compactMap { UInt64($0) }
            guard words.count >= 7, words[0] == kind.rawValue, numbers.count == words.count - 1,
                numbers[0] == next, numbers[5] == UInt64(numbers.count - 6)
            else { return nil }
            next += numbers[1]
            count += numbers[1]
            events += numbers[2]
            decided += numbers[3]
            whole += numbers[4]
            broken += numbers[6...]
        }
    }

    /// Adds a part that was run from ``next`` on; returns its line.
    package mutating func add(_ outcomes: [WorldOutcome]) -> String {
        let first = next
        let broken = outcomes.filter { $0.violation != nil }.map(\.seed)
        let numbers = [
            first, UInt64(outcomes.count), UInt64(outcomes.reduce(0) { $0 + $1.events }),
            UInt64(outcomes.count { $0.isDecided }), UInt64(outcomes.count { $0.isWhole }),
            UInt64(broken.count),
        ]
        next += numbers[1]
        count += numbers[1]
        events += numbers[2]
        decided += numbers[3]
        whole += numbers[4]
        self.broken += broken
        return ([kind.rawValue] + (numbers + broken).map(String.init)).joined(separator: " ")
    }
}
