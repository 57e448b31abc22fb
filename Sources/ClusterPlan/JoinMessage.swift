import MeshBase

/// The join protocol between coordinators. Every message fits one control frame.
///
///     request   joiner -> server   repeated until answered, always with the same nonce
///     part      server -> joiner   a piece of the sealed grant; all pieces again on each request
///     wait      server -> joiner   come back later
///     refusal   server -> joiner   not like this
///     confirm   server -> joiner   a member of your name lives; is it lost?
///     leave     leaver -> server   remove me; repeated until answered
///     left      server -> leaver   removed
///
/// Layout: version (1), type (1), nonce (16), then the fields of the type.
package enum JoinMessage: Hashable, Sendable {
    case request(JoinRequest)
    case part(GrantPart)
    case wait(nonce: [UInt8], PostponeReason)
    case refusal(nonce: [UInt8], RefusalReason)
    case confirm(nonce: [UInt8], memberID: UInt64)
    case leave(nonce: [UInt8])
    case left(nonce: [UInt8])

    package static let version: UInt8 = 1
    package static let nonceCount = 16
    /// A control frame's body.
    package static let limit = 1200
    /// A P-256 request with three names has about 300 bytes; host names may add 200.
    package static let requestLimit = 800
    /// Leaves room for the header of a part in a control frame.
    package static let partSize = 1100
    /// A server's grant has about 1,100 bytes, and 60 more for every further member.
    package static let partLimit = 8
}

package struct JoinRequest: Hashable, Sendable {
    package var nonce: [UInt8]
    package var cluster: ClusterIdentity
    package var wish: RoleWish
    /// The member that the joiner declares lost; 0 for none.
    package var replaces: UInt64
    /// DER.
    package var signingRequest: [UInt8]

    package init(
        nonce: [UInt8], cluster: ClusterIdentity, wish: RoleWish, replaces: UInt64,
        signingRequest: [UInt8]
    ) {
        self.nonce = nonce
        self.cluster = cluster
        self.wish = wish
        self.replaces = replaces
        self.signingRequest = signingRequest
    }
}

package struct GrantPart: Hashable, Sendable {
    package var nonce: [UInt8]
    package var role: DatastoreRole
    /// 0 ..< count.
    package var index: Int
    package var count: Int
    package var bytes: [UInt8]

    package init(nonce: [UInt8], role: DatastoreRole, index: Int, count: Int, bytes: [UInt8]) {
        self.nonce = nonce
        self.role = role
        self.index = index
        self.count = count
        self.bytes = bytes
    }
}

extension JoinMessage {
    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: JoinMessage.limit)
        writer.write(JoinMessage.version)
        switch self {
        case .request(let request):
            writer.write(UInt8(1))
            writer.write(raw: request.nonce)
            writer.write(request.cluster.generation)
            writer.write(request.cluster.caHash)
            writer.write(request.wish.rawValue)
            writer.write(request.replaces)
            writer.write(long: request.signingRequest)
        case .part(let part):
            writer.write(UInt8(2))
            writer.write(raw: part.nonce)
            writer.write(part.role.rawValue)
            writer.write(UInt8(part.index))
            writer.write(UInt8(part.count))
            writer.write(long: part.bytes)
        case .wait(let nonce, let reason):
            writer.write(UInt8(3))
            writer.write(raw: nonce)
            writer.write(reason.rawValue)
        case .refusal(let nonce, let reason):
            writer.write(UInt8(4))
            writer.write(raw: nonce)
            writer.write(reason.rawValue)
        case .confirm(let nonce, let memberID):
            writer.write(UInt8(5))
            writer.write(raw: nonce)
            writer.write(memberID)
        case .leave(let nonce):
            writer.write(UInt8(6))
            writer.write(raw: nonce)
        case .left(let nonce):
            writer.write(UInt8(7))
            writer.write(raw: nonce)
        }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        guard bytes.count <= JoinMessage.limit else { throw .field("length") }
        var reader = ByteReader(bytes)
        guard try reader.readByte() == JoinMessage.version else { throw .field("version") }
        let type = try reader.readByte()
        let nonce = try reader.readBytes(JoinMessage.nonceCount)
        switch type {
        case 1: self = .request(try JoinMessage.readRequest(nonce, &reader))
        case 2: self = .part(try JoinMessage.readPart(nonce, &reader))
        case 3:
            guard let reason = PostponeReason(rawValue: try reader.readByte()) else {
                throw .field("reason")
            }
            self = .wait(nonce: nonce, reason)
        case 4:
            guard let reason = RefusalReason(rawValue: try reader.readByte()) else {
                throw .field("reason")
            }
            self = .refusal(nonce: nonce, reason)
        case 5: self = .confirm(nonce: nonce, memberID: try reader.readUInt64())
        case 6: self = .leave(nonce: nonce)
        case 7: self = .left(nonce: nonce)
        default: throw .field("type")
        }
        try reader.finish()
    }

    private static func readRequest(
        _ nonce: [UInt8], _ reader: inout ByteReader
    ) throws(DecodingFailure) -> JoinRequest {
        let generation = try reader.readUInt32()
        let caHash = try reader.readBytes32()
        guard let wish = RoleWish(rawValue: try reader.readByte()), wish != .none else {
            throw .field("wish")
        }
        let replaces = try reader.readUInt64()
        let request = try reader.readLongBytes(limit: requestLimit)
        guard !request.isEmpty else { throw .field("signing request") }
        return JoinRequest(
            nonce: nonce, cluster: ClusterIdentity(generation: generation, caHash: caHash),
            wish: wish, replaces: replaces, signingRequest: request)
    }

    private static func readPart(
        _ nonce: [UInt8], _ reader: inout ByteReader
    ) throws(DecodingFailure) -> GrantPart {
        guard let role = DatastoreRole(rawValue: try reader.readByte()) else {
            throw .field("role")
        }
        let index = Int(try reader.readByte())
        let count = Int(try reader.readByte())
        guard (1...partLimit).contains(count), index < count else { throw .field("part") }
        let bytes = try reader.readLongBytes(limit: partSize)
        guard !bytes.isEmpty else { throw .field("part") }
        return GrantPart(nonce: nonce, role: role, index: index, count: count, bytes: bytes)
    }
}

/// Cuts a sealed grant into messages; `nil` when it is empty or larger than the bound.
package func grantParts(
    _ sealed: [UInt8], nonce: [UInt8], role: DatastoreRole
) -> [GrantPart]? {
    let count = (sealed.count + JoinMessage.partSize - 1) / JoinMessage.partSize
    guard (1...JoinMessage.partLimit).contains(count) else { return nil }
    return (0..<count).map { index in
        let start = index * JoinMessage.partSize
        let end = min(start + JoinMessage.partSize, sealed.count)
        return GrantPart(
            nonce: nonce, role: role, index: index, count: count,
            bytes: Array(sealed[start..<end]))
    }
}
