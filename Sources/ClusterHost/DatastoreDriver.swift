import ClusterPlan
import MeshBase
import NetAddress

/// A kind of datastore as ``DrivenHost`` uses it: what differs between K3s, k0s, an operator's
/// program and whatever comes next. Nothing here decides anything; everything may be asked again
/// after a crash.
protocol DatastoreDriver: AnyObject {
    /// For people.
    var name: String { get }
    /// What a joiner says and an admitting server compares, so that machines with different kinds
    /// do not mix.
    var kind: String { get }
    var logName: String { get }
    /// What an init system calls it.
    func unit(_ role: DatastoreRole) -> String
    var place: any JoinersPlace { get }

    /// Whether a datastore's data is on this machine.
    func holdsData() throws(HostFailure) -> Bool
    /// Why the member that this machine was cannot go on, if so: it joins anew.
    func lossOfMember(_ record: HostRecord) throws(HostFailure) -> String?
    /// Why the agent that this machine is cannot go on, if so: it joins anew. `nil` also while nobody
    /// can tell.
    func lossOfAgent(_ record: HostRecord) -> String?
    /// Whether this machine was seen in the cluster already, as the server or agent that it is.
    func hasJoined(_ record: HostRecord) -> Bool
    /// What identifies the cluster on this server, its authority's certificate: the hash of it is
    /// certified. Without a record: of data that is here nevertheless.
    func authority(_ record: HostRecord?) throws(HostFailure) -> [UInt8]
    /// Makes what a new cluster of one needs; it is not started yet.
    func prepareFounding(_ record: HostRecord) throws(HostFailure)
    /// Configures this machine to join `record.endpoints` with what ``grant(_:to:role:)`` gave.
    func prepareJoin(_ record: HostRecord, secret: [UInt8]) throws(HostFailure)
    /// Writes what the next start reads; `servers` are likely to answer, best first.
    func configure(_ record: HostRecord, servers: [IPAddress]) throws(HostFailure)
    /// READY is certified, or this machine has joined: from here on a start with an empty directory
    /// must found nothing.
    func settle(_ record: HostRecord) throws(HostFailure)
    /// What a founder has certified of the settings that all servers share; `nil` when there are none.
    func settingsHash() throws(HostFailure) -> Bytes32?
    /// - Throws: when a start would read other settings than the record's certified ones.
    func checkSettings(_ record: HostRecord) throws(HostFailure)
    /// The program that is the datastore, in the foreground, and its arguments; no secrets.
    func command(_ record: HostRecord) throws(HostFailure) -> [String]
    /// - Throws: with the reason while this machine's part does not serve yet.
    func checkReadiness(_ record: HostRecord) throws(HostFailure)
    /// - Throws: with the reason while it does not serve any more.
    func checkHealth(_ record: HostRecord) throws(HostFailure)
    /// All servers and agents; the read needs a quorum of the datastore.
    func nodes(_ record: HostRecord) throws(HostFailure) -> [K3sNode]
    func isOwn(_ node: K3sNode, _ record: HostRecord) -> Bool
    /// Whether somebody is there, whatever the datastore thinks.
    func takesConnections(_ node: K3sNode) -> Bool
    /// Secret: what `joiner` needs; at most ``DatastoreGrant/secretLimit`` bytes. `nil` for not now.
    func grant(
        _ record: HostRecord, to joiner: HostIdentity, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8]?
    /// Removes a member or an agent; it may be gone already.
    func remove(_ node: K3sNode, _ record: HostRecord) throws(HostFailure)
    /// Renames the data; the datastore has stopped.
    func setDataAside(_ record: HostRecord?, generation: UInt32) throws(HostFailure)
}

extension DatastoreDriver {
    var logName: String { "datastore.log" }
    func unit(_ role: DatastoreRole) -> String { name }

    func lossOfMember(_ record: HostRecord) throws(HostFailure) -> String? {
        try holdsData() ? nil : "the datastore's data on this machine is lost"
    }

    func lossOfAgent(_ record: HostRecord) -> String? { nil }
    func hasJoined(_ record: HostRecord) -> Bool { record.role == .server }
    func configure(_ record: HostRecord, servers: [IPAddress]) throws(HostFailure) {}
    func settingsHash() throws(HostFailure) -> Bytes32? { nil }
    func checkSettings(_ record: HostRecord) throws(HostFailure) {}
    func checkHealth(_ record: HostRecord) throws(HostFailure) { try checkReadiness(record) }
    func isOwn(_ node: K3sNode, _ record: HostRecord) -> Bool { node.ipv4 == record.address }
    func takesConnections(_ node: K3sNode) -> Bool { true }
}

/// Which driver, and where its things are.
package enum DrivenDatastore: Sendable {
    case k3s(K3sSettings)
    case k0s(K0sSettings)
    /// An operator's program; docs/how-to/bring-your-own-datastore.md has the contract.
    case program(path: String, interface: String)
}

extension HostRecord {
    /// What this machine is or becomes.
    var role: DatastoreRole { phase == .agent ? .agent : .server }
}
