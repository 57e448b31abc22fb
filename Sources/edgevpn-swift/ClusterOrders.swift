import ArgumentParser
import Consensus
import Cryptography
import HTTPAPI
import MeshBase

/// `cluster explain`, and the commands by which an operator decides what no quorum can.
extension ClusterCommand {
    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "explain",
            abstract: "Say in words how the founding stands and who may do what next.")

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let client = try node.client()
            let status = try await asking { () async throws(APIClientFailure) in
                try await client.clusterStatus()
            }
            let text = status.explanation ?? ExplanationModel(facts: [], next: [])
            try output.show(text) { words(text) }
        }
    }

    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init",
            abstract: "Found the cluster on this machine, without waiting for its turn.",
            discussion: """
                It still takes a quorum of voters. Modes single and external found in no other \
                way; in mode count it also overrules data of a datastore on other machines.
                """)

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await give(ClusterOrderModel(order: .found), to: node, output)
        }
    }

    struct Takeover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "takeover",
            abstract: "Give up on a founder that is lost before it was ready.",
            discussion: """
                The voters agree only when nothing that the founder started can still run: twice \
                the length of the hold that they gave it. If it comes back, its data is renamed \
                and it joins what was founded in its place.
                """)

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await give(ClusterOrderModel(order: .takeover), to: node, output)
        }
    }

    struct Reset: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset",
            abstract: "Void everything that was founded and begin anew, with the admin key.",
            discussion: """
                The way out when more voters are lost than the policy allows. Every machine stops \
                its datastore and renames its data; nothing is deleted. The key signs here and \
                is not sent anywhere.
                """)

        @Option(
            name: .long, help: ArgumentHelp("The file of `token new`.", valueName: "file"))
        var adminKey: String

        @Flag(name: .long, help: "Also when a cluster is ready.")
        var evenIfReady = false

        @OptionGroup var node: NodeOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let admin = try AdminKeyFile.read(adminKey)
            let client = try node.client()
            let status = try await asking { () async throws(APIClientFailure) in
                try await client.clusterStatus()
            }
            guard status.meshID == admin.meshID.hex else {
                throw CommandFailure.mistake(
                    "--admin-key", "this key is another mesh's",
                    fix: "use the file that was made together with the token")
            }
            guard let digits = status.policyHash, let bytes = [UInt8](hex: digits),
                let policyHash = Bytes32(bytes), let generation = status.cluster.generation
            else {
                throw CommandFailure.refused(
                    "this mesh has no founding policy", fix: "there is nothing to reset")
            }
            let isReady = status.certificates.contains { $0.value.hasPrefix("ready") }
            guard evenIfReady || !isReady else {
                throw CommandFailure.refused(
                    "a cluster is ready, and a reset stops it on every machine",
                    fix: "say --even-if-ready if that is what you want")
            }
            let reset = FoundingReset(
                generation: UInt32(generation) + 1, meshID: admin.meshID, policyHash: policyHash
            ) { admin.rootKey.sign($0).bytes }
            try await give(
                ClusterOrderModel(order: .reset, resetBase64: reset.encoded.base64), to: node,
                output)
        }
    }
}

private func give(
    _ order: ClusterOrderModel, to node: NodeOptions, _ output: OutputOptions
) async throws {
    let client = try node.client()
    let status = try await asking { () async throws(APIClientFailure) in
        try await client.clusterOrder(order)
    }
    try output.show(status) {
        words(status.explanation ?? ExplanationModel(facts: [], next: []))
    }
}

private func words(_ text: ExplanationModel) -> String {
    let next = text.next.isEmpty ? [] : ["", "What you can do:"] + text.next.map { "- \($0)" }
    return (text.facts + next).joined(separator: "\n")
}
