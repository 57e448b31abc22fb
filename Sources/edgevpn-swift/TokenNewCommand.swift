import ArgumentParser
import Configuration
import Consensus
import Cryptography
import Glibc
import MeshBase
import MeshNode
import NetAddress

struct TokenNewCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Make a mesh: prints exactly one line, its token.",
        discussion: """
            With --nodes the token carries the policy by which its machines found one cluster, \
            once and for all. Without it the mesh works and founding is refused.
            """)

    @Option(name: .long, help: "The mesh's name, the first label of its DNS zone.")
    var name = "mesh"

    @Option(
        name: .long, help: ArgumentHelp("Machines that may ever vote.", valueName: "count"))
    var nodes: String?

    @Option(
        name: .long,
        help: ArgumentHelp("Servers of the datastore: odd. Default 3, or 1 for one or two nodes."))
    var servers: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Voters that may lose their disk. Default 1, or 0 for one node.", valueName: "count"))
    var diskLosses: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "When voters give up on a silent founder: manual, or after MINUTES.",
            valueName: "manual|minutes"))
    var takeover = "manual"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Who may found: count, voters, designated:ID, single or external.",
            valueName: "mode"))
    var genesis: String?

    @Option(
        name: .long, help: ArgumentHelp("The overlay's IPv4 block.", valueName: "prefix"))
    var cidr = "10.1.0.0/16"

    @Option(name: .long, help: ArgumentHelp("Bytes, 1280 to 9000.", valueName: "bytes"))
    var mtu = "1420"

    @Option(name: .long, help: "How machines may find each other far away: off, private, public.")
    var dht = "public"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where members may be found; may be repeated.", valueName: "host:port"))
    var peer: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Keep the root key in this new file (0600).", valueName: "file"))
    var adminKey: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A token of edgevpn or Kairos to derive the mesh from; everybody with it gets the same.",
            valueName: "file"))
    var edgevpnToken: String?

    func run() throws {
        var problems: [ConfigProblem] = []
        let request = request(&problems)
        if edgevpnToken != nil, adminKey != nil {
            problems.append(
                ConfigProblem(
                    path: "--admin-key", message: "a mesh from edgevpn's token has no admin key",
                    fix: "leave one of the two out"))
        }
        guard problems.isEmpty else { throw CommandFailure.mistakes(problems) }
        if let edgevpnToken {
            return print(try derived(from: edgevpnToken, request).text)
        }
        var random = SystemRandomNumberGenerator()
        let made: (token: NetworkToken, rootKey: SigningKey)
        do throws(TokenProblem) {
            made = try NetworkToken.make(request, random: &random)
        } catch {
            throw CommandFailure.mistake("token new", "\(error)", fix: "see `token new --help`")
        }
        try keep(made.rootKey, of: made.token)
        print(made.token.text)
    }

    private func derived(from file: String, _ request: TokenRequest) throws -> NetworkToken {
        var bytes: [UInt8]
        do throws(ReadFailure) {
            bytes = try readFile(file, limit: 65_536)
        } catch {
            throw CommandFailure.mistake(
                "--edgevpn-token", "\(file) cannot be read: \(error.reason)",
                fix: "name a readable file")
        }
        defer { zeroize(&bytes) }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let token = try PredecessorToken.token(from: text, request: request) else {
            throw CommandFailure.mistake(
                "--edgevpn-token", "\(file) holds no token of edgevpn or Kairos",
                fix: "name a file with what `edgevpn -g -b` or `kairosctl generate-token` printed")
        }
        return token
    }

    private func request(_ problems: inout [ConfigProblem]) -> TokenRequest {
        var request = TokenRequest()
        func refuse(_ option: String, _ message: String, _ fix: String) {
            problems.append(ConfigProblem(path: option, message: message, fix: fix))
        }
        request.name = name
        if !NetworkToken.isValidName(name) {
            refuse(
                "--name", "this cannot be a DNS label of at most 32",
                "use lower-case letters, digits and inner hyphens")
        }
        request.ipv4Plan = IPPrefix(cidr).flatMap { NetworkToken.isValidPlan($0) ? $0 : nil }
        if request.ipv4Plan == nil {
            refuse("--cidr", "this is not an IPv4 block of 8 to 28 bits", "such as 10.1.0.0/16")
        }
        if let number = UInt16(mtu), (1_280...9_000).contains(number) {
            request.mtu = number
        } else {
            refuse("--mtu", "this is not a number from 1280 to 9000", "1420 fits most networks")
        }
        if let mode = DHTMode.allCases.first(where: { "\($0)" == dht }) {
            request.dht = mode
        } else {
            refuse("--dht", "this is not a mode", "give off, private or public")
        }
        request.peerHints = peer
        for hint in peer where splitHostPort(hint) == nil || hint.utf8.count > 255 {
            refuse("--peer", "\(hint.prefix(60)) is not HOST:PORT", "such as vpn.example.org:7777")
        }
        if peer.count > 16 { refuse("--peer", "more than 16 hints", "a few are enough") }
        request.policy = policy(&problems)
        return request
    }

    private func policy(_ problems: inout [ConfigProblem]) -> GenesisPolicy? {
        func number(_ option: String, _ text: String?) -> Int? {
            guard let text else { return nil }
            if let value = Int(text) { return value }
            problems.append(
                ConfigProblem(path: option, message: "this is not a number", fix: "such as 3"))
            return nil
        }
        let before = problems.count
        let limit = number("--nodes", nodes) ?? (genesis == "single" ? 1 : nil)
        let losses = number("--disk-losses", diskLosses)
        let serverCount = number("--servers", servers)
        let areNumbers = problems.count == before
        let mode = mode(&problems)
        var giveUp = GenesisPolicy.Takeover.manual
        if takeover != "manual" {
            if let minutes = Int(takeover), (1...GenesisPolicy.takeoverMaximum).contains(minutes) {
                giveUp = .minutes(minutes)
            } else {
                problems.append(
                    ConfigProblem(
                        path: "--takeover",
                        message: "this is neither manual nor a number of minutes up to "
                            + "\(GenesisPolicy.takeoverMaximum)", fix: "such as 30"))
            }
        }
        guard areNumbers else { return nil }
        guard let limit else {
            let given = [
                ("--servers", servers), ("--disk-losses", diskLosses), ("--genesis", genesis),
                ("--takeover", takeover == "manual" ? nil : takeover),
            ].filter { $0.1 != nil }
            for (option, _) in given {
                problems.append(
                    ConfigProblem(
                        path: option, message: "a founding policy needs the number of machines",
                        fix: "add --nodes COUNT"))
            }
            return nil
        }
        let policy = GenesisPolicy(
            mode: mode, voterLimit: limit, diskLosses: losses, servers: serverCount,
            takeover: giveUp)
        if giveUp != .manual, policy.problems.isEmpty, policy.quorum >= policy.voterLimit {
            problems.append(
                ConfigProblem(
                    path: "--takeover",
                    message: "all \(limit) voters must agree, the silent founder included",
                    fix: "allow fewer --disk-losses or more --nodes, or say manual"))
        }
        if mode == .voters, adminKey == nil {
            problems.append(
                ConfigProblem(
                    path: "--admin-key", message: "in mode voters this key names every voter",
                    fix: "name a new file for it"))
        }
        for problem in policy.problems {
            problems.append(
                ConfigProblem(
                    path: problem.option, message: problem.text,
                    fix: "see docs/how-to/choose-a-policy.md"))
        }
        return policy
    }

    private func mode(_ problems: inout [ConfigProblem]) -> GenesisPolicy.Mode {
        guard let genesis, genesis != "count" else { return .count }
        if genesis.hasPrefix("designated:") {
            let digits = genesis.dropFirst("designated:".count)
            if let bytes = [UInt8](hex: String(digits)), let id = Bytes32(bytes) {
                return .designated(NodeID(id))
            }
            problems.append(
                ConfigProblem(
                    path: "--genesis", message: "a node id has 64 hexadecimal digits",
                    fix: "run `edgevpn-swift id` on that machine"))
            return .count
        }
        switch genesis {
        case "voters": return .voters
        case "single": return .single
        case "external": return .external
        default:
            problems.append(
                ConfigProblem(
                    path: "--genesis", message: "this is not a mode",
                    fix: "give count, voters, designated:ID, single or external"))
            return .count
        }
    }

    /// Writes the root key where the user wants it, or warns that it is gone.
    private func keep(_ rootKey: SigningKey, of token: NetworkToken) throws {
        guard let adminKey else {
            printError(
                "warning: without --admin-key the root key is not kept; a reset of the founding "
                    + "or the withdrawal of an issuer will need a new mesh")
            return
        }
        let descriptor = open(adminKey, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandFailure.operating(
                "\(adminKey) cannot be made: \(String(cString: strerror(errno)))",
                fix: "name a file that does not exist yet, in a directory of yours")
        }
        defer { close(descriptor) }
        var text = Array(AdminKeyFile.text(rootKey: rootKey, meshID: token.meshID).utf8)
        defer { zeroize(&text) }
        write(bytes: text, to: descriptor)
        guard fsync(descriptor) == 0 else {
            throw CommandFailure.operating(
                "\(adminKey) cannot be written: \(String(cString: strerror(errno)))",
                fix: "choose another disk")
        }
    }
}

/// The file that `--admin-key` makes; docs/protocols/token.md has its layout.
enum AdminKeyFile {
    private static let prefix = "evpnadmin1"

    /// The root key in a file, for the mesh that it belongs to.
    static func read(_ path: String, option: String = "--admin-key") throws(CommandFailure)
        -> (rootKey: SigningKey, meshID: [UInt8])
    {
        var bytes: [UInt8]
        do throws(ReadFailure) {
            bytes = try readFile(path, limit: 1_024)
        } catch {
            throw .mistake(
                option, "\(path) cannot be read: \(error.reason)", fix: "name a readable file")
        }
        defer { zeroize(&bytes) }
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 1, words[0].hasPrefix(prefix),
            var layout = [UInt8](base64URL: words[0].dropFirst(prefix.count)), layout.count == 53
        else {
            throw .mistake(
                option, "\(path) holds no admin key",
                fix: "name the file that `token new --admin-key` made")
        }
        defer { zeroize(&layout) }
        guard layout[0] == 1, sha256(Array(layout[..<49])).bytes.prefix(4) == layout[49...] else {
            throw .mistake(option, "\(path) is garbled or cut off", fix: "use a copy of it")
        }
        let key = SigningKey(seed: SecretBytes(copying: Array(layout[17..<49])))
        return (key, Array(layout[1..<17]))
    }

    static func text(rootKey: SigningKey, meshID: [UInt8]) -> String {
        var layout: [UInt8] = [1] + meshID + rootKey.seed.exposedCopy()
        defer { zeroize(&layout) }
        let checksum = sha256(layout).bytes.prefix(4)
        return prefix + (layout + checksum).base64URL + "\n"
    }
}
