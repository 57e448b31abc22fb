import MeshBase

/// The events of one run as text, to be read, changed by hand and played again.
///
///     founding-world 1 SEED
///     NANOSECONDS [!ACTIONS+|-] EVENT WORDS...      one line for each event
///     end FINGERPRINT
///
/// `!2+` says that the machine died when it had done two of the actions, and that the write under way
/// is on its disk. Lines that begin with `#` are skipped. A log without its last line, or whose
/// events were changed, is played as far as it goes.
package struct FoundingLog {
    package let seed: UInt64
    let events: [LoggedEvent]
    let end: UInt64?

    private static let title = "founding-world 1"

    /// What a world that kept its log has done so far.
    package static func lines(of world: FoundingWorld) -> [String] {
        ["\(title) \(world.seed)"] + world.log + ["end \(String(world.fingerprint, radix: 16))"]
    }

    package init(_ text: String) throws(FoundingLogProblem) {
        var events: [LoggedEvent] = []
        var seed: UInt64?
        var end: UInt64?
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() where !line.isEmpty && !line.hasPrefix("#") {
            if seed == nil {
                guard line.hasPrefix(Self.title + " "),
                    let number = UInt64(line.dropFirst(Self.title.count + 1))
                else { throw FoundingLogProblem(line: index + 1) }
                seed = number
            } else if line.hasPrefix("end ") {
                guard let value = UInt64(line.dropFirst(4), radix: 16) else {
                    throw FoundingLogProblem(line: index + 1)
                }
                end = value
            } else if let event = LoggedEvent(line) {
                events.append(event)
            } else {
                throw FoundingLogProblem(line: index + 1)
            }
        }
        guard let seed else { throw FoundingLogProblem(line: 1) }
        self.seed = seed
        self.events = events
        self.end = end
    }

    /// Plays the events, as many as `steps`.
    ///
    /// - Returns: the world, and whether it came to the state that the log ends with.
    package func replay(
        steps: Int = .max, keeping: FoundingWorld.Keeping = .story
    ) -> (world: FoundingWorld, isSame: Bool) {
        let world = FoundingWorld(
            course: .varied(seed), seed: seed, keeping: keeping, replays: true)
        for event in events.prefix(steps) {
            world.play(event)
            if world.violation != nil { break }
        }
        let isSame = world.fingerprint == end
        if isSame { world.checkEnd() }
        return (world, isSame)
    }
}

package struct FoundingLogProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// From 1.
    package let line: Int

    package var description: String { "line \(line) is not one of a founding log" }
}
