import ArgumentParser
import HTTPAPI

/// Services that browsers find (DNS-SD, RFC 6763).
struct DNSServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Services that browsers of the zone find.",
        subcommands: [Add.self, Remove.self])

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Publish a service of this machine.")

        @OptionGroup var service: ServiceOptions
        @Argument(help: "The port.") var port: UInt16
        @Option(name: .long, help: "KEY=VALUE for clients; may be repeated.") var text: [String] =
            []
        @Option(name: .long, help: "The machine that serves. Default: this one.") var host: String?
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let own = try await asking { () async throws(APIClientFailure) in
                try await client.status().node.hostname
            }
            let instance = service.instance(own)
            let texts = text.isEmpty ? "\"\"" : text.map(quotedForZone).joined(separator: " ")
            var records: [NameRecordModel] = []
            for (name, type, data) in [
                (instance, "SRV", "0 0 \(port) \(host ?? own)"), (instance, "TXT", texts),
                (service.type, "PTR", instance),
            ] {
                records += try await asking { () async throws(APIClientFailure) in
                    try await client.publishName(
                        NameRecordRequestModel(name: name, type: type, data: data))
                }.filter { $0.type == type }
            }
            try output.show(records) { recordTable(records) }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Withdraw a service of this machine.")

        @OptionGroup var service: ServiceOptions
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let records = try await asking { () async throws(APIClientFailure) in
                let instance = service.instance(try await client.status().node.hostname)
                return try await client.withdrawName(service.type, type: "PTR", data: instance)
                    + client.withdrawName(instance)
            }
            try output.show(records) { "withdrawn: " + counted(records.count, "record") }
        }
    }
}

/// Which service is meant.
struct ServiceOptions: ParsableArguments {
    @Argument(help: "For example _http._tcp.") var type: String
    @Option(name: .long, help: "What people see. Default: this machine's name.") var name: String?

    func validate() throws {
        let parts = type.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].hasPrefix("_"), parts[0].count > 1,
            parts[1] == "_tcp" || parts[1] == "_udp"
        else { throw ValidationError("\(type) is no type of service: give _NAME._tcp or _udp") }
        if let name, !(1...63).contains(name.utf8.count) {
            throw ValidationError("a service's name has 1 to 63 bytes")
        }
    }

    /// The name of the instance, with everything escaped that would not be one label.
    func instance(_ hostname: String) -> String {
        let label = (name ?? hostname).utf8.reduce(into: "") { text, byte in
            switch byte {
            case UInt8(ascii: "."), UInt8(ascii: "\\"), UInt8(ascii: "\""):
                text += "\\\(Character(Unicode.Scalar(byte)))"
            case 0x21...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte)
                text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
            }
        }
        return "\(label).\(type)"
    }
}
