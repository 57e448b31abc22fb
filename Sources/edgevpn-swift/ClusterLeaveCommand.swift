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
}
