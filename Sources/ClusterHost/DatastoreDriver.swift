import ClusterPlan
import NetAddress

/// A kind of datastore as ``DrivenHost`` uses it: what differs between k0s, an operator's program and
/// whatever comes next. Nothing here decides anything; everything may be asked again after a crash.
protocol DatastoreDriver: AnyObject {
    /// For people.
    var name: String { get }
    /// What a joiner says and an admitting server compares, so that machines with different kinds
    /// do not mix.
    var kind: String { get }

    /// Whether a datastore's data is on this machine.
    func holdsData() throws(HostFailure) -> Bool
    /// What identifies the cluster on this server, its authority's certificate: the hash of it is
    /// certified.
    func authority(_ record: HostRecord) throws(HostFailure) -> [UInt8]
    /// Configures a new cluster of one; it is not started yet.
    func prepareFounding(_ record: HostRecord) throws(HostFailure)
    /// READY is certified, or this machine has joined: from here on a start with an empty directory
    /// must found nothing.
    func settle(_ record: HostRecord) throws(HostFailure)
    /// The program that is the datastore, in the foreground, and its arguments; no secrets.
    func command(_ record: HostRecord) throws(HostFailure) -> [String]
    /// - Throws: with the reason while this machine's part does not serve.
    func checkReadiness(_ record: HostRecord) throws(HostFailure)
    /// All servers and agents; the read needs a quorum of the datastore.
    func nodes(_ record: HostRecord) throws(HostFailure) -> [K3sNode]
    /// Secret: what `joiner` needs; at most ``DatastoreGrant/secretLimit`` bytes. `nil` for not now.
    func grant(
        _ record: HostRecord, to joiner: HostIdentity, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8]?
    /// Configures this machine to join `record.endpoints` with what ``grant(_:to:role:)`` gave.
    func prepareJoin(_ record: HostRecord, secret: [UInt8]) throws(HostFailure)
    /// Removes a member or an agent; it may be gone already.
    func remove(_ node: K3sNode, _ record: HostRecord) throws(HostFailure)
    /// Renames the data; the datastore has stopped.
    func setDataAside(_ record: HostRecord?, generation: UInt32) throws(HostFailure)
}

/// Which driver, and where its things are.
package enum DrivenDatastore: Sendable {
    /// An operator's program; docs/how-to/bring-your-own-datastore.md has the contract.
    case program(path: String, interface: String)
    case k0s(K0sSettings)
}

extension HostRecord {
    /// What this machine is or becomes.
    var role: DatastoreRole { phase == .agent ? .agent : .server }
}
