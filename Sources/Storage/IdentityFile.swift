import Cryptography
import MeshBase

/// The two secrets that make a machine itself.
package struct IdentitySecrets: Sendable {
    /// Seed of the Ed25519 key that signs.
    package let signingSeed: SecretBytes
    /// The X25519 key of the handshakes.
    package let tunnelSecret: SecretBytes

    package init(signingSeed: SecretBytes, tunnelSecret: SecretBytes) {
        self.signingSeed = signingSeed
        self.tunnelSecret = tunnelSecret
    }
}

/// `identity`: made once, mode 0600, never overwritten.
package enum IdentityFile {
    package static let name = "identity"
    static let kind = FileKind(tag: "EVid", version: 1)
    private static let payloadSize = 2 * SecretBytes.count

    /// The stored secrets, `nil` if the file is missing.
    ///
    /// - Throws: for a file that is cut short, garbled, of a newer release, or within reach of
    ///   others. The file is left as it is: a new identity would be a new machine.
    package static func load(in directory: StateDirectory) throws(StorageError) -> IdentitySecrets?
    {
        let path = directory.path(of: name)
        let status = try wrapping { () throws(FileSystemError) in
            try directory.fileSystem.status(of: path)
        }
        guard let status else { return nil }
        guard status.mode & 0o077 == 0 else {
            throw .tooOpen(path: path, mode: status.mode, wanted: 0o600)
        }
        guard var (payload, _) = try file(directory).load() else { return nil }
        defer { zeroize(&payload) }
        guard payload.count == payloadSize else {
            throw .corrupt(path: path, detail: "its length is wrong")
        }
        return IdentitySecrets(
            signingSeed: SecretBytes(copying: payload[..<SecretBytes.count]),
            tunnelSecret: SecretBytes(copying: payload[SecretBytes.count...]))
    }

    /// Stores the secrets of a new machine. When this returns, they are on the disk.
    package static func create(_ secrets: IdentitySecrets, in directory: StateDirectory)
        throws(StorageError)
    {
        let path = directory.path(of: name)
        let status = try wrapping { () throws(FileSystemError) in
            try directory.fileSystem.status(of: path)
        }
        guard status == nil else { throw .alreadyExists(path: path) }
        var seed = secrets.signingSeed.exposedCopy()
        var tunnel = secrets.tunnelSecret.exposedCopy()
        var payload = seed + tunnel
        defer {
            zeroize(&seed)
            zeroize(&tunnel)
            zeroize(&payload)
        }
        try file(directory).store(payload)
    }

    private static func file(_ directory: StateDirectory) -> AtomicFile {
        AtomicFile(name: name, kind: kind, limit: payloadSize, in: directory)
    }
}
