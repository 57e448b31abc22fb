import MeshBase
import NetAddress

/// Offers one service on the link (RFC 6762): probes its names, announces them, answers
/// questions, says goodbye. Both names are random, so they say nothing about the machine and
/// hardly ever collide; after a collision new ones are drawn.
package struct MulticastResponder {
    package private(set) var instance: DNSName
    package private(set) var host: DNSName
    let configuration: LocalDiscoveryConfiguration
    private(set) var interfaces: [DiscoveryInterface] = []
    private var phase: Phase = .silent
    /// The names were probed and announced, and nobody else has them.
    private var ownsNames = false
    private var responses: [PendingResponse] = []
    private var lastMulticast: [Link: BootInstant] = [:]
    private var conflicts = 0

    private enum Phase {
        case silent
        /// `sent` probes are out; the next is due.
        case probing(sent: Int, next: BootInstant)
        case announcing(sent: Int, next: BootInstant)
        case established
    }

    /// One family on one interface.
    private struct Link: Hashable {
        let interface: UInt32
        let family: DiscoveryFamily
    }

    /// A multicast response that waits for its moment; at most one per link.
    private struct PendingResponse {
        let link: Link
        var records: RecordKinds
        var due: BootInstant
        /// Who has announced more known answers.
        var querier: SocketAddress?
    }

    package init(configuration: LocalDiscoveryConfiguration, random: inout SeededGenerator) {
        self.configuration = configuration
        (instance, host) = randomNames(configuration.serviceType, random: &random)
    }

    package var deadline: BootInstant? {
        var result = responses.lazy.map(\.due).min()
        switch phase {
        case .probing(_, let next), .announcing(_, let next): result = earlier(result, next)
        case .silent, .established: break
        }
        return result
    }

    /// The set of interfaces changed; with news among them the names are probed again
    /// (RFC 6762 section 8). Meanwhile names that were won are still answered for.
    mutating func setInterfaces(
        _ interfaces: [DiscoveryInterface], hasNews: Bool, at now: BootInstant,
        random: inout SeededGenerator
    ) {
        self.interfaces = interfaces.sorted { $0.index < $1.index }
        responses.removeAll { response in
            !interfaces.contains { $0.index == response.link.interface }
        }
        lastMulticast = lastMulticast.filter { link, _ in
            interfaces.contains { $0.index == link.interface }
        }
        if interfaces.isEmpty {
            phase = .silent
        } else if hasNews {
            let delay = random.duration(in: .zero...MulticastDNS.probeInterval)
            phase = .probing(sent: 0, next: now + delay)
        }
    }

    // MARK: Receiving

    /// Takes a query that arrived on `interface`, and answers it now or later.
    mutating func receive(
        query message: DNSMessage, from source: SocketAddress, interface: DiscoveryInterface,
        at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LocalDiscoveryAction]
    ) {
        if losesTieBreak(message) {
            return rename(after: .seconds(1), at: now, random: &random)
        }
        guard ownsNames else { return }
        let family: DiscoveryFamily = source.ip.isIPv4 ? .ipv4 : .ipv6
        let link = Link(interface: interface.index, family: family)
        if message.questions.isEmpty {
            return forget(known(message.answers, on: interface), on: link, askedBy: source)
        }
        let wanted = wantedRecords(message.questions)
        let records = wanted.kinds.subtracting(known(message.answers, on: interface))
        guard !records.isEmpty else { return }
        if source.port != MulticastDNS.port {
            let response = legacyResponse(to: message, records, on: interface)
            actions.append(.send(response, to: .unicast(source, interface: interface.index)))
            return
        }
        let earliest = lastMulticast[link].map { $0 + MulticastDNS.multicastInterval }
        let isRecent = earliest.map { now < $0 } ?? false
        // A unicast answer may end at another responder of the machine that shares the port, so
        // multicast goes first whenever the rate rule allows it (RFC 6762 sections 5.4 and 15.1).
        if wanted.prefersUnicast, isRecent {
            let bytes = response(with: records, on: interface).encoded()
            actions.append(.send(bytes, to: .unicast(source, interface: interface.index)))
            return
        }
        let hasMore = message.flags.contains(.truncated)
        let delay =
            hasMore
            ? random.duration(in: MulticastDNS.moreKnownAnswersDelay)
            : random.duration(in: MulticastDNS.sharedDelay)
        let due = max(now + delay, earliest ?? now)
        schedule(records, on: link, due: due, querier: hasMore ? source : nil)
    }

    /// Looks for records of others under our names (RFC 6762 section 9).
    mutating func receive(
        response message: DNSMessage, at now: BootInstant, random: inout SeededGenerator
    ) {
        if case .silent = phase { return }
        let records = message.answers + message.additionals
        guard records.contains(where: isConflict) else { return }
        rename(after: .zero, at: now, random: &random)
    }

    private func isConflict(_ record: ResourceRecord) -> Bool {
        guard record.ttl > 0, record.recordClass.unmarked == .internet else { return false }
        switch record.data {
        case .srv: return record.name == instance && record.data != serviceData
        case .txt: return record.name == instance && record.data != textData
        case .address(let ip): return record.name == host && !isOwn(ip)
        case .ns, .cname, .ptr, .soa, .mx, .opaque: return false
        }
    }

    private func isOwn(_ ip: IPAddress) -> Bool {
        interfaces.contains { $0.addresses.contains(ip) }
    }

    /// Two nodes probe the same name at once: the one with the greater records wins
    /// (RFC 6762 section 8.2). Our own probe that comes back on a second interface is no rival.
    private func losesTieBreak(_ message: DNSMessage) -> Bool {
        guard case .probing = phase else { return false }
        let theirs = message.authorities.filter { $0.name == instance }.map(comparisonKey)
        if !theirs.isEmpty {
            let ours = [serviceRecord, textRecord].map(comparisonKey)
            if precedes(ours.sorted(by: precedesKey), theirs.sorted(by: precedesKey)) {
                return true
            }
        }
        return message.authorities.contains { $0.name == host && isConflict($0) }
    }

    private mutating func rename(
        after delay: Duration, at now: BootInstant, random: inout SeededGenerator
    ) {
        conflicts += 1
        ownsNames = false
        (instance, host) = randomNames(configuration.serviceType, random: &random)
        responses = []
        let patience =
            conflicts >= MulticastDNS.conflictLimit ? MulticastDNS.conflictDelay : delay
        phase = .probing(sent: 0, next: now + patience)
    }

    /// Records that the questions ask for, and whether all who ask would like a unicast answer.
    private func wantedRecords(
        _ questions: [DNSQuestion]
    ) -> (kinds: RecordKinds, prefersUnicast: Bool) {
        var kinds: RecordKinds = []
        var prefersUnicast = true
        for question in questions {
            let matched = matchingRecords(question)
            guard !matched.isEmpty else { continue }
            kinds.formUnion(matched)
            prefersUnicast = prefersUnicast && question.recordClass.isMarked
        }
        return (kinds, prefersUnicast)
    }

    private func matchingRecords(_ question: DNSQuestion) -> RecordKinds {
        let asked = question.recordClass.unmarked
        guard asked == .internet || asked == .any else { return [] }
        let isAny = question.type == .any
        if question.name == configuration.serviceType {
            return isAny || question.type == .ptr ? .pointer : []
        }
        if question.name == instance {
            if isAny { return [.service, .text] }
            return question.type == .srv ? .service : question.type == .txt ? .text : []
        }
        if question.name == host {
            return isAny || question.type == .a || question.type == .aaaa ? .addresses : []
        }
        if question.name == MulticastDNS.serviceTypes {
            return isAny || question.type == .ptr ? .serviceType : []
        }
        return []
    }

    /// Our records among `answers` that live at least half as long as we would say
    /// (RFC 6762 section 7.1).
    private func known(
        _ answers: [ResourceRecord], on interface: DiscoveryInterface
    ) -> RecordKinds {
        guard !answers.isEmpty else { return [] }
        var kinds: RecordKinds = []
        for kind in RecordKinds.each {
            let ours = records(kind, on: interface)
            let isKnown = ours.allSatisfy { own in
                answers.contains {
                    $0.name == own.name && $0.data == own.data && $0.ttl >= own.ttl / 2
                }
            }
            if isKnown, !ours.isEmpty { kinds.formUnion(kind) }
        }
        return kinds
    }

    private mutating func forget(
        _ kinds: RecordKinds, on link: Link, askedBy source: SocketAddress
    ) {
        for index in responses.indices
        where responses[index].link == link && responses[index].querier == source {
            responses[index].records.subtract(kinds)
        }
        responses.removeAll { $0.records.isEmpty }
    }

    private mutating func schedule(
        _ records: RecordKinds, on link: Link, due: BootInstant, querier: SocketAddress?
    ) {
        if let index = responses.firstIndex(where: { $0.link == link }) {
            responses[index].records.formUnion(records)
            responses[index].due = min(responses[index].due, due)
            responses[index].querier = nil
        } else {
            responses.append(
                PendingResponse(link: link, records: records, due: due, querier: querier))
        }
    }

    // MARK: Time

    mutating func timeout(at now: BootInstant, into actions: inout [LocalDiscoveryAction]) {
        switch phase {
        case .probing(let sent, let next) where next <= now:
            if sent < MulticastDNS.probeCount {
                multicast(into: &actions) { probe(on: $0) }
                phase = .probing(sent: sent + 1, next: now + MulticastDNS.probeInterval)
            } else {
                announce(sent: 0, at: now, into: &actions)
            }
        case .announcing(let sent, let next) where next <= now:
            announce(sent: sent, at: now, into: &actions)
        case .silent, .probing, .announcing, .established: break
        }
        for response in responses where response.due <= now {
            guard let interface = interfaces.first(where: { $0.index == response.link.interface })
            else { continue }
            let bytes = self.response(with: response.records, on: interface).encoded()
            lastMulticast[response.link] = now
            actions.append(
                .send(
                    bytes,
                    to: .multicast(
                        interface: response.link.interface, family: response.link.family)))
        }
        responses.removeAll { $0.due <= now }
    }

    private mutating func announce(
        sent: Int, at now: BootInstant, into actions: inout [LocalDiscoveryAction]
    ) {
        multicast(into: &actions) { response(with: .everything, on: $0) }
        for interface in interfaces {
            for family in interface.families {
                lastMulticast[Link(interface: interface.index, family: family)] = now
            }
        }
        ownsNames = true
        let isLast = sent + 1 == MulticastDNS.announcementCount
        phase =
            isLast
            ? .established
            : .announcing(sent: sent + 1, next: now + MulticastDNS.announcementInterval)
    }

    /// Tells the link that the service ends (RFC 6762 section 10.1).
    mutating func shutDown(into actions: inout [LocalDiscoveryAction]) {
        if ownsNames {
            multicast(into: &actions) { interface in
                var goodbye = response(with: .everything, on: interface)
                for index in goodbye.answers.indices { goodbye.answers[index].ttl = 0 }
                return goodbye
            }
        }
        ownsNames = false
        phase = .silent
        responses = []
    }

    private func multicast(
        into actions: inout [LocalDiscoveryAction], _ build: (DiscoveryInterface) -> DNSMessage
    ) {
        for interface in interfaces {
            let bytes = build(interface).encoded()
            for family in interface.families {
                actions.append(
                    .send(bytes, to: .multicast(interface: interface.index, family: family)))
            }
        }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(instance.wire)
        fingerprint.mix(deadline)
        fingerprint.mix(conflicts)
        for response in responses {
            fingerprint.mix(UInt64(response.link.interface))
            fingerprint.mix(UInt64(response.records.rawValue))
            fingerprint.mix(response.due)
        }
    }
}
