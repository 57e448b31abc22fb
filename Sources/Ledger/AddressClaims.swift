import Cryptography
import MeshBase
import NetAddress

/// Settles claims that several nodes make on one thing (an IPv4 address, a name) without asking
/// anybody: the lowest hash of node key and value wins, the same everywhere and at all times.
package enum ContestedClaim {
    /// Lower wins.
    package static func rank(of node: NodeID, value: [UInt8]) -> Bytes32 {
        var writer = ByteWriter()
        writer.write(shortText: "edgevpn-swift claim")
        writer.write(node)
        writer.write(raw: value)
        return sha256(writer.bytes)
    }

    package static func winner(among nodes: some Sequence<NodeID>, value: [UInt8]) -> NodeID? {
        nodes.min { rank(of: $0, value: value) < rank(of: $1, value: value) }
    }
}

/// Which IPv4 address a node asks for, and who gets it.
package enum AddressClaims {
    /// Whether nodes can claim addresses in `plan`: IPv4, and room for two hosts.
    package static func isUsable(plan: IPPrefix) -> Bool {
        plan.address.isIPv4 && (1...30).contains(plan.length)
    }

    /// The address that `node` tries after `index` lost claims; never the network or broadcast
    /// address. `plan` must be usable.
    package static func candidate(nodeKey node: NodeID, index: UInt32, plan: IPPrefix)
        -> IPAddress
    {
        guard isUsable(plan: plan), case .v4(let network) = plan.address else {
            preconditionFailure("an IPv4 plan has room for two hosts")
        }
        var writer = ByteWriter()
        writer.write(shortText: "edgevpn-swift ipv4 candidate")
        writer.write(node)
        writer.write(index)
        let hosts = (UInt64(1) << UInt64(32 - plan.length)) - 2
        let host = 1 + sha256(writer.bytes).prefix64 % hosts
        return .v4(network | UInt32(truncatingIfNeeded: host))
    }

    /// The owner of every claimed address.
    package static func resolve(
        _ claims: some Sequence<(node: NodeID, address: IPAddress)>
    ) -> [IPAddress: NodeID] {
        Dictionary(grouping: claims, by: \.address).compactMapValues { rivals in
            rivals.first.flatMap { first in
                ContestedClaim.winner(among: rivals.map(\.node), value: first.address.bytes)
            }
        }
    }
}
