import DNS
import LinuxIO
import MeshBase
import MeshNode
import NetAddress

/// The names of the mesh, for the API.
extension NodeRuntime {
    package var nameRecords: [NameRecord] { node.nameRecords }

    /// Publishes a record as this node's own; it is durable when this returns.
    package func publishName(name: String, type: String, data: String, ttl: UInt32?)
        throws(NameProblem) -> [NameRecord]
    {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        let records = try node.publish(
            name: name, type: type, data: data, ttl: ttl, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        return records
    }

    /// Withdraws own records; the withdrawal is durable when this returns.
    package func withdrawName(_ name: String, type: String?, data: String?)
        throws(NameProblem) -> [NameRecord]
    {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        let records = try node.withdraw(
            name: name, type: type, data: data, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        return records
    }

    package var nameCounters: ResolverCounters? { nameServer?.counters }

    package var nameUpstreams: [SocketAddress] { nameServer?.upstreams ?? [] }
}
