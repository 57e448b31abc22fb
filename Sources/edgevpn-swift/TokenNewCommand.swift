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

    @Option(name: .long, help: "When voters give up on a founder: manual.")
    var takeover = "manual"

    @Option(name: .long, help: "Who may found: count or designated:ID.")
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

    func run() throws {
        var problems: [ConfigProblem] = []
        let request = request(&problems)
        guard problems.isEmpty else { throw CommandFailure.mistakes(problems) }
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
        let limit = number("--nodes", nodes)
        let losses = number("--disk-losses", diskLosses)
        let serverCount = number("--servers", servers)
        let areNumbers = problems.count == before
        let mode = mode(&problems)
        if takeover != "manual" {
            problems.append(
                ConfigProblem(
                    path: "--takeover", message: "this version gives up on a founder by hand only",
                    fix: "say manual, or leave it out"))
        }
        guard areNumbers else { return nil }
        guard let limit else {
            let given = [
                ("--servers", servers), ("--disk-losses", diskLosses), ("--genesis", genesis),
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
            mode: mode, voterLimit: limit, diskLosses: losses, servers: serverCount)
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
        let known = ["voters", "single", "external"].contains(genesis)
        problems.append(
            ConfigProblem(
                path: "--genesis",
                message: known
                    ? "this version has no command that founds in mode \(genesis)"
                    : "this is not a mode",
                fix: "give count or designated:ID"))
        return .count
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
    static func text(rootKey: SigningKey, meshID: [UInt8]) -> String {
        var layout: [UInt8] = [1] + meshID + rootKey.seed.exposedCopy()
        defer { zeroize(&layout) }
        let checksum = sha256(layout).bytes.prefix(4)
        return "evpnadmin1" + (layout + checksum).base64URL + "\n"
    }
}
