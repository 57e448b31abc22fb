import ArgumentParser
import Cryptography
import HTTPAPI
import MeshBase
import MeshNode

struct TokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Make a token, see what one grants, make it weaker.",
        subcommands: [TokenNewCommand.self, Show.self, Grow.self, Voter.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show what a token grants, without its secrets.")

        @OptionGroup var token: TokenOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let summary = TokenSummary(try token.read())
            try output.show(summary) { summary.text }
        }
    }

    struct Grow: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "grow",
            abstract: "Print the token for machines that come later: they join and never vote.",
            discussion: """
                The founding policy counts the machines that may ever vote. Give the first ones \
                the founding token, and every later one what this prints.
                """)

        @OptionGroup var token: TokenOptions

        func run() throws {
            print(try token.read().grown().text)
        }
    }
}

extension TokenCommand {
    struct Voter: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "voter",
            abstract: "Print a token that names one machine a voter, in mode voters.",
            discussion: """
                In mode voters no key in the token can make a voter; the admin key names each one. \
                Run `id` on the machine, then this where the admin key is. Give the machine what \
                it prints, or name all voters one after the other and give every machine the \
                last one: only the named machines can use it to vote.
                """)

        @Argument(help: ArgumentHelp("The machine's node id.", valueName: "id"))
        var id: String

        @Option(
            name: .long, help: ArgumentHelp("The file of `token new`.", valueName: "file"))
        var adminKey: String

        @OptionGroup var token: TokenOptions

        func run() throws {
            guard let bytes = [UInt8](hex: id), let key = Bytes32(bytes) else {
                throw CommandFailure.mistake(
                    "ID", "a node id has 64 hexadecimal digits",
                    fix: "run `edgevpn-swift id` on that machine")
            }
            let token = try token.read()
            guard token.policy?.mode == .voters else {
                throw CommandFailure.mistake(
                    "--token-file", "this token's machines vote without being named",
                    fix: "make one with `token new --genesis voters --nodes T --admin-key FILE`")
            }
            let admin = try AdminKeyFile.read(adminKey)
            let granted: NetworkToken
            do throws(TokenProblem) {
                granted = try token.granting(voter: NodeID(key), rootKey: admin.rootKey)
            } catch .badField {
                throw CommandFailure.refused(
                    "the token names as many voters as a policy can have",
                    fix: "begin with the token of `token new` again")
            } catch {
                throw CommandFailure.mistake(
                    "--admin-key", "this key is another mesh's",
                    fix: "use the file that was made together with the token")
            }
            if let policy = token.policy, granted.voterGrants.count > policy.identityLimit {
                throw CommandFailure.refused(
                    "the policy lets \(policy.identityLimit) machines vote, replaced ones included",
                    fix: "name fewer voters; more would stop the founding with an alarm")
            }
            print(granted.text)
        }
    }
}

/// What a token says, without anything that would let its reader in.
struct TokenSummary: Codable {
    struct Policy: Codable {
        var mode: String
        var nodes: Int
        var diskLosses: Int
        var servers: Int
        var quorum: Int
        var takeover: String
        var foundsFromTokenAlone: Bool
    }

    var name: String
    var meshID: String
    var root: String
    var ipv4Plan: String
    var mtu: Int
    var dht: String
    var epoch: Int
    var peers: [String]
    /// `voter` and `member`: what its holder may become.
    var grants: [String]
    /// The public keys of the issuers in the token, the strongest first, as `withdraw` takes them.
    var issuers: [String]
    /// The node ids that the mesh root named voters; absent unless the mode is `voters`.
    var voters: [String]?
    var policy: Policy?
    /// Present for a token of edgevpn or Kairos.
    var isPredecessors: Bool?

    init(_ token: NetworkToken) {
        name = token.name
        meshID = token.meshID.hex
        root = "\(token.root)"
        ipv4Plan = "\(token.ipv4Plan)"
        mtu = Int(token.mtu)
        dht = "\(token.dht)"
        epoch = Int(token.epoch)
        if token.isDerived { isPredecessors = true }
        peers = token.peerHints
        grants = token.grantsVoters ? ["member", "voter"] : ["member"]
        issuers = token.issuers.map { "\($0.delegation.issuer)" }
        if token.policy?.mode == .voters { voters = token.voterGrants.map { "\($0.issuer)" } }
        policy = token.policy.map { policy in
            let mode =
                switch policy.mode {
                case .count: "count"
                case .voters: "voters"
                case .designated(let node): "designated:\(node)"
                case .single: "single"
                case .external: "external"
                }
            let takeover =
                switch policy.takeover {
                case .manual: "manual"
                case .minutes(let minutes): "\(minutes)"
                }
            return Policy(
                mode: mode, nodes: policy.voterLimit, diskLosses: policy.diskLosses,
                servers: policy.servers, quorum: policy.quorum, takeover: takeover,
                foundsFromTokenAlone: policy.foundsFromTokenAlone)
        }
    }

    var text: String {
        var rows = [
            ["mesh", "\(name) (\(meshID))"], ["root key", root], ["ipv4 plan", ipv4Plan],
            ["mtu", "\(mtu)"], ["dht", dht], ["epoch", "\(epoch)"],
            ["peers", peers.isEmpty ? "none" : peers.joined(separator: ", ")],
            ["grants", grants.joined(separator: ", ")],
        ]
        for issuer in issuers { rows.append(["issuer", issuer]) }
        if let policy {
            rows.append([
                "founding",
                "\(policy.mode), \(policy.nodes) voters of which \(policy.quorum) must agree, "
                    + "\(policy.diskLosses) may lose their disk, \(policy.servers) servers",
            ])
        } else {
            rows.append(["founding", "refused: the token has no policy (token new --nodes N)"])
        }
        if let voters {
            rows.append(["voters", voters.isEmpty ? "none named" : voters.joined(separator: ", ")])
        }
        if isPredecessors == true {
            rows.append([
                "made from",
                "a token of edgevpn; there is no admin key, since every holder could derive it",
            ])
        }
        rows.append(["secrets", "discovery, admission, issuer keys (not shown)"])
        return table(["", ""], rows).split(separator: "\n").dropFirst().joined(separator: "\n")
    }
}
