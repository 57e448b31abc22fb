import MeshBase

extension PathFinder {
    /// Takes a new check of certificates, for example after a withdrawal, and forgets a member that
    /// it refuses: its messages are a stranger's from now on.
    package mutating func forget(
        _ node: NodeID, verifyingWith verify: @escaping @Sendable ([UInt8]) -> PeerCredential?
    ) {
        configuration.verifyCredential = verify
        if let door = peers[node]?.door { doors[door.id] = nil }
        peers[node] = nil
        hints[node.bytes.prefix64] = nil
    }
}
