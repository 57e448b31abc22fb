import ArgumentParser
import Glibc
import HTTPAPI

struct LedgerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "Signed entries that every machine sees.",
        subcommands: [Get.self, Put.self, Delete.self])

    struct Get: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "get", abstract: "Read entries: all, of one bucket, or of one key.")

        @Argument(help: "The bucket.") var bucket: String?
        @Argument(help: "The key.") var key: String?
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let entries = try await asking { () async throws(APIClientFailure) in
                try await client.ledgerEntries(bucket: bucket, key: key)
            }
            try output.show(entries) {
                table(
                    ["BUCKET", "KEY", "OWNER", "VERSION", "VALUE"],
                    entries.map {
                        [
                            $0.bucket, $0.key, shortID($0.owner), "\($0.version)",
                            $0.value ?? "base64:\($0.valueBase64 ?? "")",
                        ]
                    })
            }
        }
    }

    struct Put: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "put", abstract: "Write this node's entry under a key.")

        @Argument(help: "The bucket.") var bucket: String
        @Argument(help: "The key.") var key: String
        @Argument(help: "The value, at most 4 KiB; - reads standard input.") var value: String
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let bytes = value == "-" ? readInput(limit: 4_097) : Array(value.utf8)
            let entry = try await asking { () async throws(APIClientFailure) in
                try await client.putLedgerEntry(bucket: bucket, key: key, value: bytes)
            }
            try output.show(entry) { "\(entry.bucket)/\(entry.key) version \(entry.version)" }
        }

        /// Everything on standard input, up to `limit` bytes: one more than a value may have.
        private func readInput(limit: Int) -> [UInt8] {
            var result: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: limit)
            while result.count < limit {
                let count = read(STDIN_FILENO, &chunk, limit - result.count)
                guard count > 0 else { break }
                result += chunk.prefix(count)
            }
            return result
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "delete", abstract: "Withdraw this node's own entry.")

        @Argument(help: "The bucket.") var bucket: String
        @Argument(help: "The key.") var key: String
        @OptionGroup var node: NodeOptions

        func run() async throws {
            let client = try node.client()
            try await asking { () async throws(APIClientFailure) in
                try await client.deleteLedgerEntry(bucket: bucket, key: key)
            }
        }
    }
}
