import Cryptography
import MeshBase

/// A value whose owner may replace it (BEP 44): signed, numbered, named by its key and a salt.
package struct MutableItem: Hashable, Sendable {
    package var key: NodeID
    /// Lets one key own many values; part of the name, never stored in clear by others.
    package var salt: [UInt8]
    package var sequence: Int64
    /// Bencoded.
    package var value: [UInt8]
    package var signature: [UInt8]

    /// BEP 44.
    package static let valueLimit = 1_000
    package static let saltLimit = 64

    package init(
        key: NodeID, salt: [UInt8], sequence: Int64, value: [UInt8], signature: [UInt8]
    ) {
        self.key = key
        self.salt = salt
        self.sequence = sequence
        self.value = value
        self.signature = signature
    }

    /// Signs a new one.
    package init(signing value: Bencode, with key: SigningKey, salt: [UInt8], sequence: Int64) {
        let encoded = value.encoded
        precondition(encoded.count <= Self.valueLimit && salt.count <= Self.saltLimit)
        let signature = key.sign(
            Self.signedBytes(salt: salt, sequence: sequence, value: encoded))
        self.init(
            key: key.publicKey, salt: salt, sequence: sequence, value: encoded,
            signature: signature.bytes)
    }

    package var target: KademliaID { Self.target(key: key, salt: salt) }

    package static func target(key: NodeID, salt: [UInt8]) -> KademliaID {
        KademliaID(hashing: key.bytes.bytes + salt)
    }

    package var isAuthentic: Bool {
        guard let signature = Signature(signature) else { return false }
        return signature.isValid(
            for: Self.signedBytes(salt: salt, sequence: sequence, value: value), by: key)
    }

    /// What is signed: the fields as a dictionary without its frame, the value verbatim.
    static func signedBytes(salt: [UInt8], sequence: Int64, value: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        if !salt.isEmpty { bytes += Array("4:salt\(salt.count):".utf8) + salt }
        return bytes + Array("3:seqi\(sequence)e1:v".utf8) + value
    }
}

/// What a `put` stores.
package enum StoredValue: Hashable, Sendable {
    /// Bencoded; its name is its hash.
    case immutable([UInt8])
    case mutable(MutableItem)

    package var value: [UInt8] {
        switch self {
        case .immutable(let value): value
        case .mutable(let item): item.value
        }
    }

    package var target: KademliaID {
        switch self {
        case .immutable(let value): KademliaID(hashing: value)
        case .mutable(let item): item.target
        }
    }
}
