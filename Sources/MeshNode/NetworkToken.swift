import Consensus
import Cryptography
import Membership
import MeshBase
import NetAddress

/// The one string that every machine of a mesh is given.
///
///     evpn1 + base64url( layout | first 4 bytes of SHA-256(layout) )
///
/// The layout is in docs/protocols/token.md. The text is a secret; ``description`` is not.
package struct NetworkToken: Sendable {
    /// 16 bytes that name the mesh.
    package var meshID: [UInt8]
    /// The Ed25519 key that signs issuers and the policy.
    package var root: NodeID
    /// Lets machines recognise each other before any tunnel.
    package var discoverySecret: SecretBytes
    /// Goes into every tunnel's pre-shared key.
    package var admissionSecret: SecretBytes
    package var epoch: UInt32
    /// The mesh's name: the first label of its DNS zone.
    package var name: String
    /// The overlay's IPv4 block.
    package var ipv4Plan: IPPrefix
    /// Bytes; the same on every machine and for the life of the mesh.
    package var mtu: UInt16
    package var dht: DHTMode
    /// `host:port`, where members may be found.
    package var peerHints: [String]
    /// Delegated issuers with their private keys, strongest first.
    package var issuers: [TokenIssuer]
    /// The mesh root's word for single machines that they may vote: mode `voters`.
    package var voterGrants: [IssuerDelegation] = []
    /// The signed founding policy; absent means that founding is refused.
    package var policy: GenesisPolicy?
    var policySignature: Signature?
    /// Derived from a token of edgevpn just now; the text does not tell.
    package internal(set) var isDerived = false

    package static let prefix = "evpn1"
    package static let defaultMTU: UInt16 = 1_420
    /// Version 2 has voter grants; a token without any is written as version 1.
    static let layoutVersion: UInt8 = 2
    /// As many voters as a policy can have.
    static let voterGrantLimit = GenesisPolicy.voterLimitMaximum
    static let checksumCount = 4
    /// Far more than any token needs: bounds what a parser looks at.
    static let textLimit = 16_384
    static let hintLimit = 16
}

/// Whether and where the node looks for members with the DHT.
package enum DHTMode: UInt8, Sendable, CaseIterable {
    case off = 0
    case `private` = 1
    case `public` = 2
}

/// An issuer of membership certificates whose private key travels in the token.
package struct TokenIssuer: Sendable {
    package var delegation: IssuerDelegation
    package var key: SigningKey

    package init(delegation: IssuerDelegation, key: SigningKey) {
        self.delegation = delegation
        self.key = key
    }
}

/// What `token new` is asked for.
package struct TokenRequest: Sendable {
    package var name = "mesh"
    package var ipv4Plan = IPPrefix(.v4(0x0A01_0000), length: 16)
    package var mtu = NetworkToken.defaultMTU
    package var dht = DHTMode.public
    package var peerHints: [String] = []
    package var policy: GenesisPolicy?

    package init() {}
}

/// Why a text is not a token that this program can use.
package enum TokenProblem: Error, Hashable, Sendable, CustomStringConvertible {
    case notAToken
    case garbled
    case newerVersion(UInt8)
    case badSignature(String)
    case badField(String)

    package var description: String {
        switch self {
        case .notAToken: "this is not an edgevpn-swift token: it does not begin with evpn1"
        case .garbled: "the token is garbled or cut off: its checksum does not match"
        case .newerVersion(let version):
            "the token has layout version \(version), which this program does not know"
        case .badSignature(let what): "the token's \(what) is not signed by the mesh's root key"
        case .badField(let field): "the token's \(field) is not valid"
        }
    }
}

extension NetworkToken: CustomStringConvertible {
    /// The mesh id and the name; no secret.
    package var description: String { "mesh \(name) (\(meshID.hex))" }
}

// MARK: - Making

extension NetworkToken {
    /// Makes a new mesh.
    ///
    /// - Parameter random: a generator that reads the kernel's; secrets come from nowhere else.
    /// - Returns: the token, and the root key that is in no token. Whoever does not keep it cannot
    ///   reset the founding or withdraw an issuer later.
    package static func make(
        _ request: TokenRequest, random: inout some RandomNumberGenerator
    ) throws(TokenProblem) -> (token: NetworkToken, rootKey: SigningKey) {
        guard isValidName(request.name) else { throw .badField("name") }
        guard let plan = request.ipv4Plan, isValidPlan(plan) else { throw .badField("IPv4 plan") }
        guard (1_280...9_000).contains(request.mtu) else { throw .badField("MTU") }
        guard request.peerHints.count <= hintLimit,
            request.peerHints.allSatisfy({ splitHostPort($0) != nil && $0.utf8.count <= 255 })
        else { throw .badField("peer hints") }
        func secret() -> SecretBytes {
            var bytes = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            defer { zeroize(&bytes) }
            return SecretBytes(copying: bytes)
        }
        let rootKey = SigningKey(seed: secret())
        let meshID = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        // In mode `voters` no key in the token can name a voter.
        let isOpen = request.policy?.mode != .voters
        let granted: [MembershipRoles] = (isOpen ? [[.member, .voter]] : []) + [.member]
        let issuers = granted.map { roles in
            let key = SigningKey(seed: secret())
            let delegation = IssuerDelegation.issue(
                issuer: key.publicKey, roles: roles, epoch: 0, meshID: meshID, rootKey: rootKey)
            return TokenIssuer(delegation: delegation, key: key)
        }
        var token = NetworkToken(
            meshID: meshID, root: rootKey.publicKey, discoverySecret: secret(),
            admissionSecret: secret(), epoch: 0, name: request.name, ipv4Plan: plan,
            mtu: request.mtu, dht: request.dht, peerHints: request.peerHints, issuers: issuers,
            policy: request.policy, policySignature: nil)
        if let policy = request.policy {
            token.policySignature = rootKey.sign(policySignedBytes(policy, meshID: meshID))
        }
        return (token, rootKey)
    }

    /// The token for machines that come later: they may join and never vote.
    package func grown() -> NetworkToken {
        var token = self
        token.issuers = issuers.filter { !$0.delegation.roles.contains(.voter) }
        token.voterGrants = []
        return token
    }

    /// The token with the mesh root's word that `node` may vote.
    ///
    /// - Throws: `badField` when the root key is another mesh's or the token is full.
    package func granting(voter node: NodeID, rootKey: SigningKey) throws(TokenProblem)
        -> NetworkToken
    {
        guard rootKey.publicKey == root else { throw .badSignature("voter") }
        var token = self
        token.voterGrants.removeAll { $0.issuer == node }
        guard token.voterGrants.count < Self.voterGrantLimit else { throw .badField("voters") }
        token.voterGrants.append(
            IssuerDelegation.issue(
                issuer: node, roles: [.member, .voter, .personal], epoch: epoch, meshID: meshID,
                rootKey: rootKey))
        return token
    }

    /// Whether any holder may become a voter.
    package var grantsVoters: Bool {
        issuers.contains { $0.delegation.roles.contains(.voter) }
    }

    /// Who certifies the machine with this key for `roles`: itself, where the mesh root names it,
    /// else an issuer of the token.
    package func issuer(for roles: MembershipRoles, of key: SigningKey) -> TokenIssuer? {
        if let open = issuer(for: roles) { return open }
        let grant = voterGrants.first { $0.issuer == key.publicKey }
        guard let grant, grant.roles.isSuperset(of: roles) else { return nil }
        return TokenIssuer(delegation: grant, key: key)
    }

    /// The weakest issuer that can grant `roles`, so that a member never carries more than it asked.
    package func issuer(for roles: MembershipRoles) -> TokenIssuer? {
        issuers.last { $0.delegation.roles.isSuperset(of: roles) }
    }

    /// Lower-case letters, digits and inner hyphens, at most 32: it becomes a DNS label.
    package static func isValidName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        return (1...32).contains(bytes.count) && bytes.first != UInt8(ascii: "-")
            && bytes.last != UInt8(ascii: "-")
            && bytes.allSatisfy {
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || $0 == UInt8(ascii: "-")
            }
    }

    /// An IPv4 block of 8 to 28 bits: room for machines, and no claim on the whole address space.
    package static func isValidPlan(_ plan: IPPrefix) -> Bool {
        plan.address.isIPv4 && (8...28).contains(plan.length) && !plan.address.isMulticast
            && !plan.address.isLoopback && !plan.address.isLinkLocal
    }

    static func policySignedBytes(_ policy: GenesisPolicy, meshID: [UInt8]) -> [UInt8] {
        Array("edgevpn-swift token policy v1".utf8) + meshID + policy.encoded
    }
}

// MARK: - Text

extension NetworkToken {
    /// The secret text: one line without spaces.
    package var text: String {
        var writer = ByteWriter(capacity: 1_024)
        writer.write(voterGrants.isEmpty ? 1 : Self.layoutVersion)
        writer.write(raw: meshID)
        writer.write(root)
        writer.write(raw: discoverySecret.exposedCopy())
        writer.write(raw: admissionSecret.exposedCopy())
        writer.write(epoch)
        writer.write(shortText: name)
        writer.write(raw: ipv4Plan.address.bytes)
        writer.write(UInt8(ipv4Plan.length))
        writer.write(mtu)
        writer.write(dht.rawValue)
        writer.write(UInt8(peerHints.count))
        for hint in peerHints { writer.write(shortText: hint) }
        writer.write(UInt8(issuers.count))
        for issuer in issuers {
            issuer.delegation.encode(into: &writer)
            writer.write(raw: issuer.key.seed.exposedCopy())
        }
        writer.write(long: policy?.encoded ?? [])
        if let policySignature { writer.write(raw: policySignature.bytes) }
        if !voterGrants.isEmpty {
            writer.write(UInt8(voterGrants.count))
            for grant in voterGrants { grant.encode(into: &writer) }
        }
        let checksum = sha256(writer.bytes).bytes.prefix(Self.checksumCount)
        return Self.prefix + (writer.bytes + checksum).base64URL
    }

    /// Parses a token and checks every signature in it against the root key that it names.
    package init(parsing text: String) throws(TokenProblem) {
        let trimmed = text.split(whereSeparator: \.isWhitespace)
        guard trimmed.count == 1, let word = trimmed.first, word.hasPrefix(Self.prefix) else {
            throw .notAToken
        }
        guard word.utf8.count <= Self.textLimit,
            var bytes = [UInt8](base64URL: word.dropFirst(Self.prefix.count)),
            bytes.count > Self.checksumCount
        else { throw .garbled }
        defer { zeroize(&bytes) }
        var layout = Array(bytes.dropLast(Self.checksumCount))
        defer { zeroize(&layout) }
        guard
            sha256(layout).bytes.prefix(Self.checksumCount)
                == bytes.suffix(Self.checksumCount)
        else { throw .garbled }
        guard (1...Self.layoutVersion).contains(layout[0]) else { throw .newerVersion(layout[0]) }
        do {
            try self.init(layout: layout)
        } catch let problem as TokenProblem {
            throw problem
        } catch {
            throw .garbled
        }
        try verify()
    }

    private init(layout: [UInt8]) throws {
        var reader = ByteReader(layout)
        let version = try reader.readByte()
        meshID = try reader.readBytes(16)
        root = try reader.readNodeID()
        discoverySecret = SecretBytes(copying: try reader.readBytes(32))
        admissionSecret = SecretBytes(copying: try reader.readBytes(32))
        epoch = try reader.readUInt32()
        name = try reader.readShortText()
        guard let address = IPAddress(bytes: try reader.readBytes(4)),
            let plan = IPPrefix(address, length: Int(try reader.readByte()))
        else { throw TokenProblem.badField("IPv4 plan") }
        ipv4Plan = plan
        mtu = try reader.readUInt16()
        guard let mode = DHTMode(rawValue: try reader.readByte()) else {
            throw TokenProblem.badField("DHT mode")
        }
        dht = mode
        let hintCount = try reader.readByte()
        guard hintCount <= Self.hintLimit else { throw TokenProblem.badField("peer hints") }
        peerHints = []
        for _ in 0..<hintCount { peerHints.append(try reader.readShortText()) }
        issuers = []
        for _ in 0..<(try reader.readByte()) {
            let delegation = try IssuerDelegation(from: &reader)
            let key = SigningKey(seed: SecretBytes(copying: try reader.readBytes(32)))
            issuers.append(TokenIssuer(delegation: delegation, key: key))
        }
        let policyBytes = try reader.readLongBytes(limit: 512)
        if !policyBytes.isEmpty {
            policy = try GenesisPolicy(decoding: policyBytes)
            policySignature = Signature(try reader.readBytes(64))
        }
        if version > 1 {
            let count = Int(try reader.readByte())
            guard (1...Self.voterGrantLimit).contains(count) else {
                throw TokenProblem.badField("voters")
            }
            for _ in 0..<count { voterGrants.append(try IssuerDelegation(from: &reader)) }
        }
        try reader.finish()
    }

    private func verify() throws(TokenProblem) {
        guard Self.isValidName(name) else { throw .badField("name") }
        guard Self.isValidPlan(ipv4Plan) else { throw .badField("IPv4 plan") }
        guard (1_280...9_000).contains(mtu) else { throw .badField("MTU") }
        guard !issuers.isEmpty else { throw .badField("list of issuers") }
        for issuer in issuers {
            guard issuer.delegation.isValid(meshID: meshID, root: root),
                issuer.delegation.issuer == issuer.key.publicKey
            else { throw .badSignature("issuer") }
        }
        for grant in voterGrants {
            guard grant.roles.contains(.personal), grant.isValid(meshID: meshID, root: root)
            else { throw .badSignature("voter") }
        }
        if policy?.mode == .voters, grantsVoters { throw .badField("list of issuers") }
        if let policy {
            let signed = Self.policySignedBytes(policy, meshID: meshID)
            guard let policySignature, policySignature.isValid(for: signed, by: root) else {
                throw .badSignature("founding policy")
            }
        }
    }
}
