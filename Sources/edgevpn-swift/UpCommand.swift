import ArgumentParser
import Configuration
import Glibc
import MeshNode

struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Run this machine's node in the foreground.",
        discussion: """
            Every option can also stand in the configuration file (without its dashes) and in the \
            environment (EDGEVPN_ and its name in capitals). A flag beats the environment, and \
            that beats the file.
            """)

    @OptionGroup var token: TokenOptions

    @Option(name: .long, help: ArgumentHelp("Where state lives.", valueName: "dir"))
    var stateDir: String?
    @Option(
        name: .long,
        help: ArgumentHelp("The TUN device, or none. Default edgevpn0.", valueName: "name"))
    var interface: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The overlay IPv4 address. Default: from the node's key.", valueName: "address"))
    var address: String?
    @Option(name: .long, help: ArgumentHelp("Default: the machine's.", valueName: "name"))
    var hostname: String?
    @Option(
        name: .long,
        help: ArgumentHelp("The UDP port. Default: random once, then kept.", valueName: "port"))
    var listen: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where members may be found; may be repeated.", valueName: "host:port"))
    var peer: [String] = []
    @Option(name: .long, help: "Find members by DHT: off, private, public. Default: the token's.")
    var dht: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Nodes of the DHT to begin with; may be repeated.", valueName: "host:port"))
    var dhtBootstrap: [String] = []
    @Flag(
        inversion: .prefixedNo,
        help: "Announce this machine on the DHT as BitTorrent does; strangers may list it there.")
    var dhtAnnounce: Bool?
    @Flag(inversion: .prefixedNo, help: .hidden) var dhtPlain: Bool?
    @Flag(inversion: .prefixedNo, help: "Find members on the LAN by multicast DNS.")
    var mdns: Bool?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where names are answered, or off. Default: port 53 of the overlay addresses.",
            valueName: "address:port"))
    var dns: String?
    @Option(
        name: .long,
        help: ArgumentHelp("Default: the mesh's name below internal.", valueName: "zone"))
    var dnsZone: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Who resolves all other names; may be repeated. Default: from resolv.conf.",
            valueName: "address"))
    var dnsUpstream: [String] = []
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Who resolves the names below a suffix; may be repeated.",
            valueName: "suffix=address"))
    var dnsRoute: [String] = []
    @Flag(inversion: .prefixedNo, help: "Log every answered question. Off: it is private.")
    var dnsQueryLog: Bool?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Make this machine's programs ask this node: auto, off, resolved, resolvconf, file.",
            valueName: "how"))
    var dnsIntegration: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "unix:PATH, ADDRESS:PORT or off. Default unix:/run/edgevpn/api.sock.",
            valueName: "address"))
    var api: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "What this machine carries for members that do not reach each other: off, unlimited, "
                + "or bits a second. Default 10M.", valueName: "rate"))
    var relay: String?
    @Option(
        name: .customLong("relay-tls"),
        help: ArgumentHelp(
            "Whether members whose network lets nothing else out may come by TLS on port 443: on "
                + "or off. Default off.", valueName: "on|off"))
    var relayTLS: String?
    @Option(
        name: .customLong("port-mapping"),
        help: ArgumentHelp(
            "Whether the gateway is asked to send a UDP port here (PCP, NAT-PMP, UPnP): auto or "
                + "off. Default auto.", valueName: "auto|off"))
    var portMapping: String?
    @Option(
        name: .customLong("birthday-punching"),
        help: ArgumentHelp(
            "Whether up to 256 ports are opened here, or 512 of another router tried, where two "
                + "NATs leave no other direct way: on or off, on both machines. Default off.",
            valueName: "on|off"))
    var birthdayPunching: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Packet threads. Default 0: as many as suit this machine.", valueName: "count"))
    var shards: String?
    @Option(
        name: .long, help: "The datastore that the mesh founds: none, etcd, k3s, k0s or exec:PATH.")
    var cluster: String?
    @Option(name: .long, help: "What this machine may become: auto, server, agent, none.")
    var role: String?
    @Option(
        name: .customLong("init"),
        help: "Who keeps K3s' process: auto, systemd, openrc or supervise.")
    var initSystem: String?
    @Option(
        name: .customLong("k3s-binary"),
        help: ArgumentHelp("Default: k3s (or k0s) in the usual directories.", valueName: "file"))
    var k3sBinary: String?
    @Option(
        name: .customLong("k3s-data-dir"),
        help: ArgumentHelp("Default: /var/lib/rancher/k3s (or k0s').", valueName: "dir"))
    var k3sDataDir: String?
    @Option(
        name: .customLong("k3s-config-dir"),
        help: ArgumentHelp("Default: /etc/rancher/k3s.", valueName: "dir"))
    var k3sConfigDir: String?
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Write what happens to the founding into this file, for `simulate --replay`.",
            valueName: "file"))
    var foundingLog: String?
    @Option(
        name: .long,
        help: ArgumentHelp("A YAML file with the same options.", valueName: "file"))
    var config: String?
    @Option(
        name: .long,
        help: "trace, debug, info, notice, warning, error or critical. Default info.")
    var logLevel: String?

    func run() async throws {
        let config = try resolve()
        let token = try readToken(config)
        if let address = config.address {
            guard token.ipv4Plan.contains(address.address),
                address.length == nil || address.length == token.ipv4Plan.length
            else {
                throw CommandFailure.mistake(
                    "--address", "the mesh's IPv4 plan is \(token.ipv4Plan)",
                    fix: "choose an address of it, or leave it out")
            }
        }
        if config.interfaceName != nil, geteuid() != 0 {
            throw CommandFailure.operating(
                "a TUN device needs root", fix: "start as root, or say --interface none")
        }
        try await NodeLauncher.run(config, token: token)
    }

    private func resolve() throws -> NodeConfig {
        let environment = ProcessInput.current.environment
        var file: (path: String, text: String)?
        if let path = config ?? environment["EDGEVPN_CONFIG"], !path.isEmpty {
            let place = config == nil ? "EDGEVPN_CONFIG" : "--config"
            do throws(ReadFailure) {
                let bytes = try readFile(path, limit: 1 << 20)
                file = (path, String(decoding: bytes, as: UTF8.self))
            } catch {
                throw CommandFailure.mistake(
                    place, "\(path) cannot be read: \(error.reason)", fix: "name a readable file")
            }
        }
        let sources = ConfigSources(file: file, environment: environment, flags: flags)
        do throws(ConfigProblems) {
            return try NodeConfig.resolve(sources, machineHostname: machineHostname())
        } catch {
            throw CommandFailure.mistakes(error.problems)
        }
    }

    private var flags: [NodeOption: [String]] {
        let single: [(NodeOption, String?)] = [
            (.token, token.token), (.tokenFile, token.tokenFile), (.stateDirectory, stateDir),
            (.interface, interface), (.address, address), (.hostname, hostname),
            (.listen, listen), (.dht, dht),
            (.dhtAnnounce, dhtAnnounce.map { "\($0)" }),
            (.dhtPlain, dhtPlain.map { "\($0)" }), (.mdns, mdns.map { "\($0)" }), (.dns, dns),
            (.dnsZone, dnsZone), (.dnsIntegration, dnsIntegration),
            (.dnsQueryLog, dnsQueryLog.map { "\($0)" }), (.api, api), (.relay, relay),
            (.relayTLS, relayTLS), (.portMapping, portMapping),
            (.birthdayPunching, birthdayPunching),
            (.shards, shards), (.cluster, cluster), (.role, role), (.initSystem, initSystem),
            (.k3sBinary, k3sBinary), (.k3sDataDirectory, k3sDataDir),
            (.k3sConfigDirectory, k3sConfigDir), (.foundingLog, foundingLog), (.logLevel, logLevel),
        ]
        var result: [NodeOption: [String]] = [
            .peer: peer, .dhtBootstrap: dhtBootstrap, .dnsUpstream: dnsUpstream,
            .dnsRoute: dnsRoute,
        ]
        for (option, value) in single {
            if let value { result[option] = [value] }
        }
        return result
    }

    /// The token from the configuration, else from a systemd credential of the name
    /// `edgevpn-token` (systemd.exec(5), LoadCredential=).
    private func readToken(_ config: NodeConfig) throws -> NetworkToken {
        if let text = config.token { return try parseToken(text.text, path: "token") }
        if let file = config.tokenFile { return try parseToken(inFile: file, path: "token-file") }
        if let directory = ProcessInput.current.environment["CREDENTIALS_DIRECTORY"] {
            let file = "\(directory)/edgevpn-token"
            if access(file, F_OK) == 0 { return try parseToken(inFile: file, path: file) }
        }
        throw CommandFailure.mistake(
            "--token-file", "no token is given",
            fix: "give --token-file FILE or EDGEVPN_TOKEN; `token new` makes a token")
    }
}

/// What the kernel calls this machine (gethostname(2)); empty when it does not say.
private func machineHostname() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "" }
    let bytes = name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return String(decoding: bytes, as: UTF8.self)
}
