import MeshBase
import NetAddress

/// An interface on which this node is present in multicast DNS.
package struct DiscoveryInterface: Hashable, Sendable {
    package var index: UInt32
    /// Addresses of this node on the interface, link-local ones included, in any order.
    package var addresses: [IPAddress]
    /// The blocks that are on this link, to recognise messages from beyond it.
    package var prefixes: [IPPrefix]

    package init(index: UInt32, addresses: [IPAddress], prefixes: [IPPrefix] = []) {
        self.index = index
        self.addresses = addresses.sorted()
        self.prefixes = prefixes.sorted()
    }

    /// The families that the interface can speak.
    var families: [DiscoveryFamily] {
        var result: [DiscoveryFamily] = []
        if addresses.contains(where: \.isIPv4) { result.append(.ipv4) }
        if addresses.contains(where: { !$0.isIPv4 }) { result.append(.ipv6) }
        return result
    }

    func isOnLink(_ source: IPAddress) -> Bool {
        source.isLinkLocal || prefixes.contains { $0.contains(source) }
    }
}

package enum DiscoveryFamily: Hashable, Sendable, CaseIterable {
    case ipv4
    case ipv6

    /// 224.0.0.251 or ff02::fb (RFC 6762 section 3).
    package var group: IPAddress {
        switch self {
        case .ipv4: .v4(0xE000_00FB)
        case .ipv6: .v6(0xFF02_0000_0000_0000, 0xFB)
        }
    }
}

package enum DiscoveryDestination: Hashable, Sendable {
    case multicast(interface: UInt32, family: DiscoveryFamily)
    case unicast(SocketAddress, interface: UInt32)
}

/// What the interpreter shall do, in this order.
package enum LocalDiscoveryAction: Hashable, Sendable {
    /// Send from port 5353.
    case send([UInt8], to: DiscoveryDestination)
    /// A service is complete, or something about it changed.
    case found(LocalService)
    /// A service said goodbye or was not heard of for as long as it promised.
    case lost(instance: DNSName)
    case dropped(DNSDropReason)
}

/// A service of another node on the link.
package struct LocalService: Hashable, Sendable {
    package var instance: DNSName
    /// Where it listens, sorted; link-local addresses carry the interface as scope.
    package var addresses: [SocketAddress]
    package var port: UInt16
    /// The strings of the TXT record, `key=value` each (RFC 6763 section 6).
    package var texts: [[UInt8]]
}

/// What this node offers and looks for.
package struct LocalDiscoveryConfiguration: Sendable {
    /// For example `_edgevpn._udp.local`.
    package var serviceType: DNSName
    package var port: UInt16
    /// Opaque to this module; at most 255 bytes each, 512 in all.
    package var texts: [[UInt8]]

    package init(serviceType: DNSName, port: UInt16, texts: [[UInt8]]) {
        self.serviceType = serviceType
        self.port = port
        self.texts = texts
    }
}

/// Constants of RFC 6762, and bounds of ours.
package enum MulticastDNS {
    /// Section 3.
    package static let port: UInt16 = 5353
    /// A link's MTU less headers; what a section 17 message may have at most is 9,000.
    static let messageLimit = 1_400
    static let receiveLimit = 9_000
    /// Section 10: records that name a host.
    static let hostTTL: UInt32 = 120
    /// Section 10: other records, 75 minutes.
    static let sharedTTL: UInt32 = 4_500
    /// Section 6.7: for resolvers that know nothing of multicast.
    static let legacyTTL: UInt32 = 10
    /// Section 8.1.
    static let probeCount = 3
    static let probeInterval: Duration = .milliseconds(250)
    /// Section 8.3: at least two, a second apart.
    static let announcementCount = 2
    static let announcementInterval: Duration = .seconds(1)
    /// Section 6: several may answer a question for a shared record.
    static let sharedDelay: ClosedRange<Duration> = .milliseconds(20)...(.milliseconds(120))
    /// Section 7.2: more known answers are under way.
    static let moreKnownAnswersDelay: ClosedRange<Duration> =
        .milliseconds(400)...(.milliseconds(500))
    /// Section 6: a record is multicast at most once a second on an interface.
    static let multicastInterval: Duration = .seconds(1)
    /// Section 5.2: up to an hour between questions, each time three times longer.
    static let maximumQueryInterval: Duration = .seconds(3_600)
    /// Section 10.1: a goodbye takes effect after a second.
    static let goodbyeDelay: Duration = .seconds(1)
    /// Section 8.1: fifteen conflicts ask for patience.
    static let conflictLimit = 15
    static let conflictDelay: Duration = .seconds(5)

    static let local = DNSName(validWire: [5] + Array("local".utf8) + [0])
    /// RFC 6763 section 9: where all service types of a link are listed.
    static let serviceTypes = DNSName(labels: [
        Array("_services".utf8), Array("_dns-sd".utf8), Array("_udp".utf8), Array("local".utf8),
    ])
}
