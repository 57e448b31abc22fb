import Consensus
import LinuxIO
import MeshBase
import MeshNode

/// What operators and their work ask of the founding and of its leases.
extension NodeRuntime {
    /// A piece of work wants a lease, or has ended.
    ///
    /// - Returns: how it stands, and how long the work may go on from now; `nil` when it does not
    ///   hold the lease.
    package func lease(_ name: String, session: UInt64, isOver: Bool) -> (LeaseStatus, Duration?) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        let status = node.lease(
            name, session: session, isOver: isOver, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
        return (status, status.deadline.map { $0 - SystemClock.boot() })
    }

    /// Does what an operator wants; what it leads to is durable when this returns.
    ///
    /// - Throws: ``FoundingRefusal`` with the reason; nothing changed then.
    package func fulfil(_ wish: OperatorWish) throws(FoundingRefusal) {
        let now = SystemClock.now()
        var actions: [NodeAction] = []
        try node.fulfil(wish, at: now, into: &actions)
        carryOut(actions, at: now)
        publish()
    }
}
