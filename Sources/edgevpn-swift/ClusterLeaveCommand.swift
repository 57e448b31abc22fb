import ArgumentParser
import HTTPAPI

extension ClusterCommand {
    struct Leave: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "leave",
            abstract: "Take this machine out of the datastore for good.",
            discussion: """
                A server that stays removes this machine; then this machine stops its own part and \
                renames its data. It stays in the mesh. To let it join again later, remove \
                `cluster.left` from its state directory and start the node again.
                """)

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        /// Longer than two servers in a row may be asked in vain.
        private static let limit = Duration.seconds(150)

        func run() async throws {
            let client = try node.client()
            var status = try await asking { () async throws(APIClientFailure) in
                try await client.leaveCluster()
            }
            let end = ContinuousClock.now + Leave.limit
            while status.cluster.phase != .none {
                guard ContinuousClock.now < end else {
                    throw CommandFailure.operating(
                        "it has not left yet: \(status.cluster.reason ?? "no server answers")",
                        fix: "the node goes on trying; see `edgevpn-swift cluster status`")
                }
                try await Task.sleep(for: .milliseconds(500))
                status = try await asking { () async throws(APIClientFailure) in
                    try await client.clusterStatus()
                }
            }
            try output.show(status) { "this machine has left the cluster" }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract: "Take a machine that is dead for good out of the datastore.",
            discussion: """
                To be said on a server. A machine that lives is refused: `cluster leave` is for it. \
                Should the removed one ever come back, it sets its data aside and joins anew; \
                `withdraw` keeps it out of the mesh as well.
                """)

        @Argument(help: "Its name in the datastore, or its host name.") var machine: String
        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        /// The datastore's own patience with a change of its members, several times.
        private static let limit = Duration.seconds(60)

        func run() async throws {
            let client = try node.client()
            let asked = machine
            let removed = try await asking { () async throws(APIClientFailure) in
                try await client.removeFromCluster(asked)
            }
            let end = ContinuousClock.now + Remove.limit
            while try await isThere(removed.name, client) {
                guard ContinuousClock.now < end else {
                    let reason = try await asking { () async throws(APIClientFailure) in
                        try await client.clusterStatus()
                    }.cluster.reason
                    throw CommandFailure.operating(
                        "\(removed.name) is not removed yet: \(reason ?? "no reason")",
                        fix: "see `edgevpn-swift cluster status`, and say it again")
                }
                try await Task.sleep(for: .milliseconds(500))
            }
            try output.show(removed) { "\(removed.name) is no part of the datastore any more" }
        }

        /// Asks for the same again, which does no harm.
        private func isThere(_ name: String, _ client: APIClient) async throws -> Bool {
            do throws(APIClientFailure) {
                _ = try await client.removeFromCluster(name)
                return true
            } catch {
                if case .answered(let failure) = error {
                    if failure.kind == .notFound { return false }
                    // Without a quorum for a moment, while its members change.
                    if failure.kind == .unavailable { return true }
                }
                throw CommandFailure(error)
            }
        }
    }
}
