import Configuration
import NetAddress
import Testing

private func resolve(
    file: String? = nil, environment: [String: String] = [:], flags: [NodeOption: [String]] = [:],
    machine: String = "box"
) throws(ConfigProblems) -> NodeConfig {
    let sources = ConfigSources(
        file: file.map { ("/etc/node.yaml", $0) }, environment: environment, flags: flags)
    return try NodeConfig.resolve(sources, machineHostname: machine)
}

private func problems(
    file: String? = nil, environment: [String: String] = [:], flags: [NodeOption: [String]] = [:]
) -> [String] {
    do throws(ConfigProblems) {
        _ = try resolve(file: file, environment: environment, flags: flags)
        return []
    } catch {
        return error.problems.map(\.description)
    }
}

@Suite("What up is told")
struct NodeConfigTests {
    @Test func resolversAreNamedWithTheirTransportAndTheirNames() throws {
        let flags: [NodeOption: [String]] = [
            .dnsUpstream: ["9.9.9.9", "tls://9.9.9.9#dns.quad9.net", "tls://[2620:fe::fe]:8853"],
            .dnsRoute: ["Cluster.Local=10.43.0.10", "corp.example=tls://10.0.0.1"],
            .dnsIntegration: ["auto"], .dnsQueryLog: ["true"],
        ]
        let config = try NodeConfig.resolve(
            ConfigSources(file: nil, environment: [:], flags: flags), machineHostname: "box")
        let upstreams = try #require(config.dnsUpstreams)
        #expect(upstreams.map(\.tlsName) == [nil, "dns.quad9.net", ""])
        #expect(
            upstreams.map(\.address.description) == [
                "9.9.9.9:53", "9.9.9.9:853", "[2620:fe::fe]:8853",
            ])
        #expect(config.dnsRoutes.map(\.suffix) == ["cluster.local", "corp.example"])
        #expect(config.dnsRoutes.map(\.upstream.tlsName) == [nil, ""])
        #expect(config.dnsIntegration == .auto && config.logsDNSQueries)
    }

    @Test func withoutAnySettingTheDefaultsHold() throws {
        let config = try resolve()
        #expect(config.interfaceName == "edgevpn0")
        #expect(config.api == .unix(path: "/run/edgevpn/api.sock"))
        #expect(config.dns == .overlay)
        #expect(config.cluster == .none && config.role == .auto)
        #expect(config.hostname == "box" && config.usesMulticastDNS && config.peers.isEmpty)
        #expect(config.listenPort == nil && config.token == nil && config.stateDirectory == nil)
    }

    @Test func aFlagBeatsTheEnvironmentAndThatBeatsTheFile() throws {
        let file = "interface: file0\nhostname: fromfile\nlisten: 1000\n"
        let environment = ["EDGEVPN_INTERFACE": "env0", "EDGEVPN_HOSTNAME": "fromenv"]
        let config = try resolve(
            file: file, environment: environment, flags: [.interface: ["flag0"]])
        #expect(config.interfaceName == "flag0")
        #expect(config.hostname == "fromenv")
        #expect(config.listenPort == 1_000)
    }

    @Test func aStrongerTokenFileBeatsAWeakerTokenAndTheOtherWayRound() throws {
        let first = try resolve(
            environment: ["EDGEVPNTOKEN": "t"], flags: [.tokenFile: ["/token"]])
        #expect(first.token == nil && first.tokenFile == "/token")
        let second = try resolve(file: "token-file: /token", environment: ["EDGEVPN_TOKEN": "t"])
        #expect(second.token?.text == "t" && second.tokenFile == nil)
        #expect(problems(flags: [.token: ["t"], .tokenFile: ["/token"]]).count == 1)
    }

    @Test func edgevpnsOwnNamesAreAliases() throws {
        let config = try resolve(environment: [
            "EDGEVPNTOKEN": "secret", "IFACE": "vpn1", "DNSADDRESS": "127.0.0.1:53",
            "APILISTEN": "unix:///run/x.sock", "EDGEVPNLOGLEVEL": "debug", "EDGEVPNDHT": "false",
            "EDGEVPNMDNS": "false", "PATH": "/bin", "API": "true",
        ])
        #expect(config.token?.text == "secret" && config.interfaceName == "vpn1")
        #expect(config.dns == .address(SocketAddress(ip: .v4(0x7F00_0001), port: 53)))
        #expect(config.api == .unix(path: "/run/x.sock") && config.logLevel == .debug)
        #expect(!config.usesMulticastDNS)
    }

    @Test func listsCountAsAWhole() throws {
        let file = """
            peer:
              - a.example:1   # the first
              - "[fd00::1]:2"
            dns-upstream: [9.9.9.9, '[2620:fe::fe]:5353']
            """
        let config = try resolve(file: file)
        #expect(config.peers.map(\.description) == ["a.example:1", "[fd00::1]:2"])
        #expect(
            config.dnsUpstreams?.map(\.address.description) == ["9.9.9.9:53", "[2620:fe::fe]:5353"])
        let flags = try resolve(file: file, flags: [.peer: ["10.0.0.1:7"]])
        #expect(flags.peers == [HostAndPort(host: "10.0.0.1", port: 7)])
        let environment = try resolve(environment: ["EDGEVPN_PEER": "a:1,b:2 c:3"])
        #expect(environment.peers.map(\.port) == [1, 2, 3])
    }

    @Test func anAddressMayComeWithItsLength() throws {
        let long = try resolve(environment: ["ADDRESS": "10.1.0.5/24"]).address
        #expect(long?.address == .v4(0x0A01_0005) && long?.length == 24)
        let short = try resolve(flags: [.address: ["10.1.0.5"]]).address
        #expect(short?.address == .v4(0x0A01_0005) && short?.length == nil)
    }

    @Test func noneAndOffSwitchThingsOff() throws {
        let config = try resolve(flags: [
            .interface: ["none"], .api: ["off"], .dns: ["off"], .mdns: ["false"], .dht: ["off"],
            .relay: ["off"], .shards: ["1"], .dnsIntegration: ["off"], .initSystem: ["supervise"],
        ])
        #expect(config.interfaceName == nil && config.api == nil && config.dns == .off)
    }

    @Test(arguments: [
        (NodeOption.listen, "0"), (.listen, "65536"), (.listen, "+80"), (.listen, "many"),
        (.interface, "sixteen-letters-"), (.interface, "a/b"), (.interface, ""), (.interface, ".."),
        (.hostname, "-a"), (.hostname, "a.b"), (.hostname, "ünder"), (.hostname, ""),
        (.address, "fd00::1"), (.address, "10.1.0.5/33"), (.address, "10.1.0.5/"),
        (.address, "any"),
        (.peer, "host"), (.peer, "host:0"), (.peer, "1.2.3:80"), (.peer, "fd00::1:80"),
        (.dns, "127.0.0.1"), (.dns, "on"), (.dnsZone, "a..b"), (.dnsUpstream, "dns.example"),
        (.dnsUpstream, "tls://dns.example"), (.dnsUpstream, "tls://9.9.9.9#"),
        (.dnsRoute, "cluster.local"), (.dnsRoute, "a..b=9.9.9.9"), (.dnsRoute, "a=b"),
        (.dnsIntegration, "on"), (.dnsQueryLog, "some"),
        (.api, "unix:relative"), (.api, "localhost"), (.api, ""), (.stateDirectory, "relative"),
        (.mdns, "maybe"), (.cluster, "mysql"), (.role, "boss"), (.logLevel, "loud"),
        (.dht, "maybe"), (.shards, "17"), (.relay, "some"), (.relay, "1k"),
        (.relay, "99999999999G"), (.initSystem, "runit"), (.tokenFile, ""),
        (.relayTLS, "yes"), (.portMapping, "on"), (.birthdayPunching, "auto"),
    ])
    func aValueThatIsNotOneIsRefusedByName(_ option: NodeOption, _ value: String) {
        let found = problems(flags: [option: [value]])
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix("\(option.flag): ") == true)
    }

    @Test func everyDatastoreIsNamedAsItIsWritten() throws {
        for text in ["none", "etcd", "k3s", "k0s", "exec:/opt/store"] {
            #expect(try resolve(flags: [.cluster: [text]]).cluster.description == text)
        }
        #expect(
            try resolve(flags: [.cluster: ["exec:/opt/store"]]).cluster
                == .program(path: "/opt/store"))
        for text in ["exec:", "exec:store", "k8s", "exec"] {
            #expect(problems(flags: [.cluster: [text]]).count == 1, "\(text)")
        }
    }

    @Test func theDHTIsChosenAndBegunWith() throws {
        let config = try resolve(flags: [
            .dht: ["private"], .dhtBootstrap: ["a.example:1", "10.0.0.1:6881"],
            .dhtPlain: ["true"], .dhtAnnounce: ["true"],
        ])
        #expect(config.dht == .private && config.isDHTPlain && config.announcesOnDHT)
        #expect(try !resolve(flags: [:]).announcesOnDHT)
        #expect(config.dhtBootstrap.map(\.description) == ["a.example:1", "10.0.0.1:6881"])
        #expect(try resolve(flags: [:]).dht == nil)
    }

    @Test func plainKRPCIsForPrivateNetworks() {
        let found = problems(flags: [.dht: ["public"], .dhtPlain: ["true"]])
        #expect(found.count == 1 && found.first?.hasPrefix("--dht-plain: ") == true)
        let unheard = problems(flags: [.dht: ["off"], .dhtAnnounce: ["true"]])
        #expect(unheard.count == 1 && unheard.first?.hasPrefix("--dht-announce: ") == true)
        let useless = problems(flags: [.dht: ["off"], .dhtBootstrap: ["a:1"]])
        #expect(useless.count == 1 && useless.first?.hasPrefix("--dht-bootstrap: ") == true)
    }

    @Test(arguments: [
        (NodeOption.k3sBinary, "/k3s"), (.k3sDataDirectory, "/d"), (.k3sConfigDirectory, "/c"),
    ])
    func whatIsSaidAboutK3sNeedsK3s(_ option: NodeOption, _ value: String) throws {
        let found = problems(flags: [option: [value], .cluster: ["etcd"]])
        #expect(found.count == 1 && found.first?.hasPrefix("\(option.flag): ") == true)
        let forK0s = problems(flags: [option: [value], .cluster: ["k0s"]])
        #expect(forK0s.count == (option == .k3sConfigDirectory ? 1 : 0))
        let config = try resolve(flags: [option: [value], .cluster: ["k3s"]])
        #expect(config.cluster == .k3s)
        #expect(
            [config.k3sBinary, config.k3sDataDirectory, config.k3sConfigDirectory]
                .compactMap { $0 } == [value])
    }

    @Test func aDatastoreNeedsADevice() throws {
        let flags: [NodeOption: [String]] = [.cluster: ["etcd"], .interface: ["none"]]
        let found = problems(flags: flags)
        #expect(found.count == 1 && found.first?.hasPrefix("--interface: ") == true)
        let meshOnly = flags.merging([.role: ["none"]]) { $1 }
        #expect(try resolve(flags: meshOnly).interfaceName == nil)
    }

    @Test func allMistakesAreToldAtOnceEachWithItsPlace() {
        let found = problems(
            file: "listen: high\nhostnam: x\nmtu: [1, 2]\nhostname: a\nhostname: b\n",
            environment: ["EDGEVPN_ROLE": "boss", "EDGEVPN_DNS_ZON": "x"],
            flags: [.api: ["nowhere"]])
        #expect(found.count == 7)
        for expected in [
            "/etc/node.yaml:1: listen is \"high\"", "/etc/node.yaml:2: unknown key hostnam",
            "/etc/node.yaml:3: unknown key mtu", "/etc/node.yaml:5: hostname stands twice",
            "EDGEVPN_ROLE: role is \"boss\"", "EDGEVPN_DNS_ZON: unknown environment variable",
            "--api: api is \"nowhere\"",
        ] {
            #expect(found.contains { $0.hasPrefix(expected) }, "\(expected) in \(found)")
        }
        #expect(found.contains { $0.contains("did you mean hostname?") })
        #expect(found.contains { $0.contains("did you mean EDGEVPN_DNS_ZONE?") })
    }

    @Test func aRoleNeedsADatastore() {
        #expect(problems(flags: [.role: ["server"]]).count == 1)
        #expect(problems(flags: [.role: ["server"], .cluster: ["etcd"]]).isEmpty)
        #expect(problems(flags: [.role: ["none"]]).isEmpty)
    }

    @Test(arguments: [
        ("Box-7.example.org", "box-7"), ("under_score", "under-score"), ("", "node"),
        ("---", "node"), ("ünder", "node"), ("localhost", "localhost"),
    ])
    func theMachinesNameBecomesALabel(_ machine: String, _ expected: String) throws {
        #expect(try resolve(machine: machine).hostname == expected)
    }

    @Test func aTokenIsNeverShown() throws {
        let config = try resolve(flags: [.token: ["evpn1-very-secret"]])
        var dumped = ""
        dump(config, to: &dumped)
        #expect(!dumped.contains("very-secret"))
        #expect(!"\(config)".contains("very-secret"))
        #expect(!String(reflecting: config).contains("very-secret"))
    }
}

@Suite("The configuration file")
struct ConfigFileTests {
    @Test(arguments: [
        ("hostname: 'it''s'", 1), ("hostname:", 1), ("listen: 5 5", 1), ("listen:5", 1),
        ("  listen: 5", 1), ("- item", 1), ("hostname: &x a", 1), ("hostname: {a: b}", 1),
        ("hostname: |", 1), ("\tlisten: 5", 1), ("hostname: \"open", 1), ("peer: [a:1, ]", 1),
        ("peer: [a:1", 1), ("hostname: \"a\" b", 1), ("hostname: a: b", 1), (": x", 1),
        ("peer:\n  -\n", 2), ("hostname: a\n  - b\n", 2), ("a b: c", 1),
        ("hostname: \"\\u0041\"", 1), ("hostname: [a]", 1),
    ])
    func whatCannotBeReadIsToldWithItsLine(_ text: String, _ line: Int) {
        let found = problems(file: text)
        #expect(found.contains { $0.hasPrefix("/etc/node.yaml:\(line): ") }, "\(found)")
    }

    @Test func commentsQuotesAndSpacesMeanWhatYAMLSays() throws {
        let text = """
            ---
            # a comment
            hostname:   box   # behind a space it is a comment

            dns-zone: "mesh.example"
            interface: 'vpn0'
            token: abc#def
            peer: []
            api: off
            """
        let config = try resolve(file: text)
        #expect(config.hostname == "box" && config.dnsZone == "mesh.example")
        #expect(config.interfaceName == "vpn0" && config.token?.text == "abc#def")
        #expect(config.peers.isEmpty && config.api == nil)
    }

    @Test func aHugeFileIsNotRead() {
        let text = String(repeating: "# nothing\n", count: 10_000)
        #expect(problems(file: text).count == 1)
    }

    @Test func noTextMakesTheReaderTrap() {
        var state: UInt64 = 7
        let alphabet = Array("a:-#'\"[]{}, \\\n\t&é\u{0}")
        for _ in 0..<2_000 {
            var text = ""
            for _ in 0..<40 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text.append(alphabet[Int(state >> 33) % alphabet.count])
            }
            _ = problems(file: text)
        }
    }
}
