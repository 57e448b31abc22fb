import Cryptography
import MeshBase

/// Who may found the cluster of a mesh, and how many machines must agree to it.
///
/// It travels in the token, signed by the mesh root, and never changes: every machine of a mesh
/// computes with the same numbers. Its hash is in every founding message, so that a machine with
/// another policy can neither help nor hinder.
///
///     size  field
///     1     layout version, 1
///     1     mode
///     2     T, machines that may ever vote
///     2     f, voters that may lose their disk
///     2     S, servers of the datastore
///     4     minutes until takeover, 0 = manual
///     32    the designated node, in mode `designated` only
package struct GenesisPolicy: Hashable, Sendable {
    package enum Mode: Hashable, Sendable {
        /// Any voter may found; the token holders are trusted not to invent voters.
        case count
        /// As `count`, but voter certificates come from an issuer that is not in the token.
        case voters
        /// Only this node may found.
        case designated(NodeID)
        /// One voter. It founds when an operator says so.
        case single
        /// Any voter may found, but only when an operator says so on it.
        case external
    }

    package enum Takeover: Hashable, Sendable {
        /// Only an operator gives up on a founder.
        case manual
        /// Voters give up on a founder that they have not heard for this long.
        case minutes(Int)
    }

    package var mode: Mode
    /// T: the number of machines that may ever vote.
    package var voterLimit: Int
    /// f: how many of them may lose their disk, and with it their memory of votes.
    package var diskLosses: Int
    /// S: how many servers the datastore gets.
    package var servers: Int
    package var takeover: Takeover

    /// More voters would make certificates large and founding slow, and help nobody.
    package static let voterLimitMaximum = 64
    /// 30 days.
    package static let takeoverMaximum = 43_200
    private static let layoutVersion: UInt8 = 1

    /// Fills in what is not given: f = 1 (0 for one voter), S = 3 from three voters on, else 1.
    package init(
        mode: Mode = .count, voterLimit: Int, diskLosses: Int? = nil, servers: Int? = nil,
        takeover: Takeover = .manual
    ) {
        self.mode = mode
        self.voterLimit = voterLimit
        self.diskLosses = diskLosses ?? (voterLimit == 1 ? 0 : 1)
        self.servers = servers ?? (voterLimit >= 3 ? 3 : 1)
        self.takeover = takeover
    }

    /// T + f: how many voter identities there may ever be, since a wiped machine is a new one.
    package var identityLimit: Int { voterLimit + diskLosses }

    /// q = ⌊(T+f)/2⌋ + 1, the smallest number of which any two groups among T + f share a member.
    package var quorum: Int { identityLimit / 2 + 1 }

    /// Whether holding the token is enough to found. With q = 1 it is not: two machines that never
    /// met would both be a quorum.
    package var foundsFromTokenAlone: Bool {
        switch mode {
        case .count, .voters: quorum > 1
        case .designated: true
        case .single, .external: false
        }
    }

    /// Names the policy in every message and signature.
    package var hash: Bytes32 {
        sha256(Array("edgevpn-swift genesis policy v1".utf8) + encoded)
    }
}

/// One thing that is wrong with a policy, and what would be right.
package struct PolicyProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// The option of `token new` that it is about.
    package let option: String
    package let text: String

    package var description: String { "\(option): \(text)" }
}

extension GenesisPolicy {
    /// Everything that is wrong with the policy; empty when it can be used.
    package var problems: [PolicyProblem] {
        var found: [PolicyProblem] = []
        func refuse(_ option: String, _ text: String) {
            found.append(PolicyProblem(option: option, text: text))
        }
        let limit = Self.voterLimitMaximum
        let countIsUsable = (1...limit).contains(voterLimit)
        if !countIsUsable {
            refuse("--nodes", "\(voterLimit) is not between 1 and \(limit)")
        }
        if mode == .single, voterLimit != 1 {
            refuse("--nodes", "genesis mode single has exactly 1 voter, not \(voterLimit)")
        }
        if !(0...limit).contains(diskLosses) {
            refuse("--disk-losses", "\(diskLosses) is not between 0 and \(limit)")
        } else if countIsUsable, quorum > voterLimit {
            refuse(
                "--disk-losses",
                "with \(voterLimit) voters and \(diskLosses) disk losses \(quorum) would have to "
                    + "agree, which is more than there are; use at most \(voterLimit - 1)")
        }
        if servers < 1 || servers.isMultiple(of: 2) {
            refuse("--servers", "\(servers) is not an odd number of servers; use 1, 3 or 5")
        } else if countIsUsable, servers > voterLimit {
            refuse("--servers", "\(servers) servers are more than the \(voterLimit) voters")
        }
        if case .minutes(let minutes) = takeover, !(1...Self.takeoverMaximum).contains(minutes) {
            refuse("--takeover", "\(minutes) is not between 1 and \(Self.takeoverMaximum) minutes")
        }
        return found
    }

    /// The fixed layout shown at the type.
    ///
    /// - Precondition: ``problems`` is empty.
    package var encoded: [UInt8] {
        precondition(problems.isEmpty, "only a usable policy has an encoding")
        var writer = ByteWriter(capacity: 44)
        writer.write(Self.layoutVersion)
        writer.write(modeNumber)
        writer.write(UInt16(voterLimit))
        writer.write(UInt16(diskLosses))
        writer.write(UInt16(servers))
        switch takeover {
        case .manual: writer.write(UInt32(0))
        case .minutes(let minutes): writer.write(UInt32(minutes))
        }
        if case .designated(let node) = mode { writer.write(node) }
        return writer.bytes
    }

    /// Parses ``encoded``; refuses a policy that has ``problems``.
    package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var reader = ByteReader(bytes)
        guard try reader.readByte() == Self.layoutVersion else { throw .field("layout version") }
        let number = try reader.readByte()
        voterLimit = Int(try reader.readUInt16())
        diskLosses = Int(try reader.readUInt16())
        servers = Int(try reader.readUInt16())
        let minutes = Int(try reader.readUInt32())
        takeover = minutes == 0 ? .manual : .minutes(minutes)
        switch number {
        case 0: mode = .count
        case 1: mode = .voters
        case 2: mode = .designated(try reader.readNodeID())
        case 3: mode = .single
        case 4: mode = .external
        default: throw .field("genesis mode")
        }
        try reader.finish()
        guard problems.isEmpty else { throw .field("genesis policy") }
    }

    private var modeNumber: UInt8 {
        switch mode {
        case .count: 0
        case .voters: 1
        case .designated: 2
        case .single: 3
        case .external: 4
        }
    }
}
