import MeshBase
import NetAddress

/// What a ``DHTNode`` is told at start.
package struct DHTConfiguration: Sendable {
    package var rules: DHTRules
    /// The families that the node's socket speaks.
    package var families: [AddressFamily]
    /// The program and its version (`v`, BEP 5): two letters and two numbers.
    package static let version: [UInt8] = Array("ES".utf8) + [0, 1]

    package init(rules: DHTRules, families: [AddressFamily] = AddressFamily.allCases) {
        self.rules = rules
        self.families = families
    }
}

/// Names one walk or write of a ``DHTNode`` for its caller.
package struct DHTOperation: Hashable, Comparable, Sendable {
    let number: UInt64

    package static func < (lhs: DHTOperation, rhs: DHTOperation) -> Bool {
        lhs.number < rhs.number
    }
}

/// What a ``DHTNode`` wants done, in order.
package enum DHTAction: Sendable {
    /// - Parameter atLeast: where size can be hidden, pad the datagram to so many bytes: its
    ///   answer may not be longer.
    case send([UInt8], to: SocketAddress, atLeast: Int)
    /// A walk that still goes on saw a value, the newest so far.
    case glimpsed(DHTOperation, MutableItem)
    /// A walk came to its end.
    case walked(DHTOperation, DHTWalk)
    /// A write came to its end.
    case stored(DHTOperation, DHTStoring)
    /// Others see us at this address now.
    case observed(SocketAddress)
    /// A node answered for the first time.
    case met(NodeContact)
    /// Other members were at the rendezvous.
    case found([RendezvousRecord])
    /// Members, or whoever says so, announced themselves at these addresses.
    case foundPeers([SocketAddress])
    case dropped(DHTDropReason)
}

package enum DHTDropReason: String, Sendable, CaseIterable {
    case malformed, unexpected, rateLimited, readOnly
    /// A slot of the rendezvous held something that no member wrote.
    case foreignSlot
}

/// What a walk found.
package struct DHTWalk: Sendable {
    /// The signed value with the highest number.
    package var item: MutableItem?
    /// An immutable value, bencoded.
    package var value: [UInt8]?
    package var peers: [SocketAddress] = []
    /// Nodes that answered.
    package var answered = 0
    /// Nodes that would store a value; 0 means that a write cannot succeed.
    package var storers = 0
}

/// What became of a write.
package struct DHTStoring: Sendable {
    package var stored = 0
    /// Refused since somebody else wrote first (301, 302).
    package var conflicts = 0
    package var failed = 0
}

/// The health of a DHT node, for `status`.
package struct DHTStatus: Sendable {
    package var nodesIPv4: Int
    package var nodesIPv6: Int
    /// Whether queries of strangers are answered.
    package var isServing: Bool
    package var observedIPv4: SocketAddress?
    package var observedIPv6: SocketAddress?
    package var storedItems: Int
    package var storedPeers: Int

    /// A node that is not there.
    package static let off = DHTStatus(
        nodesIPv4: 0, nodesIPv6: 0, isServing: false, storedItems: 0, storedPeers: 0)
}
