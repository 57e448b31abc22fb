import CProcess
import ClusterPlan
import Glibc
import MeshBase

/// K3s as the service that its installer made for OpenRC. The service itself stays as it is; what is
/// added are three lines between marks:
///
///     /etc/conf.d/k3s        supervise_daemon_args="STATE/cluster/gate-k3s"
///     STATE/cluster/gate-k3s asks the gate, then becomes K3s
///
/// OpenRC's supervise-daemon starts its program again by itself, so the gate stands before the
/// program rather than before the service, and is asked every time.
///
/// OpenRC cannot end a service with another one or at a deadline. A founder's K3s is therefore a
/// supervised child until READY, and only then handed over, which is a restart.
package final class OpenRCService: InitSystem {
    /// Where to look for OpenRC's programs and files; other places are for tests.
    package struct Places: Sendable {
        package var rcService = "rc-service"
        package var rcUpdate = "rc-update"
        package var settings = "/etc/conf.d"

        package init() {}
    }

    private let places: Places
    /// The words that say whether K3s may start, without the role.
    private let gate: [String]
    /// Where the gates' scripts are.
    private let directory: String
    /// A founder's K3s until the release.
    private let child: any InitSystem
    private var unit: String?
    private var isChild = false

    package init(
        places: Places = Places(), gate: [String], directory: String, child: any InitSystem
    ) {
        self.places = places
        self.gate = gate
        self.directory = directory
        self.child = child
    }

    package func guardStarts(of units: [String]) throws(HostFailure) {
        try makeDirectory(directory)
        for unit in units { try install(unit) }
    }

    package func start(_ order: ServiceOrder) throws(HostFailure) {
        unit = order.unit
        try install(order.unit)
        guard order.deadline != nil else { return try startService(order.unit) }
        // It may wait at the gate since the machine booted, and there is to be one K3s.
        stopService(order.unit)
        isChild = true
        try child.start(order)
    }

    package func release() throws(HostFailure) {
        guard let unit, isRunning else { throw HostFailure("the datastore is not running") }
        if isChild {
            child.stop()
            isChild = false
            try startService(unit)
        }
        // From here on it starts at boot by itself, if the gate lets it.
        let result = run(places.rcUpdate, ["add", unit, "default"], limit: 20_000)
        guard result.succeeded else { throw HostFailure("rc-update add: \(result.problem)") }
    }

    /// Started, and past the gate.
    private func startService(_ unit: String) throws(HostFailure) {
        let result = run(places.rcService, [unit, "start"], limit: 90_000)
        guard result.succeeded else {
            throw HostFailure("rc-service \(unit) start: \(result.problem)")
        }
        // One that waits at the gate asks again within its respawn delay of five seconds.
        for _ in 0..<100 where !isRunning { usleep(100_000) }
        guard isRunning else { throw HostFailure("the gate did not let \(unit) start") }
    }

    private func stopService(_ unit: String) {
        guard isStarted(unit) else { return }
        _ = run(places.rcService, [unit, "stop"], limit: 90_000)
    }

    package func extend(to deadline: BootInstant) {
        if isChild { child.extend(to: deadline) }
    }

    package func stop() {
        if isChild {
            child.stop()
            isChild = false
        } else if let unit {
            stopService(unit)
        }
    }

    package func adopt(unit: String) -> Bool {
        self.unit = unit
        return isRunning
    }

    package var isRunning: Bool {
        if isChild { return child.isRunning }
        guard let unit, isStarted(unit), let text = try? readText(processFile(unit)) else {
            return false
        }
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let process = pid_t(words[0]) else { return false }
        return words[1] == bootID && cprocess_start_time(process) != 0
    }

    /// Written by the gate: which process became K3s, and in which boot.
    private func processFile(_ unit: String) -> String { "\(directory)/\(unit).pid" }

    package var processID: pid_t? { isChild ? child.processID : nil }

    package func forget() {
        guard isChild else { return }
        child.forget()
        isChild = false
    }

    private func isStarted(_ unit: String) -> Bool {
        run(places.rcService, [unit, "status"], limit: 20_000).succeeded
    }

    private func run(_ program: String, _ words: [String], limit: Int) -> CommandOutput {
        runCommand([locateProgram(program) ?? program] + words, limit: limit, interrupt: -1)
    }

    // MARK: - Files

    private static let begin = "# edgevpn-swift: begin (changes here are lost)"
    private static let end = "# edgevpn-swift: end"

    private func install(_ unit: String) throws(HostFailure) {
        let script = "\(directory)/gate-\(unit)"
        let role = unit.hasSuffix("-agent") ? ["--agent"] : []
        let question = (gate + role).map { quoted($0) }.joined(separator: " ")
        let text = """
            #!/bin/sh
            # Written by edgevpn-swift.
            \(question) || exit 3
            echo "$$ $(cat /proc/sys/kernel/random/boot_id)" >\(quoted(processFile(unit)))
            exec "$@"

            """
        try writeFile(script, Array(text.utf8))
        guard chmod(script, 0o700) == 0 else {
            throw HostFailure("chmod \(script): \(errnoText(errno))")
        }
        let path = "\(places.settings)/\(unit)"
        let known = fileExists(path) ? try readText(path) : ""
        let wanted = OpenRCService.settings(known, gate: quoted(script))
        guard wanted != known else { return }
        try makeDirectories(places.settings)
        try writeFile(path, Array(wanted.utf8))
    }

    /// The operator's lines as they are, and ours at their end.
    package static func settings(_ known: String, gate: String) -> String {
        var lines: [Substring] = []
        var isOurs = false
        for line in known.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == begin { isOurs = true }
            if !isOurs { lines.append(line) }
            if line == end { isOurs = false }
        }
        while lines.last == "" { lines.removeLast() }
        let kept = lines.isEmpty ? "" : lines.joined(separator: "\n") + "\n"
        return kept
            + "\(begin)\nsupervise_daemon_args=\"${supervise_daemon_args:-} \(gate)\"\n\(end)\n"
    }

    /// A word for a shell, also inside double quotes that are evaluated once more.
    private func quoted(_ word: String) -> String {
        "'"
            + word.split(separator: "'", omittingEmptySubsequences: false).joined(
                separator: "'\\''")
            + "'"
    }
}

/// Whether OpenRC runs this machine and knows the service.
package func openRCKnows(unit: String) -> Bool {
    fileExists("/run/openrc/softlevel") && fileExists("/etc/init.d/\(unit)")
        && locateProgram("rc-service") != nil
}
