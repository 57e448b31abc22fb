import Glibc
import HTTPAPI

/// The list of peers, again and again until the user has enough.
struct PeersWatch {
    let client: APIClient
    let json: Bool

    /// Often enough to see a path change, and little to read for the node.
    private static let pause = Duration.seconds(1)

    func run() async throws {
        let isScreen = isatty(STDOUT_FILENO) == 1 && !json
        while true {
            let shown: String
            do throws(APIClientFailure) {
                let peers = try await client.status().peers
                shown =
                    json ? String(decoding: try line(peers), as: UTF8.self) : PeerTable.text(peers)
            } catch {
                // It may be restarting; what is over is over only when the user says so.
                guard isScreen else { throw CommandFailure(error) }
                shown = "\(error)"
            }
            write(
                bytes: Array(isScreen ? screen(shown).utf8 : "\(shown)\n".utf8), to: STDOUT_FILENO)
            try await Task.sleep(for: PeersWatch.pause)
        }
    }

    private func line(_ peers: [PeerModel]) throws(APIClientFailure) -> [UInt8] {
        do {
            return try encodeJSON(peers)
        } catch {
            throw .unintelligible("\(error)")
        }
    }

    /// From the top left corner (ECMA-48): each line clears what was behind it, and the end what was
    /// below, so that nothing flickers.
    private func screen(_ text: String) -> String {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        return "\u{1B}[H" + lines.map { "\($0)\u{1B}[K\n" }.joined() + "\u{1B}[J"
    }
}
