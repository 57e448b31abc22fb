import ClusterPlan

/// Carries out what the cluster planner wants on this machine. The command line wires the real
/// executor in; a node without a datastore has ``NoExecutor``.
package protocol HostExecuting: Sendable {
    /// Returns at once. The outcome goes to ``NodeRuntime/report(_:)``.
    func execute(_ command: HostCommand)

    /// The daemon ends in an orderly way. Returns when what may not outlive it has stopped.
    func shutDown()
}

/// The executor of a node that takes no part in a datastore.
package struct NoExecutor: HostExecuting {
    package init() {}

    package func execute(_ command: HostCommand) {}
    package func shutDown() {}
}
