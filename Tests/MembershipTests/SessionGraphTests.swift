import Cryptography
import Membership
import MeshBase
import Testing

/// The two ways to ask who is next to whom on the ring agree.
@Test(arguments: 2...12) func neighboursOnTheRing(members: Int) {
    var random = SeededGenerator(seed: UInt64(members))
    let ids = (0..<members).map { _ in NodeID(random.bytes32()) }.sorted()
    for own in ids {
        let ring = ids.filter { $0 != own }
        let neighbours = SessionGraph.ringNeighbours(of: own, in: ring)
        for other in ring {
            #expect(
                SessionGraph.areRingNeighbours(own, other, among: ring)
                    == neighbours.contains(other))
        }
    }
}
