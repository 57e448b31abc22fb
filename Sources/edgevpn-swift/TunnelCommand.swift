import ArgumentParser
import Configuration
import Runtime

/// Runs on the main thread from start to end: the tunnel waits for its signals on that thread.
struct TunnelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tunnel",
        abstract: "Run a plain WireGuard tunnel from a standard configuration file.",
        discussion: """
            Interface: PrivateKey, ListenPort, Address, MTU, FwMark. Peer: PublicKey, \
            PresharedKey, AllowedIPs, Endpoint, PersistentKeepalive. Everything else is a mistake.
            """)

    @Option(name: .long, help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config: String

    @Option(name: .long, help: ArgumentHelp("The interface to make.", valueName: "name"))
    var interface = TunnelRuntime.usualInterfaceName

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Packet threads. Default 0: as many as suit this machine.", valueName: "count"))
    var shards = "0"

    func run() throws {
        guard let shards = shardCount(shards) else {
            throw CommandFailure.mistake(
                "--shards", "\(self.shards) is no number of packet threads",
                fix: "give 0 (automatic) to \(shardLimit)")
        }
        let bytes: [UInt8]
        do throws(ReadFailure) {
            bytes = try readFile(config, limit: TunnelConfiguration.sizeLimit + 1)
        } catch {
            throw CommandFailure.mistake(
                "--config", "\(config) cannot be read: \(error.reason)",
                fix: "name a readable file")
        }
        let configuration: TunnelConfiguration
        do throws(ConfigProblems) {
            configuration = try TunnelConfiguration(parsing: bytes, path: config)
        } catch {
            throw CommandFailure.mistakes(error.problems)
        }
        do throws(TunnelProblem) {
            try TunnelRuntime.run(
                configuration: configuration, interfaceName: interface, shards: shards
            ) {
                printError("\($0)")
            }
        } catch {
            switch error {
            case .badInterfaceName:
                throw CommandFailure.mistake("--interface", "\(error)", fix: error.fix)
            case .defaultRoute, .badPeerKey:
                throw CommandFailure.mistake(config, "\(error)", fix: error.fix)
            case .notRoot, .noTunDevice, .interfaceTaken, .portTaken, .unknownHost, .system,
                .netlink:
                throw CommandFailure.operating("\(error)", fix: error.fix)
            }
        }
    }
}
