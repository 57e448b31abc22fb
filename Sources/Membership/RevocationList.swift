import Cryptography
import MeshBase

/// What the mesh root has taken back. Entries only accumulate, and naming key and serial instead
/// of a hash leaves no second spelling of the same certificate.
package struct RevocationList: Hashable, Sendable {
    /// Per node, the highest serial that no longer counts.
    package private(set) var serials: [NodeID: UInt64] = [:]
    package private(set) var issuers: Set<NodeID> = []
    /// Certificates of earlier epochs no longer count.
    package private(set) var minimumEpoch: UInt32 = 0

    package init() {}

    package mutating func revoke(_ node: NodeID, throughSerial serial: UInt64) {
        serials[node] = max(serial, serials[node] ?? 0)
    }

    package mutating func withdraw(issuer: NodeID) {
        issuers.insert(issuer)
    }

    package mutating func raiseMinimumEpoch(to epoch: UInt32) {
        minimumEpoch = max(minimumEpoch, epoch)
    }

    /// Adds what `other` takes back.
    package mutating func formUnion(_ other: RevocationList) {
        for (node, serial) in other.serials { revoke(node, throughSerial: serial) }
        issuers.formUnion(other.issuers)
        raiseMinimumEpoch(to: other.minimumEpoch)
    }

    package var isEmpty: Bool { self == RevocationList() }

    package func covers(_ certificate: MembershipCertificate) -> Bool {
        if let serial = serials[certificate.nodeID], certificate.serial <= serial { return true }
        return issuers.contains(certificate.delegation.issuer) || certificate.epoch < minimumEpoch
    }
}

/// The encoding, a value of the root in the ledger:
///
///     size    field
///     1       layout version, 1
///     2       number of nodes
///     40      each: node id, highest serial that no longer counts; by rising id
///     2       number of issuers
///     32      each: issuer; rising
///     4       epoch below which certificates no longer count
extension RevocationList {
    /// As many as one value of the ledger holds.
    package static let limit = 100

    package func encode() -> [UInt8] {
        precondition(serials.count + issuers.count <= Self.limit, "a list fits one entry")
        var writer = ByteWriter(capacity: 64)
        writer.write(UInt8(1))
        writer.write(UInt16(serials.count))
        for (node, serial) in serials.sorted(by: { $0.key < $1.key }) {
            writer.write(node)
            writer.write(serial)
        }
        writer.write(UInt16(issuers.count))
        for issuer in issuers.sorted() { writer.write(issuer) }
        writer.write(minimumEpoch)
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        self.init()
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("layout version") }
        var last: NodeID?
        for _ in 0..<(try reader.readUInt16()) {
            let node = try reader.readNodeID()
            guard last.map({ $0 < node }) ?? true else { throw .field("node order") }
            last = node
            serials[node] = try reader.readUInt64()
        }
        last = nil
        for _ in 0..<(try reader.readUInt16()) {
            let issuer = try reader.readNodeID()
            guard last.map({ $0 < issuer }) ?? true else { throw .field("issuer order") }
            last = issuer
            issuers.insert(issuer)
        }
        minimumEpoch = try reader.readUInt32()
        try reader.finish()
        guard serials.count + issuers.count <= Self.limit else { throw .field("length") }
    }
}
