import MeshBase

/// A second cluster under the same mesh: nobody joins it, and everybody says so.
extension ClusterCoordinator {
    /// This machine holds a datastore that the mesh did not found.
    mutating func tellConflict(_ caHash: Bytes32, into actions: inout [ClusterAction]) {
        publish(ClusterFactKey.conflict, caHash.bytes, into: &actions)
    }

    /// No such datastore is on this machine any more.
    mutating func withdrawConflict(into actions: inout [ClusterAction]) {
        guard conflicts[configuration.node] != nil else { return }
        publish(ClusterFactKey.conflict, [], into: &actions)
    }

    /// - Parameter value: 32 bytes, or none when the conflict is over.
    mutating func takeConflict(
        _ owner: NodeID, _ value: [UInt8]?, into actions: inout [ClusterAction]
    ) throws(DecodingFailure) {
        guard let value, !value.isEmpty else {
            conflicts[owner] = nil
            return
        }
        guard let caHash = Bytes32(value) else { throw .field("authority") }
        guard conflicts[owner] != caHash else { return }
        conflicts[owner] = caHash
        if owner != configuration.node {
            actions.append(.alarm(conflictText(owner, caHash)))
        } else if case .alarmed = stage {
            return
        } else if stage != .inspecting {
            withdrawConflict(into: &actions)
        }
    }

    /// Words about the conflict of the machine with the lowest id; empty when there is none.
    var conflictText: String {
        let certified = founding.readyCluster?.caHash
        let owners = conflicts.keys.sorted()
        guard let owner = owners.first(where: { conflicts[$0] != certified }),
            let caHash = conflicts[owner]
        else { return "" }
        return conflictText(owner, caHash)
    }

    private func conflictText(_ owner: NodeID, _ caHash: Bytes32) -> String {
        let name = peers[owner].map { "\($0.hostname) (\(owner.short))" } ?? owner.short
        return "\(name) runs a datastore that this mesh did not found, authority \(caHash)"
    }
}
