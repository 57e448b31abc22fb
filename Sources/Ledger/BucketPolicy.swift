import MeshBase

/// What a bucket is for: who writes into it, how large, and how long an entry counts.
///
/// Every receiver checks the writer and the size, since both follow from the entry alone. The
/// lifetime follows from what a reader believes about the owner, so it only decides what is shown.
package struct BucketPolicy: Hashable, Sendable {
    package enum Writer: Hashable, Sendable {
        /// The node itself; its API refuses users.
        case node
        /// Whoever controls the node.
        case user
        /// The mesh's root key, through any node.
        case root
    }

    package let writer: Writer
    /// Bytes.
    package let valueLimit: Int
    /// How long entries still count after their owner was last there; `nil` until withdrawn. The
    /// owner itself renews nothing: liveness tells.
    package let lifetime: Duration?

    private init(_ writer: Writer, valueLimit: Int, lifetime: Duration? = nil) {
        self.writer = writer
        self.valueLimit = valueLimit
        self.lifetime = lifetime
    }

    /// The buckets with a meaning of their own, by name; all others are the users'.
    package static let known: [String: BucketPolicy] = [
        // Certificates: 259 bytes in this version.
        "members": BucketPolicy(.node, valueLimit: 1_024),
        // A name, an address and eight endpoints.
        "machines": BucketPolicy(.node, valueLimit: 1_024),
        // Facts of the datastore.
        "cluster": BucketPolicy(.node, valueLimit: LedgerEntry.valueLimit),
        // Withdrawals.
        "policy": BucketPolicy(.root, valueLimit: LedgerEntry.valueLimit),
        "dns": BucketPolicy(.user, valueLimit: LedgerEntry.valueLimit),
        "routes": BucketPolicy(.user, valueLimit: 1_024),
        "users": BucketPolicy(.user, valueLimit: 1_024),
        // What only a machine that is there can offer ends some time after it.
        "services": BucketPolicy(.user, valueLimit: 1_024, lifetime: .seconds(900)),
        "files": BucketPolicy(.user, valueLimit: 1_024, lifetime: .seconds(900)),
        "egress": BucketPolicy(.user, valueLimit: 256, lifetime: .seconds(300)),
        "healthcheck": BucketPolicy(.user, valueLimit: 256, lifetime: .seconds(120)),
    ]

    package static func of(_ bucket: String) -> BucketPolicy {
        known[bucket] ?? BucketPolicy(.user, valueLimit: LedgerEntry.valueLimit)
    }
}

extension LedgerKey {
    /// Whether an entry with this name and size may exist, whatever it says.
    func isAllowed(valueCount: Int, root: NodeID?) -> Bool {
        let policy = BucketPolicy.of(bucket)
        // Nobody but the root writes policy, and the root writes nothing else.
        guard valueCount <= policy.valueLimit, (policy.writer == .root) == (owner == root) else {
            return false
        }
        return bucket != "members" || isCertificate
    }
}
