import HTTPAPI

/// A node whose answers a test can foresee.
actor FakeNode: ControlHandle {
    private var entries: [String: LedgerEntryModel] = [:]
    private var records: [NameRecordModel] = []
    private let counters: NameCountersModel?
    static let id = String(repeating: "ab", count: 32)
    static let peer = String(repeating: "cd", count: 32)

    /// - Parameter counters: of the name server; without them there is none.
    init(counters: NameCountersModel? = nil) {
        self.counters = counters
    }

    func status() -> StatusModel {
        StatusModel(
            node: NodeModel(
                id: FakeNode.id, hostname: "a", ipv4: "10.1.0.7", ipv6: "fd00::7", port: 40_000,
                version: "0.1"),
            peers: [
                PeerModel(
                    id: FakeNode.peer, hostname: "b", state: .alive, path: .direct, rttMs: 0.25)
            ],
            cluster: ClusterModel(phase: .none), drops: ["frame queue full": 3])
    }

    func clusterStatus() -> ClusterStatusModel {
        ClusterStatusModel(cluster: ClusterModel(phase: .none))
    }

    func clusterOrder(_ order: ClusterOrderModel) throws(ControlFailure) -> ClusterStatusModel {
        guard order.order == .found else {
            throw ControlFailure(.refused, "not \(order.order.rawValue)", fix: "wait")
        }
        return ClusterStatusModel(cluster: ClusterModel(phase: .claiming))
    }

    func leaveCluster() throws(ControlFailure) {
        throw ControlFailure(.refused, "this is the only server", fix: "add another one")
    }

    func removeFromCluster(_ machine: String) throws(ControlFailure) -> String {
        guard machine != "b" else {
            throw ControlFailure(.refused, "b is alive", fix: "stop it")
        }
        return "\(machine)-abcdef"
    }

    func lease(_ name: String, _ request: LeaseRequestModel) -> LeaseModel {
        LeaseModel(state: .held, number: 7, validMs: 9_000, reason: "\(name) \(request.session)")
    }

    func ping(_ node: String, timeoutMilliseconds: Int) throws(ControlFailure) -> PingModel {
        switch node {
        case "b": return PingModel(id: FakeNode.peer, hostname: "b", rttMs: 0.25, path: .direct)
        case "dangerous": throw ControlFailure(.refused, "no", fix: "do not")
        case "busy": throw ControlFailure(.unavailable, "not now", fix: "later")
        default: throw ControlFailure(.notFound, "nobody is called \(node)", fix: "see peers")
        }
    }

    func names() -> [NameModel] {
        [NameModel(name: "a.mesh.internal", addresses: ["10.1.0.7", "fd00::7"], id: FakeNode.id)]
    }

    func nameRecords() -> [NameRecordModel] { records }

    func publishName(_ record: NameRecordRequestModel) throws(ControlFailure) -> [NameRecordModel] {
        guard record.type == "A" else {
            throw ControlFailure(.invalid, "no such type", fix: "say A")
        }
        records.append(
            NameRecordModel(
                name: record.name, type: record.type, data: record.data, ttl: record.ttl ?? 20,
                owner: FakeNode.id, served: true))
        return records.filter { $0.name == record.name }
    }

    func withdrawName(_ name: String, type: String?, data: String?) throws(ControlFailure)
        -> [NameRecordModel]
    {
        let gone = records.filter {
            $0.name == name && (type == nil || $0.type == type) && (data == nil || $0.data == data)
        }
        guard !gone.isEmpty else { throw ControlFailure(.notFound, "no record", fix: "list them") }
        records.removeAll { gone.contains($0) }
        return gone
    }

    func nameCounters() -> NameCountersModel? { counters }

    func ledgerEntries(bucket: String?) -> [LedgerEntryModel] {
        entries.values.filter { bucket == nil || $0.bucket == bucket }
            .sorted { ($0.bucket, $0.key) < ($1.bucket, $1.key) }
    }

    func putLedgerEntry(bucket: String, key: String, value: [UInt8]) throws(ControlFailure)
        -> LedgerEntryModel
    {
        let version = (entries["\(bucket)/\(key)"]?.version ?? 0) + 1
        let entry = LedgerEntryModel(
            bucket: bucket, key: key, owner: FakeNode.id, version: version, value: value)
        entries["\(bucket)/\(key)"] = entry
        return entry
    }

    func ledgerRevision(after revision: UInt64?, timeoutMilliseconds: Int) -> UInt64 {
        UInt64(entries.values.reduce(0) { $0 + $1.version })
    }

    func adoptLedgerEntry(_ encoded: [UInt8]) throws(ControlFailure) {
        guard encoded == [1, 2, 3] else { throw ControlFailure(.invalid, "no", fix: "other") }
    }

    func deleteLedgerEntry(bucket: String, key: String) throws(ControlFailure) {
        guard entries.removeValue(forKey: "\(bucket)/\(key)") != nil else {
            throw ControlFailure(.notFound, "no entry", fix: "list them")
        }
    }
}
