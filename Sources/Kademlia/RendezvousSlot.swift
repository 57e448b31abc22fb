import Cryptography
import MeshBase
import NetAddress

/// One place on the DHT where members meet: it has a name for one hour, and then nobody looks
/// there any more.
package struct RendezvousSlot: Hashable, Comparable, Sendable {
    /// Hours since 1970.
    package var epoch: Int64
    package var index: UInt8

    /// Eight slots of six records show 48 members at a time: any one of them is enough.
    package static let count: UInt8 = 8
    package static let epochLength: Int64 = 3_600

    package init(epoch: Int64, index: UInt8) {
        self.epoch = epoch
        self.index = index
    }

    /// Where `node` writes in `epoch`.
    package init(of node: NodeID, epoch: Int64) {
        let hash = sha256(node.bytes.bytes + RendezvousSlot.bytes(epoch))
        self.init(epoch: epoch, index: UInt8(hash.prefix64 % UInt64(Self.count)))
    }

    package static func < (lhs: RendezvousSlot, rhs: RendezvousSlot) -> Bool {
        (lhs.epoch, lhs.index) < (rhs.epoch, rhs.index)
    }

    /// Both neighbours count so long before and after the hour, for clocks that disagree.
    static let edge: Int64 = 600

    /// The hours that count now, the current one first.
    static func epochs(at wall: WallTime) -> [Int64] {
        let current = Int64((Double(wall.seconds) / Double(epochLength)).rounded(.down))
        let second = wall.seconds - current * epochLength
        if second < edge { return [current, current - 1] }
        if second >= epochLength - edge { return [current, current + 1] }
        return [current]
    }

    /// 1, 2, 4 ... 60 s while alone, five minutes after a quarter of an hour; a quarter of an hour
    /// in company.
    static func pause(afterRound round: Int, isAlone: Bool) -> Duration {
        guard isAlone else { return .seconds(15 * 60) }
        return round > 20 ? .seconds(300) : .seconds(min(60, 1 << min(max(round - 1, 0), 6)))
    }

    var context: [UInt8] { RendezvousSlot.bytes(epoch) + [index] }

    static func bytes(_ epoch: Int64) -> [UInt8] {
        var writer = ByteWriter(capacity: 8)
        writer.write(UInt64(bitPattern: epoch))
        return writer.bytes
    }
}

/// What holders of the token derive for a slot: who signs there, under which salt, and the key
/// that hides the content from everybody else.
package struct RendezvousKeys: Sendable {
    package let signer: SigningKey
    package let salt: [UInt8]
    let seal: SecretBytes

    package init(_ slot: RendezvousSlot, secret: SecretBytes) {
        signer = SigningKey(
            seed: deriveKey(from: secret, label: "rendezvous signature", context: slot.context))
        var salt = deriveKey(from: secret, label: "rendezvous salt", context: slot.context)
            .exposedCopy()
        self.salt = Array(salt.prefix(16))
        zeroize(&salt)
        seal = deriveKey(from: secret, label: "rendezvous content", context: slot.context)
    }
}

/// One member in a slot: a hint where to knock. Its certificate proves the rest.
///
///     size  field
///     8     the first bytes of the node id
///     4     seconds since 1970
///     1     number of endpoints
///     51    endpoints (7 or 19 bytes each), then zeros
package struct RendezvousRecord: Hashable, Sendable {
    package var tag: UInt64
    package var time: UInt32
    package var endpoints: [SocketAddress]

    package static let size = 64
    static let endpointRoom = 51

    package init(tag: UInt64, time: UInt32, endpoints: [SocketAddress]) {
        self.tag = tag
        self.time = time
        self.endpoints = endpoints
    }

    func encode(into writer: inout ByteWriter) {
        let end = writer.count + Self.size
        writer.write(tag)
        writer.write(time)
        writer.write(UInt8(endpoints.count))
        for endpoint in endpoints { endpoint.encode(into: &writer) }
        writer.pad(to: end)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        tag = try reader.readUInt64()
        time = try reader.readUInt32()
        let count = try reader.readByte()
        var room = ByteReader(try reader.readBytes(Self.endpointRoom))
        endpoints = []
        for _ in 0..<count {
            let endpoint = try SocketAddress(from: &room)
            guard endpoint.isUsable else { throw .field("endpoint") }
            endpoints.append(endpoint)
        }
        guard room.readRest().allSatisfy({ $0 == 0 }) else { throw .trailingBytes }
    }

    /// The endpoints that fit, in their order.
    static func fitting(_ endpoints: [SocketAddress]) -> [SocketAddress] {
        var room = endpointRoom
        return endpoints.filter { endpoint in
            let size = endpoint.ip.isIPv4 ? 7 : 19
            guard endpoint.isUsable, size <= room else { return false }
            room -= size
            return true
        }
    }
}

/// The content of a slot, always of the same size.
///
///     24    nonce, random
///     408   ciphertext: version 1, number of records, records of 64 bytes, zeros
///     16    tag
package enum RendezvousContent {
    static let size = 448
    static let recordLimit = 6
    private static let version: UInt8 = 1
    package static let plainSize =
        size - XChaCha20Poly1305.nonceCount - XChaCha20Poly1305.tagCount

    static func seal(
        _ records: [RendezvousRecord], slot: RendezvousSlot, keys: RendezvousKeys,
        random: inout SeededGenerator
    ) -> Bencode {
        var writer = ByteWriter(capacity: plainSize)
        writer.write(version)
        writer.write(UInt8(min(records.count, recordLimit)))
        for record in records.prefix(recordLimit) { record.encode(into: &writer) }
        writer.pad(to: plainSize)
        return seal(plain: writer.bytes, slot: slot, keys: keys, random: &random)
    }

    /// Seals what need not be records: a member may be hostile, too.
    package static func seal(
        plain: [UInt8], slot: RendezvousSlot, keys: RendezvousKeys, random: inout SeededGenerator
    ) -> Bencode {
        let nonce = random.bytes(XChaCha20Poly1305.nonceCount)
        return .bytes(
            nonce
                + XChaCha20Poly1305.seal(
                    plain, key: keys.seal, nonce: nonce, associatedData: slot.context))
    }

    /// `nil` for anything that no holder of the token wrote.
    static func open(_ value: [UInt8], slot: RendezvousSlot, keys: RendezvousKeys)
        -> [RendezvousRecord]?
    {
        guard let bytes = (try? Bencode(decoding: value))?.bytesValue, bytes.count == size else {
            return nil
        }
        let split = XChaCha20Poly1305.nonceCount
        guard
            let plain = XChaCha20Poly1305.open(
                Array(bytes[split...]), key: keys.seal, nonce: Array(bytes[..<split]),
                associatedData: slot.context)
        else { return nil }
        return try? parse(plain)
    }

    private static func parse(_ plain: [UInt8]) throws(DecodingFailure) -> [RendezvousRecord] {
        var reader = ByteReader(plain)
        guard try reader.readByte() == version else { throw .field("version") }
        let count = Int(try reader.readByte())
        guard count <= recordLimit else { throw .field("count") }
        var records: [RendezvousRecord] = []
        for _ in 0..<count { records.append(try RendezvousRecord(from: &reader)) }
        return records
    }
}
