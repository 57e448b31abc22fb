import ArgumentParser
import Cryptography
import HTTPAPI
import MeshNode
import Storage

struct IdentityCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "id",
        abstract: "Print this machine's node id; the first time, make its identity.")

    @Option(name: .long, help: ArgumentHelp("The state directory.", valueName: "dir"))
    var stateDir: String?

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    private struct Answer: Codable {
        var id: String
    }

    func run() async throws {
        let id: String
        do throws(StorageError) {
            let location = try StateLocation.find(chosen: stateDir)
            id = try identity(in: StateDirectory(location))
        } catch .locked {
            // A running node holds the directory and knows the answer.
            let client = try node.client()
            id = try await asking { () async throws(APIClientFailure) in
                try await client.status().node.id
            }
        } catch {
            throw CommandFailure.operating("\(error)", fix: error.fix)
        }
        try output.show(Answer(id: id)) { id }
    }

    private func identity(in directory: StateDirectory) throws(StorageError) -> String {
        let secrets: IdentitySecrets
        if let stored = try IdentityFile.load(in: directory) {
            secrets = stored
        } else {
            secrets = IdentitySecrets(signingSeed: .random(), tunnelSecret: .random())
            try IdentityFile.create(secrets, in: directory)
        }
        return "\(SigningKey(seed: secrets.signingSeed).publicKey)"
    }
}

extension SecretBytes {
    /// Thirty-two bytes of the kernel's generator.
    fileprivate static func random() -> SecretBytes {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<SecretBytes.count).map { _ in
            UInt8.random(in: .min ... .max, using: &generator)
        }
        defer { zeroize(&bytes) }
        return SecretBytes(copying: bytes)
    }
}
