import Cryptography
import MeshBase
import NetAddress

/// The body of a hello or a welcome, signed by the node key.
///
///     size      field
///     16        transaction id (a welcome repeats the hello's)
///     1         protocol version
///     1         suites, one bit per packet suite
///     4         capabilities
///     8         boot nonce of the sender
///     7 or 19   the receiver's address as the sender sees it
///     2 + n     certificate
///     64        signature over the label, the mesh id, the kind and everything above
///     ...       zeros up to 768 bytes, so that a welcome is never longer than its hello
struct ContactMessage {
    var transaction: [UInt8]
    var suites: UInt8
    var capabilities: UInt32
    var bootNonce: UInt64
    var observed: SocketAddress
    var credential: [UInt8]

    static let protocolVersion: UInt8 = 1
    static let transactionCount = 16
    static let paddedCount = 768
    /// Leaves room for every other field in the padded size.
    static let credentialLimit = 640

    func encode(kind: EnvelopeKind, meshID: [UInt8], key: SigningKey) -> [UInt8] {
        var writer = ByteWriter(capacity: Self.paddedCount)
        writer.write(raw: transaction)
        writer.write(Self.protocolVersion)
        writer.write(suites)
        writer.write(capabilities)
        writer.write(bootNonce)
        observed.encode(into: &writer)
        writer.write(long: credential)
        let signed = Self.signedBytes(kind: kind, meshID: meshID, fields: writer.bytes)
        writer.write(raw: key.sign(signed).bytes)
        writer.pad(to: Self.paddedCount)
        return writer.bytes
    }

    /// Parses and verifies; `nil` for anything that is not exactly what ``encode`` writes.
    static func decode(
        _ body: [UInt8], kind: EnvelopeKind, meshID: [UInt8],
        verify: ([UInt8]) -> PeerCredential?
    ) -> (message: ContactMessage, credential: PeerCredential)? {
        guard body.count == paddedCount, let (message, signature, end) = try? parse(body),
            body[end...].allSatisfy({ $0 == 0 }), let credential = verify(message.credential)
        else { return nil }
        let fields = Array(body[..<(end - 64)])
        let signed = signedBytes(kind: kind, meshID: meshID, fields: fields)
        guard signature.isValid(for: signed, by: credential.node) else { return nil }
        return (message, credential)
    }

    private static func parse(_ body: [UInt8]) throws(DecodingFailure)
        -> (ContactMessage, Signature, Int)
    {
        var reader = ByteReader(body)
        let transaction = try reader.readBytes(transactionCount)
        guard try reader.readByte() == protocolVersion else { throw .field("protocol version") }
        let suites = try reader.readByte()
        let capabilities = try reader.readUInt32()
        let bootNonce = try reader.readUInt64()
        let observed = try SocketAddress(from: &reader)
        let credential = try reader.readLongBytes(limit: credentialLimit)
        guard let signature = Signature(try reader.readBytes(64)) else { throw .truncated }
        let message = ContactMessage(
            transaction: transaction, suites: suites, capabilities: capabilities,
            bootNonce: bootNonce, observed: observed, credential: credential)
        return (message, signature, reader.offset)
    }

    private static func signedBytes(kind: EnvelopeKind, meshID: [UInt8], fields: [UInt8])
        -> [UInt8]
    {
        Array("edgevpn-swift contact v1".utf8) + meshID + [kind.rawValue] + fields
    }
}

/// What a verified membership certificate says about its owner, as far as paths need it.
package struct PeerCredential: Hashable, Sendable {
    package let node: NodeID
    package let staticKey: StaticPublicKey

    package init(node: NodeID, staticKey: StaticPublicKey) {
        self.node = node
        self.staticKey = staticKey
    }
}
