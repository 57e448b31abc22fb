import NetAddress

extension NodeConfig {
    /// Merges the sources over the defaults and checks everything.
    ///
    /// - Parameter machineHostname: what the machine calls itself; its first label is the default
    ///   hostname, with every character that a DNS label cannot hold replaced.
    /// - Throws: every problem of every source at once.
    package static func resolve(_ sources: ConfigSources, machineHostname: String)
        throws(ConfigProblems) -> NodeConfig
    {
        var reader = SettingsReader(sources)
        let config = NodeConfig(
            token: reader.read(.token) { RedactedText($0) },
            tokenFile: reader.read(.tokenFile, expecting: "a file name") { nonEmpty($0) },
            stateDirectory: reader.read(.stateDirectory, expecting: "an absolute path") {
                absolutePath($0)
            },
            interfaceName: reader.interfaceName(),
            address: reader.read(.address, expecting: "IPV4 or IPV4/LENGTH with 8 to 28") {
                overlayAddress($0)
            },
            hostname: reader.read(.hostname, expecting: "one DNS label") { hostLabel($0) }
                ?? defaultHostname(machineHostname),
            listenPort: reader.read(.listen, expecting: "a port from 1 to 65535") { port($0) },
            peers: reader.readList(.peer, expecting: "HOST:PORT") { hostAndPort($0) } ?? [],
            usesMulticastDNS: reader.read(.mdns, expecting: "true or false") { Bool($0) } ?? true,
            dht: reader.read(.dht, expecting: "off, private or public") {
                DHTModeChoice(rawValue: $0)
            },
            dhtBootstrap: reader.readList(.dhtBootstrap, expecting: "HOST:PORT") {
                hostAndPort($0)
            } ?? [],
            announcesOnDHT: reader.read(.dhtAnnounce, expecting: "true or false") { Bool($0) }
                ?? false,
            isDHTPlain: reader.read(.dhtPlain, expecting: "true or false") { Bool($0) } ?? false,
            dns: reader.read(.dns, expecting: "ADDRESS:PORT or off") { dnsListen($0) } ?? .overlay,
            dnsZone: reader.read(.dnsZone, expecting: "a domain name") { domainName($0) },
            dnsUpstreams: reader.readList(
                .dnsUpstream, expecting: "ADDRESS, ADDRESS:PORT or tls://ADDRESS#NAME"
            ) { upstream($0) },
            dnsRoutes: reader.readList(.dnsRoute, expecting: "SUFFIX=ADDRESS") {
                dnsRoute($0)
            } ?? [],
            logsDNSQueries: reader.read(.dnsQueryLog, expecting: "true or false") { Bool($0) }
                ?? false,
            dnsIntegration: reader.read(
                .dnsIntegration, expecting: "auto, off, resolved, resolvconf or file"
            ) { DNSIntegrationChoice(rawValue: $0) } ?? .off,
            api: reader.api(),
            cluster: reader.read(.cluster, expecting: "none, etcd, k3s, k0s or exec:/PATH") {
                ClusterChoice($0)
            } ?? .none,
            role: reader.read(.role, expecting: "auto, server, agent or none") {
                RoleChoice(rawValue: $0)
            } ?? .auto,
            initSystem: reader.read(
                .initSystem, expecting: "auto, systemd, openrc or supervise"
            ) { InitChoice(rawValue: $0) } ?? .auto,
            k3sBinary: reader.read(.k3sBinary, expecting: "a program's name or path") {
                nonEmpty($0)
            },
            k3sDataDirectory: reader.read(.k3sDataDirectory, expecting: "an absolute path") {
                absolutePath($0)
            },
            k3sConfigDirectory: reader.read(.k3sConfigDirectory, expecting: "an absolute path") {
                absolutePath($0)
            },
            shards: reader.read(.shards, expecting: "0 (automatic) to \(shardLimit)") {
                shardCount($0)
            } ?? 0,
            relay: reader.read(.relay, expecting: "off, unlimited or bits a second such as 10M") {
                RelayChoice($0)
            } ?? .usual,
            relaysByTLS: reader.read(.relayTLS, expecting: "on or off") { onOrOff($0) } ?? false,
            mapsPorts: reader.read(.portMapping, expecting: "auto or off") {
                ["auto": true, "off": false][$0]
            } ?? true,
            guessesPorts: reader.read(.birthdayPunching, expecting: "on or off") { onOrOff($0) }
                ?? false,
            foundingLog: reader.read(.foundingLog, expecting: "an absolute path") {
                absolutePath($0)
            },
            logLevel: reader.read(
                .logLevel, expecting: "trace, debug, info, notice, warning, error or critical"
            ) { LogLevelChoice(rawValue: $0) } ?? .info)
        if config.cluster == .none, config.role == .server || config.role == .agent {
            reader.complain(
                .role, "a role in a datastore is asked for, and there is none",
                fix: "add --cluster etcd, k3s, k0s or exec:/PATH, or leave --role out")
        }
        if config.cluster != .k3s {
            let forBoth = [NodeOption.k3sBinary, .k3sDataDirectory]
            for option in forBoth + [.k3sConfigDirectory]
            where reader.isGiven(option) && !(config.cluster == .k0s && forBoth.contains(option)) {
                reader.complain(
                    option, "K3s is not asked for", fix: "add --cluster k3s, or leave it out")
            }
            if config.initSystem == .systemd || config.initSystem == .openrc {
                reader.complain(
                    .initSystem, "only K3s runs as a unit of an init system",
                    fix: "add --cluster k3s, or say supervise")
            }
        }
        if config.relaysByTLS, config.relay == .off {
            reader.complain(
                .relayTLS, "members are asked to come by TLS, and nothing is relayed",
                fix: "leave it out, or leave --relay off out")
        }
        if config.isDHTPlain, config.dht != .private {
            reader.complain(
                .dhtPlain, "plain KRPC is asked for outside of a private DHT",
                fix: "add --dht private, or leave it out")
        }
        if config.dht == .off, !config.dhtBootstrap.isEmpty {
            reader.complain(
                .dhtBootstrap, "it has no effect: the DHT is off",
                fix: "leave it out, or say --dht private or public")
        }
        if config.dht == .off, config.announcesOnDHT {
            reader.complain(
                .dhtAnnounce, "it has no effect: the DHT is off",
                fix: "leave it out, or say --dht private or public")
        }
        if config.cluster != .none, config.role != .none, config.interfaceName == nil {
            // Such a node could win the claim to found, and nobody would ever found anything.
            reader.complain(
                .interface, "the datastore listens on the mesh addresses, and they need a device",
                fix: "leave --interface out, or say --role none")
        }
        guard reader.problems.isEmpty else { throw ConfigProblems(reader.problems) }
        return config
    }

    /// The first label of `machineHostname` as a DNS label; `node` when nothing is left of it.
    static func defaultHostname(_ machineHostname: String) -> String {
        let label = machineHostname.lowercased().prefix { $0 != "." }.prefix(63)
        let mended = String(label.map { isLabelCharacter($0) ? $0 : "-" })
        return hostLabel(mended) ?? "node"
    }
}

/// Reads one option after the other and collects what is wrong with them.
private struct SettingsReader {
    var problems: [ConfigProblem] = []
    private let settings: [NodeOption: Setting]

    init(_ sources: ConfigSources) {
        settings = sources.settings(&problems)
    }

    mutating func read<Value>(
        _ option: NodeOption, expecting: String = "text", _ parse: (String) -> Value?
    ) -> Value? {
        guard let setting = settings[option], let text = setting.values.last else { return nil }
        return value(of: text, setting, expecting, parse)
    }

    mutating func readList<Value>(
        _ option: NodeOption, expecting: String, _ parse: (String) -> Value?
    ) -> [Value]? {
        guard let setting = settings[option] else { return nil }
        return setting.values.compactMap { value(of: $0, setting, expecting, parse) }
    }

    private mutating func value<Value>(
        of text: String, _ setting: Setting, _ expecting: String, _ parse: (String) -> Value?
    ) -> Value? {
        guard let value = parse(text) else {
            problems.append(
                setting.problem(
                    "\(setting.option.rawValue) is \(quoted(text))", fix: "give \(expecting)"))
            return nil
        }
        return value
    }

    mutating func interfaceName() -> String? {
        let expecting = "none, or a name of 1 to 15 letters, digits, '.', '_' and '-'"
        let name = read(.interface, expecting: expecting) { text -> String? in
            let allowed = text.utf8.allSatisfy { byte in
                isLabelCharacter(Character(Unicode.Scalar(byte)))
                    || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
            }
            // IFNAMSIZ is 16 with the terminating zero (netdevice(7)).
            let fits = (1...15).contains(text.utf8.count)
            return allowed && fits && text != "." && text != ".." ? text : nil
        }
        if name == nil { return NodeConfig.defaultInterface }
        return name == "none" ? nil : name
    }

    mutating func api() -> APIAddress? {
        enum Choice {
            case off
            case at(APIAddress)
        }
        let expecting = "unix:/PATH (at most \(APIAddress.longestPath) bytes), ADDRESS:PORT or off"
        let choice = read(.api, expecting: expecting) { text -> Choice? in
            if text == "off" { return .off }
            return APIAddress(text).map { .at($0) }
        }
        switch choice {
        case nil: return NodeConfig.defaultAPI
        case .off: return nil
        case .at(let address): return address
        }
    }

    func isGiven(_ option: NodeOption) -> Bool { settings[option] != nil }

    mutating func complain(_ option: NodeOption, _ message: String, fix: String) {
        let setting = settings[option]
        problems.append(
            ConfigProblem(
                path: setting?.path ?? option.flag, line: setting?.line, message: message, fix: fix)
        )
    }
}

// MARK: - Values

private func onOrOff(_ text: String) -> Bool? { ["on": true, "off": false][text] }
private func nonEmpty(_ text: String) -> String? { text.isEmpty ? nil : text }

/// More packet threads than any card keeps busy.
package let shardLimit = 16

/// A number of packet threads; 0 leaves it to the machine.
package func shardCount(_ text: String) -> Int? {
    guard text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text),
        number <= shardLimit
    else { return nil }
    return number
}

private func absolutePath(_ text: String) -> String? {
    text.hasPrefix("/") && !text.utf8.contains(0) ? text : nil
}

private func port(_ text: String) -> UInt16? {
    guard text.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt16(text), number > 0
    else { return nil }
    return number
}

private func isLabelCharacter(_ character: Character) -> Bool {
    ("a"..."z").contains(character) || ("0"..."9").contains(character) || character == "-"
}

/// A DNS label (RFC 1123 section 2.1): letters, digits and inner hyphens, at most 63.
private func hostLabel(_ text: String) -> String? {
    let label = text.lowercased()
    let fits = (1...63).contains(label.utf8.count) && label.allSatisfy(isLabelCharacter)
    return fits && !label.hasPrefix("-") && !label.hasSuffix("-") ? label : nil
}

/// Labels with dots between them, at most 253 characters; a trailing dot is dropped.
private func domainName(_ text: String) -> String? {
    let name = text.hasSuffix(".") ? String(text.dropLast()) : text
    let labels = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    let parsed = labels.compactMap(hostLabel)
    guard name.utf8.count <= 253, parsed.count == labels.count else { return nil }
    return parsed.joined(separator: ".")
}

private func hostAndPort(_ text: String) -> HostAndPort? {
    guard let (host, port) = splitHostPort(text) else { return nil }
    if IPAddress(host) != nil { return HostAndPort(host: host, port: port) }
    // A name of digits and dots only is an address with a mistake in it.
    guard let name = domainName(host), !name.allSatisfy({ $0.isNumber || $0 == "." }) else {
        return nil
    }
    return HostAndPort(host: name, port: port)
}

private func overlayAddress(_ text: String) -> OverlayAddress? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard let first = parts.first, let address = IPAddress(String(first)), address.isIPv4,
        !address.isLoopback, !address.isMulticast, !address.isUnspecified,
        let prefix = IPPrefix(text)
    else { return nil }
    if parts.count == 1 { return OverlayAddress(address: address) }
    guard (8...28).contains(prefix.length) else { return nil }
    return OverlayAddress(address: address, length: prefix.length)
}

private func dnsListen(_ text: String) -> DNSListen? {
    text == "off" ? .off : SocketAddress(text).map { .address($0) }
}

/// `ADDRESS[:PORT]`, or `tls://ADDRESS[:PORT][#NAME]` (port 853, RFC 7858 section 3.1).
private func upstream(_ text: String) -> DNSUpstream? {
    let scheme = "tls://"
    guard text.hasPrefix(scheme) else {
        return socketAddress(text, port: 53).map { DNSUpstream(address: $0) }
    }
    let parts = text.dropFirst(scheme.count).split(
        separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
    let name = parts.count == 2 ? domainName(String(parts[1])) : ""
    guard let name, let address = socketAddress(String(parts[0]), port: 853) else { return nil }
    return DNSUpstream(address: address, tlsName: name)
}

private func socketAddress(_ text: String, port: UInt16) -> SocketAddress? {
    IPAddress(text).map { SocketAddress(ip: $0, port: port) } ?? SocketAddress(text)
}

private func dnsRoute(_ text: String) -> DNSRoute? {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let suffix = domainName(String(parts[0])) else { return nil }
    return upstream(String(parts[1])).map { DNSRoute(suffix: suffix, upstream: $0) }
}

/// What the user wrote, short enough for one line and without control characters.
private func quoted(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(60).map { scalar in
        scalar.properties.generalCategory == .control ? "?" : String(scalar)
    }
    return "\"\(shown.joined())\(text.unicodeScalars.count > 60 ? "..." : "")\""
}
