import ArgumentParser
import ClusterHost
import Glibc
import LinuxIO
import Runtime

/// The program: one file per subcommand beside this one.
struct EdgeVPNCommand: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "edgevpn-swift",
        abstract: "A peer-to-peer mesh VPN that founds one cluster, from one token.",
        discussion: """
            Make a token once, give it to every machine, and start `up` on each:

              edgevpn-swift token new --nodes 3 > token
              edgevpn-swift up --token-file token --cluster etcd

            Exit codes: 0 done, 1 operating failure, 2 user mistake, 3 refused for safety.
            """,
        version: version,
        subcommands: [
            TokenCommand.self, IdentityCommand.self, UpCommand.self, TunnelCommand.self,
            StatusCommand.self, PeersCommand.self, PingCommand.self, DNSCommand.self,
            DoctorCommand.self, ClusterCommand.self, ElectCommand.self, LockCommand.self,
            WaitForCommand.self, LedgerCommand.self, WithdrawCommand.self, DemoCommand.self,
            SimulateCommand.self,
        ])
}

@main
enum Program {
    /// Runs the command that the arguments name and turns its outcome into an exit code.
    static func main() async {
        if CommandLine.arguments.dropFirst().first == supervisorArgument {
            exit(superviseDatastore(CommandLine.arguments))
        }
        if CommandLine.arguments.dropFirst().first == ResolverIntegration.guardArgument {
            exit(ResolverIntegration.runGuard(Array(CommandLine.arguments.dropFirst(2))))
        }
        CoreFiles.forbid()
        let input = ProcessInput.current
        if input.hadTokenArgument {
            printError(
                "warning: other users could read the token on the command line; use --token-file")
        }
        do {
            var command = try EdgeVPNCommand.parseAsRoot(input.arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let failure as CommandFailure {
            printError(failure.description)
            exitProgram(failure.code)
        } catch {
            let isHelp = EdgeVPNCommand.exitCode(for: error).isSuccess
            let message = EdgeVPNCommand.fullMessage(for: error)
            if isHelp { print(message) } else { printError(message) }
            exitProgram(isHelp ? .done : .userMistake)
        }
    }
}
