import MeshBase
import NetAddress

/// Finds the services of one type on the link (RFC 6763 section 4) and keeps them current.
///
/// It learns from answers, from announcements that nobody asked for, and from the probes of a
/// service that is just starting, so that two nodes that start together need not wait for each
/// other's announcement.
package struct MulticastBrowser {
    private let serviceType: DNSName
    private var interfaces: [DiscoveryInterface] = []
    private var services: [DNSName: BrowsedService] = [:]
    private var queriesSent = 0
    private var nextQuery: BootInstant?

    /// Services on one link: more than machines of any mesh that is found by multicast.
    package static let maximumServices = 256
    /// Addresses of one host: a machine with a few interfaces and temporary IPv6 addresses.
    static let maximumAddresses = 16
    /// Bytes of all strings of a TXT record; RFC 6763 section 6.2 recommends 400 or fewer.
    static let maximumTextBytes = 512
    /// What a probe says is a plan: it is believed until the announcement must have come.
    private static let probeLifetime: UInt32 = 10
    /// Questions for the missing parts of one service before its next announcement.
    private static let resolveAttempts = 3

    package init(serviceType: DNSName) {
        self.serviceType = serviceType
    }

    package var deadline: BootInstant? {
        services.values.reduce(nextQuery) { result, entry in
            earlier(earlier(result, entry.nextExpiry), entry.nextQuestion)
        }
    }

    /// Somebody is missed: the next question is due now, though others would wait.
    mutating func askAgain(at now: BootInstant) {
        nextQuery = nextQuery.map { min($0, now) }
    }

    /// The set of interfaces changed; with news among them the links are asked again.
    mutating func setInterfaces(
        _ interfaces: [DiscoveryInterface], hasNews: Bool, at now: BootInstant,
        into actions: inout [LocalDiscoveryAction]
    ) {
        self.interfaces = interfaces.sorted { $0.index < $1.index }
        if hasNews {
            queriesSent = 0
            nextQuery = now
        }
        if interfaces.isEmpty { nextQuery = nil }
        for instance in services.keys.sorted() {
            services[instance]?.addresses.removeAll { address in
                !interfaces.contains { $0.index == address.interface }
            }
            report(instance, into: &actions)
        }
    }

    /// The caller found that `instance` is none of ours: it is not reported again and makes room
    /// first.
    package mutating func reject(_ instance: DNSName) {
        services[instance]?.isRejected = true
        services[instance]?.nextQuestion = nil
    }

    // MARK: Receiving

    /// Takes a response, or a query whose authority section holds the plans of a probe.
    mutating func receive(
        _ message: DNSMessage, interface: UInt32, own: DNSName, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [LocalDiscoveryAction]
    ) {
        let isProbe = !message.isResponse
        let records = isProbe ? message.authorities : message.answers + message.additionals
        var touched: Set<DNSName> = []
        for record in records where record.recordClass.unmarked == .internet {
            if let instance = learn(record, isProbe: isProbe, own: own, at: now) {
                touched.insert(instance)
            }
        }
        for instance in learnAddresses(records, interface: interface, isProbe: isProbe, at: now) {
            touched.insert(instance)
        }
        for instance in touched.sorted() {
            report(instance, into: &actions)
            planQuestion(instance, at: now, random: &random)
        }
    }

    /// Takes a PTR, SRV or TXT record; returns the instance that it is about.
    private mutating func learn(
        _ record: ResourceRecord, isProbe: Bool, own: DNSName, at now: BootInstant
    ) -> DNSName? {
        let ttl = isProbe ? min(record.ttl, MulticastBrowser.probeLifetime) : record.ttl
        let expiry = now + (ttl == 0 ? MulticastDNS.goodbyeDelay : .seconds(Int64(ttl)))
        if case .ptr(let instance) = record.data {
            guard record.name == serviceType, isInstance(instance), instance != own else {
                return nil
            }
            guard services[instance] != nil || ttl > 0 && makeRoom() else { return nil }
            services[instance, default: BrowsedService(expiry: expiry)].expiry = expiry
            services[instance]?.pointerTTL = ttl
            return instance
        }
        let instance = record.name
        guard isInstance(instance), instance != own else { return nil }
        if let known = services[instance] {
            guard !isProbe || !known.isAnnounced else { return nil }
        } else {
            guard isProbe, ttl > 0, makeRoom() else { return nil }
            services[instance] = BrowsedService(expiry: expiry)
        }
        switch record.data {
        case .srv(let location):
            if ttl == 0 {
                services[instance]?.expiry = expiry
            } else {
                if services[instance]?.location?.value.target != location.target {
                    services[instance]?.addresses = []
                }
                services[instance]?.location = .init(
                    value: location, ttl: ttl, receivedAt: now)
            }
        case .txt(let texts):
            let size = texts.reduce(0) { $0 + $1.count + 1 }
            guard ttl > 0, size <= MulticastBrowser.maximumTextBytes else { return nil }
            services[instance]?.texts = .init(
                value: texts, ttl: ttl, receivedAt: now)
        case .address, .ns, .cname, .ptr, .soa, .mx, .opaque: return nil
        }
        return instance
    }

    /// Whether `name` is one label below the service type.
    private func isInstance(_ name: DNSName) -> Bool {
        name.parent == serviceType
    }

    /// Drops a rejected service when the table is full; false when there is none.
    private mutating func makeRoom() -> Bool {
        guard services.count >= MulticastBrowser.maximumServices else { return true }
        let rejected = services.filter(\.value.isRejected).keys.min()
        guard let rejected else { return false }
        services[rejected] = nil
        return true
    }

    /// Takes the address records of hosts that known services point to.
    private mutating func learnAddresses(
        _ records: [ResourceRecord], interface: UInt32, isProbe: Bool, at now: BootInstant
    ) -> [DNSName] {
        var byHost: [DNSName: [ResourceRecord]] = [:]
        for record in records where record.recordClass.unmarked == .internet {
            if case .address = record.data { byHost[record.name, default: []].append(record) }
        }
        guard !byHost.isEmpty else { return [] }
        var touched: [DNSName] = []
        let concerned = services.filter { _, entry in
            guard let location = entry.location, !isProbe || !entry.isAnnounced else {
                return false
            }
            return byHost[location.value.target] != nil
        }
        for instance in concerned.keys.sorted() {
            guard var entry = services[instance], let location = entry.location,
                let news = byHost[location.value.target]
            else { continue }
            let limit = isProbe ? MulticastBrowser.probeLifetime : .max
            entry.note(news, interface: interface, lifetimeLimit: limit, at: now)
            services[instance] = entry
            touched.append(instance)
        }
        return touched
    }

    /// Tells the caller about a service that became complete, changed, or is complete no longer.
    private mutating func report(
        _ instance: DNSName, into actions: inout [LocalDiscoveryAction]
    ) {
        guard var entry = services[instance], !entry.isRejected else { return }
        guard let service = entry.complete(instance: instance) else {
            guard entry.reported != nil else { return }
            entry.reported = nil
            services[instance] = entry
            actions.append(.lost(instance: instance))
            return
        }
        guard entry.reported != service else { return }
        if entry.reported == nil { entry.nextQuestion = nil }
        entry.reported = service
        services[instance] = entry
        actions.append(.found(service))
    }

    /// Decides when to ask for what is missing, or for what would expire otherwise.
    private mutating func planQuestion(
        _ instance: DNSName, at now: BootInstant, random: inout SeededGenerator
    ) {
        guard var entry = services[instance], !entry.isRejected else { return }
        if entry.reported != nil, let location = entry.location {
            // At 80 to 82 % of the lifetime (RFC 6762 section 5.2).
            let lifetime = Int64(location.ttl) * 10
            let jitter = Int64.random(in: 0...lifetime * 2, using: &random)
            let due = location.receivedAt + .milliseconds(lifetime * 80 + jitter)
            if due > now {
                entry.attempts = 0
                entry.nextQuestion = due
            }
        } else if entry.attempts < MulticastBrowser.resolveAttempts, entry.nextQuestion == nil {
            entry.nextQuestion = now + random.duration(in: MulticastDNS.sharedDelay)
        }
        services[instance] = entry
    }

    // MARK: Time

    mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LocalDiscoveryAction]
    ) {
        for instance in services.keys.sorted() {
            expire(instance, at: now, into: &actions)
        }
        for instance in services.keys.sorted() {
            askAbout(instance, at: now, into: &actions)
        }
        if let due = nextQuery, due <= now {
            send(browseQuery(at: now), into: &actions)
            var interval: Duration = .seconds(1)
            for _ in 0..<min(queriesSent, 8) { interval = interval * 3 }
            nextQuery = now + min(interval, MulticastDNS.maximumQueryInterval)
            queriesSent += 1
        }
    }

    private mutating func expire(
        _ instance: DNSName, at now: BootInstant, into actions: inout [LocalDiscoveryAction]
    ) {
        guard var entry = services[instance], entry.nextExpiry <= now else { return }
        if entry.expiry <= now {
            services[instance] = nil
            if entry.reported != nil { actions.append(.lost(instance: instance)) }
            return
        }
        if let location = entry.location, location.expiry <= now { entry.location = nil }
        if let texts = entry.texts, texts.expiry <= now { entry.texts = nil }
        entry.addresses.removeAll { $0.expiry <= now }
        services[instance] = entry
        report(instance, into: &actions)
    }

    private mutating func askAbout(
        _ instance: DNSName, at now: BootInstant, into actions: inout [LocalDiscoveryAction]
    ) {
        guard var entry = services[instance], let due = entry.nextQuestion, due <= now else {
            return
        }
        var message = DNSMessage()
        message.questions = [DNSQuestion(instance, .srv), DNSQuestion(instance, .txt)]
        if let target = entry.location?.value.target {
            message.questions += [DNSQuestion(target, .a), DNSQuestion(target, .aaaa)]
        }
        send(message, into: &actions)
        entry.attempts += 1
        let pause: Duration = entry.reported == nil ? .seconds(1) : .seconds(10)
        entry.nextQuestion =
            entry.attempts < MulticastBrowser.resolveAttempts ? now + pause * entry.attempts : nil
        services[instance] = entry
    }

    /// The question for all instances. The first one permits a unicast answer (RFC 6762 section
    /// 5.4); known answers keep later ones quiet.
    private func browseQuery(at now: BootInstant) -> DNSMessage {
        var message = DNSMessage()
        let isFirst = queriesSent == 0
        let asked = isFirst ? RecordClass.internet.marked : .internet
        message.questions = [DNSQuestion(serviceType, .ptr, recordClass: asked)]
        var size = 100
        for instance in services.keys.sorted() {
            guard let entry = services[instance], entry.reported != nil else { continue }
            let remaining = (entry.expiry - now).components.seconds
            size += instance.wire.count + 12
            guard remaining * 2 >= Int64(entry.pointerTTL), remaining > 0,
                size < MulticastDNS.messageLimit
            else { continue }
            message.answers.append(
                ResourceRecord(serviceType, .ptr(instance), ttl: UInt32(clamping: remaining)))
        }
        return message
    }

    private func send(_ message: DNSMessage, into actions: inout [LocalDiscoveryAction]) {
        let bytes = message.encoded()
        for interface in interfaces {
            for family in interface.families {
                actions.append(
                    .send(bytes, to: .multicast(interface: interface.index, family: family)))
            }
        }
    }

    func fingerprint(into fingerprint: inout Fingerprint) {
        fingerprint.mix(queriesSent)
        fingerprint.mix(nextQuery)
        for instance in services.keys.sorted() {
            guard let entry = services[instance] else { continue }
            fingerprint.mix(instance.wire)
            entry.fingerprint(into: &fingerprint)
        }
    }
}
