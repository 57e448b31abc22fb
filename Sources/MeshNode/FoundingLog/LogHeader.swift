import ClusterPlan
import Consensus
import Cryptography
import MeshBase

/// With what a node began: the first lines of its founding log.
///
///     founding-log 1
///     founding NODE MESH POLICY ROOT VOTER DURABLE MAY-FOUND HAS-DATA AMNESIAC
///     cluster KIND ROLE STATIC-KEY SERVERS HOSTNAME ZONE
///     start NANOSECONDS RECORD WALL-SECONDS
package struct LogHeader {
    package var founding: FoundingConfiguration
    package var cluster: ClusterConfiguration
    package var start: BootInstant
    /// What the node wrote in an earlier life.
    package var record: [UInt8]?
    /// Only for people.
    package var wall: Int64

    package static let title = "founding-log 1"

    package var lines: [String] {
        let flags = [
            founding.isVoter, founding.isDurable, founding.mayFound, founding.hasLocalData,
            founding.isAmnesiac,
        ].map { word($0) }.joined(separator: " ")
        let policy = founding.policy.map { word($0.encoded) } ?? "-"
        let root = founding.root.map { "\($0)" } ?? "-"
        return [
            LogHeader.title,
            "founding \(founding.node) \(word(founding.meshID)) \(policy) \(root) \(flags)",
            "cluster \(cluster.kind.rawValue) \(cluster.role.rawValue) "
                + "\(word(cluster.staticPublicKey.bytes)) \(cluster.serverLimit) "
                + "\(quoted(cluster.hostname)) \(quoted(cluster.zone))",
            "start \(start.nanoseconds) \(record.map { word($0) } ?? "-") \(wall)",
        ]
    }
}

extension LogHeader {
    /// - Parameter lines: the three lines behind the title.
    package init(_ lines: some Sequence<Substring>) throws(LogProblem) {
        var rest = lines.makeIterator()
        func next(_ name: String) throws(LogProblem) -> LogWords {
            var words = LogWords(rest.next() ?? "")
            guard try words.word() == name else { throw LogProblem() }
            return words
        }
        var words = try next("founding")
        let node = try words.node()
        let meshID = try words.bytes()
        let policy = try words.optional { words throws(LogProblem) in
            guard let policy = try? GenesisPolicy(decoding: try words.bytes()) else {
                throw LogProblem()
            }
            return policy
        }
        let root = try words.optional { words throws(LogProblem) in try words.node() }
        founding = FoundingConfiguration(
            meshID: meshID, policy: policy, node: node, isVoter: try words.flag(),
            isDurable: try words.flag(), mayFound: try words.flag(),
            hasLocalData: try words.flag(), isAmnesiac: try words.flag(), root: root)
        try words.finish()
        words = try next("cluster")
        cluster = ClusterConfiguration(
            kind: try words.raw(DatastoreKind.self), role: try words.code(RoleWish.self),
            node: node, staticPublicKey: StaticPublicKey(try words.bytes32()),
            serverLimit: try words.number(), hostname: try words.text(), zone: try words.text())
        try words.finish()
        words = try next("start")
        start = try words.instant()
        record = try words.optional { words throws(LogProblem) in try words.bytes() }
        wall = try words.number()
        try words.finish()
    }
}
