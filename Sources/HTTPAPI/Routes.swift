/// One HTTP request after the transport has checked it, as plain values.
package struct APIRequest: Hashable, Sendable {
    package var method: String
    /// Path and query as the client wrote them.
    package var target: String
    package var body: [UInt8]

    package init(method: String, target: String, body: [UInt8] = []) {
        self.method = method
        self.target = target
        self.body = body
    }
}

/// One HTTP answer: a status code and JSON, or a text.
package struct APIResponse: Hashable, Sendable {
    package var status: Int
    package var body: [UInt8]
    package var contentType = "application/json"

    package init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }

    init(_ value: some Encodable, status: Int = 200) {
        do {
            self.init(status: status, body: try encodeJSON(value))
        } catch {
            self.init(status: 500, body: Array(#"{"error":"unencodable answer"}"#.utf8))
        }
    }

    init(_ failure: ControlFailure) {
        let status =
            switch failure.kind {
            case .invalid: 400
            case .notFound: 404
            case .refused: 409
            case .unavailable: 503
            }
        self.init(ErrorModel(failure), status: status)
    }
}

/// Maps a request to one call of the control handle. The paths:
///
///     GET    /v1/status               StatusModel
///     GET    /v1/peers                [PeerModel]
///     GET    /v1/cluster              ClusterStatusModel
///     POST   /v1/cluster              ClusterOrderModel -> ClusterStatusModel
///     DELETE /v1/cluster/machines/ID  ClusterMachineModel
///     POST   /v1/cluster/leave        ClusterStatusModel
///     POST   /v1/leases/NAME          LeaseRequestModel -> LeaseModel
///     GET    /v1/names                [NameModel]
///     GET    /v1/names/records        [NameRecordModel]
///     POST   /v1/names/records        NameRecordRequestModel -> [NameRecordModel]
///     DELETE /v1/names/records/NAME[/TYPE[/DATA]]   -> [NameRecordModel]
///     GET    /v1/names/counters       NameCountersModel
///     GET    /v1/metrics, /metrics    text for Prometheus
///     POST   /v1/ping                 PingRequestModel -> PingModel
///     GET    /v1/ledger[/BUCKET]      [LedgerEntryModel]
///     GET    /v1/ledger/BUCKET/KEY    [LedgerEntryModel], one per owner
///     GET    /v1/watch[/BUCKET[/KEY]] LedgerWatchModel; ?after=REVISION&timeoutMs=MS waits for news
///     POST   /v1/withdrawals          SignedEntryModel -> {}
///     PUT    /v1/ledger/BUCKET/KEY    LedgerWriteModel -> LedgerEntryModel
///     DELETE /v1/ledger/BUCKET/KEY    {}
package struct Routes: Sendable {
    /// A ledger value has at most 4 KiB; base64 and JSON escapes fit well into this.
    package static let bodyLimit = 65_536

    let control: any ControlHandle

    package init(control: any ControlHandle) {
        self.control = control
    }

    package func respond(to request: APIRequest) async -> APIResponse {
        do throws(ControlFailure) {
            return try await route(request)
        } catch {
            return APIResponse(error)
        }
    }

    private func route(_ request: APIRequest) async throws(ControlFailure) -> APIResponse {
        let path = request.target.prefix { $0 != "?" }
        var parts: [String] = []
        for part in path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
            guard let decoded = percentDecode(part) else {
                throw invalid("the path has a broken percent escape", fix: "escape it again")
            }
            parts.append(decoded)
        }
        // Where scrapers look when nobody tells them.
        if path == "/metrics" { parts = ["v1", "metrics"] }
        guard path.hasPrefix("/"), parts.first == "v1", parts.count >= 2 else {
            throw unknown(request)
        }
        switch (parts[1], parts.count) {
        case ("status", 2):
            try require("GET", request)
            return APIResponse(await control.status())
        case ("peers", 2):
            try require("GET", request)
            return APIResponse(await control.status().peers)
        case ("cluster", 2) where request.method == "POST":
            return APIResponse(
                try await control.clusterOrder(decode(ClusterOrderModel.self, from: request)))
        case ("cluster", 2):
            try require("GET", request)
            return APIResponse(await control.clusterStatus())
        case ("cluster", 3) where parts[2] == "leave":
            try require("POST", request)
            try await control.leaveCluster()
            return APIResponse(await control.clusterStatus())
        case ("cluster", 4) where parts[2] == "machines":
            try require("DELETE", request)
            return APIResponse(
                ClusterMachineModel(name: try await control.removeFromCluster(parts[3])))
        case ("leases", 3):
            try require("POST", request)
            return APIResponse(
                try await control.lease(parts[2], decode(LeaseRequestModel.self, from: request)))
        case ("names", 2):
            try require("GET", request)
            return APIResponse(await control.names())
        case ("names", 3...6):
            return try await names(request, Array(parts.dropFirst(2)))
        case ("metrics", 2):
            try require("GET", request)
            return await metrics()
        case ("ping", 2):
            try require("POST", request)
            return APIResponse(try await ping(request))
        case ("ledger", 2), ("ledger", 3):
            try require("GET", request)
            let bucket = parts.count == 3 ? parts[2] : nil
            return APIResponse(await control.ledgerEntries(bucket: bucket))
        case ("watch", 2...4):
            try require("GET", request)
            return APIResponse(try await watch(request, Array(parts.dropFirst(2))))
        case ("withdrawals", 2):
            try require("POST", request)
            let body = try decode(SignedEntryModel.self, from: request)
            guard let entry = decodeBase64(body.entryBase64) else {
                throw invalid("entryBase64 is not base64", fix: "use `edgevpn-swift withdraw`")
            }
            try await control.adoptLedgerEntry(entry)
            return APIResponse([String: String]())
        case ("ledger", 4):
            return try await ledgerEntry(request, bucket: parts[2], key: parts[3])
        default:
            throw unknown(request)
        }
    }

    private func ping(_ request: APIRequest) async throws(ControlFailure) -> PingModel {
        let wanted = try decode(PingRequestModel.self, from: request)
        let timeout = wanted.timeoutMs ?? 1_000
        guard (1...60_000).contains(timeout) else {
            throw invalid(
                "timeoutMs is \(timeout)", fix: "give a number of milliseconds from 1 to 60000")
        }
        return try await control.ping(wanted.node, timeoutMilliseconds: timeout)
    }

    private func watch(_ request: APIRequest, _ name: [String]) async throws(ControlFailure)
        -> LedgerWatchModel
    {
        let query = try parameters(of: request, known: ["after", "timeoutMs"])
        let timeout = query["timeoutMs"] ?? 30_000
        guard (0...60_000).contains(timeout) else {
            throw invalid("timeoutMs is \(timeout)", fix: "give 0 to 60000 milliseconds")
        }
        let revision = await control.ledgerRevision(
            after: query["after"], timeoutMilliseconds: Int(timeout))
        let entries = await control.ledgerEntries(bucket: name.first)
        return LedgerWatchModel(
            revision: revision,
            entries: name.count < 2 ? entries : entries.filter { $0.key == name[1] })
    }

    /// The numbers behind the question mark; every other parameter is an error.
    private func parameters(of request: APIRequest, known: Set<String>) throws(ControlFailure)
        -> [String: UInt64]
    {
        var result: [String: UInt64] = [:]
        guard let mark = request.target.firstIndex(of: "?") else { return result }
        for pair in request.target[request.target.index(after: mark)...].split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, known.contains(String(parts[0])),
                let number = UInt64(parts[1])
            else {
                throw invalid(
                    "the parameter \(pair.prefix(40)) is not known or not a number",
                    fix: "known here: \(known.sorted().joined(separator: ", "))")
            }
            result[String(parts[0])] = number
        }
        return result
    }

    private func ledgerEntry(_ request: APIRequest, bucket: String, key: String)
        async throws(ControlFailure) -> APIResponse
    {
        switch request.method {
        case "GET":
            let entries = await control.ledgerEntries(bucket: bucket).filter { $0.key == key }
            if entries.isEmpty {
                throw ControlFailure(
                    .notFound, "no entry \(bucket)/\(key)",
                    fix: "`ledger get` without a key lists what exists")
            }
            return APIResponse(entries)
        case "PUT":
            let body = try decode(LedgerWriteModel.self, from: request)
            let value: [UInt8]? =
                switch (body.value, body.valueBase64) {
                case (let text?, nil): Array(text.utf8)
                case (nil, let text?): decodeBase64(text)
                default: nil
                }
            guard let value else {
                throw invalid(
                    "the body carries no value",
                    fix: "send exactly one of value (text) and valueBase64 (standard base64)")
            }
            return APIResponse(
                try await control.putLedgerEntry(bucket: bucket, key: key, value: value))
        case "DELETE":
            try await control.deleteLedgerEntry(bucket: bucket, key: key)
            return APIResponse([String: String]())
        default:
            throw invalid(
                "\(request.method) is not possible here", fix: "use GET, PUT or DELETE")
        }
    }

    func decode<Value: Decodable>(_ type: Value.Type, from request: APIRequest)
        throws(ControlFailure) -> Value
    {
        do {
            return try decodeJSON(type, from: request.body)
        } catch {
            throw invalid(
                "the body is not the JSON object that \(request.target) takes",
                fix: "see docs/how-to/use-the-api.md for its fields")
        }
    }

    func require(_ method: String, _ request: APIRequest) throws(ControlFailure) {
        guard request.method == method else {
            throw invalid("\(request.method) is not possible here", fix: "use \(method)")
        }
    }

    func unknown(_ request: APIRequest) -> ControlFailure {
        ControlFailure(
            .notFound, "there is no \(request.target.prefix(100))",
            fix: "the paths are in docs/how-to/use-the-api.md")
    }

    func invalid(_ message: String, fix: String) -> ControlFailure {
        ControlFailure(.invalid, message, fix: fix)
    }
}
