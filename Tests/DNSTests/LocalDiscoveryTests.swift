import DNS
import MeshBase
import NetAddress
import Testing

/// Nodes on one or more links, with a virtual clock. A datagram takes a millisecond.
private struct Link {
    var nodes: [LocalDiscovery] = []
    var random = SeededGenerator(seed: 5)
    var now = BootInstant(nanoseconds: 5_000_000_000)
    var flying: [Flight] = []
    var found: [[LocalService]] = []
    var lost: [[DNSName]] = []
    var drops: [DNSDropReason] = []
    /// Everything sent, for looking at the wire.
    var wire: [Sent] = []
    /// Multicast datagrams from one node to another are lost when this says so.
    var isCut: (Int, Int) -> Bool = { _, _ in false }

    struct Flight {
        var bytes: [UInt8]
        var from: Int
        var source: SocketAddress
        var to: Int?
        var arrival: BootInstant
    }

    struct Sent {
        var node: Int
        var at: BootInstant
        var message: DNSMessage
        var destination: DiscoveryDestination
    }

    static let serviceType = DNSName("_edgevpn._udp.local") ?? .root

    static func address(_ node: Int) -> IPAddress { .v4(0xC0A8_0101 + UInt32(node)) }
    static func linkLocal(_ node: Int) -> IPAddress { .v6(0xFE80_0000_0000_0000, UInt64(node) + 1) }

    static func interface(_ node: Int) -> DiscoveryInterface {
        DiscoveryInterface(
            index: 2, addresses: [address(node), linkLocal(node)],
            prefixes: [IPPrefix("192.168.1.0/24"), IPPrefix("fe80::/64")].compactMap { $0 })
    }

    @discardableResult
    mutating func start(seed: UInt64? = nil) -> Int {
        let node = nodes.count
        var own = SeededGenerator(seed: seed ?? UInt64(100 + node))
        nodes.append(
            LocalDiscovery(
                configuration: LocalDiscoveryConfiguration(
                    serviceType: Link.serviceType, port: UInt16(4000 + node),
                    texts: [Array("n=\(node)".utf8)]), random: &own))
        found.append([])
        lost.append([])
        var actions: [LocalDiscoveryAction] = []
        nodes[node].setInterfaces(
            [Link.interface(node)], at: now, random: &random, into: &actions)
        perform(actions, by: node)
        return node
    }

    mutating func perform(_ actions: [LocalDiscoveryAction], by node: Int) {
        for action in actions {
            switch action {
            case .found(let service): found[node].append(service)
            case .lost(let instance): lost[node].append(instance)
            case .dropped(let reason): drops.append(reason)
            case .send(let bytes, let destination):
                guard let message = try? DNSMessage(decoding: bytes) else {
                    Issue.record("a node sent a malformed message")
                    continue
                }
                wire.append(
                    Sent(node: node, at: now, message: message, destination: destination))
                let arrival = now + .milliseconds(1)
                switch destination {
                case .multicast(_, let family):
                    let ip = family == .ipv4 ? Link.address(node) : Link.linkLocal(node)
                    flying.append(
                        Flight(
                            bytes: bytes, from: node, source: SocketAddress(ip: ip, port: 5353),
                            to: nil, arrival: arrival))
                case .unicast(let target, _):
                    let to = nodes.indices.first {
                        Link.address($0) == target.ip || Link.linkLocal($0) == target.ip
                    }
                    guard let to else { continue }
                    flying.append(
                        Flight(
                            bytes: bytes, from: node,
                            source: SocketAddress(ip: Link.address(node), port: 5353), to: to,
                            arrival: arrival))
                }
            }
        }
    }

    mutating func setInterfaces(_ interfaces: [DiscoveryInterface], of node: Int) {
        var actions: [LocalDiscoveryAction] = []
        nodes[node].setInterfaces(interfaces, at: now, random: &random, into: &actions)
        perform(actions, by: node)
    }

    mutating func run(_ duration: Duration) {
        let end = now + duration
        while true {
            let timers = nodes.compactMap(\.deadline).min()
            let arrivals = flying.map(\.arrival).min()
            guard let next = earlier(timers, arrivals), next <= end else { break }
            now = max(now, next)
            let due = flying.filter { $0.arrival <= now }
            flying.removeAll { $0.arrival <= now }
            for flight in due { deliver(flight) }
            for node in nodes.indices where nodes[node].deadline.map({ $0 <= now }) ?? false {
                var actions: [LocalDiscoveryAction] = []
                nodes[node].timeout(at: now, random: &random, into: &actions)
                perform(actions, by: node)
            }
        }
        now = end
    }

    /// Multicast reaches the sender too, as it does on a machine with several responders.
    private mutating func deliver(_ flight: Flight) {
        for node in nodes.indices where flight.to.map({ $0 == node }) ?? true {
            if flight.to == nil, isCut(flight.from, node) { continue }
            receive(flight.bytes, from: flight.source, at: node, toGroup: flight.to == nil)
        }
    }

    mutating func receive(
        _ bytes: [UInt8], from source: SocketAddress, at node: Int, toGroup: Bool = true
    ) {
        var actions: [LocalDiscoveryAction] = []
        nodes[node].receive(
            bytes, from: source, interface: 2, toGroup: toGroup, at: now, random: &random,
            into: &actions)
        perform(actions, by: node)
    }

    func fingerprint(_ node: Int) -> UInt64 {
        var result = Fingerprint()
        nodes[node].fingerprint(into: &result)
        return result.value
    }

    var outsider: SocketAddress { SocketAddress(ip: .v4(0xC0A8_01C8), port: 5353) }

    func question(
        _ name: DNSName, _ type: RecordType, unicast: Bool = false
    ) -> DNSMessage {
        var message = DNSMessage()
        let asked = unicast ? RecordClass.internet.marked : .internet
        message.questions = [DNSQuestion(name, type, recordClass: asked)]
        return message
    }
}

@Suite struct DiscoveryTests {
    @Test func aNewNodeFindsAnOldOneWithin300Milliseconds() throws {
        var link = Link()
        link.start()
        link.run(.seconds(10))
        let started = link.now
        link.start()
        link.run(.milliseconds(300))
        let service = try #require(link.found[1].first, "found nothing in 300 ms")
        #expect(service.instance == link.nodes[0].instance)
        #expect(service.port == 4000)
        #expect(service.texts == [Array("n=0".utf8)])
        #expect(
            service.addresses == [
                SocketAddress(ip: Link.address(0), port: 4000),
                SocketAddress(ip: Link.linkLocal(0), port: 4000, scope: 2),
            ])
        #expect(link.now - started == .milliseconds(300))
        // The old one hears of the new one by its probes, before it is announced.
        link.run(.milliseconds(300))
        #expect(link.found[0].first?.port == 4001)
    }

    @Test func nodesThatStartTogetherFindEachOther() {
        for gap in [0, 10, 150, 400, 700, 900, 1500] {
            var link = Link()
            link.start()
            link.run(.milliseconds(gap))
            link.start()
            link.run(.milliseconds(500))
            let isKnown = !link.found[0].isEmpty || !link.found[1].isEmpty
            #expect(isKnown, "a start \(gap) ms later: nobody knows anybody")
            link.run(.seconds(3))
            #expect(link.found[0].count == 1 && link.found[1].count == 1, "gap \(gap) ms")
        }
    }

    @Test func nobodyFindsItself() {
        var link = Link()
        link.start()
        link.run(.seconds(200))
        #expect(link.found[0].isEmpty)
        #expect(link.drops.isEmpty)
    }

    @Test func servicesStayFoundWhileTheyLive() {
        var link = Link()
        for _ in 0..<4 { link.start() }
        link.run(.seconds(20_000))
        for node in 0..<4 {
            #expect(link.found[node].count == 3)
            #expect(link.lost[node].isEmpty)
        }
        // Four nodes refresh each other's 120 s records: no storm.
        let perSecond = Double(link.wire.count) / 20_000
        #expect(perSecond < 1, "\(perSecond) datagrams a second")
    }

    @Test func aGoodbyeIsHeardAfterASecond() {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(10))
        var actions: [LocalDiscoveryAction] = []
        let instance = link.nodes[0].instance
        link.nodes[0].shutDown(into: &actions)
        link.perform(actions, by: 0)
        link.run(.seconds(2))
        #expect(link.lost[1] == [instance])
    }

    @Test func aSilentServiceIsLostWhenItsRecordsExpire() {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(10))
        link.isCut = { from, _ in from == 0 }
        link.run(.seconds(100))
        #expect(link.lost[1].isEmpty)
        link.run(.seconds(25))
        #expect(link.lost[1] == [link.nodes[0].instance])
        link.isCut = { _, _ in false }
        link.run(.seconds(4_000))
        #expect(link.found[1].count == 2, "found again after the link healed")
    }

    @Test func changedAddressesAreReported() {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(10))
        var moved = Link.interface(0)
        moved.addresses = [.v4(0xC0A8_0163)]
        link.setInterfaces([moved], of: 0)
        link.run(.seconds(3))
        let addresses = link.found[1].last?.addresses ?? []
        #expect(addresses.contains(SocketAddress(ip: .v4(0xC0A8_0163), port: 4000)))
        #expect(!addresses.contains(SocketAddress(ip: Link.address(0), port: 4000)))
    }

    @Test func linksOfContainersComeAndGoWithoutNoise() {
        var link = Link()
        link.start()
        link.run(.seconds(10))
        let container = DiscoveryInterface(
            index: 9, addresses: [.v6(0xFE80_0000_0000_0000, 99)], prefixes: [])
        link.wire = []
        link.setInterfaces([Link.interface(0), container], of: 0)
        // A new link is probed; meanwhile the old one is served.
        let question = link.question(Link.serviceType, .ptr)
        link.receive(question.encoded(), from: link.outsider, at: 0)
        link.run(.milliseconds(150))
        #expect(link.wire.contains { $0.message.answers.map(\.type) == [.ptr] })
        link.run(.seconds(10))
        #expect(link.wire.contains { !$0.message.authorities.isEmpty })
        link.wire = []
        link.setInterfaces([Link.interface(0)], of: 0)
        link.run(.seconds(2))
        #expect(link.wire.isEmpty)
    }

    @Test func aRejectedServiceStaysSilent() {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(10))
        link.nodes[1].reject(link.nodes[0].instance)
        let reports = link.found[1].count
        link.run(.seconds(500))
        #expect(link.found[1].count == reports)
    }
}

@Suite struct ResponderTests {
    private var link = Link()

    init() {
        link.start()
        link.run(.seconds(30))
        link.wire = []
    }

    private mutating func ask(
        _ message: DNSMessage, from source: SocketAddress? = nil,
        for duration: Duration = .seconds(1)
    ) -> [Link.Sent] {
        link.wire = []
        link.receive(message.encoded(), from: source ?? link.outsider, at: 0)
        link.run(duration)
        return link.wire.filter(\.message.isResponse)
    }

    @Test mutating func aPointerQuestionGetsEverything() throws {
        let answers = ask(link.question(Link.serviceType, .ptr))
        #expect(answers.count == 1)
        let answer = try #require(answers.first)
        #expect(answer.destination == .multicast(interface: 2, family: .ipv4))
        #expect(answer.message.id == 0)
        #expect(answer.message.flags == [.response, .authoritative])
        #expect(answer.message.questions.isEmpty)
        #expect(answer.message.answers.map(\.type) == [.ptr])
        #expect(answer.message.answers.map(\.recordClass) == [.internet])
        #expect(answer.message.additionals.map(\.type) == [.srv, .txt, .a, .aaaa])
        #expect(answer.message.additionals.allSatisfy { $0.recordClass.isMarked })
        #expect(answer.message.answers.map(\.ttl) == [4500])
    }

    @Test mutating func serviceTypesAreListed() throws {
        let name = try #require(DNSName("_services._dns-sd._udp.local"))
        let answers = ask(link.question(name, .ptr))
        #expect(answers.first?.message.answers.map(\.data) == [.ptr(Link.serviceType)])
    }

    @Test mutating func knownAnswersAreNotRepeated() {
        var message = link.question(Link.serviceType, .ptr)
        let pointer = RecordData.ptr(link.nodes[0].instance)
        message.answers = [ResourceRecord(Link.serviceType, pointer, ttl: 2250)]
        #expect(ask(message).isEmpty)
        message.answers[0].ttl = 2249
        #expect(ask(message).count == 1)
    }

    @Test mutating func moreKnownAnswersMayFollow() {
        var message = link.question(Link.serviceType, .ptr)
        message.flags = .truncated
        link.receive(message.encoded(), from: link.outsider, at: 0)
        link.run(.milliseconds(200))
        var rest = DNSMessage()
        rest.answers = [
            ResourceRecord(Link.serviceType, .ptr(link.nodes[0].instance), ttl: 4500)
        ]
        #expect(ask(rest).isEmpty)
        #expect(ask(message).count == 1)
    }

    @Test mutating func aRecordIsMulticastOnceASecond() {
        let message = link.question(Link.serviceType, .ptr)
        _ = ask(message, for: .milliseconds(130))
        let first = link.wire.first?.at
        let again = ask(message, for: .seconds(2))
        #expect(again.count == 1)
        if let first, let second = again.first?.at { #expect(second - first >= .seconds(1)) }
        // Whoever permits a unicast answer need not wait.
        let unicast = ask(
            link.question(Link.serviceType, .ptr, unicast: true), for: .milliseconds(10))
        #expect(unicast.map(\.destination) != [.multicast(interface: 2, family: .ipv4)])
    }

    @Test mutating func simpleResolversGetAPlainAnswer() throws {
        var message = link.question(Link.serviceType, .ptr)
        message.id = 0x4242
        let source = SocketAddress(ip: .v4(0xC0A8_01C8), port: 40_000)
        let answers = ask(message, from: source, for: .milliseconds(1))
        let answer = try #require(answers.first)
        #expect(answer.destination == .unicast(source, interface: 2))
        #expect(answer.message.id == 0x4242)
        #expect(answer.message.questions == message.questions)
        let records = answer.message.answers + answer.message.additionals
        #expect(records.allSatisfy { $0.ttl <= 10 && !$0.recordClass.isMarked })
    }

    @Test mutating func foreignQuestionsAreNotAnswered() throws {
        let other = try #require(DNSName("_other._udp.local"))
        #expect(ask(link.question(other, .ptr)).isEmpty)
        #expect(ask(link.question(link.nodes[0].instance, .a)).isEmpty)
        #expect(ask(link.question(Link.serviceType, .srv)).isEmpty)
    }

    @Test mutating func aConflictDrawsANewName() {
        let old = link.nodes[0].instance
        var message = DNSMessage(flags: [.response, .authoritative])
        message.answers = [
            ResourceRecord(
                old, .srv(ServiceLocation(port: 9, target: Link.serviceType)), ttl: 120,
                recordClass: RecordClass.internet.marked)
        ]
        link.receive(message.encoded(), from: link.outsider, at: 0)
        let new = link.nodes[0].instance
        #expect(new != old)
        link.wire = []
        link.run(.seconds(3))
        let probes = link.wire.filter { !$0.message.authorities.isEmpty }
        #expect(probes.count == 6, "three on each family")
        #expect(
            link.wire.contains { sent in
                sent.message.answers.contains { $0.data == .ptr(new) }
            })
    }

    @Test func twoThatDrawTheSameNameSettleOnTwo() {
        var link = Link()
        link.start(seed: 1)
        link.start(seed: 1)
        #expect(link.nodes[0].instance == link.nodes[1].instance)
        link.run(.seconds(10))
        #expect(link.nodes[0].instance != link.nodes[1].instance)
        #expect(link.found[0].last?.instance == link.nodes[1].instance)
        #expect(link.found[1].last?.instance == link.nodes[0].instance)
    }
}

@Suite struct HostileDiscoveryTests {
    @Test func rejectedDatagramsLeaveNoTrace() throws {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(10))
        let before = link.fingerprint(0)
        let query = link.question(Link.serviceType, .ptr).encoded()
        var response = DNSMessage(flags: [.response, .authoritative])
        response.answers = [
            ResourceRecord(
                link.nodes[0].instance, .txt([[1]]), ttl: 9,
                recordClass: RecordClass.internet.marked)
        ]
        link.receive([], from: link.outsider, at: 0)
        link.receive(Array(query.dropLast()), from: link.outsider, at: 0)
        let beyond = SocketAddress(ip: .v4(0x0808_0808), port: 5353)
        link.receive(query, from: beyond, at: 0, toGroup: false)
        let port = SocketAddress(ip: .v4(0xC0A8_01C8), port: 40_000)
        link.receive(response.encoded(), from: port, at: 0)
        #expect(link.drops == [.malformed, .malformed, .offLink, .wrongSource])
        #expect(link.fingerprint(0) == before)
    }

    @Test func aFloodOfServicesIsBounded() throws {
        var link = Link()
        link.start()
        link.run(.seconds(5))
        for number in 0..<400 {
            let host = try #require(DNSName("h\(number).local"))
            let instance = try #require(
                Link.serviceType.prepending(Array("flood\(number)".utf8)))
            var message = DNSMessage(flags: [.response, .authoritative])
            message.answers = [
                ResourceRecord(Link.serviceType, .ptr(instance), ttl: 4500),
                ResourceRecord(
                    instance, .srv(ServiceLocation(port: 1, target: host)), ttl: 4500),
                ResourceRecord(instance, .txt([[]]), ttl: 4500),
                ResourceRecord(host, .address(.v4(0xC0A8_01C8)), ttl: 4500),
            ]
            link.receive(message.encoded(), from: link.outsider, at: 0)
        }
        #expect(link.found[0].count == MulticastBrowser.maximumServices)
        // Rejected ones make room for a member.
        for service in link.found[0] { link.nodes[0].reject(service.instance) }
        link.start()
        link.run(.seconds(3))
        #expect(link.found[0].last?.port == 4001)
    }

    @Test func mutatedMessagesNeverTrap() {
        var link = Link()
        link.start()
        link.start()
        link.run(.seconds(3))
        let corpus = link.wire.map { $0.message.encoded() }
        var random = SeededGenerator(seed: 11)
        for round in 0..<1_500 {
            var bytes = corpus[round % corpus.count]
            for _ in 0...Int.random(in: 0..<5, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            link.receive(bytes, from: link.outsider, at: 0)
            if round.isMultiple(of: 100) { link.run(.milliseconds(50)) }
        }
        link.isCut = { _, _ in false }
        link.run(.seconds(10))
    }
}
