import ClusterPlan
import Glibc

/// Programs of the operator around the first start of a machine's part of the datastore.
///
///     /etc/edgevpn/hooks/bootstrap.before.server     before it founds or joins; a failure delays it
///     /etc/edgevpn/hooks/bootstrap.after.server      after it runs; a failure is only told
///     ... .agent                                     the same for agents
///
/// They get no argument and no secret, and a minute each. They may run again after a crash.
struct BootstrapHooks {
    let directory: String
    /// Ends a running hook when readable.
    let interrupt: Int32

    /// Milliseconds.
    private static let limit = 60_000

    func before(_ role: DatastoreRole) throws(HostFailure) {
        try run("before", role)
    }

    /// - Returns: what went wrong, if anything did.
    func after(_ role: DatastoreRole) -> String? {
        do throws(HostFailure) {
            try run("after", role)
            return nil
        } catch {
            return error.description
        }
    }

    private func run(_ stage: String, _ role: DatastoreRole) throws(HostFailure) {
        let path = "\(directory)/bootstrap.\(stage).\(role == .server ? "server" : "agent")"
        guard access(path, X_OK) == 0 else { return }
        let result = runCommand([path], limit: BootstrapHooks.limit, interrupt: interrupt)
        guard result.succeeded else { throw HostFailure("\(path): \(result.problem)") }
    }
}
