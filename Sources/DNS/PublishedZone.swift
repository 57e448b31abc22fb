import NetAddress

/// Decides what of everybody's published records is served; equal on all nodes that hold the same
/// ledger and see the same machines alive.
///
/// - A machine's host name is its own: what others publish there does not count, and it has no
///   alias.
/// - At any other name the records of all authors stand together. An alias excludes everything else
///   (RFC 1034 section 3.6.2), so there the author with the smallest id decides.
/// - Records follow machines: what leads to one that is dead or gone is not served, and a service
///   of which nothing is left is not listed.
package struct PublishedZone: Hashable, Sendable {
    package private(set) var records: [ResourceRecord] = []
    package private(set) var patterns: [PatternRecords] = []

    /// The work for a name that nobody has is at most this many steps for each of its bytes; a
    /// usual pattern takes twenty.
    private static let maximumPatternSize = 8 * NamePattern.maximumInstructions

    /// - Parameters:
    ///   - machines: every machine with its name relative to the zone, alive or not.
    ///   - publications: by author in the order of their ids, then by key.
    package init(zone: DNSName, machines: [PublishedMachine], publications: [Publication]) {
        let hosts = MachineNames(zone: zone, machines: machines)
        var claimed: [DNSName: Claim] = [:]
        var order: [DNSName] = []
        for publication in publications {
            switch publication.content.owner {
            case .pattern(let pattern):
                patterns.append(
                    PatternRecords(
                        pattern: pattern,
                        records: publication.content.records.filter { hosts.isServed($0.data) }))
            case .name(let name):
                if let machine = hosts.owner(of: name), machine != publication.author { continue }
                let isHost = hosts.owner(of: name) != nil
                for record in publication.content.records {
                    let isAlias = record.data.type == .cname
                    if isAlias, isHost || name == zone { continue }
                    if claimed[name] == nil { order.append(name) }
                    claimed[name, default: Claim(isAlias: isAlias)].add(record)
                }
            }
        }
        var room = PublishedZone.maximumPatternSize
        patterns.removeAll { rule in
            guard !rule.records.isEmpty, rule.pattern.size <= room else { return true }
            room -= rule.pattern.size
            return false
        }
        serve(claimed, order, hosts, zone: zone)
    }

    /// Whether questions are answered with `data` at `owner`.
    package func serves(_ owner: PublishedOwner, _ data: RecordData) -> Bool {
        switch owner {
        case .name(let name): records.contains { $0.name == name && $0.data == data }
        case .pattern(let pattern):
            patterns.contains { rule in
                rule.pattern == pattern && rule.records.contains { $0.data == data }
            }
        }
    }

    private mutating func serve(
        _ claimed: [DNSName: Claim], _ order: [DNSName], _ hosts: MachineNames, zone: DNSName
    ) {
        var gone: Set<DNSName> = []
        var served: [(DNSName, PublishedRecord)] = []
        for name in order {
            guard let all = claimed[name]?.records else { continue }
            let left = all.filter { hosts.isServed($0.data) }
            let places = { (records: [PublishedRecord]) in
                records.contains { $0.data.isPlace }
            }
            if places(all), !places(left) {
                gone.insert(name)
            } else {
                served += left.map { (name, $0) }
            }
        }
        for (name, record) in served {
            if case .ptr(let target) = record.data, gone.contains(target) { continue }
            records.append(ResourceRecord(name, record.data, ttl: record.ttl))
        }
        records += browsingRecords(zone)
    }

    /// What a browser of services asks first: the types of services (RFC 6763 section 9), and where
    /// to look (section 11).
    private func browsingRecords(_ zone: DNSName) -> [ResourceRecord] {
        var types: Set<DNSName> = []
        for record in records where record.type == .ptr {
            let labels = record.name.labels.map { String(decoding: $0, as: UTF8.self).lowercased() }
            if labels.count == zone.labels.count + 2, labels[0].hasPrefix("_"),
                labels[1] == "_tcp" || labels[1] == "_udp"
            {
                types.insert(record.name)
            }
        }
        guard !types.isEmpty else { return [] }
        func below(_ text: String) -> DNSName? { DNSName(text)?.appending(zone) }
        var result: [ResourceRecord] = []
        if let all = below("_services._dns-sd._udp") {
            result += types.sorted().map {
                ResourceRecord(all, .ptr($0), ttl: NameTable.positiveTTL)
            }
        }
        for domain in ["b._dns-sd._udp", "lb._dns-sd._udp"].compactMap(below) {
            result.append(ResourceRecord(domain, .ptr(zone), ttl: NameTable.positiveTTL))
        }
        return result
    }

    /// The records of one name.
    private struct Claim {
        let isAlias: Bool
        var records: [PublishedRecord] = []

        mutating func add(_ record: PublishedRecord) {
            guard (record.data.type == .cname) == isAlias, !(isAlias && !records.isEmpty),
                !records.contains(where: { $0.data == record.data })
            else { return }
            records.append(record)
        }
    }
}

/// What one member publishes under one name.
package struct Publication: Hashable, Sendable {
    /// The author's place in ``PublishedZone/init(zone:machines:publications:)``'s machines.
    package var author: Int
    package var content: PublishedName

    package init(author: Int, content: PublishedName) {
        self.author = author
        self.content = content
    }
}

/// A machine as far as names are concerned.
package struct PublishedMachine: Hashable, Sendable {
    package var name: String
    package var addresses: [IPAddress]
    package var isAlive: Bool

    package init(name: String, addresses: [IPAddress], isAlive: Bool) {
        self.name = name
        self.addresses = addresses
        self.isAlive = isAlive
    }
}

/// Records for all names that a pattern matches.
package struct PatternRecords: Hashable, Sendable {
    let pattern: NamePattern
    let records: [PublishedRecord]
}

/// Which names and addresses are machines', and whether those are there.
private struct MachineNames {
    private var owners: [DNSName: Int] = [:]
    private var deadNames: Set<DNSName> = []
    private var deadAddresses: Set<IPAddress> = []

    init(zone: DNSName, machines: [PublishedMachine]) {
        for (index, machine) in machines.enumerated() {
            guard let name = DNSName(machine.name)?.appending(zone) else { continue }
            owners[name] = index
            guard !machine.isAlive else { continue }
            deadNames.insert(name)
            deadAddresses.formUnion(machine.addresses)
        }
        for machine in machines where machine.isAlive {
            deadAddresses.subtract(machine.addresses)
        }
    }

    func owner(of name: DNSName) -> Int? { owners[name] }

    func isServed(_ data: RecordData) -> Bool {
        switch data {
        case .address(let ip): !deadAddresses.contains(ip)
        case .srv(let service): !deadNames.contains(service.target)
        case .mx(_, let name), .ptr(let name), .cname(let name): !deadNames.contains(name)
        case .ns, .soa, .txt, .opaque: true
        }
    }
}

extension RecordData {
    /// Says where something is.
    fileprivate var isPlace: Bool {
        switch self {
        case .address, .srv, .mx: true
        case .ns, .cname, .ptr, .soa, .txt, .opaque: false
        }
    }
}
