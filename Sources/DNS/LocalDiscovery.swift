import MeshBase
import NetAddress

/// Finds the nodes of the same LAN by multicast DNS and makes this node findable: a responder and
/// a browser on the same port.
///
/// Whoever hears of the other first contacts it, so one direction is enough. What a service says
/// is a claim; the caller verifies the TXT strings and calls ``reject(_:)`` for strangers.
package struct LocalDiscovery {
    package private(set) var responder: MulticastResponder
    package private(set) var browser: MulticastBrowser
    private var interfaces: [UInt32: DiscoveryInterface] = [:]
    package private(set) var droppedMessages: UInt64 = 0

    /// Links on which the node is present; machines with more have mostly virtual ones.
    package static let maximumInterfaces = 32

    package init(configuration: LocalDiscoveryConfiguration, random: inout SeededGenerator) {
        responder = MulticastResponder(configuration: configuration, random: &random)
        browser = MulticastBrowser(serviceType: configuration.serviceType)
    }

    /// This node's service instance; another one after a name conflict.
    package var instance: DNSName { responder.instance }

    package var deadline: BootInstant? { earlier(responder.deadline, browser.deadline) }

    /// Starts on these interfaces, or goes on with these when they changed. The first question is
    /// sent at once.
    package mutating func setInterfaces(
        _ list: [DiscoveryInterface], at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LocalDiscoveryAction]
    ) {
        let bounded = list.sorted { $0.index < $1.index }.prefix(LocalDiscovery.maximumInterfaces)
        let usable = bounded.filter { !$0.addresses.isEmpty }
        let news = Dictionary(
            usable.map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first })
        guard news != interfaces else { return }
        // Links that go away, as those of containers often do, are no reason to start anew.
        let hasNews = news.values.contains { interface in
            let known = interfaces[interface.index]?.addresses ?? []
            return !Set(interface.addresses).isSubset(of: known)
        }
        interfaces = news
        let ordered = news.values.sorted { $0.index < $1.index }
        responder.setInterfaces(ordered, hasNews: hasNews, at: now, random: &random)
        browser.setInterfaces(ordered, hasNews: hasNews, at: now, into: &actions)
        timeout(at: now, random: &random, into: &actions)
    }

    /// Takes a datagram that arrived at port 5353.
    ///
    /// - Parameters:
    ///   - interface: the index of the interface where it arrived.
    ///   - toGroup: whether it was sent to the multicast group, and not to this node alone.
    package mutating func receive(
        _ datagram: [UInt8], from source: SocketAddress, interface: UInt32, toGroup: Bool,
        at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LocalDiscoveryAction]
    ) {
        guard let link = interfaces[interface] else {
            return drop(.unknownInterface, into: &actions)
        }
        guard toGroup || link.isOnLink(source.ip) else { return drop(.offLink, into: &actions) }
        guard datagram.count <= MulticastDNS.receiveLimit,
            let message = try? DNSMessage(decoding: datagram), message.flags.opcode == 0,
            message.flags.code == .noError
        else { return drop(.malformed, into: &actions) }
        if message.isResponse {
            // Participants send from the port; anything else is forged (RFC 6762 section 6).
            guard source.port == MulticastDNS.port else {
                return drop(.wrongSource, into: &actions)
            }
            responder.receive(response: message, at: now, random: &random)
        } else {
            responder.receive(
                query: message, from: source, interface: link, at: now, random: &random,
                into: &actions)
        }
        browser.receive(
            message, interface: interface, own: responder.instance, at: now, random: &random,
            into: &actions)
    }

    package mutating func timeout(
        at now: BootInstant, random: inout SeededGenerator,
        into actions: inout [LocalDiscoveryAction]
    ) {
        responder.timeout(at: now, into: &actions)
        browser.timeout(at: now, random: &random, into: &actions)
    }

    /// Asks all links once, out of turn (RFC 6762 section 5.1); call it seldom.
    package mutating func askAgain(at now: BootInstant) {
        browser.askAgain(at: now)
    }

    /// The service at `instance` belongs to no member of this mesh.
    package mutating func reject(_ instance: DNSName) {
        browser.reject(instance)
    }

    /// Says goodbye on all links.
    package mutating func shutDown(into actions: inout [LocalDiscoveryAction]) {
        responder.shutDown(into: &actions)
    }

    package func fingerprint(into fingerprint: inout Fingerprint) {
        responder.fingerprint(into: &fingerprint)
        browser.fingerprint(into: &fingerprint)
    }

    private mutating func drop(
        _ reason: DNSDropReason, into actions: inout [LocalDiscoveryAction]
    ) {
        droppedMessages += 1
        actions.append(.dropped(reason))
    }
}
