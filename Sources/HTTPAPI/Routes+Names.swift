extension Routes {
    /// What lies below `/v1/names`; `parts` are the path's parts behind it.
    func names(_ request: APIRequest, _ parts: [String]) async throws(ControlFailure)
        -> APIResponse
    {
        switch (parts[0], parts.count, request.method) {
        case ("counters", 1, _):
            try require("GET", request)
            guard let counters = await control.nameCounters() else {
                throw ControlFailure(
                    .unavailable, "this node answers no names",
                    fix: "start it without --dns off, and see its log")
            }
            return APIResponse(counters)
        case ("records", 1, "GET"):
            return APIResponse(await control.nameRecords())
        case ("records", 1, "POST"):
            let record = try decode(NameRecordRequestModel.self, from: request)
            return APIResponse(try await control.publishName(record))
        case ("records", 2...4, "DELETE"):
            return APIResponse(
                try await control.withdrawName(
                    parts[1], type: parts.count > 2 ? parts[2] : nil,
                    data: parts.count > 3 ? parts[3] : nil))
        case ("records", 1, _):
            throw invalid("\(request.method) is not possible here", fix: "use GET or POST")
        case ("records", 2...4, _): try require("DELETE", request)
        default: break
        }
        throw unknown(request)
    }
}

extension APIClient {
    package func nameRecords() async throws(APIClientFailure) -> [NameRecordModel] {
        try await ask("GET", "/v1/names/records", as: [NameRecordModel].self)
    }

    package func publishName(_ record: NameRecordRequestModel) async throws(APIClientFailure)
        -> [NameRecordModel]
    {
        try await ask(
            "POST", "/v1/names/records", body: try encode(record), as: [NameRecordModel].self)
    }

    package func withdrawName(_ name: String, type: String? = nil, data: String? = nil)
        async throws(APIClientFailure) -> [NameRecordModel]
    {
        let parts = [name, type, data].compactMap { $0.map(percentEncode) }
        let path = "/v1/names/records/\(parts.joined(separator: "/"))"
        return try await ask("DELETE", path, as: [NameRecordModel].self)
    }

    package func nameCounters() async throws(APIClientFailure) -> NameCountersModel {
        try await ask("GET", "/v1/names/counters", as: NameCountersModel.self)
    }
}
