import ArgumentParser
import HTTPAPI

struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "The founding and the datastore.",
        subcommands: [
            Status.self, Explain.self, Init.self, Takeover.self, Reset.self, Leave.self,
            Remove.self, Kubeconfig.self, MayStart.self,
        ], defaultSubcommand: Status.self)

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status",
            abstract: "Show who founded what, the certificates that prove it, and the members.")

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let status = try await asking { () async throws(APIClientFailure) in
                try await client.clusterStatus()
            }
            try output.show(status) { describe(status) }
        }

        private func describe(_ status: ClusterStatusModel) -> String {
            let cluster = status.cluster
            let name = { (id: String) in
                status.hostnames[id].map { "\($0) (\(shortID(id)))" } ?? shortID(id)
            }
            let list = { (ids: [String]) in
                ids.isEmpty ? "none" : ids.map(name).joined(separator: ", ")
            }
            var rows = [["phase", cluster.phase.rawValue]]
            if let reason = cluster.reason, !reason.isEmpty { rows.append(["reason", reason]) }
            if let policy = status.policy { rows.append(["policy", policy]) }
            if let role = cluster.role { rows.append(["role", role]) }
            if let generation = cluster.generation {
                rows.append(["generation", "\(generation)"])
            }
            if let founder = cluster.founder { rows.append(["founder", name(founder)]) }
            if let voters = cluster.voters {
                let quorum = cluster.quorum.map { " (\($0) must agree)" } ?? ""
                rows.append(["voters", list(voters) + quorum])
            }
            if let members = cluster.members { rows.append(["members", list(members)]) }
            if let agents = cluster.agents { rows.append(["agents", list(agents)]) }
            if let voters = cluster.leaseVoters {
                rows.append(["leases", "decided by a majority of \(list(voters))"])
            }
            if let endpoints = status.endpoints {
                rows.append(["endpoints", endpoints.joined(separator: ", ")])
            }
            for decision in status.certificates {
                rows.append([
                    decision.register,
                    "\(decision.value), signed by \(list(decision.signers))",
                ])
            }
            if cluster.phase == .ready || cluster.phase == .joined {
                rows.append([
                    "more machines", "give later machines what `edgevpn-swift token grow` prints",
                ])
            }
            return table(["", ""], rows).split(separator: "\n").dropFirst()
                .joined(separator: "\n")
        }
    }
}
