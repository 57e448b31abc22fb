import Kademlia
import MeshBase
import NetAddress
import Testing

func hex(_ text: String) throws -> [UInt8] {
    try #require([UInt8](hex: text.filter { !$0.isWhitespace }))
}

func address(_ text: String) throws -> SocketAddress {
    try #require(SocketAddress(text))
}

func key(_ text: String) throws -> KademliaID {
    try #require(KademliaID(try hex(text)))
}
