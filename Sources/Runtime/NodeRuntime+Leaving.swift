import ClusterPlan
import LinuxIO
import MeshNode

/// Machines that leave the datastore, by themselves or because they are dead.
extension NodeRuntime {
    /// Begins to leave the datastore for good.
    package func leaveCluster() throws(ClusterLeaveProblem) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        var problem: ClusterLeaveProblem?
        do throws(ClusterLeaveProblem) {
            try node.leaveCluster(at: now, into: &actions)
        } catch {
            problem = error
        }
        carryOut(actions, at: now)
        publish()
        if let problem { throw problem }
    }

    /// Orders the removal of a dead machine from the datastore; its name there.
    package func removeFromCluster(
        _ machine: String
    ) throws(ClusterRemoveProblem) -> String {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        let name = try node.removeFromCluster(machine, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        return name
    }
}
