import ClusterPlan
import DNS
import Ledger
import Membership
import MeshBase
import NetAddress

/// What the names of the mesh are made of, and which of it the newest ``NameTable`` has.
struct NamePublishing: Sendable {
    /// By author and ledger key.
    var entries: [NodeID: [String: PublishedName]] = [:]
    /// An entry changed since the table was made.
    var isStale = false
    /// A machine changed, or whether it is there.
    var membersAreStale = false
    /// When all members were looked at last.
    var settledAt = BootInstant.zero
    var settleAt: BootInstant? { membersAreStale ? settledAt + Self.settlePause : nil }
    /// In a mesh of more than ``crowd``, whose news come by the hundred.
    static let settlePause = Duration.milliseconds(100)
    static let crowd = 64
    var serial: UInt32 = 1
    var hosts: [HostNames] = []
    var published: PublishedZone?
    /// The addresses behind ``Node/controlPlaneName``.
    var controlPlane: [IPAddress] = []
}

/// The names of the mesh: machines, the control plane, and what members publish.
extension Node {
    /// The name of the control plane's servers in the zone; no machine is called so.
    package static let controlPlaneName = "api"

    /// Of machines with one hostname one has it: one that is heard before one that is not, and that
    /// before one that is gone; then the smaller id. The others get the first digits of their ids
    /// appended, on every node alike.
    package var hostnames: [NodeID: String] {
        var all = [(absence: 0, node: id, name: configuration.hostname)]
        for (node, member) in members {
            if let record = member.record {
                all.append((absence(of: node), node, record.hostname))
            }
        }
        all.sort { ($0.absence, $0.node) < ($1.absence, $1.node) }
        var taken: Set<String> = [Node.controlPlaneName]
        var result: [NodeID: String] = [:]
        for (_, node, name) in all {
            var candidate = name
            var digits = 6
            while !taken.insert(candidate.lowercased()).inserted {
                candidate = "\(name.prefix(62 - digits))-\(node.description.prefix(digits))"
                digits += 6
            }
            result[node] = candidate
        }
        return result
    }

    /// Takes an entry of the bucket `dns` into account; the table follows with ``rebuildNames``.
    mutating func nameEntryChanged(_ entry: LedgerEntry) {
        let content =
            entry.isTombstone
            ? nil : PublishedName(key: entry.key, value: entry.value, zone: names.zone)
        guard publishing.entries[entry.owner]?[entry.key] != content else { return }
        publishing.entries[entry.owner, default: [:]][entry.key] = content
        publishing.isStale = true
    }

    /// Makes a new table when what it is made of changed.
    mutating func rebuildNames(into actions: inout [NodeAction]) {
        publishing.isStale = false
        let machines = hostnames.sorted { $0.key < $1.key }.map { node, name in
            let member = members[node]
            let addresses =
                node == id
                ? [ipv6, ipv4] : [member?.certificate.ipv6, member?.ipv4]
            return (
                node,
                PublishedMachine(
                    name: name, addresses: addresses.compactMap { $0 }, isAlive: isThere(node))
            )
        }
        var publications: [Publication] = []
        for (author, (node, _)) in machines.enumerated() {
            guard let entries = publishing.entries[node] else { continue }
            publications += entries.sorted { $0.key < $1.key }
                .map { Publication(author: author, content: $0.value) }
        }
        let published = PublishedZone(
            zone: names.zone, machines: machines.map(\.1), publications: publications)
        var hosts = machines.map(\.1).filter(\.isAlive)
            .map { HostNames(name: $0.name, addresses: $0.addresses) }
        publishing.controlPlane = controlPlane
        if !publishing.controlPlane.isEmpty {
            hosts.append(
                HostNames(
                    name: Node.controlPlaneName, addresses: publishing.controlPlane,
                    isAlias: true))
        }
        guard hosts != publishing.hosts || published != publishing.published else { return }
        publishing.hosts = hosts
        publishing.published = published
        publishing.serial &+= 1
        names = NameTable(
            zone: names.zone, nameServer: hostnames[id] ?? configuration.hostname,
            serial: publishing.serial,
            prefixes: [
                configuration.token.ipv4Plan,
                MeshAddressing.prefix(meshID: configuration.token.meshID),
            ], hosts: hosts, records: published.records, patterns: published.patterns)
        actions.append(.namesChanged)
    }

    private func isThere(_ node: NodeID) -> Bool { absence(of: node) < 2 }

    /// 0 for a member that is heard, 1 for one that was not heard yet, 2 for one that is gone.
    private func absence(of node: NodeID) -> Int {
        guard node != id else { return 0 }
        return switch members[node]?.state {
        case .alive, .suspect: 0
        case .unknown: 1
        case .dead, .left, nil: 2
        }
    }

    /// The addresses of the datastore's servers that are there, sorted: the ready ones, or all
    /// while none says that it is.
    var controlPlane: [IPAddress] {
        let ready = cluster.readyServers.compactMap { $0 == id ? ipv4 : members[$0]?.ipv4 }
        if !ready.isEmpty { return ready.sorted() }
        return cluster.view.members.compactMap { member in
            guard member.isStarted, let node = member.node, isThere(node) else { return nil }
            return member.ipv4
        }.sorted()
    }
}

// MARK: - What people publish

/// Why a record is not published or withdrawn.
package enum NameProblem: Error, Hashable, Sendable {
    /// Neither a name of the zone nor a pattern between slashes.
    case owner(String)
    case record(RecordTextProblem)
    /// At most ``PublishedName/maximumTTL``.
    case ttl
    /// The name is that of another machine.
    case hostName(String)
    /// An alias excludes all other records of its name.
    case alias(String)
    /// ``PublishedName/maximumRecords`` under one name.
    case full
    /// This node publishes no such record.
    case missing
    case ledger(LedgerProblem)
}

/// A record that some member publishes.
package struct NameRecord: Hashable, Sendable {
    /// The ledger's key: relative to the zone, or a pattern.
    package var name: String
    package var record: PublishedRecord
    package var author: NodeID
    /// Whether questions are answered with it now.
    package var isServed: Bool
}

extension Node {
    /// Publishes a record as this node's own.
    ///
    /// - Parameters:
    ///   - name: relative to the zone or in it, `@`, `*.NAME`, or a pattern between slashes.
    ///   - data: in presentation format.
    /// - Returns: everything that this node publishes under the name now.
    package mutating func publish(
        name: String, type: String, data: String, ttl: UInt32?, at now: Now,
        into actions: inout [NodeAction]
    ) throws(NameProblem) -> [NameRecord] {
        guard let owner = PublishedName.owner(name, zone: names.zone) else { throw .owner(name) }
        guard let type = RecordType(type) else { throw .record(.type(type)) }
        let ttl = ttl ?? NameTable.positiveTTL
        guard ttl <= PublishedName.maximumTTL else { throw .ttl }
        let parsed: RecordData
        do throws(RecordTextProblem) {
            parsed = try RecordData(type, text: data, zone: names.zone)
        } catch {
            throw .record(error)
        }
        try checkOwner(owner, type)
        let key = PublishedName.key(owner, zone: names.zone)
        var content =
            publishing.entries[id]?[key] ?? PublishedName(owner: owner, records: [])
        content.records.removeAll { $0.data == parsed }
        guard content.records.allSatisfy({ ($0.data.type == .cname) == (type == .cname) }),
            type != .cname || content.records.isEmpty
        else { throw .alias(key) }
        guard content.records.count < PublishedName.maximumRecords else { throw .full }
        content.records.append(PublishedRecord(parsed, ttl: ttl))
        do throws(LedgerProblem) {
            try put(
                bucket: LedgerBucket.names, key: key, value: content.value, at: now,
                into: &actions)
        } catch {
            throw .ledger(error)
        }
        return nameRecords.filter { $0.author == id && $0.name == key }
    }

    private func checkOwner(_ owner: PublishedOwner, _ type: RecordType) throws(NameProblem) {
        guard case .name(let name) = owner else { return }
        let key = PublishedName.key(owner, zone: names.zone)
        if name == names.zone, type == .cname { throw .alias("@") }
        guard
            let machine = hostnames.first(where: { DNSName($0.value) == DNSName(key) })
        else {
            if key == Node.controlPlaneName { throw .hostName(key) }
            return
        }
        guard machine.key == id else { throw .hostName(key) }
        if type == .cname { throw .alias(key) }
    }

    /// Withdraws this node's own records under `name`: all of them, those of `type`, or the one
    /// with `data`.
    ///
    /// - Returns: the records that are no more.
    package mutating func withdraw(
        name: String, type: String?, data: String?, at now: Now, into actions: inout [NodeAction]
    ) throws(NameProblem) -> [NameRecord] {
        guard let owner = PublishedName.owner(name, zone: names.zone) else { throw .owner(name) }
        let key = PublishedName.key(owner, zone: names.zone)
        guard var content = publishing.entries[id]?[key] else { throw .missing }
        let wanted = try type.map { text throws(NameProblem) in
            guard let type = RecordType(text) else { throw .record(.type(text)) }
            return type
        }
        var wantedData: RecordData?
        if let wanted, let data {
            do throws(RecordTextProblem) {
                wantedData = try RecordData(wanted, text: data, zone: names.zone)
            } catch {
                throw .record(error)
            }
        }
        let isWanted = { (record: PublishedRecord) in
            (wanted == nil || record.data.type == wanted)
                && (wantedData == nil || record.data == wantedData)
        }
        let gone = content.records.filter(isWanted)
        guard !gone.isEmpty else { throw .missing }
        content.records.removeAll(where: isWanted)
        do throws(LedgerProblem) {
            if content.records.isEmpty {
                try delete(bucket: LedgerBucket.names, key: key, at: now, into: &actions)
            } else {
                try put(
                    bucket: LedgerBucket.names, key: key, value: content.value, at: now,
                    into: &actions)
            }
        } catch {
            throw .ledger(error)
        }
        return gone.map { NameRecord(name: key, record: $0, author: id, isServed: false) }
    }

    /// What all members publish, by name, then by author.
    package var nameRecords: [NameRecord] {
        var result: [NameRecord] = []
        for author in publishing.entries.keys.sorted() {
            guard let entries = publishing.entries[author] else { continue }
            for (key, content) in entries {
                result += content.records.map {
                    NameRecord(
                        name: key, record: $0, author: author,
                        isServed: publishing.published?.serves(content.owner, $0.data) ?? false)
                }
            }
        }
        return result.sorted { ($0.name, $0.author) < ($1.name, $1.author) }
    }
}
