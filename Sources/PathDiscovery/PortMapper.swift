import MeshBase
import NetAddress

/// Asks the gateway to send what arrives at a port of its own to this machine's UDP port.
///
///     1. a gateway is known: PCP, and what does not answer is asked by NAT-PMP, then by UPnP
///     2. it answers: the mapping is renewed at half its lifetime, by what made it
///     3. PCP and NAT-PMP tell the gateway's clock: asked now and then, and announced when it starts;
///        by UPnP it is asked whether the mapping stands
///     4. the clock started anew, or the mapping is gone: it is renewed at once; renewals fail: from
///        the beginning
///     5. the node leaves: the mapping is removed
package struct PortMapper {
    /// The mapping that stands.
    struct Mapping: Hashable {
        var method: PortMappingMethod
        var external: SocketAddress
        var madeAt: BootInstant
        var expiresAt: BootInstant
    }

    private let internalPort: UInt16
    /// Names our mapping to a PCP server; kept as long as the node runs.
    private let nonce: [UInt8]
    private var gateway: IPAddress?
    private var client: IPAddress?
    private(set) var mapping: Mapping?
    private var method = PortMappingMethod.pcp
    private var attempts = 0
    private var nextStep: BootInstant?
    /// When the gateway's tables began, as told by its clock and ours, and how it was asked.
    private var epoch: (value: UInt32, at: BootInstant, method: PortMappingMethod)?
    private var nextPoll: BootInstant?
    private var dialogue = UPnPDialogue()
    private var nextExchange: UInt32 = 1
    /// Whether the present step renews what stands.
    private var isRenewing = false
    /// Whether this gateway ever mapped a port: then it is away, not unwilling.
    private var hasMapped = false

    /// RFC 6887 section 11.2.1 leaves it to the client; what others ask for, too.
    static let lifetime: UInt32 = 7_200
    /// A gateway of this link answers in milliseconds; three losses are borne.
    private static let pauses: [Duration] = [
        .milliseconds(250), .milliseconds(500), .seconds(1),
    ]
    /// UPnP devices answer a search within the second that it grants them, and slowly.
    private static let searchPauses: [Duration] = [.seconds(1), .seconds(2), .seconds(3)]
    private static let exchangePatience = Duration.seconds(10)
    /// Between two questions for the clock. Many gateways announce nothing when they start; 24 bytes
    /// on the own link are a small price for hours without a port.
    private static let pollInterval = Duration.seconds(15)
    /// The same by UPnP, which takes a TCP connection each time.
    private static let inquiryInterval = Duration.seconds(60)
    /// Between two attempts at a gateway that maps nothing, and at one that did.
    private static let rest = Duration.seconds(600)
    private static let shortRest = Duration.seconds(60)

    package init(internalPort: UInt16, random: inout SeededGenerator) {
        self.internalPort = internalPort
        nonce = random.bytes(PCP.nonceCount)
    }

    /// Where the gateway listens for this node.
    package var mapped: SocketAddress? { mapping?.external }
    package var mappedBy: PortMappingMethod? { mapping?.method }
    /// Whether there is somebody to ask.
    package var hasGateway: Bool { gateway != nil }

    package var deadline: BootInstant? {
        earlier(earlier(nextStep, nextPoll), mapping?.expiresAt)
    }

    package func fingerprint(into hash: inout Fingerprint) {
        hash.mix(gateway?.description ?? "-")
        hash.mix(mapping?.external.description ?? "-")
        hash.mix(mapping?.expiresAt)
        hash.mix(method.rawValue)
        hash.mix(attempts)
        hash.mix(nextStep)
        hash.mix(UInt64(epoch?.value ?? 0))
        hash.mix(nextPoll)
        hash.mix(hasMapped)
        hash.mix(UInt64(nextExchange))
        dialogue.fingerprint(into: &hash)
    }

    /// The way out of this machine changed, or is known for the first time.
    package mutating func setGateway(
        _ gateway: IPAddress?, client: IPAddress?, at now: BootInstant,
        into actions: inout [PortMappingAction]
    ) {
        guard gateway != self.gateway || client != self.client else { return }
        self.gateway = gateway
        self.client = client
        epoch = nil
        nextPoll = nil
        hasMapped = false
        forget(into: &actions)
        if gateway == nil || client == nil {
            nextStep = nil
        } else {
            begin(.pcp, at: now, into: &actions)
        }
    }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [PortMappingAction]
    ) {
        if let mapping, mapping.expiresAt <= now {
            forget(into: &actions)
            begin(.pcp, at: now, into: &actions)
            return
        }
        if let due = nextPoll, due <= now { poll(at: now, into: &actions) }
        guard let due = nextStep, due <= now else { return }
        nextStep = nil
        if attempts == 0, mapping != nil {
            isRenewing = true
            begin(method, at: now, into: &actions)
        } else if attempts == 0 {
            begin(.pcp, at: now, into: &actions)
        } else if attempts < Self.pauses.count, !dialogue.isTalking {
            ask(at: now, into: &actions)
        } else {
            giveUp(at: now, into: &actions)
        }
    }

    /// Takes the mapping away, before the node leaves.
    package mutating func leave(into actions: inout [PortMappingAction]) {
        nextStep = nil
        nextPoll = nil
        guard let mapping, let gateway, let client else { return }
        self.mapping = nil
        switch mapping.method {
        case .pcp:
            let request = PCP.request(
                lifetime: 0, client: client, nonce: nonce, internalPort: internalPort,
                suggested: nil)
            actions.append(.send(request, to: SocketAddress(ip: gateway, port: PCP.port)))
        case .natPMP:
            // RFC 6886 section 3.4.
            let request = NATPMP.mapRequest(
                internalPort: internalPort, suggested: 0, lifetime: 0)
            actions.append(.send(request, to: SocketAddress(ip: gateway, port: PCP.port)))
        case .upnp:
            if let (bytes, place) = dialogue.removal(of: mapping.external.port) {
                actions.append(.exchange(nextExchange, bytes, with: place))
                nextExchange &+= 1
            }
        }
    }

    // MARK: - Asking

    private mutating func begin(
        _ method: PortMappingMethod, at now: BootInstant,
        into actions: inout [PortMappingAction]
    ) {
        self.method = method
        attempts = 0
        if !(isRenewing && method == .upnp) { dialogue = UPnPDialogue() }
        ask(at: now, into: &actions)
    }

    private mutating func ask(
        at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        guard let gateway, let client else { return }
        let server = SocketAddress(ip: gateway, port: PCP.port)
        let pauses = method == .upnp ? Self.searchPauses : Self.pauses
        nextStep = now + pauses[min(attempts, pauses.count - 1)]
        attempts += 1
        switch method {
        case .pcp:
            let request = PCP.request(
                lifetime: Self.lifetime, client: client, nonce: nonce,
                internalPort: internalPort, suggested: mapping?.external)
            actions.append(.send(request, to: server))
        case .natPMP:
            actions.append(.send(NATPMP.addressRequest, to: server))
        case .upnp:
            if isRenewing, let external = mapping?.external,
                let (bytes, place) = dialogue.addition(
                    of: external.port, to: client, internalPort: internalPort)
            {
                talk(bytes, with: place, at: now, into: &actions)
                return
            }
            for target in UPnPDialogue.searchTargets {
                for address in [gateway, UPnP.group] {
                    actions.append(
                        .send(
                            UPnP.search(target),
                            to: SocketAddress(ip: address, port: UPnP.searchPort)))
                }
            }
        }
    }

    /// Asks for the gateway's clock, in the protocol in which it told it.
    private mutating func poll(
        at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        guard let method = epoch?.method else {
            nextPoll = mapping == nil ? nil : now + Self.inquiryInterval
            inquire(at: now, into: &actions)
            return
        }
        nextPoll = now + Self.pollInterval
        guard attempts == 0, let gateway, let client else { return }
        let question =
            method == .pcp ? PCP.announceRequest(client: client) : NATPMP.addressRequest
        actions.append(.send(question, to: SocketAddress(ip: gateway, port: PCP.port)))
    }

    /// Asks a UPnP gateway whether what it mapped stands.
    private mutating func inquire(
        at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        guard attempts == 0, let mapping, mapping.method == .upnp,
            let (bytes, place) = dialogue.inquiry(of: mapping.external.port)
        else { return }
        attempts = 1
        isRenewing = true
        talk(bytes, with: place, at: now, into: &actions)
    }

    private mutating func talk(
        _ bytes: [UInt8], with place: SocketAddress, at now: BootInstant,
        into actions: inout [PortMappingAction]
    ) {
        dialogue.exchange = nextExchange
        actions.append(.exchange(nextExchange, bytes, with: place))
        nextExchange &+= 1
        nextStep = now + Self.exchangePatience
    }

    /// This method leads nowhere; the next one, or later.
    private mutating func giveUp(
        at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        dialogue.exchange = nil
        if isRenewing {
            // What stands may stand until it expires; a gateway that was restarted answers anew.
            isRenewing = false
            forget(into: &actions)
            begin(.pcp, at: now, into: &actions)
        } else if let next = method.next {
            begin(next, at: now, into: &actions)
        } else {
            attempts = 0
            nextStep = now + (hasMapped ? Self.shortRest : Self.rest)
        }
    }

    private mutating func forget(into actions: inout [PortMappingAction]) {
        guard mapping != nil else { return }
        mapping = nil
        isRenewing = false
        actions.append(.changed)
    }

    private mutating func mapped(
        _ external: SocketAddress, lifetime: UInt32, at now: BootInstant,
        into actions: inout [PortMappingAction]
    ) {
        guard external.isUsableCandidate else {
            giveUp(at: now, into: &actions)
            return
        }
        // Not so short that it is all that happens, and not so long that a lost one is not noticed.
        let span = Duration.seconds(Int64(min(max(lifetime, 120), 86_400)))
        let isNew = mapping?.external != external
        mapping = Mapping(
            method: method, external: external, madeAt: now, expiresAt: now + span)
        isRenewing = false
        hasMapped = true
        attempts = 0
        nextStep = now + span / 2
        if method == .upnp, epoch == nil { nextPoll = now + Self.inquiryInterval }
        if isNew { actions.append(.changed) }
    }

    // MARK: - Answers

    /// Takes a datagram that came to the mapper's port or to the announcements' group.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PortMappingAction]
    ) {
        guard source.ip == gateway else { return }
        if source.port == PCP.port {
            receiveFromServer(datagram, at: now, into: &actions)
        } else if method == .upnp, attempts > 0, dialogue.description == nil,
            let place = UPnP.location(datagram), place.address.ip == source.ip
        {
            dialogue.description = place
            talk(UPnP.get(place), with: place.address, at: now, into: &actions)
        }
    }

    private mutating func receiveFromServer(
        _ datagram: [UInt8], at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        if let announced = PCP.announcedEpoch(datagram) {
            noteEpoch(announced, at: now, into: &actions)
            return
        }
        if attempts > 0, method == .pcp, let answer = PCP.answer(datagram, nonce: nonce) {
            if let epoch = answer.epoch { began(epoch, at: now, .pcp) }
            guard answer.result == 0, let external = answer.external,
                answer.internalPort == internalPort
            else {
                giveUp(at: now, into: &actions)
                return
            }
            mapped(external, lifetime: answer.lifetime, at: now, into: &actions)
            return
        }
        switch NATPMP.answer(datagram) {
        case .address(let ip, let epoch):
            guard attempts > 0, method == .natPMP else {
                // Section 3.2.1: gateways announce their address when they start.
                noteEpoch(epoch, at: now, into: &actions)
                return
            }
            began(epoch, at: now, .natPMP)
            dialogue.externalAddress = ip
            guard let gateway else { return }
            actions.append(
                .send(
                    NATPMP.mapRequest(
                        internalPort: internalPort,
                        suggested: mapping?.external.port ?? internalPort,
                        lifetime: Self.lifetime),
                    to: SocketAddress(ip: gateway, port: PCP.port)))
        case .mapped(let answer, let port):
            guard attempts > 0, method == .natPMP, answer.internalPort == internalPort,
                let ip = dialogue.externalAddress
            else { return }
            mapped(
                SocketAddress(ip: ip, port: port), lifetime: answer.lifetime, at: now,
                into: &actions)
        case .refused:
            if attempts > 0, method == .natPMP { giveUp(at: now, into: &actions) }
        case nil: break
        }
    }

    /// A port at which nobody has knocked. When UPnP is asked, members know for seconds how the NAT
    /// shows our own port, and a Linux router that took their knocks for its own goes on doing so
    /// although the port is mapped now.
    private var freshPort: UInt16 {
        let other = internalPort ^ 0x8000
        return other < 1_024 ? other + 1_024 : other
    }

    private mutating func began(
        _ value: UInt32, at now: BootInstant, _ method: PortMappingMethod
    ) {
        epoch = (value, now, method)
        if nextPoll == nil { nextPoll = now + Self.pollInterval }
    }

    /// A clock that started anew has lost its tables: RFC 6887 section 8.5 compares how much time went
    /// by for both. That overlooks a gateway that restarts within seconds of its answer; but tables
    /// that began after the mapping was made do not hold it.
    private mutating func noteEpoch(
        _ value: UInt32, at now: BootInstant, into actions: inout [PortMappingAction]
    ) {
        guard let former = epoch else { return }
        // While something is asked, its answer brings the clock.
        guard attempts == 0 else { return }
        epoch = (value, now, former.method)
        guard let mapping else {
            // It mapped before, was away, and is back.
            begin(.pcp, at: now, into: &actions)
            return
        }
        let ours = (now - former.at).inSeconds
        let theirs = Double(value) - Double(former.value)
        let isYounger = (now - mapping.madeAt).inSeconds >= Double(value)
        guard
            isYounger || theirs < -1 || theirs + 2 < ours * 15 / 16 || ours + 2 < theirs * 15 / 16
        else { return }
        isRenewing = true
        begin(method, at: now, into: &actions)
    }

    /// What came back in a TCP connection; `nil` when nothing did.
    package mutating func exchanged(
        _ identifier: UInt32, answer: [UInt8]?, at now: BootInstant,
        random: inout SeededGenerator, into actions: inout [PortMappingAction]
    ) {
        guard dialogue.exchange == identifier, let client else { return }
        dialogue.exchange = nil
        guard let answer, let reply = UPnP.answer(answer) else {
            giveUp(at: now, into: &actions)
            return
        }
        if dialogue.isInquiring {
            dialogue.isInquiring = false
            guard mapping != nil, !UPnP.names(client, in: reply) else {
                // It stands, until it is due.
                isRenewing = false
                attempts = 0
                nextStep = mapping.map { $0.madeAt + ($0.expiresAt - $0.madeAt) / 2 }
                return
            }
            ask(at: now, into: &actions)
            return
        }
        let step = dialogue.advance(
            reply, client: client, internalPort: internalPort,
            wished: mapping?.external.port ?? freshPort, random: &random)
        switch step {
        case .talk(let bytes, let place):
            talk(bytes, with: place, at: now, into: &actions)
        case .mapped(let external):
            mapped(external, lifetime: UPnPDialogue.lease, at: now, into: &actions)
        case .failed: giveUp(at: now, into: &actions)
        }
    }
}
