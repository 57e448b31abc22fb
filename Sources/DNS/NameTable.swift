import MeshBase
import NetAddress

/// The names of a mesh at one moment: an immutable snapshot, rebuilt when the ledger changes and
/// handed to the name server's thread as a whole.
///
/// It is authoritative for the zone and for the reverse zones of the overlay's prefixes
/// (RFC 1035 section 3.5, RFC 3596 section 2.5). What it owns is never asked elsewhere.
package struct NameTable: Sendable {
    package let zone: DNSName
    /// Host names that cannot be names in the zone, for a warning.
    package let rejectedHosts: [String]
    let reverseZones: [ReverseZone]
    let reverseHosts: [ReverseHost]
    /// The overlay's address blocks.
    let prefixes: [IPPrefix]
    /// Records by owner. Names between an owner and the zone are present without records, so that
    /// they exist (RFC 4592 section 2.2.2).
    private let owners: [DNSName: [ResourceRecord]]
    /// For names that nothing else covers, the first that matches.
    private let patterns: [PatternRecords]
    private let startOfAuthority: StartOfAuthority
    private let nameServer: DNSName

    /// Seconds that positive answers may be kept: short, because machines come and go.
    package static let positiveTTL: UInt32 = 20
    /// Seconds that negative answers may be kept: a machine that just joined must be found soon.
    package static let negativeTTL: UInt32 = 10
    /// Aliases followed inside the zone for one question; a loop ends here.
    static let maximumAliases = 8
    /// Owners in one table: 10,000 machines with services; about 10 MB.
    static let maximumOwners = 65_536

    /// - Parameters:
    ///   - zone: for example `mesh.internal`.
    ///   - nameServer: this node's own host name in the zone; the zone's NS record.
    ///   - serial: the SOA serial; grows with every change that is published.
    ///   - prefixes: the overlay's address blocks, whose reverse zones the table owns.
    ///   - hosts: names relative to the zone, with their overlay addresses.
    ///   - records: further records inside the zone (services, aliases, `*.` wildcards).
    ///   - patterns: records of names that neither a host, a record nor a wildcard covers.
    package init(
        zone: DNSName, nameServer: String, serial: UInt32, prefixes: [IPPrefix],
        hosts: [HostNames], records: [ResourceRecord] = [], patterns: [PatternRecords] = []
    ) {
        var builder = NameTableBuilder(zone: zone)
        for host in hosts { builder.add(host) }
        for record in records { builder.add(record) }
        let primary = DNSName(nameServer)?.appending(zone) ?? zone
        self.zone = zone
        self.nameServer = primary
        rejectedHosts = builder.rejected
        startOfAuthority = StartOfAuthority(
            primary: primary,
            mailbox: zone.prepending(Array("hostmaster".utf8)) ?? zone, serial: serial,
            refresh: 3600, retry: 600, expire: 86_400, minimum: NameTable.negativeTTL)
        owners = builder.owners
        self.patterns = patterns
        self.prefixes = prefixes
        reverseZones = prefixes.sorted().flatMap(ReverseZone.zones)
        reverseHosts = builder.reverse.sorted()
    }

    /// The zone alone, before the node knows any name.
    package init(zone: DNSName) {
        self.init(zone: zone, nameServer: "ns", serial: 1, prefixes: [], hosts: [])
    }

    /// The apexes of the reverse zones.
    package var reverseApexes: [DNSName] { reverseZones.map(\.apex) }

    /// Whether the table answers for `name`; such a name is never forwarded.
    package func owns(_ name: DNSName) -> Bool {
        authority(over: name) != nil
    }

    /// The apex of the zone that holds `name`.
    private func authority(over name: DNSName) -> DNSName? {
        if name.isWithin(zone) { return zone }
        return reverseZones.first { name.isWithin($0.apex) }?.apex
    }

    /// Answers `question` when the table owns its name; `nil` otherwise.
    package func answer(_ question: DNSQuestion) -> NameAnswer? {
        guard let apex = authority(over: question.name) else { return nil }
        var answer = NameAnswer()
        if question.type == .axfr || question.type == .ixfr {
            answer.code = .refused
            return answer
        }
        if apex == zone {
            resolve(question, into: &answer)
        } else {
            resolveReverse(question, apex: apex, into: &answer)
        }
        if answer.needsAuthority {
            answer.authorities.append(
                ResourceRecord(apex, .soa(startOfAuthority), ttl: NameTable.negativeTTL))
        }
        return answer
    }

    private func resolve(_ question: DNSQuestion, into answer: inout NameAnswer) {
        var name = question.name
        for _ in 0..<NameTable.maximumAliases {
            guard let records = lookUp(name) else {
                answer.code = .nameError
                answer.needsAuthority = true
                return
            }
            let matching = records.selected(by: question.type)
            if !matching.isEmpty {
                answer.answers += matching
                answer.additionals += glue(for: matching)
                return
            }
            guard let alias = records.first(where: { $0.type == .cname }),
                case .cname(let target) = alias.data
            else {
                answer.needsAuthority = true
                return
            }
            answer.answers.append(alias)
            guard target.isWithin(zone) else {
                if !owns(target) { answer.foreignTarget = target }
                return
            }
            name = target
        }
        answer.code = .serverFailure
        answer.answers = []
    }

    /// Records at `name`, through a wildcard when the name does not exist (RFC 4592); `nil` when
    /// neither exists.
    private func lookUp(_ name: DNSName) -> [ResourceRecord]? {
        if name == zone { return apexRecords(zone) + (owners[zone] ?? []) }
        if let records = owners[name] { return records }
        var ancestor = name.parent
        while let candidate = ancestor, candidate.isWithin(zone) {
            let wildcard = candidate.prepending([UInt8(ascii: "*")])
            if let wildcard, let records = owners[wildcard] {
                return records.map {
                    ResourceRecord(name, $0.data, ttl: $0.ttl, recordClass: $0.recordClass)
                }
            }
            // Only the closest name that exists may have the wildcard.
            if candidate == zone || owners[candidate] != nil { break }
            ancestor = candidate.parent
        }
        return matchPattern(name)
    }

    private func matchPattern(_ name: DNSName) -> [ResourceRecord]? {
        guard !patterns.isEmpty else { return nil }
        let labels = name.labels.dropLast(zone.labels.count)
        let dotted = Array(labels.joined(separator: [UInt8(ascii: ".")]))
        return patterns.first { $0.pattern.matches(dotted) }?.records
            .map { ResourceRecord(name, $0.data, ttl: $0.ttl) }
    }

    func apexRecords(_ apex: DNSName) -> [ResourceRecord] {
        [
            ResourceRecord(apex, .soa(startOfAuthority), ttl: NameTable.positiveTTL),
            ResourceRecord(apex, .ns(nameServer), ttl: NameTable.positiveTTL),
        ]
    }

    /// Addresses of the names that `records` point to, which save the client a question.
    private func glue(for records: [ResourceRecord]) -> [ResourceRecord] {
        var result: [ResourceRecord] = []
        for record in records.prefix(8) {
            let target: DNSName
            switch record.data {
            case .srv(let service): target = service.target
            case .ns(let name), .mx(_, let name): target = name
            case .address, .cname, .ptr, .soa, .txt, .opaque: continue
            }
            result += (owners[target] ?? []).filter { $0.type == .a || $0.type == .aaaa }
        }
        return result
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(zone.wire)
        fingerprint.mix(UInt64(startOfAuthority.serial))
        fingerprint.mix(owners.count)
        fingerprint.mix(reverseHosts.count)
        fingerprint.mix(patterns.count)
    }
}

/// A machine's name and addresses.
package struct HostNames: Hashable, Sendable {
    /// Relative to the zone: `node-1`, or `web.rack2`.
    package var name: String
    package var addresses: [IPAddress]
    /// The addresses are another machine's too, and lead back to that one's name only.
    package var isAlias: Bool

    package init(name: String, addresses: [IPAddress], isAlias: Bool = false) {
        self.name = name
        self.addresses = addresses
        self.isAlias = isAlias
    }
}

/// What a ``NameTable`` says about a question.
package struct NameAnswer: Hashable, Sendable {
    package var code = ResponseCode.noError
    package var answers: [ResourceRecord] = []
    package var authorities: [ResourceRecord] = []
    package var additionals: [ResourceRecord] = []
    /// The name or the type does not exist, so the SOA record belongs in the authority section
    /// (RFC 2308 section 2).
    var needsAuthority = false
    /// Where the last alias leads, when that is not in the table.
    var foreignTarget: DNSName?
    /// About a name that is not ours.
    var isForeign = false
}

extension [ResourceRecord] {
    /// The records that answer a question for `asked`. ANY gets the records of one type, the first:
    /// everything would serve amplification more than clients (RFC 8482 section 4.1).
    func selected(by asked: RecordType) -> [ResourceRecord] {
        guard let type = asked == .any ? first?.type : asked else { return [] }
        return filter { $0.type == type }
    }
}

/// Collects the records of a table while it is built.
private struct NameTableBuilder {
    let zone: DNSName
    var owners: [DNSName: [ResourceRecord]] = [:]
    var reverse: [ReverseHost] = []
    var rejected: [String] = []

    init(zone: DNSName) {
        self.zone = zone
    }

    mutating func add(_ host: HostNames) {
        guard let relative = DNSName(host.name), !relative.isRoot,
            let name = relative.appending(zone), reserve(name)
        else {
            rejected.append(host.name)
            return
        }
        for address in host.addresses.sorted() {
            let record = ResourceRecord(name, .address(address), ttl: NameTable.positiveTTL)
            owners[name, default: []].append(record)
            if !host.isAlias { reverse.append(ReverseHost(address: address, name: name)) }
        }
    }

    mutating func add(_ record: ResourceRecord) {
        guard record.name.isWithin(zone), reserve(record.name) else {
            rejected.append(record.name.description)
            return
        }
        owners[record.name, default: []].append(record)
    }

    /// Makes `name` and the names above it exist.
    private mutating func reserve(_ name: DNSName) -> Bool {
        guard owners.count < NameTable.maximumOwners else { return false }
        var current: DNSName? = name
        while let existing = current, existing != zone, owners[existing] == nil {
            owners[existing] = []
            current = existing.parent
        }
        return true
    }
}
