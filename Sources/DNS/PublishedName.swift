import MeshBase

/// Whose questions published records answer: a name of the zone, or every name that a pattern
/// matches.
package enum PublishedOwner: Hashable, Sendable {
    /// Absolute.
    case name(DNSName)
    case pattern(NamePattern)
}

package struct PublishedRecord: Hashable, Sendable {
    /// Seconds.
    package var ttl: UInt32
    package var data: RecordData

    package init(_ data: RecordData, ttl: UInt32 = NameTable.positiveTTL) {
        self.ttl = ttl
        self.data = data
    }
}

/// What one member publishes under one name: an entry of the ledger's bucket `dns`.
///
/// The key is the name relative to the zone (`@` for the zone itself, `*.` in front for a
/// wildcard), or a pattern between slashes. The value has one record a line: `TTL TYPE DATA` in the
/// presentation format.
package struct PublishedName: Hashable, Sendable {
    package let owner: PublishedOwner
    package var records: [PublishedRecord]

    /// Names are not copies of the world's; a day is what resolvers keep at most.
    package static let maximumTTL: UInt32 = 86_400
    /// More do not fit a UDP answer, and a value has 4 KiB.
    package static let maximumRecords = 64

    package init(owner: PublishedOwner, records: [PublishedRecord]) {
        self.owner = owner
        self.records = records
    }

    /// The owner that `text` names; `nil` when it is neither a name of `zone` nor a pattern.
    package static func owner(_ text: String, zone: DNSName) -> PublishedOwner? {
        if text.utf8.count >= 2, text.hasPrefix("/"), text.hasSuffix("/") {
            return NamePattern(String(text.dropFirst().dropLast())).map { .pattern($0) }
        }
        if text == "@" { return .name(zone) }
        guard let name = DNSName(text), !name.isRoot else { return nil }
        if name.isWithin(zone) { return .name(name) }
        guard !text.hasSuffix(".") else { return nil }
        return name.appending(zone).map { .name($0) }
    }

    /// The ledger's key for `owner`: equal for every spelling of a name.
    package static func key(_ owner: PublishedOwner, zone: DNSName) -> String {
        switch owner {
        case .pattern(let pattern): return "/\(pattern.text)/"
        case .name(let name):
            guard name != zone else { return "@" }
            let labels = name.labels.dropLast(zone.labels.count).map { $0.map(foldCase) }
            return DNSName(labels: labels)?.description ?? "@"
        }
    }

    package func key(zone: DNSName) -> String { PublishedName.key(owner, zone: zone) }

    package var value: [UInt8] {
        Array(
            records.map { "\($0.ttl) \($0.data.type) \($0.data.text)" }.joined(separator: "\n").utf8
        )
    }

    /// Reads an entry; lines that are no records are left out, so that a newer version's types do
    /// not cost the others. `nil` when nothing is left.
    package init?(key: String, value: [UInt8], zone: DNSName) {
        guard let owner = PublishedName.owner(key, zone: zone),
            PublishedName.key(owner, zone: zone) == key
        else { return nil }
        var records: [PublishedRecord] = []
        for line in String(decoding: value, as: UTF8.self).split(separator: "\n")
        where records.count < PublishedName.maximumRecords {
            if let record = PublishedRecord(line: line, zone: zone), !records.contains(record) {
                records.append(record)
            }
        }
        guard !records.isEmpty else { return nil }
        self.init(owner: owner, records: records)
    }
}

extension PublishedRecord {
    /// `[TTL] TYPE DATA`.
    init?(line: Substring, zone: DNSName) {
        var words = line.split(separator: " ", maxSplits: 1)
        var ttl = NameTable.positiveTTL
        if let number = words.first.flatMap({ UInt32($0) }) {
            guard words.count == 2, number <= PublishedName.maximumTTL else { return nil }
            ttl = number
            words = words[1].split(separator: " ", maxSplits: 1)
        }
        guard words.count == 2, let type = RecordType(String(words[0])),
            let data = try? RecordData(type, text: String(words[1]), zone: zone)
        else { return nil }
        self.init(data, ttl: ttl)
    }
}
