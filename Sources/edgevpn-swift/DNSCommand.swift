import ArgumentParser
import HTTPAPI

struct DNSCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dns", abstract: "Names of the mesh.",
        discussion: """
            Machines have their names by themselves. Further records are published by machines: \
            every member sees them, and only their author can withdraw them.

              edgevpn-swift dns add db A 10.1.0.7
              edgevpn-swift dns add www CNAME alpha
              edgevpn-swift dns add '*.apps' A 10.1.0.7
              edgevpn-swift dns service add _http._tcp 80 --name 'Our wiki' --text path=/wiki

            Names are relative to the zone; a name outside of it ends with a dot.
            """,
        subcommands: [List.self, Add.self, Remove.self, DNSServiceCommand.self, Counters.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List the machines' names and the records that members publish.")

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        private struct Listing: Encodable {
            var names: [NameModel]
            var records: [NameRecordModel]
        }

        func run() async throws {
            let client = try node.client()
            let listing = try await asking { () async throws(APIClientFailure) in
                Listing(names: try await client.names(), records: try await client.nameRecords())
            }
            try output.show(listing) {
                let hosts = table(
                    ["NAME", "ADDRESSES", "ID"],
                    listing.names.map {
                        [
                            $0.name, $0.addresses.joined(separator: ", "),
                            $0.id.map(shortID) ?? "-",
                        ]
                    })
                return listing.records.isEmpty
                    ? hosts : "\(hosts)\n\n\(recordTable(listing.records))"
            }
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Publish a record as this machine's.")

        @Argument(help: "Relative to the zone, @, *.NAME, or a pattern: /web-[0-9]+/.")
        var name: String
        @Argument(help: "A, AAAA, CNAME, PTR, MX, TXT, SRV, NAPTR, CAA, TLSA, SVCB, HTTPS, TYPEn.")
        var type: String
        @Argument(parsing: .remaining, help: "As in a zone file.") var data: [String]
        @Option(name: .long, help: "Seconds that others may keep it. Default 20.") var ttl: UInt32?
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let record = NameRecordRequestModel(
                name: name, type: type, data: recordText(type, data), ttl: ttl)
            let records = try await asking { () async throws(APIClientFailure) in
                try await client.publishName(record)
            }
            try output.show(records) { recordTable(records) }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Withdraw this machine's own records.")

        @Argument(help: "As it was published.") var name: String
        @Argument(help: "Only records of this type.") var type: String?
        @Argument(parsing: .remaining, help: "Only the record with this data.")
        var data: [String] = []
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let wanted = type.flatMap { self.data.isEmpty ? nil : recordText($0, self.data) }
            let records = try await asking { () async throws(APIClientFailure) in
                try await client.withdrawName(name, type: type, data: wanted)
            }
            try output.show(records) {
                "withdrawn: " + counted(records.count, "record")
            }
        }
    }

    struct Counters: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "counters", abstract: "What the name server counted since it started.")

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let counters = try await asking { () async throws(APIClientFailure) in
                try await client.nameCounters()
            }
            try output.show(counters) {
                table(
                    ["WHAT", "NUMBER"],
                    [
                        ("queries", counters.queries), ("over TCP", counters.streamQueries),
                        ("from the zone", counters.ownAnswers),
                        ("from the cache", counters.cacheHits),
                        ("stale", counters.staleAnswers),
                        ("asked upstream", counters.upstreamQueries),
                        ("of those hedges", counters.hedges),
                        ("of those prefetches", counters.prefetches),
                        ("filtered", counters.filteredReplies), ("failed", counters.failures),
                        ("rejected", counters.rejected), ("over the rate", counters.rateLimited),
                        ("ignored", counters.dropped),
                    ].map { [$0.0, "\($0.1)"] }
                        + [["upstreams", counters.upstreams.joined(separator: ", ")]])
            }
        }
    }
}

/// The words of the command line as a record's text. The shell has taken the quotation marks of
/// texts with blanks away.
private func recordText(_ type: String, _ words: [String]) -> String {
    let holdsTexts = ["TXT", "CAA", "NAPTR"].contains(type.uppercased())
    return words.map { holdsTexts && !$0.hasPrefix("\"") ? quotedForZone($0) : $0 }
        .joined(separator: " ")
}

/// In the quotation marks of the presentation format, if it needs them.
func quotedForZone(_ text: String) -> String {
    guard text.isEmpty || text.contains(where: { $0 == " " || $0 == "\t" || $0 == "\"" }) else {
        return text
    }
    let escaped = text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    return "\"\(escaped)\""
}

func recordTable(_ records: [NameRecordModel]) -> String {
    table(
        ["NAME", "TTL", "TYPE", "OWNER", "SERVED", "DATA"],
        records.map {
            [$0.name, "\($0.ttl)", $0.type, shortID($0.owner), $0.served ? "yes" : "no", $0.data]
        })
}
