import ArgumentParser
import HTTPAPI

struct DNSCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dns", abstract: "Names of the mesh.", subcommands: [List.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the names that this node answers.")

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let names = try await asking { () async throws(APIClientFailure) in
                try await client.names()
            }
            try output.show(names) {
                table(
                    ["NAME", "ADDRESSES", "ID"],
                    names.map {
                        [
                            $0.name, $0.addresses.joined(separator: ", "),
                            $0.id.map(shortID) ?? "-",
                        ]
                    })
            }
        }
    }
}
