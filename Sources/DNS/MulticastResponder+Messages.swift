import MeshBase
import NetAddress

/// The records that the responder has, by kind.
struct RecordKinds: OptionSet {
    let rawValue: UInt8

    static let pointer = RecordKinds(rawValue: 1)
    static let service = RecordKinds(rawValue: 2)
    static let text = RecordKinds(rawValue: 4)
    static let addresses = RecordKinds(rawValue: 8)
    static let serviceType = RecordKinds(rawValue: 16)

    static let everything: RecordKinds = [.pointer, .service, .text, .addresses]
    static let each: [RecordKinds] = [.pointer, .service, .text, .addresses, .serviceType]
}

extension MulticastResponder {
    var serviceData: RecordData {
        .srv(ServiceLocation(port: configuration.port, target: host))
    }

    var textData: RecordData { .txt(configuration.texts) }

    var serviceRecord: ResourceRecord {
        ResourceRecord(
            instance, serviceData, ttl: MulticastDNS.hostTTL,
            recordClass: RecordClass.internet.marked)
    }

    var textRecord: ResourceRecord {
        ResourceRecord(
            instance, textData, ttl: MulticastDNS.sharedTTL,
            recordClass: RecordClass.internet.marked)
    }

    /// Our records of the given kinds; addresses are those of `interface` alone, since others
    /// may not be reachable from its link.
    func records(
        _ kinds: RecordKinds, on interface: DiscoveryInterface
    ) -> [ResourceRecord] {
        var result: [ResourceRecord] = []
        if kinds.contains(.serviceType), let all = MulticastDNS.serviceTypes {
            result.append(
                ResourceRecord(
                    all, .ptr(configuration.serviceType), ttl: MulticastDNS.sharedTTL))
        }
        if kinds.contains(.pointer) {
            result.append(
                ResourceRecord(
                    configuration.serviceType, .ptr(instance), ttl: MulticastDNS.sharedTTL))
        }
        if kinds.contains(.service) { result.append(serviceRecord) }
        if kinds.contains(.text) { result.append(textRecord) }
        if kinds.contains(.addresses) {
            for ip in interface.addresses.prefix(MulticastBrowser.maximumAddresses) {
                result.append(
                    ResourceRecord(
                        host, .address(ip), ttl: MulticastDNS.hostTTL,
                        recordClass: RecordClass.internet.marked))
            }
        }
        return result
    }

    /// A response with the given records, and with what a browser would ask for next
    /// (RFC 6763 section 12).
    func response(
        with kinds: RecordKinds, on interface: DiscoveryInterface
    ) -> DNSMessage {
        var message = DNSMessage(flags: [.response, .authoritative])
        message.answers = records(kinds, on: interface)
        var further: RecordKinds = []
        if kinds.contains(.pointer) { further = [.service, .text, .addresses] }
        if kinds.contains(.service) { further.formUnion(.addresses) }
        message.additionals = records(further.subtracting(kinds), on: interface)
        return message
    }

    /// For a resolver that is no multicast DNS participant: it expects its identifier and its
    /// question back, short lifetimes and no marked classes (RFC 6762 section 6.7).
    func legacyResponse(
        to query: DNSMessage, _ kinds: RecordKinds, on interface: DiscoveryInterface
    ) -> [UInt8] {
        var response = self.response(with: kinds, on: interface)
        response.id = query.id
        response.questions = Array(query.questions.prefix(1))
        let plain = { (record: ResourceRecord) in
            ResourceRecord(
                record.name, record.data, ttl: min(record.ttl, MulticastDNS.legacyTTL),
                recordClass: record.recordClass.unmarked)
        }
        response.answers = response.answers.map(plain)
        response.additionals = response.additionals.map(plain)
        return response.encoded()
    }

    /// Asks who has our names, with the records that we want to have in the authority section
    /// (RFC 6762 section 8.2).
    func probe(on interface: DiscoveryInterface) -> DNSMessage {
        var message = DNSMessage()
        for name in [instance, host] {
            message.questions.append(
                DNSQuestion(name, .any, recordClass: RecordClass.internet.marked))
        }
        message.authorities = records([.service, .text, .addresses], on: interface).map {
            ResourceRecord($0.name, $0.data, ttl: $0.ttl)
        }
        return message
    }
}

/// A random host name, and an instance of `type` under the same label.
func randomNames(
    _ type: DNSName, random: inout SeededGenerator
) -> (instance: DNSName, host: DNSName) {
    let label = Array(random.bytes(6).hex.utf8)
    return (type.prepending(label) ?? type, MulticastDNS.local.prepending(label) ?? type)
}

/// Class, type and uncompressed data: the order of RFC 6762 section 8.2.
func comparisonKey(_ record: ResourceRecord) -> [UInt8] {
    var writer = DNSWriter(id: 0, flags: [])
    writer.write(record.recordClass.unmarked.rawValue)
    writer.write(record.type.rawValue)
    writer.write(
        ResourceRecord(.root, record.data, ttl: 0), in: .answer)
    return Array(writer.bytes[DNSReader.headerSize...])
}

func precedesKey(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    first.lexicographicallyPrecedes(second)
}

func precedes(_ first: [[UInt8]], _ second: [[UInt8]]) -> Bool {
    for (ours, theirs) in zip(first, second) where ours != theirs {
        return ours.lexicographicallyPrecedes(theirs)
    }
    return first.count < second.count
}
