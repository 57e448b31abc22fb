import ArgumentParser
import HTTPAPI

struct PeersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peers", abstract: "List the other machines of the mesh.")

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions
    @Flag(name: .long, help: "Show the list again every second, until interrupted.")
    var watch = false

    func run() async throws {
        let client = try node.client()
        if watch {
            return try await PeersWatch(client: client, json: output.json).run()
        }
        let peers = try await asking { () async throws(APIClientFailure) in
            try await client.status().peers
        }
        try output.show(peers) { PeerTable.text(peers) }
    }
}

/// Peers as a table.
enum PeerTable {
    static func text(_ peers: [PeerModel]) -> String {
        if peers.isEmpty { return "no peers yet" }
        let header = [
            "ID", "HOSTNAME", "IPV4", "STATE", "PATH", "RTT", "HANDSHAKE", "RX", "TX", "ENDPOINT",
            "WHY",
        ]
        return table(header, peers.map(row))
    }

    private static func row(_ peer: PeerModel) -> [String] {
        [
            shortID(peer.id), peer.hostname ?? "-", peer.ipv4 ?? "-", peer.state.rawValue,
            peer.via ?? peer.path?.rawValue ?? "-",
            peer.rttMs.map { "\(rounded($0, 2)) ms" } ?? "-",
            peer.lastHandshakeSeconds.map { "\(rounded($0, 0)) s ago" } ?? "-",
            peer.rxBytes.map(byteCount) ?? "-", peer.txBytes.map(byteCount) ?? "-",
            peer.endpoint ?? peer.relay.map { "via \($0)" } ?? "-", peer.pathReason ?? "-",
        ]
    }
}
