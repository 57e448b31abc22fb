import Cryptography
import MeshBase

/// Which members of a large mesh keep a session open without being asked, so that news reach
/// everybody within a few hops and no node has many sessions.
///
/// Everybody is joined with its next two on either side of the ring of ids, which keeps the graph
/// whole, and with about eight others by a lot that both ends draw alike. A newcomer changes
/// no lot of others, so sessions do not churn. A ring alone would take hundreds of hops.
package enum SessionGraph {
    /// In a smaller mesh everybody is joined with everybody.
    package static let completeUpTo = 9
    /// Neighbours on each side of the ring.
    package static let ringReach = 2
    /// Lots that win, on average: four to eight between two powers of two.
    private static let chances: UInt64 = 8

    /// Whether the lot joins two members of a mesh of `members` nodes, both included.
    package static func areDrawn(_ first: NodeID, _ second: NodeID, members: Int) -> Bool {
        var writer = ByteWriter(capacity: 96)
        writer.write(shortText: "edgevpn-swift session lot")
        writer.write(min(first, second))
        writer.write(max(first, second))
        // The next power of two: the lots change when the mesh has doubled, not with every node.
        var size: UInt64 = 1
        while size < UInt64(max(1, members)) { size *= 2 }
        guard size > chances else { return true }
        return sha256(writer.bytes).prefix64 < UInt64.max / size * chances
    }

    /// The members next to `node` on the ring; `ring` is sorted and without it.
    package static func ringNeighbours(of node: NodeID, in ring: [NodeID]) -> Set<NodeID> {
        guard ring.count > 2 * ringReach else { return Set(ring) }
        let start = ring.firstIndex { $0 > node } ?? 0
        return Set(
            (-ringReach..<ringReach).map { ring[(start + $0 + ring.count) % ring.count] })
    }

    /// Whether two members are next to each other on the ring of all: fewer than ``ringReach`` of
    /// `others` lie between them on one of the two sides.
    package static func areRingNeighbours(
        _ first: NodeID, _ second: NodeID, among others: some Sequence<NodeID>
    ) -> Bool {
        let (low, high) = (min(first, second), max(first, second))
        var (inside, outside) = (0, 0)
        for other in others where other != first && other != second {
            if low < other && other < high { inside += 1 } else { outside += 1 }
            if inside >= ringReach, outside >= ringReach { return false }
        }
        return true
    }
}
