import ArgumentParser
import HTTPAPI
import MeshNode

struct TokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Make a token, see what one grants, make it weaker.",
        subcommands: [TokenNewCommand.self, Show.self, Grow.self])

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
    var policy: Policy?

    init(_ token: NetworkToken) {
        name = token.name
        meshID = token.meshID.hex
        root = "\(token.root)"
        ipv4Plan = "\(token.ipv4Plan)"
        mtu = Int(token.mtu)
        dht = "\(token.dht)"
        epoch = Int(token.epoch)
        peers = token.peerHints
        grants = token.grantsVoters ? ["member", "voter"] : ["member"]
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
        if let policy {
            rows.append([
                "founding",
                "\(policy.mode), \(policy.nodes) voters of which \(policy.quorum) must agree, "
                    + "\(policy.diskLosses) may lose their disk, \(policy.servers) servers",
            ])
        } else {
            rows.append(["founding", "refused: the token has no policy (token new --nodes N)"])
        }
        rows.append(["secrets", "discovery, admission, issuer keys (not shown)"])
        return table(["", ""], rows).split(separator: "\n").dropFirst().joined(separator: "\n")
    }
}
