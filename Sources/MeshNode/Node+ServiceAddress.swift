import ClusterPlan
import MeshBase
import NetAddress

/// One IPv4 address for the Kubernetes API that leads to a healthy server from everywhere.
///
/// It is the highest host address of the mesh's plan, and no machine claims it. A ready server has it
/// on its own device. On every other machine the forwarding table gives it to one ready server: that
/// route admits packets to the address out and from it in, so it needs neither ARP nor an election,
/// and machines need not agree. When that server fails, the next one gets the route; connections
/// start anew.
extension Node {
    /// `nil` for a plan without room for it.
    package static func serviceAddress(in plan: IPPrefix) -> IPAddress? {
        guard case .v4(let network) = plan.address, (8...28).contains(plan.length) else {
            return nil
        }
        return .v4(network | (UInt32.max >> UInt32(plan.length)) &- 1)
    }

    /// Present where Kubernetes is: the API's certificates name it.
    package var serviceAddress: IPAddress? {
        [.k3s, .k0s].contains(configuration.clusterKind)
            ? Node.serviceAddress(in: configuration.token.ipv4Plan) : nil
    }

    /// Present while this machine itself answers at it.
    package var servedAddress: IPAddress? {
        serviceServer == id ? serviceAddress : nil
    }

    /// Chooses the server anew when the servers or their health changed.
    mutating func chooseServiceServer(into actions: inout [NodeAction]) {
        guard serviceAddress != nil else { return }
        let servers = cluster.readyServers
        let chosen: NodeID? =
            if servers.contains(id) {
                id
            } else if let current = serviceServer, servers.contains(current) {
                current
            } else if servers.isEmpty {
                nil
            } else {
                // Machines spread over the servers by their ids.
                servers[Int(id.bytes.prefix64 % UInt64(servers.count))]
            }
        guard chosen != serviceServer else { return }
        serviceServer = chosen
        actions.append(.forwardingChanged)
    }
}
