import Cryptography
import MeshBase
import NetAddress

/// Reads a WireGuard configuration line by line and collects what is wrong with it.
struct TunnelConfigurationParser {
    /// The settings of one section as they are written, each with its line.
    private struct Section {
        var line: Int
        var privateKey: StaticPrivateKey?
        var listenPort: UInt16?
        var firewallMark: UInt32?
        var addresses: [TunnelAddress] = []
        var mtu: Int?
        var publicKey: StaticPublicKey?
        var presharedKey: SecretBytes?
        var allowedIPs: [(prefix: IPPrefix, line: Int)] = []
        var endpoint: TunnelEndpoint?
        var persistentKeepalive: Duration?
        /// Keys seen so far, in lower case, with their lines.
        var seen: [String: Int] = [:]
    }

    private enum Place { case nowhere, interface, peer, unknown }

    private let path: String
    private var problems: [ConfigProblem] = []
    private var place = Place.nowhere
    private var interface: Section?
    private var peers: [Section] = []
    private var lastLine = 1

    init(path: String) {
        self.path = path
    }

    mutating func read(_ bytes: ArraySlice<UInt8>, number: Int) {
        lastLine = number
        guard let line = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            complain(number, "the line is not UTF-8 text", fix: "save the file as UTF-8")
            return
        }
        let content = trimmed(line.prefix { $0 != "#" })
        if content.isEmpty { return }
        if content.hasPrefix("[") {
            begin(content, number)
        } else {
            readPair(content, number)
        }
    }

    private mutating func begin(_ header: Substring, _ number: Int) {
        switch header.lowercased() {
        case "[interface]":
            if let interface {
                complain(
                    number, "a second [Interface]; the first is in line \(interface.line)",
                    fix: "keep one [Interface] section")
                place = .unknown
                return
            }
            place = .interface
            interface = Section(line: number)
        case "[peer]":
            guard peers.count < TunnelConfiguration.peerLimit else {
                complain(
                    number, "more than \(TunnelConfiguration.peerLimit) peers",
                    fix: "split them over several tunnels")
                place = .unknown
                return
            }
            place = .peer
            peers.append(Section(line: number))
        default:
            complain(
                number, "\(quoted(header)) is not a section", fix: "write [Interface] or [Peer]")
            place = .unknown
        }
    }

    private mutating func readPair(_ content: Substring, _ number: Int) {
        guard let equals = content.firstIndex(of: "=") else {
            complain(number, "the line is not KEY = VALUE", fix: "write KEY = VALUE")
            return
        }
        let key = trimmed(content[..<equals])
        let value = trimmed(content[content.index(after: equals)...])
        let name = key.lowercased()
        switch place {
        case .nowhere:
            complain(
                number, "\(quoted(key)) stands before any section",
                fix: "begin the file with [Interface]")
        case .unknown: break
        case .interface:
            guard var section = interface else { return }
            let setter = TunnelConfigurationParser.interfaceKeys[name]
            set(setter, key, value, in: &section, number, others: Self.interfaceKeyNames)
            interface = section
        case .peer:
            guard var section = peers.popLast() else { return }
            let setter = TunnelConfigurationParser.peerKeys[name]
            set(setter, key, value, in: &section, number, others: Self.peerKeyNames)
            peers.append(section)
        }
    }

    private mutating func set(
        _ setter: Setter?, _ key: Substring, _ value: Substring, in section: inout Section,
        _ number: Int, others: String
    ) {
        guard let setter else {
            complain(
                number, "\(quoted(key)) is not a key of this section",
                fix: "remove the line; the keys are \(others)")
            return
        }
        let name = key.lowercased()
        if let first = section.seen[name], !setter.mayRepeat {
            complain(
                number, "\(key) stands twice; the first is in line \(first)",
                fix: "keep one of them")
            return
        }
        section.seen[name] = number
        if let wrong = setter.apply(value, number, &section) {
            // What a key of a secret holds is never repeated.
            let shown = setter.isSecret ? "the value" : quoted(value)
            complain(number, "\(key): \(shown) is not \(wrong.expected)", fix: wrong.fix)
        }
    }

    private mutating func complain(_ line: Int, _ message: String, fix: String) {
        // A file of another kind would fill the screen; the first lines tell enough.
        guard problems.count < 100 else { return }
        problems.append(ConfigProblem(path: path, line: line, message: message, fix: fix))
    }
}

// MARK: - Keys

extension TunnelConfigurationParser {
    /// What a value should have been.
    private struct Wrong {
        var expected: String
        var fix: String
    }

    private struct Setter {
        var mayRepeat = false
        var isSecret = false
        /// Stores the value, or says what was expected.
        var apply: @Sendable (Substring, Int, inout Section) -> Wrong?
    }

    private static let keyFormat = Wrong(
        expected: "a key of 32 bytes in base64", fix: "paste the 44 characters that wg prints")
    private static let interfaceKeyNames = "PrivateKey, ListenPort, Address, MTU, FwMark"
    private static let peerKeyNames =
        "PublicKey, PresharedKey, AllowedIPs, Endpoint, PersistentKeepalive"

    private static let interfaceKeys: [String: Setter] = [
        "privatekey": Setter(isSecret: true) { value, _, section in
            guard let secret = secretKey(value) else { return keyFormat }
            section.privateKey = StaticPrivateKey(secret)
            return nil
        },
        "listenport": Setter { value, _, section in
            guard let port = decimal(value).flatMap({ UInt16(exactly: $0) }) else {
                return Wrong(expected: "a port", fix: "write a number from 0 to 65535")
            }
            section.listenPort = port
            return nil
        },
        "fwmark": Setter { value, _, section in
            guard let mark = value == "off" ? 0 : number32(value) else {
                return Wrong(
                    expected: "a firewall mark", fix: "write a 32-bit number such as 0x1234, or off"
                )
            }
            section.firewallMark = mark
            return nil
        },
        "mtu": Setter { value, _, section in
            guard let mtu = decimal(value), (576...65_535).contains(mtu) else {
                return Wrong(expected: "an MTU", fix: "write a number from 576 to 65535")
            }
            section.mtu = mtu
            return nil
        },
        "address": Setter(mayRepeat: true) { value, _, section in
            for item in items(value) {
                guard let address = interfaceAddress(item) else {
                    return Wrong(
                        expected: "a list of addresses", fix: "write ADDRESS/LENGTH, ADDRESS/LENGTH"
                    )
                }
                if !section.addresses.contains(address) { section.addresses.append(address) }
            }
            return nil
        },
    ]

    private static let peerKeys: [String: Setter] = [
        "publickey": Setter { value, _, section in
            guard let bytes = [UInt8](base64: value), let key = Bytes32(bytes) else {
                return keyFormat
            }
            section.publicKey = StaticPublicKey(key)
            return nil
        },
        "presharedkey": Setter(isSecret: true) { value, _, section in
            guard let secret = secretKey(value) else { return keyFormat }
            // All zeros is how wg(8) writes that there is none.
            let isZero = secret.withBytes { bytes in (0..<32).allSatisfy { bytes[$0] == 0 } }
            section.presharedKey = isZero ? nil : secret
            return nil
        },
        "allowedips": Setter(mayRepeat: true) { value, line, section in
            for item in items(value) {
                guard let prefix = IPPrefix(String(item)) else {
                    return Wrong(
                        expected: "a list of address blocks",
                        fix: "write ADDRESS/LENGTH, ADDRESS/LENGTH")
                }
                section.allowedIPs.append((prefix, line))
            }
            return nil
        },
        "endpoint": Setter { value, _, section in
            guard let (host, port) = splitHostPort(String(value)), isHost(host) else {
                return Wrong(
                    expected: "a host and port", fix: "write HOST:PORT, or [ADDRESS]:PORT for IPv6")
            }
            section.endpoint = TunnelEndpoint(host: host, port: port)
            return nil
        },
        "persistentkeepalive": Setter { value, _, section in
            guard let seconds = value == "off" ? 0 : decimal(value), seconds <= 65_535 else {
                return Wrong(
                    expected: "an interval", fix: "write seconds from 1 to 65535, or off")
            }
            section.persistentKeepalive = seconds == 0 ? nil : .seconds(seconds)
            return nil
        },
    ]
}

// MARK: - The whole

extension TunnelConfigurationParser {
    /// What no single line shows; then the configuration, if nothing was wrong.
    consuming func finish() throws(ConfigProblems) -> TunnelConfiguration {
        checkInterface()
        checkPeers()
        guard problems.isEmpty, let interface, let privateKey = interface.privateKey else {
            throw ConfigProblems(problems.sorted { ($0.line ?? 0) < ($1.line ?? 0) })
        }
        return TunnelConfiguration(
            privateKey: privateKey, listenPort: interface.listenPort ?? 0,
            firewallMark: interface.firewallMark ?? 0, addresses: interface.addresses,
            mtu: interface.mtu ?? TunnelConfiguration.usualMTU,
            peers: peers.compactMap { section in
                section.publicKey.map { key in
                    TunnelPeerSettings(
                        publicKey: key, presharedKey: section.presharedKey,
                        allowedIPs: section.allowedIPs.map(\.prefix),
                        endpoint: section.endpoint,
                        persistentKeepalive: section.persistentKeepalive)
                }
            })
    }

    private mutating func checkInterface() {
        guard let interface else {
            complain(lastLine, "there is no [Interface]", fix: "add [Interface] with a PrivateKey")
            return
        }
        if interface.seen["privatekey"] == nil {
            complain(
                interface.line, "[Interface] has no PrivateKey", fix: "add PrivateKey = KEY")
        }
        if let mtu = interface.mtu, mtu < 1280, let line = interface.seen["mtu"],
            interface.addresses.contains(where: { !$0.ip.isIPv4 })
        {
            complain(
                line, "an IPv6 address needs an MTU of at least 1280", fix: "write MTU = 1280")
        }
    }

    private mutating func checkPeers() {
        var keys: [StaticPublicKey: Int] = [:]
        var prefixes: [IPPrefix: (peer: Int, line: Int)] = [:]
        for (index, peer) in peers.enumerated() {
            for (prefix, line) in peer.allowedIPs {
                if let first = prefixes[prefix], first.peer != index {
                    complain(
                        line, "\(prefix) is also another peer's, in line \(first.line)",
                        fix: "give each block to one peer")
                }
                prefixes[prefix] = (index, line)
            }
            guard let key = peer.publicKey else {
                if peer.seen["publickey"] == nil {
                    complain(peer.line, "[Peer] has no PublicKey", fix: "add PublicKey = KEY")
                }
                continue
            }
            let line = peer.seen["publickey"] ?? peer.line
            if let first = keys[key] {
                complain(
                    line, "the same peer is in line \(first)", fix: "merge the two [Peer] sections")
            }
            if key == interface?.privateKey?.publicKey {
                complain(
                    line, "this is the interface's own public key",
                    fix: "write the other machine's public key")
            }
            keys[key] = line
        }
    }
}

// MARK: - Values

private func trimmed(_ text: Substring) -> Substring {
    var rest = text.drop { $0.isWhitespace }
    while rest.last?.isWhitespace == true { rest.removeLast() }
    return rest
}

/// At most 60 characters, so that a wrong file does not become the error message.
private func quoted(_ text: Substring) -> String {
    let shown = text.prefix(60).map { character in
        character.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 } ? character : "?"
    }
    return "\"" + String(shown) + (text.count > 60 ? "..." : "") + "\""
}

private func items(_ value: Substring) -> [Substring] {
    if value.isEmpty { return [] }
    return value.split(separator: ",", omittingEmptySubsequences: false).map(trimmed)
}

private func decimal(_ text: Substring) -> Int? {
    guard !text.isEmpty, text.utf8.count <= 9, text.utf8.allSatisfy({ (48...57).contains($0) })
    else { return nil }
    return Int(text)
}

private func number32(_ text: Substring) -> UInt32? {
    let isHex = text.lowercased().hasPrefix("0x")
    let digits = isHex ? text.dropFirst(2) : text
    guard let first = digits.utf8.first, first != 43 else { return nil }
    return UInt32(digits, radix: isHex ? 16 : 10)
}

private func secretKey(_ text: Substring) -> SecretBytes? {
    guard var bytes = [UInt8](base64: text), bytes.count == SecretBytes.count else { return nil }
    defer { zeroize(&bytes) }
    return SecretBytes(copying: bytes)
}

private func interfaceAddress(_ text: Substring) -> TunnelAddress? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard let first = parts.first, parts.count <= 2, let ip = IPAddress(String(first)),
        !ip.isMulticast, !ip.isUnspecified
    else { return nil }
    guard parts.count == 2 else { return TunnelAddress(ip: ip, prefixLength: ip.bitWidth) }
    guard let length = decimal(parts[1]), length <= ip.bitWidth else { return nil }
    return TunnelAddress(ip: ip, prefixLength: length)
}

/// An address, or a name of at most 253 characters that getaddrinfo(3) can be asked for.
private func isHost(_ text: String) -> Bool {
    if text.contains(":") {
        let bare = text.split(separator: "%", maxSplits: 1)
        return bare.first.map { IPAddress(String($0)) != nil } ?? false
    }
    return text.utf8.count <= 253
        && text.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
                || byte == UInt8(ascii: "_")
        }
}
