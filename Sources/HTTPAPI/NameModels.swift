/// A record that a member publishes in the mesh's zone.
package struct NameRecordModel: Codable, Hashable, Sendable {
    /// Relative to the zone, `@` for the zone itself, or a pattern between slashes.
    package var name: String
    package var type: String
    /// In presentation format, names with their final dot.
    package var data: String
    /// Seconds.
    package var ttl: UInt32
    /// The node id of the author; nobody else can change or withdraw the record.
    package var owner: String
    /// Whether questions are answered with it now.
    package var served: Bool

    package init(
        name: String, type: String, data: String, ttl: UInt32, owner: String, served: Bool
    ) {
        self.name = name
        self.type = type
        self.data = data
        self.ttl = ttl
        self.owner = owner
        self.served = served
    }
}

/// A record to publish.
package struct NameRecordRequestModel: Codable, Hashable, Sendable {
    package var name: String
    package var type: String
    package var data: String
    /// Seconds, 0...86,400; absent means 20.
    package var ttl: UInt32?

    package init(name: String, type: String, data: String, ttl: UInt32? = nil) {
        self.name = name
        self.type = type
        self.data = data
        self.ttl = ttl
    }
}

/// What a node's name server counted since it started. It tells how much was asked, never what.
package struct NameCountersModel: Codable, Hashable, Sendable {
    package var queries: UInt64 = 0
    /// Of the queries, those over TCP.
    package var streamQueries: UInt64 = 0
    /// Malformed, or of a kind that is not answered.
    package var rejected: UInt64 = 0
    package var rateLimited: UInt64 = 0
    /// Answered from the zone.
    package var ownAnswers: UInt64 = 0
    package var cacheHits: UInt64 = 0
    package var staleAnswers: UInt64 = 0
    package var upstreamQueries: UInt64 = 0
    package var hedges: UInt64 = 0
    package var prefetches: UInt64 = 0
    package var filteredReplies: UInt64 = 0
    package var failures: UInt64 = 0
    package var dropped: UInt64 = 0
    /// Where other names are asked now.
    package var upstreams: [String] = []

    package init() {}
}
