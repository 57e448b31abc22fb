import MeshBase
import NetAddress

/// The keys under which a node publishes facts in the ledger bucket `cluster`.
package enum ClusterFactKey {
    /// A ``RoleFact``.
    package static let role = "role"
    /// A ``MemberListFact``.
    package static let members = "members"
    /// 32 bytes: the authority of a datastore that the mesh did not found, seen on the publisher.
    package static let conflict = "conflict"
}

/// What a node is in the datastore, told by itself. A hint whom to ask: authority comes from the
/// certified outcome and from the datastore's certificates.
package struct RoleFact: Hashable, Sendable {
    package var cluster: ClusterIdentity
    package var role: DatastoreRole
    /// A server that admits joiners, or an agent whose certificate works.
    package var isReady: Bool
    package var name: String

    package init(cluster: ClusterIdentity, role: DatastoreRole, isReady: Bool, name: String) {
        self.cluster = cluster
        self.role = role
        self.isReady = isReady
        self.name = name
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt8(1))
        writer.write(cluster.generation)
        writer.write(cluster.caHash)
        writer.write(role.rawValue)
        writer.write(UInt8(isReady ? 1 : 0))
        writer.write(shortText: name)
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("version") }
        let generation = try reader.readUInt32()
        let caHash = try reader.readBytes32()
        guard let role = DatastoreRole(rawValue: try reader.readByte()) else {
            throw .field("role")
        }
        let flag = try reader.readByte()
        guard flag <= 1 else { throw .field("ready") }
        let name = try reader.readShortText()
        try reader.finish()
        self.init(
            cluster: ClusterIdentity(generation: generation, caHash: caHash), role: role,
            isReady: flag == 1, name: name)
    }
}

/// The members as one server or agent saw them in the datastore.
package struct MemberListFact: Hashable, Sendable {
    package var cluster: ClusterIdentity
    package var members: [DatastoreMember]

    /// 32 members of at most 91 bytes stay under the ledger's 4 KiB for a value; etcd advises
    /// seven.
    package static let memberLimit = 32

    package init(cluster: ClusterIdentity, members: [DatastoreMember]) {
        self.cluster = cluster
        self.members = Array(members.prefix(MemberListFact.memberLimit))
    }

    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 512)
        writer.write(UInt8(1))
        writer.write(cluster.generation)
        writer.write(cluster.caHash)
        writer.write(UInt8(members.count))
        for member in members {
            writer.write(member.id)
            let flags = (member.isStarted ? 1 : 0) | (member.isLearner ? 2 : 0)
            writer.write(UInt8(flags))
            writer.write(short: member.ipv4?.bytes ?? [])
            writer.write(short: member.name.utf8.prefix(EtcdPlan.nameLimit))
        }
        return writer.bytes
    }

    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == 1 else { throw .field("version") }
        let generation = try reader.readUInt32()
        let caHash = try reader.readBytes32()
        let count = Int(try reader.readByte())
        guard count <= MemberListFact.memberLimit else { throw .field("count") }
        var members: [DatastoreMember] = []
        for _ in 0..<count {
            let id = try reader.readUInt64()
            let flags = try reader.readByte()
            guard flags <= 3 else { throw .field("flags") }
            let address = try reader.readShortBytes()
            guard address.isEmpty || address.count == 4 else { throw .field("address") }
            let name = try reader.readShortText()
            guard name.utf8.count <= EtcdPlan.nameLimit else { throw .field("name") }
            members.append(
                DatastoreMember(
                    id: id, name: name, ipv4: IPAddress(bytes: address),
                    isStarted: flags & 1 != 0, isLearner: flags & 2 != 0))
        }
        try reader.finish()
        self.init(
            cluster: ClusterIdentity(generation: generation, caHash: caHash), members: members)
    }
}
