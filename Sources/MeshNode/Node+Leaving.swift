import ClusterPlan
import MeshBase

extension Node {
    /// Begins to leave the datastore for good; the mesh goes on.
    package mutating func leaveCluster(
        at now: Now, into actions: inout [NodeAction]
    ) throws(ClusterLeaveProblem) {
        let outcome = tellCluster(.leave, at: now, into: &actions)
        if case .failure(.leaving(let problem)) = outcome { throw problem }
    }

    /// Orders the removal of a dead machine from the datastore.
    ///
    /// - Returns: its name there.
    package mutating func removeFromCluster(
        _ machine: String, at now: Now, into actions: inout [NodeAction]
    ) throws(ClusterRemoveProblem) -> String {
        switch tellCluster(.remove(machine: machine), at: now, into: &actions) {
        case .success(let name): return name ?? machine
        case .failure(.removing(let problem)): throw problem
        case .failure(.leaving): throw .notServing
        }
    }
}
