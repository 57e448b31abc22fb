import Consensus
import MeshBase
import Simulator

func nodeID(_ number: Int) -> NodeID { FoundingWorld.node(number) }

/// The mesh root of the tests.
let testRoot = nodeID(999)

let testMesh = [UInt8](repeating: 7, count: 16)
