import ArgumentParser
import Glibc
import HTTPAPI

struct LedgerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "Signed entries that every machine sees.",
        subcommands: [Get.self, Put.self, Delete.self, Watch.self])

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
        @OptionGroup var output: OutputOptions

        private struct Answer: Codable {
            var bucket: String
            var key: String
        }

        func run() async throws {
            let client = try node.client()
            try await asking { () async throws(APIClientFailure) in
                try await client.deleteLedgerEntry(bucket: bucket, key: key)
            }
            try output.show(Answer(bucket: bucket, key: key)) { "\(bucket)/\(key) withdrawn" }
        }
    }

    struct Watch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "watch",
            abstract: "Print what is there, then every change, a line each, until interrupted.",
            discussion: """
                A line is `put` or `delete` with bucket, key, owner, version and value; with --json \
                it is an object with `event` and `entry`. Control characters of a value are shown \
                escaped; JSON has them as they are. A node that restarts is waited for.
                """)

        @Argument(help: "The bucket.") var bucket: String?
        @Argument(help: "The key.") var key: String?
        @Option(name: .long, help: "End after so many lines.") var count: Int?
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if let count, count < 1 { throw ValidationError("--count is \(count); give 1 or more") }
        }

        func run() async throws {
            let client = try node.client(timeout: .seconds(70))
            var held = try await asking { () async throws(APIClientFailure) in
                try await client.watchLedger(
                    bucket: bucket, key: key, after: nil, timeoutMilliseconds: 0)
            }
            var printed = 0
            var former: [LedgerEntryModel] = []
            while true {
                for change in LedgerChangeModel.changes(from: former, to: held.entries) {
                    try show(change)
                    printed += 1
                    if printed == count { return }
                }
                former = held.entries
                held = try await next(after: held, from: client)
            }
        }

        /// The next state; a node that is not there is asked again every second.
        private func next(after held: LedgerWatchModel, from client: APIClient) async throws
            -> LedgerWatchModel
        {
            while true {
                do throws(APIClientFailure) {
                    return try await client.watchLedger(
                        bucket: bucket, key: key, after: held.revision,
                        timeoutMilliseconds: 30_000)
                } catch {
                    switch error {
                    case .unreachable, .timedOut: break
                    case .unintelligible, .answered: throw CommandFailure(error)
                    }
                }
                try await Task.sleep(for: .seconds(1))
            }
        }

        private func show(_ change: LedgerChangeModel) throws {
            guard !output.json else {
                return write(bytes: try encodeJSON(change) + [10], to: STDOUT_FILENO)
            }
            let entry = change.entry
            let value = entry.value ?? "base64:\(entry.valueBase64 ?? "")"
            let words = [
                change.event.rawValue, "\(entry.bucket)/\(entry.key)", shortID(entry.owner),
                "\(entry.version)", change.event == .put ? value : "",
            ]
            let line = words.joined(separator: " ").printable
            write(bytes: Array("\(line)\n".utf8), to: STDOUT_FILENO)
        }
    }
}
