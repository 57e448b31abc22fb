import CProcess
import Glibc
import MeshBase

/// K3s as the unit that its installer made. The unit itself stays as it is; what is added are
/// drop-ins:
///
///     /etc/systemd/system/k3s.service.d/90-edgevpn.conf          asks the gate before every start
///     /run/systemd/system/k3s.service.d/91-edgevpn-bound.conf    until the release: the unit ends
///                                                                with the daemon or at the deadline
///
/// systemd counts RuntimeMaxSec= from the moment the unit is active, and TimeoutStartSec= until then;
/// ``extend(to:)`` after the start makes the former exact.
package final class SystemdService: InitSystem {
    /// Where to look for systemctl and where the drop-ins go; other places are for tests.
    package struct Places: Sendable {
        package var systemctl = "systemctl"
        package var persistent = "/etc/systemd/system"
        package var transient = "/run/systemd/system"
        /// The daemon's own unit; `nil` when it is none.
        package var daemonUnit: String?

        package init(daemonUnit: String?) {
            self.daemonUnit = daemonUnit
        }
    }

    private let places: Places
    /// What ExecCondition= runs, without the role.
    private let gate: [String]
    private let interrupt: Int32
    private var unit: String?

    package init(places: Places, gate: [String], interrupt: Int32) {
        self.places = places
        self.gate = gate
        self.interrupt = interrupt
    }

    package func guardStarts(of units: [String]) throws(HostFailure) {
        for unit in units { try installGate(unit) }
        try systemctl(["daemon-reload"])
    }

    private func installGate(_ unit: String) throws(HostFailure) {
        let role = unit.hasSuffix("-agent") ? ["--agent"] : []
        let command = (gate + role).map { quoted($0) }.joined(separator: " ")
        try install(
            "\(places.persistent)/\(unit).service.d", "90-edgevpn.conf",
            "[Service]\nExecCondition=\(command)\n")
    }

    package func start(_ order: ServiceOrder) throws(HostFailure) {
        unit = order.unit
        try installGate(order.unit)
        if order.isBound { try bind(until: order.deadline) } else { removeBound() }
        try systemctl(["daemon-reload"])
        // A unit of Type=notify would block until Kubernetes is ready.
        try systemctl(["start", "--no-block", order.unit + ".service"])
    }

    /// Until the release: no daemon, no datastore.
    private func bind(until deadline: BootInstant?) throws(HostFailure) {
        guard let daemon = places.daemonUnit else {
            throw HostFailure(
                "the daemon is not a unit of systemd, so k3s could outlive it before READY; "
                    + "start it as one, or say --init supervise")
        }
        var text = "[Unit]\nBindsTo=\(daemon)\nAfter=\(daemon)\n"
        if let deadline {
            let now = BootInstant(nanoseconds: cprocess_boot_time())
            let left = max(1, Int((deadline - now) / .seconds(1)))
            text += "[Service]\nTimeoutStartSec=\(left)\nRuntimeMaxSec=\(left + activeSeconds)\n"
        }
        guard let unit else { return }
        try install("\(places.transient)/\(unit).service.d", "91-edgevpn-bound.conf", text)
    }

    /// How long the unit has been active; 0 while it starts.
    private var activeSeconds: Int {
        guard let entered = UInt64(property("ActiveEnterTimestampMonotonic") ?? ""), entered > 0,
            property("ActiveState") == "active"
        else { return 0 }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let now = UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1_000
        return now > entered ? Int((now - entered) / 1_000_000) : 0
    }

    package func release() throws(HostFailure) {
        guard let unit, isRunning else { throw HostFailure("the datastore is not running") }
        removeBound()
        try systemctl(["daemon-reload"])
        // From here on the unit starts at boot by itself, if the gate lets it.
        try systemctl(["enable", unit + ".service"])
    }

    package func extend(to deadline: BootInstant) {
        do throws(HostFailure) {
            try bind(until: deadline)
            try systemctl(["daemon-reload"])
        } catch {
            // The old deadline stays, which is the safe side.
        }
    }

    package func stop() {
        if let unit { _ = run(["stop", unit + ".service"], limit: 90_000) }
        removeBound()
        _ = run(["daemon-reload"], limit: 20_000)
    }

    package func adopt(unit: String) -> Bool {
        self.unit = unit
        return isRunning
    }

    package var isRunning: Bool {
        guard unit != nil else { return false }
        let state = property("ActiveState") ?? ""
        if ["active", "activating", "reloading"].contains(state) { return true }
        let job = property("Job") ?? ""
        return !job.isEmpty && job != "0"
    }

    package var processID: pid_t? { nil }

    package func forget() {}

    // MARK: - systemctl

    private func property(_ name: String) -> String? {
        guard let unit else { return nil }
        let result = run(["show", "--property=\(name)", unit + ".service"], limit: 20_000)
        guard result.succeeded, result.output.hasPrefix(name + "=") else { return nil }
        return String(result.output.dropFirst(name.count + 1).prefix { !$0.isNewline })
    }

    private func systemctl(_ words: [String]) throws(HostFailure) {
        let result = run(words, limit: 90_000)
        guard result.succeeded else {
            throw HostFailure("systemctl \(words[0]): \(result.problem)")
        }
    }

    private func run(_ words: [String], limit: Int) -> CommandOutput {
        runCommand(
            [locateProgram(places.systemctl) ?? places.systemctl] + words, limit: limit,
            interrupt: -1)
    }

    private func install(
        _ place: String, _ name: String, _ text: String
    ) throws(HostFailure) {
        try makeDirectories(place)
        try writeFile("\(place)/\(name)", Array(text.utf8))
    }

    private func removeBound() {
        for unit in ["k3s", "k3s-agent"] {
            removeFile("\(places.transient)/\(unit).service.d/91-edgevpn-bound.conf")
        }
    }

    /// A word of a unit's command line (systemd.service(5), "Command lines").
    private func quoted(_ word: String) -> String {
        var result = "\""
        for character in word {
            switch character {
            case "\"", "\\": result += "\\\(character)"
            case "%": result += "%%"
            case "$": result += "$$"
            default: result.append(character)
            }
        }
        return result + "\""
    }
}

/// Whether systemd runs this machine and knows the unit.
package func systemdKnows(unit: String) -> Bool {
    guard fileExists("/run/systemd/system"), let program = locateProgram("systemctl") else {
        return false
    }
    return runCommand([program, "cat", unit + ".service"], limit: 10_000, interrupt: -1).succeeded
}

/// The unit that this process belongs to, from the names of its control groups.
package func ownUnit(controlGroups text: String) -> String? {
    for line in text.split(separator: "\n") {
        let unit = line.split(separator: "/").last { $0.hasSuffix(".service") }
        if let unit { return String(unit) }
    }
    return nil
}
