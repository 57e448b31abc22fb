import ArgumentParser
import Glibc
import Simulator

/// For those who change the protocols: worlds in which everything goes wrong, from a number.
struct SimulateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Development: play the founding, leases or whole nodes in a simulated site.",
        discussion: """
            One seed is one story, always the same:

              edgevpn-swift simulate --seed 42

            Its events can be written to a file, changed there, and played again:

              edgevpn-swift simulate --seed 42 --log run.log
              edgevpn-swift simulate --replay run.log

            So can what a node wrote of its own founding (`up --founding-log FILE`):

              edgevpn-swift simulate --replay FILE

            A campaign runs many seeds and goes on where an earlier run stopped:

              edgevpn-swift simulate --seeds 1000000 --progress campaign

            The exit code is 1 when a rule was broken, or a node's log would be another today.
            """)

    @Option(name: .long, help: "The number that decides the whole run.")
    var seed: UInt64?

    @Option(name: .long, help: "Stop after so many events.")
    var steps: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Which world: founding (registers and planners), leases, or nodes (everything).",
            valueName: "kind"))
    var world = WorldKind.founding

    @Option(
        name: .long, help: ArgumentHelp("Write every event to this file.", valueName: "file"))
    var log: String?

    @Option(
        name: .long, help: ArgumentHelp("Play the events of this file.", valueName: "file"))
    var replay: String?

    @Option(name: .long, help: "Run so many seeds and tell which of them break a rule.")
    var seeds: UInt64?

    @Option(name: .long, help: "The first seed of a campaign.")
    var first: UInt64 = 0

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Note finished parts of the campaign in this file, and skip them next time.",
            valueName: "file"))
    var progress: String?

    @Option(name: .long, help: "How many worlds run at a time.")
    var threads = 2

    @OptionGroup var output: OutputOptions

    func validate() throws {
        let wishes = [seed != nil, replay != nil, seeds != nil].count { $0 }
        guard wishes == 1 else {
            throw ValidationError("give one of --seed, --seeds and --replay")
        }
        if steps.map({ $0 < 1 }) == true { throw ValidationError("--steps is at least 1") }
        if !(1...1_024).contains(threads) { throw ValidationError("--threads is 1 to 1024") }
        if let seeds, seeds == 0 || seeds > .max - first {
            throw ValidationError("--seeds is at least 1 and not beyond the last number")
        }
        if log != nil, seed == nil || world != .founding {
            throw ValidationError("--log belongs to --seed in a world of foundings")
        }
        if replay != nil, world != .founding {
            throw ValidationError("--replay plays worlds of foundings")
        }
        if steps != nil, seeds != nil || world == .nodes {
            throw ValidationError("--steps belongs to one founding or lease world")
        }
        if progress != nil, seeds == nil {
            throw ValidationError("--progress belongs to --seeds")
        }
    }

    func run() async throws {
        if let replay {
            try playAgain(replay)
        } else if let seeds {
            try await campaign(seeds)
        } else if let seed {
            try play(seed)
        }
    }

    // MARK: - One run

    private func play(_ seed: UInt64) throws {
        let told: SimulatedStory
        switch world {
        case .founding:
            let world = FoundingWorld(seed: seed, keeping: log == nil ? .story : .everything)
            world.run(steps: steps ?? .max)
            if let log { try save(FoundingLog.lines(of: world), to: log) }
            told = SimulatedStory(world)
        case .leases:
            var world = LeaseWorld(seed: seed, tellsStory: true)
            world.run(steps: steps ?? .max)
            told = SimulatedStory(
                headline: "seed \(seed): six machines and one name", lines: world.story,
                events: world.events, violation: world.violation)
        case .nodes:
            let trial = Trial(.hostile(seed: seed))
            told = SimulatedStory(
                headline: "seed \(seed): \(trial.simulation.options.machines) whole nodes",
                lines: trial.simulation.story, events: trial.simulation.steps,
                violation: trial.problems.isEmpty ? nil : trial.problems.joined(separator: "; "))
        }
        try show(told)
    }

    private func playAgain(_ file: String) throws {
        let text = String(decoding: try contents(of: file, option: "--replay"), as: UTF8.self)
        if NodeLogReplay.recognises(text) { return try playNodeLog(text, file) }
        let log: FoundingLog
        do throws(FoundingLogProblem) {
            log = try FoundingLog(text)
        } catch {
            throw CommandFailure.mistake(
                "--replay", "\(file): \(error)",
                fix: "write one with `simulate --seed N --log FILE` or `up --founding-log FILE`")
        }
        let (world, isSame) = log.replay(steps: steps ?? .max)
        var told = SimulatedStory(world)
        told.replaysExactly = isSame
        try show(told)
    }

    private func playNodeLog(_ text: String, _ file: String) throws {
        let replay: NodeLogReplay
        do throws(FoundingLogProblem) {
            replay = try NodeLogReplay(text, steps: steps ?? .max)
        } catch {
            throw CommandFailure.mistake(
                "--replay", "\(file): \(error)",
                fix: "take it as the node wrote it, or change no more than a value")
        }
        try show(SimulatedStory(replay))
    }

    private func show(_ story: SimulatedStory) throws {
        try output.show(story) { story.text }
        if story.violation != nil || story.difference != nil { exitProgram(.operatingFailure) }
    }

    private func save(_ lines: [String], to file: String) throws {
        let handle = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard handle >= 0 else { throw unwritable(file, option: "--log") }
        write(bytes: Array((lines.joined(separator: "\n") + "\n").utf8), to: handle)
        close(handle)
    }

    private func contents(of file: String, option: String) throws -> [UInt8] {
        do throws(ReadFailure) {
            // A long run's log has some megabytes.
            return try readFile(file, limit: 1 << 28)
        } catch {
            throw CommandFailure.mistake(
                option, "\(file) cannot be read", fix: "name a file that is there")
        }
    }

    private func unwritable(_ file: String, option: String) -> CommandFailure {
        .mistake(option, "\(file) cannot be written", fix: "name a file in a directory of yours")
    }

    // MARK: - Many runs

    /// A part takes some seconds, so that little is lost when the machine stops.
    private static let partSize: UInt64 = 1_000

    private func campaign(_ seeds: UInt64) async throws {
        var handle: Int32 = -1
        var done = SeedProgress(kind: world, first: first)
        if let progress {
            handle = open(progress, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
            guard handle >= 0 else { throw unwritable(progress, option: "--progress") }
            let text = String(
                decoding: try contents(of: progress, option: "--progress"), as: UTF8.self)
            guard let found = SeedProgress(kind: world, first: first, text: text) else {
                throw CommandFailure.mistake(
                    "--progress", "\(progress) is of another campaign", fix: "name another file")
            }
            done = found
            // What was cut off in the middle of a line is written anew.
            let whole = text.utf8.lastIndex(of: 10).map {
                text.utf8.distance(from: text.startIndex, to: $0) + 1
            }
            ftruncate(handle, off_t(whole ?? 0))
        }
        let end = first + seeds
        let kind = world
        while done.next < end {
            let part = done.next..<min(done.next + Self.partSize, end)
            let outcomes = await SeedCampaign.run(part, lanes: threads) {
                SeedCampaign.outcome(of: kind, seed: $0)
            }
            for outcome in outcomes {
                if let violation = outcome.violation {
                    printError("seed \(outcome.seed): \(violation)")
                }
            }
            let line = done.add(outcomes)
            if handle >= 0 {
                write(bytes: Array("\(line)\n".utf8), to: handle)
                fsync(handle)
            }
        }
        let summary = CampaignSummary(done)
        try output.show(summary) { summary.text }
        if !done.broken.isEmpty { exitProgram(.operatingFailure) }
    }
}

extension WorldKind: ExpressibleByArgument {}

/// One run as it is shown.
private struct SimulatedStory: Encodable {
    var headline: String
    var lines: [String]
    var standing: [String] = []
    var events: Int
    var violation: String?
    /// Whether a replay came to the state that its log ends with.
    var replaysExactly: Bool?
    /// Where a node's log is not what its replay would have written.
    var difference: Difference?

    struct Difference: Encodable {
        /// From 1.
        var line: Int
        var written: String
        var replayed: String
    }
}

extension SimulatedStory {
    init(_ world: FoundingWorld) {
        headline = world.headline
        lines = world.story
        standing = world.standing
        events = world.eventCount
        violation = world.violation
    }

    init(_ replay: NodeLogReplay) {
        headline = "what a node wrote" + (replay.isFull ? ", until the log was full" : "")
        lines = replay.story
        standing = replay.standing
        events = replay.steps
        violation = replay.violation
        replaysExactly = replay.difference == nil
        difference = replay.difference.map {
            Difference(line: $0.line, written: $0.written, replayed: $0.replayed)
        }
    }

    var text: String {
        var all = [headline] + lines + standing
        if let difference {
            all.append("line \(difference.line) was written as \(difference.written)")
            all.append("and would be today          \(difference.replayed)")
        }
        if let replaysExactly {
            all.append(
                replaysExactly
                    ? "the same run as the one that was written"
                    : "another run than the one that was written")
        }
        all.append(
            "\(counted(events, "event")); "
                + (violation.map { "BROKEN: \($0)" } ?? "every rule holds"))
        return all.joined(separator: "\n")
    }
}

/// A campaign as it is shown.
private struct CampaignSummary: Encodable {
    var world: String
    var seeds: UInt64
    var events: UInt64
    var decided: UInt64
    var whole: UInt64
    /// Seeds that broke a rule.
    var broken: [UInt64]

    init(_ progress: SeedProgress) {
        world = progress.kind.rawValue
        seeds = progress.count
        events = progress.events
        decided = progress.decided
        whole = progress.whole
        broken = progress.broken
    }

    var text: String {
        let mean = seeds == 0 ? 0 : events / seeds
        var text = "\(seeds) worlds, \(events) events, \(mean) each"
        if world == WorldKind.founding.rawValue {
            text += "; \(decided) decided after healing, \(whole) with all servers and agents"
        }
        return text + "; "
            + (broken.isEmpty
                ? "every rule holds" : "BROKEN: \(broken.map(String.init).joined(separator: " "))")
    }
}
