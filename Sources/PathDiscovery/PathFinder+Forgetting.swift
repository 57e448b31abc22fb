import MeshBase

extension PathFinder {
    /// Takes in a member whose certificate came by another way than its hello.
    package mutating func admit(_ credential: PeerCredential) {
        guard credential.node != configuration.node, peers[credential.node] == nil else { return }
        peers[credential.node] = PeerPath(staticKey: credential.staticKey)
        hints[credential.node.bytes.prefix64] = credential.node
    }

    /// Forgets a member, for example after its certificate was withdrawn.
    package mutating func remove(_ node: NodeID) {
        if let door = peers[node]?.door { doors[door.id] = nil }
        peers[node] = nil
        hints[node.bytes.prefix64] = nil
        ownChannels = ownChannels.filter { $0.value.peer != node && $0.value.relay != node }
    }

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
