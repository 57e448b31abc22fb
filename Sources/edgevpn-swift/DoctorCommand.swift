import ArgumentParser
import HTTPAPI

/// Looks at this machine and its node, and explains what it sees. Each section is a file of its own.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Examine this machine and its node, and say what to do about what is wrong.",
        discussion: "Exit code 1 when something is wrong. Without a running node it looks at the "
            + "machine alone.")

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    /// In the order in which they are shown.
    private static let sections: [any DoctorSection] = [
        PathsSection(), NamesSection(), DHTSection(),
    ]

    func run() async throws {
        let client = try node.client(timeout: .seconds(3))
        let isThere = (try? await client.status()) != nil
        var findings: [DoctorFinding] = []
        for section in DoctorCommand.sections {
            findings += await section.examine(isThere ? client : nil)
        }
        if !isThere {
            findings.insert(
                DoctorFinding(
                    section: "node", level: .note, text: "no node answers at \(client.address)",
                    fix: "start one with `edgevpn-swift up`, or name its socket with --api"),
                at: 0)
        }
        try output.show(findings) { findings.map(\.line).joined(separator: "\n") }
        if findings.contains(where: { $0.level == .problem }) {
            throw ExitCode(ExitStatus.operatingFailure.rawValue)
        }
    }
}

/// One subject that the doctor knows about.
protocol DoctorSection: Sendable {
    /// - Parameter client: reaches the node; `nil` when none answers.
    func examine(_ client: APIClient?) async -> [DoctorFinding]
}

/// One sentence about the machine, and what to do about it.
struct DoctorFinding: Encodable, Sendable {
    enum Level: String, Encodable, Sendable {
        case good, note, problem
    }

    var section: String
    var level: Level
    var text: String
    var fix: String?

    var line: String {
        let mark =
            switch level {
            case .good: "ok     "
            case .note: "note   "
            case .problem: "PROBLEM"
            }
        return "\(mark)  \(section): \(text)" + (fix.map { "\n         \($0)" } ?? "")
    }
}
