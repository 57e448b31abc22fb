/// What a running node can be asked through its API.
///
/// The HTTP server calls it and knows nothing else of the node. The interpreter of the node (or a
/// test's double) implements it; every call answers from a snapshot or with one round trip and
/// never blocks a thread.
package protocol ControlHandle: Sendable {
    /// The node, its peers and its cluster at one moment.
    func status() async -> StatusModel

    /// The founding and the datastore with the certificates that prove them.
    func clusterStatus() async -> ClusterStatusModel

    /// Tells the founding what an operator wants; answers with what came of it at once.
    ///
    /// - Throws: `refused` with the reason when it would be unsafe or is impossible.
    func clusterOrder(_ order: ClusterOrderModel) async throws(ControlFailure)
        -> ClusterStatusModel

    /// Begins to take this machine out of the datastore for good.
    ///
    /// - Throws: `refused` when the datastore could not do without it.
    func leaveCluster() async throws(ControlFailure)

    /// Orders the removal of a dead machine from the datastore; it is done when the machine is
    /// unknown there.
    ///
    /// - Parameter machine: a name in the datastore, or a host name that one machine bears.
    /// - Returns: its name in the datastore.
    /// - Throws: `refused` when it is alive.
    func removeFromCluster(_ machine: String) async throws(ControlFailure) -> String

    /// A piece of work wants the lease `name`, or has ended.
    func lease(_ name: String, _ request: LeaseRequestModel) async throws(ControlFailure)
        -> LeaseModel

    /// Sends one probe through the tunnel to `node` and waits for its answer.
    ///
    /// - Parameters:
    ///   - node: a node id, an unambiguous beginning of one, a hostname, or an overlay address.
    ///   - timeoutMilliseconds: how long the answer may take, 1...60,000.
    /// - Throws: `notFound` when nothing is known by that name. A probe that stays unanswered is
    ///   no error: its report has no `rttMs`.
    func ping(_ node: String, timeoutMilliseconds: Int) async throws(ControlFailure) -> PingModel

    /// The names that the mesh zone answers, sorted.
    func names() async -> [NameModel]

    /// The records that members publish in the zone, by name, then by author.
    func nameRecords() async -> [NameRecordModel]

    /// Publishes a record as this node's; it is durable when the call returns.
    ///
    /// - Returns: everything that this node publishes under the name.
    func publishName(_ record: NameRecordRequestModel) async throws(ControlFailure)
        -> [NameRecordModel]

    /// Withdraws this node's own records under `name`, of `type`, with `data`, and returns them.
    func withdrawName(_ name: String, type: String?, data: String?) async throws(ControlFailure)
        -> [NameRecordModel]

    /// What the name server counted since it started; `nil` when there is none.
    func nameCounters() async -> NameCountersModel?

    /// The live entries of `bucket`, or of every bucket, sorted by bucket, key, owner.
    func ledgerEntries(bucket: String?) async -> [LedgerEntryModel]

    /// Writes this node's entry under `bucket` and `key`; it is durable when the call returns.
    func putLedgerEntry(bucket: String, key: String, value: [UInt8]) async throws(ControlFailure)
        -> LedgerEntryModel

    /// Waits until the ledger has another revision than `revision`, at most so long, and returns
    /// the present one. Revisions of one run of the node only compare for equality.
    func ledgerRevision(after revision: UInt64?, timeoutMilliseconds: Int) async -> UInt64

    /// Takes in an entry that the mesh's root key signed, and spreads it.
    func adoptLedgerEntry(_ encoded: [UInt8]) async throws(ControlFailure)

    /// Withdraws this node's own entry; entries of other owners stay.
    func deleteLedgerEntry(bucket: String, key: String) async throws(ControlFailure)
}

/// Why the node did not do what it was asked, in words for a person.
package struct ControlFailure: Error, Hashable, Sendable {
    /// What kind of refusal it is; it decides the HTTP status and the exit code.
    package enum Kind: String, Hashable, Sendable, Codable {
        /// The request itself is wrong: 400, exit code 2.
        case invalid
        /// Nothing is known by that name: 404, exit code 2.
        case notFound
        /// Doing it would be unsafe: 409, exit code 3.
        case refused
        /// It cannot be done now: 503, exit code 1.
        case unavailable
    }

    package var kind: Kind
    /// One sentence: what is wrong.
    package var message: String
    /// One sentence: what to do about it.
    package var fix: String

    package init(_ kind: Kind, _ message: String, fix: String) {
        self.kind = kind
        self.message = message
        self.fix = fix
    }
}
