import ClusterPlan
import MeshBase

extension Node {
    /// Begins to leave the datastore for good; the mesh goes on.
    package mutating func leaveCluster(
        at now: Now, into actions: inout [NodeAction]
    ) throws(ClusterLeaveProblem) {
        var problem: ClusterLeaveProblem?
        withCluster(at: now, into: &actions) { cluster, random, results in
            do throws(ClusterLeaveProblem) {
                try cluster.leave(at: now, random: &random, into: &results)
            } catch {
                problem = error
            }
        }
        if let problem { throw problem }
    }

    /// Orders the removal of a dead machine from the datastore.
    ///
    /// - Returns: its name there.
    package mutating func removeFromCluster(
        _ machine: String, at now: Now, into actions: inout [NodeAction]
    ) throws(ClusterRemoveProblem) -> String {
        var result: Result<String, ClusterRemoveProblem> = .failure(.notServing)
        withCluster(at: now, into: &actions) { cluster, random, results in
            do throws(ClusterRemoveProblem) {
                result = .success(
                    try cluster.remove(machine: machine, at: now, random: &random, into: &results))
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }
}
