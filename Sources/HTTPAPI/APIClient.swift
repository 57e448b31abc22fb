import Configuration
import NIOCore
import NIOHTTP1
import NIOPosix
import NetAddress

/// Why a question to a node got no proper answer.
package enum APIClientFailure: Error, Hashable, Sendable {
    /// Nobody listens there.
    case unreachable(APIAddress)
    /// The node took the question and did not answer in time.
    case timedOut(APIAddress)
    /// The answer is not what this program understands.
    case unintelligible(String)
    /// The node answered with an error of its own.
    case answered(ControlFailure)
}

/// Asks one node through its API. Each call is a connection of its own.
package struct APIClient: Sendable {
    package let address: APIAddress
    /// How long one question may take altogether.
    package let timeout: Duration
    /// Secret: what a TCP port asks for.
    private let bearer: String?

    /// Answers are lists of entries with at most 4 KiB each; 20,000 of them are the ledger's bound,
    /// and no machine that runs a mesh prints more.
    private static let answerLimit = 128 << 20

    package init(
        _ address: APIAddress, timeout: Duration = .seconds(10), bearer: String? = nil
    ) {
        self.address = address
        self.bearer = bearer
        self.timeout = timeout
    }

    package func status() async throws(APIClientFailure) -> StatusModel {
        try await ask("GET", "/v1/status", as: StatusModel.self)
    }

    package func clusterStatus() async throws(APIClientFailure) -> ClusterStatusModel {
        try await ask("GET", "/v1/cluster", as: ClusterStatusModel.self)
    }

    package func clusterOrder(_ order: ClusterOrderModel) async throws(APIClientFailure)
        -> ClusterStatusModel
    {
        try await ask(
            "POST", "/v1/cluster", body: try encode(order), as: ClusterStatusModel.self)
    }

    package func leaveCluster() async throws(APIClientFailure) -> ClusterStatusModel {
        try await ask("POST", "/v1/cluster/leave", as: ClusterStatusModel.self)
    }

    package func removeFromCluster(_ machine: String) async throws(APIClientFailure)
        -> ClusterMachineModel
    {
        try await ask(
            "DELETE", "/v1/cluster/machines/\(percentEncode(machine))",
            as: ClusterMachineModel.self)
    }

    package func lease(_ name: String, _ request: LeaseRequestModel)
        async throws(APIClientFailure) -> LeaseModel
    {
        try await ask(
            "POST", "/v1/leases/\(percentEncode(name))", body: try encode(request),
            as: LeaseModel.self)
    }

    package func names() async throws(APIClientFailure) -> [NameModel] {
        try await ask("GET", "/v1/names", as: [NameModel].self)
    }

    package func ping(_ node: String, timeoutMilliseconds: Int) async throws(APIClientFailure)
        -> PingModel
    {
        let body = PingRequestModel(node: node, timeoutMs: timeoutMilliseconds)
        return try await ask("POST", "/v1/ping", body: try encode(body), as: PingModel.self)
    }

    /// The entries of `bucket` and `key`; both, the bucket only, or neither may be given.
    package func ledgerEntries(bucket: String? = nil, key: String? = nil)
        async throws(APIClientFailure) -> [LedgerEntryModel]
    {
        let parts = [bucket, key].compactMap { $0.map(percentEncode) }
        let path = (["/v1/ledger"] + parts).joined(separator: "/")
        return try await ask("GET", path, as: [LedgerEntryModel].self)
    }

    /// Waits for a change behind `revision`, and returns all entries of `bucket` and `key`.
    package func watchLedger(
        bucket: String?, key: String?, after revision: UInt64?, timeoutMilliseconds: Int
    ) async throws(APIClientFailure) -> LedgerWatchModel {
        let parts = [bucket, key].compactMap { $0.map(percentEncode) }
        var path = (["/v1/watch"] + parts).joined(separator: "/")
        path += "?timeoutMs=\(timeoutMilliseconds)"
        if let revision { path += "&after=\(revision)" }
        return try await ask("GET", path, as: LedgerWatchModel.self)
    }

    package func adoptLedgerEntry(_ entry: [UInt8]) async throws(APIClientFailure) {
        let body = try encode(SignedEntryModel(entry: entry))
        _ = try await ask("POST", "/v1/withdrawals", body: body, as: [String: String].self)
    }

    package func putLedgerEntry(bucket: String, key: String, value: [UInt8])
        async throws(APIClientFailure) -> LedgerEntryModel
    {
        let path = "/v1/ledger/\(percentEncode(bucket))/\(percentEncode(key))"
        let body = try encode(LedgerWriteModel(value: value))
        return try await ask("PUT", path, body: body, as: LedgerEntryModel.self)
    }

    package func deleteLedgerEntry(bucket: String, key: String) async throws(APIClientFailure) {
        let path = "/v1/ledger/\(percentEncode(bucket))/\(percentEncode(key))"
        _ = try await ask("DELETE", path, as: [String: String].self)
    }

    func encode(_ value: some Encodable) throws(APIClientFailure) -> [UInt8] {
        do {
            return try encodeJSON(value)
        } catch {
            throw .unintelligible("the question cannot be written as JSON")
        }
    }

    func ask<Value: Decodable>(
        _ method: String, _ target: String, body: [UInt8] = [], as type: Value.Type
    ) async throws(APIClientFailure) -> Value {
        let response = try await send(
            APIRequest(method: method, target: target, body: body))
        do {
            if response.status == 200 { return try decodeJSON(type, from: response.body) }
            let problem = try decodeJSON(ErrorModel.self, from: response.body)
            throw APIClientFailure.answered(
                ControlFailure(problem.kind, problem.error, fix: problem.fix))
        } catch let failure as APIClientFailure {
            throw failure
        } catch {
            throw .unintelligible("\(target) answered \(response.status) with other JSON")
        }
    }

    /// One exchange over a connection of its own.
    package func send(_ request: APIRequest) async throws(APIClientFailure) -> APIResponse {
        do {
            return try await exchange(request)
        } catch let failure as APIClientFailure {
            throw failure
        } catch {
            throw .unreachable(address)
        }
    }

    private typealias Connection = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    private func exchange(_ request: APIRequest) async throws -> APIResponse {
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(.nanoseconds(timeout.nanosecondsForTimer))
        let configure: @Sendable (any Channel) -> EventLoopFuture<Connection> = { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHTTPClientHandlers()
                return try Connection(wrappingChannelSynchronously: channel)
            }
        }
        let connection =
            switch address {
            case .unix(let path):
                try await bootstrap.connect(
                    unixDomainSocketPath: path, channelInitializer: configure)
            case .tcp(let socket):
                try await bootstrap.connect(
                    host: "\(socket.ip)", port: Int(socket.port), channelInitializer: configure)
            }
        let channel = connection.channel
        let timer = channel.eventLoop.scheduleTask(
            in: .nanoseconds(timeout.nanosecondsForTimer)
        ) { channel.close(promise: nil) }
        defer { timer.cancel() }
        return try await connection.executeThenClose { inbound, outbound in
            try await outbound.write(contentsOf: parts(of: request))
            var status = 0
            var body: [UInt8] = []
            for try await part in inbound {
                switch part {
                case .head(let head): status = Int(head.status.code)
                case .body(let buffer):
                    guard body.count + buffer.readableBytes <= APIClient.answerLimit else {
                        throw APIClientFailure.unintelligible("the answer does not end")
                    }
                    body.append(contentsOf: buffer.readableBytesView)
                case .end: return APIResponse(status: status, body: body)
                }
            }
            throw APIClientFailure.timedOut(address)
        }
    }

    private func parts(of request: APIRequest) -> [HTTPClientRequestPart] {
        let host =
            switch address {
            case .unix: "localhost"
            case .tcp(let socket): "\(socket)"
            }
        var headers: HTTPHeaders = [
            "host": host, "connection": "close", "content-length": "\(request.body.count)",
        ]
        if let bearer { headers.add(name: "authorization", value: "Bearer \(bearer)") }
        let head = HTTPRequestHead(
            version: .http1_1, method: HTTPMethod(rawValue: request.method), uri: request.target,
            headers: headers)
        return [.head(head), .body(.byteBuffer(ByteBuffer(bytes: request.body))), .end(nil)]
    }
}

extension Duration {
    fileprivate var nanosecondsForTimer: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
