extension Routes {
    /// What the node counts, in Prometheus' text format (version 0.0.4).
    func metrics() async -> APIResponse {
        var text = MetricsText()
        let status = await control.status()
        let peers = Dictionary(grouping: status.peers, by: \.state)
        text.begin("edgevpn_peers", .gauge, "Members that this node knows, by state.")
        for (state, members) in peers.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            text.add(UInt64(members.count), labels: "state=\"\(state.rawValue)\"")
        }
        text.begin("edgevpn_drops_total", .counter, "What went no further, by reason.")
        for (reason, count) in (status.drops ?? [:]).sorted(by: { $0.key < $1.key }) {
            let label = String(reason.map { $0.isLetter || $0.isNumber ? $0 : "_" })
            text.add(count, labels: "reason=\"\(label)\"")
        }
        text.begin("edgevpn_sent_bytes_total", .counter, "What the node said by itself, by kind.")
        for (kind, count) in (status.sentBytes ?? [:]).sorted(by: { $0.key < $1.key }) {
            text.add(count, labels: "kind=\"\(kind)\"")
        }
        if let counters = await control.nameCounters() { text.add(counters) }
        var response = APIResponse(status: 200, body: Array(text.text.utf8))
        response.contentType = "text/plain; version=0.0.4; charset=utf-8"
        return response
    }
}

/// Families of metrics, one after the other.
private struct MetricsText {
    private(set) var text = ""
    private var name = ""

    enum Kind: String {
        case counter, gauge
    }

    mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    mutating func add(_ value: UInt64, labels: String = "") {
        text += name + (labels.isEmpty ? "" : "{\(labels)}") + " \(value)\n"
    }

    mutating func add(_ counters: NameCountersModel) {
        for (name, value, help) in [
            ("queries", counters.queries, "Queries of clients."),
            ("stream_queries", counters.streamQueries, "Of the queries, those over TCP."),
            ("own_answers", counters.ownAnswers, "Answers from the mesh's zones."),
            ("cache_hits", counters.cacheHits, "Answers from the cache."),
            ("stale_answers", counters.staleAnswers, "Old answers, as no upstream had new ones."),
            ("upstream_queries", counters.upstreamQueries, "Queries to upstreams."),
            ("hedges", counters.hedges, "Second upstreams asked because the first took long."),
            ("prefetches", counters.prefetches, "Answers fetched anew before they ended."),
            ("filtered_replies", counters.filteredReplies, "Replies that led into local networks."),
            ("failures", counters.failures, "Queries that no upstream answered."),
            ("rejected", counters.rejected, "Queries that were malformed or of no known kind."),
            ("rate_limited", counters.rateLimited, "Queries beyond their source's share."),
            ("dropped", counters.dropped, "Messages that got no answer."),
        ] {
            begin("edgevpn_dns_\(name)_total", .counter, help)
            add(value)
        }
        begin("edgevpn_dns_upstreams", .gauge, "Servers that are asked for other names.")
        add(UInt64(counters.upstreams.count))
    }
}
