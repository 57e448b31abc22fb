import Glibc
import MeshBase

/// Why a step on this machine failed, in words for a person. Never holds a secret.
package struct HostFailure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

/// What runs as the datastore.
package struct ServiceOrder: Sendable {
    /// The service's name where an init system knows it, such as `k3s-agent`.
    package var unit: String
    /// The program's absolute path and its arguments; no secrets.
    package var command: [String]
    package var logFile: String
    /// The service dies at this instant of the boot clock unless it was released or the deadline
    /// moved; `nil` for no such limit.
    package var deadline: BootInstant?
    /// Whether the service must end with the daemon until its release.
    package var isBound = true

    package init(
        unit: String, command: [String], logFile: String, deadline: BootInstant? = nil,
        isBound: Bool = true
    ) {
        self.unit = unit
        self.command = command
        self.logFile = logFile
        self.deadline = deadline
        self.isBound = isBound
    }
}

/// Whoever keeps the datastore's process: a supervised child here, a unit of systemd or OpenRC on
/// machines that have one. All calls come from one thread that lives as long as the daemon.
package protocol InitSystem: AnyObject {
    /// Makes these services ask the gate from now on, whoever starts them.
    func guardStarts(of units: [String]) throws(HostFailure)
    /// Starts the service so that it cannot outlive the daemon until `release()`.
    func start(_ order: ServiceOrder) throws(HostFailure)
    /// Lets the service outlive the daemon from now on.
    func release() throws(HostFailure)
    func extend(to deadline: BootInstant)
    /// Stops the service and waits for its end.
    func stop()
    /// Takes over a released service that an earlier life of the daemon left; whether there was
    /// one.
    func adopt(unit: String) -> Bool
    var isRunning: Bool { get }
    /// What ``SupervisedService`` watches; `nil` where the init system owns the process.
    var processID: pid_t? { get }
    /// Lets go of a process that has ended.
    func forget()
}

extension InitSystem {
    package func guardStarts(of units: [String]) throws(HostFailure) {}
}
