import NetAddress

/// Everything that `up` was told, checked as a whole.
package struct NodeConfig: Hashable, Sendable {
    /// The token's text. Whoever parses it decides what it grants.
    package var token: RedactedText?
    /// Read by the caller, so that the text never stands in an argument list.
    package var tokenFile: String?
    /// Where state lives; `nil` leaves it to the location rule of the state directory.
    package var stateDirectory: String?
    /// The TUN device's name; `nil` means none, and then no root is needed.
    package var interfaceName: String?
    /// The overlay IPv4 address that the user insists on; `nil` takes the one from the key.
    package var address: OverlayAddress?
    /// One DNS label, lower case.
    package var hostname: String
    /// The UDP port; `nil` means random once, then kept.
    package var listenPort: UInt16?
    /// Where members may be found, besides everything that is found without being told.
    package var peers: [HostAndPort]
    package var usesMulticastDNS: Bool
    /// `nil` leaves it to the token.
    package var dht: DHTModeChoice?
    /// Nodes of the DHT to begin with; empty takes the well-known ones in public mode.
    package var dhtBootstrap: [HostAndPort]
    /// Whether the node announces itself as BitTorrent's peers do, too.
    package var announcesOnDHT: Bool
    /// Plain KRPC in a private network, for other programs.
    package var isDHTPlain: Bool
    package var dns: DNSListen
    /// Without a trailing dot; `nil` means the mesh's name below `internal`.
    package var dnsZone: String?
    /// `nil` means the machine's resolv.conf minus ourselves.
    package var dnsUpstreams: [DNSUpstream]?
    /// Who resolves the names below single suffixes.
    package var dnsRoutes: [DNSRoute]
    /// Whether every answered question is a line of the log. Off: it is what people do all day.
    package var logsDNSQueries: Bool
    /// Whether and how the machine's programs are made to ask this node.
    package var dnsIntegration: DNSIntegrationChoice
    /// `nil` means no API.
    package var api: APIAddress?
    package var cluster: ClusterChoice
    package var role: RoleChoice
    /// Who keeps the datastore's process.
    package var initSystem: InitChoice
    /// A name looked up in the usual directories, or a path.
    package var k3sBinary: String?
    package var k3sDataDirectory: String?
    package var k3sConfigDirectory: String?
    /// Packet threads, 0...16; 0 leaves their number to the machine.
    package var shards: Int
    /// What this machine carries for members that do not reach each other.
    package var relay: RelayChoice
    /// Whether members whose network lets nothing else out may come by TLS on port 443.
    package var relaysByTLS: Bool
    /// Whether the gateway is asked to send a port here.
    package var mapsPorts: Bool
    /// Whether many ports are tried where two NATs leave nothing else.
    package var guessesPorts: Bool
    /// Where what happens to the founding is written down; `nil` for nowhere.
    package var foundingLog: String?
    package var logLevel: LogLevelChoice

    package static let defaultInterface = "edgevpn0"
    package static let defaultAPI = APIAddress.unix(path: "/run/edgevpn/api.sock")
}

/// Text that must not appear in a log, a description or a dump.
package struct RedactedText: Hashable, Sendable, CustomStringConvertible,
    CustomDebugStringConvertible, CustomReflectable
{
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package var description: String { "(redacted)" }
    package var debugDescription: String { "(redacted)" }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// A host by address or name, and a port.
package struct HostAndPort: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}

/// An IPv4 address of the overlay, and the length of the plan that the user has in mind.
package struct OverlayAddress: Hashable, Sendable {
    package var address: IPAddress
    /// 8...28; `nil` when only the address was given.
    package var length: Int?
}

/// Where names are answered.
package enum DNSListen: Hashable, Sendable {
    /// Port 53 of the node's own overlay addresses.
    case overlay
    case address(SocketAddress)
    case off
}

/// A resolver that is asked for names that are not the mesh's.
package struct DNSUpstream: Hashable, Sendable {
    package var address: SocketAddress
    /// It is asked over TLS, and its certificate must be for this name; an empty one stands for its
    /// address. `nil` for plain DNS.
    package var tlsName: String?

    package init(address: SocketAddress, tlsName: String? = nil) {
        self.address = address
        self.tlsName = tlsName
    }
}

/// A resolver for the names below a suffix; several routes with one suffix stand together.
package struct DNSRoute: Hashable, Sendable {
    package var suffix: String
    package var upstream: DNSUpstream
}

/// How the machine's programs are made to ask this node for names.
package enum DNSIntegrationChoice: String, Hashable, Sendable, CaseIterable {
    /// The first of the others, `off` aside, that the machine has.
    case auto
    case off
    /// systemd-resolved sends the names of the mesh here and no others.
    case resolved
    /// resolvconf or openresolv lists this node in resolv.conf.
    case resolvconf
    /// A file of ours lies over /etc/resolv.conf while the node runs.
    case file
}

/// Which datastore the mesh founds.
package enum ClusterChoice: Hashable, Sendable, CustomStringConvertible {
    case none
    case etcd
    case k3s
    case k0s
    /// An operator's program, by its absolute path.
    case program(path: String)

    /// `none`, `etcd`, `k3s`, `k0s` or `exec:PATH`.
    package init?(_ text: String) {
        switch text {
        case "none": self = .none
        case "etcd": self = .etcd
        case "k3s": self = .k3s
        case "k0s": self = .k0s
        default:
            guard text.hasPrefix("exec:/") else { return nil }
            self = .program(path: String(text.dropFirst("exec:".count)))
        }
    }

    package var description: String {
        switch self {
        case .none: "none"
        case .etcd: "etcd"
        case .k3s: "k3s"
        case .k0s: "k0s"
        case .program(let path): "exec:\(path)"
        }
    }
}

/// Who keeps the datastore's process.
package enum InitChoice: String, Hashable, Sendable, CaseIterable {
    /// systemd or OpenRC where they run and know the service, else a supervised child.
    case auto
    case systemd
    case openrc
    case supervise
}

/// How much this machine relays for others.
package enum RelayChoice: Hashable, Sendable {
    case off
    case unlimited
    case bitsPerSecond(UInt64)

    package static let usual = RelayChoice.bitsPerSecond(10_000_000)

    /// `off`, `unlimited`, or bits a second: `500k`, `10M`, `1G`; at least 64k, so that a tunnel
    /// through it is of use.
    package init?(_ text: String) {
        switch text {
        case "off": self = .off
        case "unlimited": self = .unlimited
        default:
            let units: [Character: UInt64] = ["k": 1_000, "M": 1_000_000, "G": 1_000_000_000]
            let unit = text.last.flatMap { units[$0] }
            guard let number = UInt64(unit == nil ? text : String(text.dropLast())),
                case let (bits, overflows) = number.multipliedReportingOverflow(by: unit ?? 1),
                !overflows, bits >= 64_000
            else { return nil }
            self = .bitsPerSecond(bits)
        }
    }
}

/// What this machine may become.
package enum RoleChoice: String, Hashable, Sendable, CaseIterable {
    case auto
    case server
    case agent
    case none
}

/// Whether and where members are looked for with the DHT.
package enum DHTModeChoice: String, Hashable, Sendable, CaseIterable {
    case off
    case `private`
    case `public`
}

/// How much is logged.
package enum LogLevelChoice: String, Hashable, Sendable, CaseIterable {
    case trace
    case debug
    case info
    case notice
    case warning
    case error
    case critical
}
