import HTTPAPI
import Testing

@Suite struct NameRoutesTests {
    private let routes = Routes(control: FakeNode(counters: counted))

    private static let counted: NameCountersModel = {
        var counters = NameCountersModel()
        counters.queries = 12
        counters.cacheHits = 5
        counters.rateLimited = 2
        counters.upstreams = ["192.0.2.1:53", "tls://192.0.2.2:853"]
        return counters
    }()

    private func ask(_ method: String, _ target: String, _ body: String = "") async -> APIResponse {
        await routes.respond(to: APIRequest(method: method, target: target, body: Array(body.utf8)))
    }

    @Test func recordsArePublishedListedAndWithdrawn() async {
        let record = #"{"name":"db","type":"A","data":"10.1.0.9","ttl":60}"#
        let made = await ask("POST", "/v1/names/records", record)
        #expect(made.status == 200)
        #expect(made.text.contains(#""ttl":60"#) && made.text.contains(#""served":true"#))
        #expect(made.text.contains(#""owner":"\#(FakeNode.id)""#))
        #expect(await ask("GET", "/v1/names/records").text == made.text)

        // What is narrower than any record withdraws nothing.
        for path in ["other", "db/AAAA", "db/A/10.1.0.8"] {
            #expect(await ask("DELETE", "/v1/names/records/\(path)").status == 404)
        }
        #expect(await ask("GET", "/v1/names/records").text == made.text)
        #expect(await ask("DELETE", "/v1/names/records/d%62/A/10.1.0.9").text == made.text)
        #expect(await ask("GET", "/v1/names/records").text == "[]")
    }

    @Test(arguments: [
        ("PUT", "/v1/names/records", "{}", 400), ("POST", "/v1/names/records", "{}", 400),
        ("POST", "/v1/names/records", "not JSON", 400),
        ("POST", "/v1/names/records", #"{"name":"db","type":"X","data":""}"#, 400),
        ("POST", "/v1/names/records", #"{"name":"db","type":"A","data":"1","ttl":-1}"#, 400),
        ("GET", "/v1/names/records/db", "", 400), ("DELETE", "/v1/names/records", "", 400),
        ("DELETE", "/v1/names/records/a/b/c/d", "", 404), ("POST", "/v1/names", "", 400),
        ("POST", "/v1/names/counters", "", 400), ("GET", "/v1/names/counters/all", "", 404),
        ("GET", "/v1/names/nothing", "", 404), ("DELETE", "/v1/names/records/%zz", "", 400),
        ("POST", "/metrics", "", 400), ("GET", "/metrics/all", "", 404),
    ])
    func whatDoesNotExistIsAnError(
        _ method: String, _ target: String, _ body: String, _ status: Int
    ) async {
        let answer = await ask(method, target, body)
        #expect(answer.status == status, "\(answer.text)")
        #expect(answer.text.contains("\"fix\""))
    }

    @Test func countersAreJSONAndMetrics() async {
        let counters = await ask("GET", "/v1/names/counters")
        #expect(counters.status == 200 && counters.text.contains(#""queries":12"#))
        for target in ["/metrics", "/v1/metrics"] {
            let metrics = await ask("GET", target)
            #expect(metrics.status == 200)
            #expect(metrics.contentType.hasPrefix("text/plain; version=0.0.4"))
            let lines = metrics.text.split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.last == "", "every line has an end")
            for line in [
                "edgevpn_dns_queries_total 12", "edgevpn_dns_cache_hits_total 5",
                "edgevpn_dns_rate_limited_total 2", "edgevpn_dns_upstreams 2",
                #"edgevpn_peers{state="alive"} 1"#, "# TYPE edgevpn_dns_queries_total counter",
                #"edgevpn_drops_total{reason="frame_queue_full"} 3"#,
            ] {
                #expect(lines.contains(Substring(line)), "\(line)")
            }
            // A name, labels perhaps, and one number; everything has its type.
            for line in lines.dropLast() where !line.hasPrefix("#") {
                let words = line.split(separator: " ")
                #expect(words.count == 2 && UInt64(words[1]) != nil, "\(line)")
                let name = words[0].prefix { $0 != "{" }
                #expect(lines.contains { $0.hasPrefix("# TYPE \(name) ") }, "\(line)")
            }
        }
    }

    @Test func withoutANameServerThereAreNoCountersAndFewerMetrics() async {
        let routes = Routes(control: FakeNode())
        func ask(_ target: String) async -> APIResponse {
            await routes.respond(to: APIRequest(method: "GET", target: target))
        }
        #expect(await ask("/v1/names/counters").status == 503)
        let metrics = await ask("/metrics")
        #expect(metrics.status == 200)
        #expect(metrics.text.contains("edgevpn_peers"))
        #expect(!metrics.text.contains("dns"))
    }
}

extension APIResponse {
    fileprivate var text: String { String(decoding: body, as: UTF8.self) }
}
