import ArgumentParser
import Cryptography
import HTTPAPI
import Ledger
import Membership
import MeshBase
import MeshNode

/// Takes membership back, with the root key that `token new --admin-key` kept.
struct WithdrawCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "withdraw",
        abstract: "Take membership back from machines, from an issuer, or from earlier epochs.",
        discussion: """
            Every node that hears of it ends its sessions with the machine, forgets its entries and \
            its name, and tells others; it cannot be undone. A stolen machine that also holds the \
            token can make itself a new identity: then withdraw the token's issuer as well.
            """)

    @Argument(help: "Machines: a node id, the beginning of one, or a hostname.")
    var machines: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Only certificates up to this serial. Default: every one of the machine.",
            valueName: "number"))
    var serial: UInt64?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "An issuer's public key: all whom it certified.", valueName: "id"))
    var issuer: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("All certificates of earlier epochs.", valueName: "number"))
    var beforeEpoch: UInt32?

    @Option(
        name: .long,
        help: ArgumentHelp("The file that `token new --admin-key` made.", valueName: "file"))
    var adminKey: String

    @Flag(name: .long, help: "Also withdraw an issuer or an epoch, which may be everybody.")
    var force = false

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    private struct Answer: Codable {
        var machines: [String]
        var issuers: [String]
        var beforeEpoch: UInt32?
    }

    func run() async throws {
        guard !machines.isEmpty || !issuer.isEmpty || beforeEpoch != nil else {
            throw CommandFailure.mistake(
                "withdraw", "nothing to withdraw is named",
                fix: "name machines, --issuer ID or --before-epoch NUMBER")
        }
        guard force || (issuer.isEmpty && beforeEpoch == nil) else {
            throw CommandFailure.refused(
                "an issuer or an epoch may be that of every machine, this one included",
                fix: "add --force when that is what you mean")
        }
        let key = try AdminKeyFile.read(adminKey)
        let client = try node.client()
        let status = try await asking { () async throws(APIClientFailure) in
            try await client.status()
        }
        var list = RevocationList()
        var withdrawn: [String] = []
        for name in machines {
            let id = try resolve(name, in: status)
            withdrawn.append("\(id)")
            list.revoke(id, throughSerial: serial ?? .max)
        }
        for text in issuer { list.withdraw(issuer: try nodeID(text, option: "--issuer")) }
        if let beforeEpoch { list.raiseMinimumEpoch(to: beforeEpoch) }
        guard list.serials.count + list.issuers.count <= RevocationList.limit else {
            throw CommandFailure.mistake(
                "withdraw", "more than \(RevocationList.limit) names at once", fix: "call it twice")
        }
        let value = list.encode()
        let entry = LedgerEntry.policy(
            key: "withdrawn-\(Array(sha256(value).bytes.prefix(16)).hex)", value: value,
            meshID: key.meshID, rootKey: key.rootKey)
        try await asking { () async throws(APIClientFailure) in
            try await client.adoptLedgerEntry(entry.encode())
        }
        let answer = Answer(machines: withdrawn, issuers: issuer, beforeEpoch: beforeEpoch)
        try output.show(answer) {
            (withdrawn.map { "machine \($0) withdrawn" }
                + issuer.map { "issuer \($0) withdrawn" }
                + (beforeEpoch.map { ["epochs before \($0) withdrawn"] } ?? []))
                .joined(separator: "\n")
        }
    }

    /// A machine that the node knows, or any by its full id.
    private func resolve(_ name: String, in status: StatusModel) throws(CommandFailure) -> NodeID {
        if name.utf8.count == 64 { return try nodeID(name, option: "withdraw") }
        guard name.lowercased() != status.node.hostname.lowercased() else {
            throw .mistake(
                "withdraw", "\(name) is the machine that is asked",
                fix: "ask another one with --api, or give the full node id")
        }
        let matches = status.peers.filter {
            $0.hostname?.lowercased() == name.lowercased()
                || (name.count >= 4 && $0.id.hasPrefix(name.lowercased()))
        }
        guard matches.count == 1, let match = matches.first else {
            throw .mistake(
                "withdraw",
                matches.isEmpty
                    ? "no machine is known as \(name.prefix(80))"
                    : "several machines are known as \(name.prefix(80))",
                fix: "give the node id; `edgevpn-swift peers --json` lists them")
        }
        return try nodeID(match.id, option: "withdraw")
    }

    private func nodeID(_ text: String, option: String) throws(CommandFailure) -> NodeID {
        guard let bytes = [UInt8](hex: text.lowercased()), let id = Bytes32(bytes) else {
            throw .mistake(
                option, "\(text.prefix(80)) is not an id", fix: "an id has 64 hexadecimal digits")
        }
        return NodeID(id)
    }
}
