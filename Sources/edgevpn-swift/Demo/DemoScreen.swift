import Glibc
import LinuxIO
import MeshBase

/// One thing that the demonstration shows.
struct DemoStep: Codable, Hashable, Sendable {
    enum Outcome: String, Codable, Hashable, Sendable {
        case waiting
        case running
        case held
        case failed
        case skipped
    }

    var name: String
    var outcome = Outcome.waiting
    /// What was seen, or why it did not hold.
    var detail = ""
    /// Seconds from the start of the last node to the moment at which it held; absent for what
    /// comes before any node.
    var sinceStart: Double?

    init(_ name: String) {
        self.name = name
    }
}

/// Shows the steps as they go: redrawn in place on a terminal, one line per event elsewhere.
struct DemoScreen {
    private(set) var steps: [DemoStep]
    /// One line per node, redrawn with the steps.
    private var nodeLines: [String] = []
    private var drawnLines = 0
    private let isTerminal: Bool
    private let isSilent: Bool
    private var spinner = 0

    init(_ names: [String], silent: Bool) {
        steps = names.map(DemoStep.init)
        isSilent = silent
        isTerminal = !silent && isatty(STDOUT_FILENO) == 1
    }

    mutating func begin(_ index: Int) {
        steps[index].outcome = .running
        if !isTerminal, !isSilent { show("...     \(steps[index].name)") }
        redraw()
    }

    mutating func end(
        _ index: Int, _ outcome: DemoStep.Outcome, _ detail: String, sinceStart: Double?
    ) {
        steps[index].outcome = outcome
        steps[index].detail = detail
        steps[index].sinceStart = sinceStart
        if !isTerminal, !isSilent { show(line(steps[index])) }
        redraw()
    }

    /// What a running step sees at this moment.
    mutating func progress(_ index: Int, _ detail: String, nodes: [String]) {
        let changed = steps[index].detail != detail
        steps[index].detail = detail
        nodeLines = nodes
        spinner += 1
        if isTerminal {
            redraw()
        } else if changed, !isSilent {
            show("        \(steps[index].name): \(detail)")
        }
    }

    private mutating func redraw() {
        guard isTerminal else { return }
        let lines =
            [""] + nodeLines.map { "  \($0)" } + (nodeLines.isEmpty ? [] : [""])
            + steps.map(line)
        // Up to where the last drawing began, and everything below goes.
        let home = drawnLines > 0 ? "\u{1B}[\(drawnLines)A\r\u{1B}[J" : ""
        let width = terminalWidth()
        let shown = lines.map { String($0.prefix(width)) }
        write(bytes: Array((home + shown.joined(separator: "\n") + "\n").utf8), to: STDOUT_FILENO)
        drawnLines = lines.count
    }

    private func line(_ step: DemoStep) -> String {
        let mark =
            switch step.outcome {
            case .waiting: "        "
            case .running:
                isTerminal ? "  " + ["|", "/", "-", "\\"][spinner % 4] + "     " : "...     "
            case .held: "  ok    "
            case .failed: "FAILED  "
            case .skipped: "skipped "
            }
        let time = step.sinceStart.map { " [\(rounded($0, 2)) s]" } ?? ""
        return mark + step.name + time + (step.detail.isEmpty ? "" : ": \(step.detail)")
    }

    private func show(_ text: String) {
        write(bytes: Array("\(text)\n".utf8), to: STDOUT_FILENO)
    }
}

private func terminalWidth() -> Int {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return 100 }
    return Int(size.ws_col) - 1
}
