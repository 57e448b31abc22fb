/// The options of `up`, by the name that the flag (`--mtu`), the configuration file (`mtu:`) and,
/// in capitals behind `EDGEVPN_`, the environment (`EDGEVPN_MTU`) share.
package enum NodeOption: String, Hashable, Sendable, CaseIterable {
    case token
    case tokenFile = "token-file"
    case stateDirectory = "state-dir"
    case interface
    case address
    case hostname
    case listen
    case peer
    case dht
    case dhtBootstrap = "dht-bootstrap"
    case dhtAnnounce = "dht-announce"
    case dhtPlain = "dht-plain"
    case mdns
    case dns
    case dnsZone = "dns-zone"
    case dnsUpstream = "dns-upstream"
    case dnsRoute = "dns-route"
    case dnsQueryLog = "dns-query-log"
    case dnsIntegration = "dns-integration"
    case api
    case relay
    case relayTLS = "relay-tls"
    case portMapping = "port-mapping"
    case birthdayPunching = "birthday-punching"
    case shards
    case cluster
    case role
    case initSystem = "init"
    case k3sBinary = "k3s-binary"
    case k3sDataDirectory = "k3s-data-dir"
    case k3sConfigDirectory = "k3s-config-dir"
    case foundingLog = "founding-log"
    case logLevel = "log-level"

    package var flag: String { "--\(rawValue)" }

    /// The project's own name first, then the names that edgevpn gave it.
    package var environmentNames: [String] {
        let own = "EDGEVPN_" + rawValue.uppercased().replacing("-", with: "_")
        return switch self {
        case .token: [own, "EDGEVPNTOKEN"]
        case .interface: [own, "IFACE"]
        case .address: [own, "ADDRESS"]
        case .dns: [own, "DNSADDRESS"]
        case .api: [own, "APILISTEN"]
        case .dht: [own, "EDGEVPNDHT"]
        case .mdns: [own, "EDGEVPNMDNS"]
        case .logLevel: [own, "EDGEVPNLOGLEVEL"]
        default: [own]
        }
    }

    /// Whether it may be given more than once; the strongest source's list counts as a whole.
    package var isList: Bool {
        switch self {
        case .peer, .dhtBootstrap, .dnsUpstream, .dnsRoute: true
        default: false
        }
    }
}

/// Environment names under the program's prefix that are no option of `up` and still no mistake.
enum OtherEnvironment {
    /// `EDGEVPN_API` is where commands find a node, the next two what its TCP port asks for;
    /// `EDGEVPN_CONFIG` the configuration file; `EDGEVPN_BINARY` and `EDGEVPN_TEST_K3S` tell the
    /// tests which programs they test.
    static let known: Set<String> = [
        "EDGEVPN_API", "EDGEVPN_API_TOKEN", "EDGEVPN_API_TOKEN_FILE", "EDGEVPN_CONFIG",
        "EDGEVPN_BINARY", "EDGEVPN_TEST_K3S",
    ]
}
