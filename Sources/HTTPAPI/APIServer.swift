import Configuration
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import NetAddress
import Synchronization

/// Why the API could not start listening.
package struct APIListenFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// One sentence: what is wrong.
    package var message: String
    /// One sentence: what to do about it.
    package var fix: String

    package var description: String { "\(message); \(fix)" }
}

/// The HTTP server of one node, on a unix socket or a TCP port.
///
/// Bind first (a failure names the flag), then ``run()`` until its task is cancelled:
///
///     let server = try await APIServer.bind(to: address, control: handle)
///     try await server.run()
package struct APIServer: Sendable {
    private typealias Connection = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>

    /// A dashboard, a few commands and some headroom; a connection more is closed at once.
    private static let connectionLimit = 64

    /// The longest a connection may be silent: longer than the longest probe (60 s).
    private static let idleLimit = TimeAmount.seconds(75)

    /// Where it listens; port 0 has become the real one.
    package let address: APIAddress
    private let group: MultiThreadedEventLoopGroup
    private let listener: NIOAsyncChannel<Connection, Never>
    private let routes: Routes
    private let access = APIAccess()

    /// Starts listening.
    ///
    /// A unix socket gets mode 0600 in a directory that is made with 0700 when it is missing; a
    /// socket file that nobody listens on is replaced.
    package static func bind(to address: APIAddress, control: any ControlHandle) async throws
        -> APIServer
    {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            return try await APIServer(address, control, group)
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private init(
        _ address: APIAddress, _ control: any ControlHandle, _ group: MultiThreadedEventLoopGroup
    ) async throws {
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        switch address {
        case .unix(let path):
            try await prepareSocket(path, group)
            listener = try await naming(address) {
                try await bootstrap.bind(unixDomainSocketPath: path) { channel in
                    APIServer.configure(channel)
                }
            }
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
            self.address = address
        case .tcp(let socket):
            listener = try await naming(address) {
                try await bootstrap.bind(host: "\(socket.ip)", port: Int(socket.port)) { channel in
                    APIServer.configure(channel)
                }
            }
            let port = listener.channel.localAddress?.port.flatMap { UInt16(exactly: $0) }
            self.address = .tcp(SocketAddress(ip: socket.ip, port: port ?? socket.port))
        }
        self.group = group
        routes = Routes(control: control)
    }

    /// From now on whoever sends this token over TCP may ask. Before, nobody may.
    package func admit(bearer: String) {
        access.setBearer(bearer)
    }

    private static func configure(_ channel: any Channel) -> EventLoopFuture<Connection> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(IdleStateHandler(allTimeout: idleLimit))
            try pipeline.addHandler(IdleCloser())
            try pipeline.configureHTTPServerPipeline()
            return try Connection(wrappingChannelSynchronously: channel)
        }
    }

    /// Serves until the task is cancelled, then closes every connection and removes the socket.
    package func run() async throws {
        let open = OpenConnections()
        do {
            try await listener.executeThenClose { connections in
                try await withThrowingDiscardingTaskGroup { tasks in
                    for try await connection in connections {
                        guard open.count.load(ordering: .relaxed) < APIServer.connectionLimit else {
                            try? await connection.channel.close()
                            continue
                        }
                        open.count.add(1, ordering: .relaxed)
                        tasks.addTask {
                            // A client that goes away in the middle is its own business.
                            try? await serve(connection)
                            open.count.subtract(1, ordering: .relaxed)
                        }
                    }
                }
            }
        } catch is CancellationError {
            // The way it ends.
        }
        if case .unix(let path) = address { try? FileManager.default.removeItem(atPath: path) }
        try await group.shutdownGracefully()
    }

    private func serve(_ connection: Connection) async throws {
        let user: UInt32? =
            if case .unix = address { await connection.channel.peerUser() } else { nil }
        try await connection.executeThenClose { inbound, outbound in
            var head: HTTPRequestHead?
            var body: [UInt8] = []
            for try await part in inbound {
                switch part {
                case .head(let received):
                    head = received
                    body = []
                case .body(let buffer):
                    guard body.count + buffer.readableBytes <= Routes.bodyLimit else {
                        let failure = ControlFailure(
                            .invalid, "the body is larger than \(Routes.bodyLimit) bytes",
                            fix: "send less")
                        try await write(APIResponse(failure), keepAlive: false, to: outbound)
                        return
                    }
                    body.append(contentsOf: buffer.readableBytesView)
                case .end:
                    guard let complete = head else { return }
                    let response = await answer(complete, body, user: user)
                    try await write(response, keepAlive: complete.isKeepAlive, to: outbound)
                    guard complete.isKeepAlive else { return }
                }
            }
        }
    }

    /// - Parameter user: who is at the other end of a unix socket.
    private func answer(
        _ head: HTTPRequestHead, _ body: [UInt8], user: UInt32?
    ) async -> APIResponse {
        if case .tcp(let listening) = address {
            let problem = OriginCheck.problem(
                host: head.headers["host"], origin: head.headers["origin"], listening: listening)
            if let problem {
                return APIResponse(ErrorModel(problem), status: 403)
            }
        }
        let level =
            user.map { APIAccess.level(ofUser: $0) }
            ?? access.level(ofHeaders: head.headers["authorization"])
        if let problem = APIAccess.problem(level, method: head.method.rawValue) {
            return APIResponse(ErrorModel(problem), status: user == nil ? 401 : 403)
        }
        let request = APIRequest(method: head.method.rawValue, target: head.uri, body: body)
        return await routes.respond(to: request)
    }

    private func write(
        _ response: APIResponse, keepAlive: Bool,
        to outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    ) async throws {
        let headers: HTTPHeaders = [
            "content-type": response.contentType,
            "content-length": "\(response.body.count)",
            "cache-control": "no-store",
            "connection": keepAlive ? "keep-alive" : "close",
        ]
        let status = HTTPResponseStatus(statusCode: response.status)
        let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
        try await outbound.write(contentsOf: [
            .head(head), .body(.byteBuffer(ByteBuffer(bytes: response.body))), .end(nil),
        ])
    }
}

/// How many connections a running server has.
private final class OpenConnections: Sendable {
    let count = Atomic<Int>(0)
}

/// Closes a connection that the idle timer reports.
private final class IdleCloser: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            context.close(promise: nil)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }
}

/// Makes room for a socket at `path`: its directory exists and no live server is there.
private func prepareSocket(_ path: String, _ group: any EventLoopGroup) async throws {
    let files = FileManager.default
    let directory = path.split(separator: "/").dropLast().joined(separator: "/")
    if !files.fileExists(atPath: "/\(directory)") {
        do {
            try files.createDirectory(
                atPath: "/\(directory)", withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw APIListenFailure(
                message: "the API's directory /\(directory) cannot be made",
                fix: "choose another place with --api unix:PATH, or --api off")
        }
    }
    guard let attributes = try? files.attributesOfItem(atPath: path) else { return }
    guard attributes[.type] as? FileAttributeType == .typeSocket else {
        throw APIListenFailure(
            message: "\(path) exists and is not a socket",
            fix: "choose another place with --api unix:PATH, or --api off")
    }
    let probe = try? await ClientBootstrap(group: group).connectTimeout(.seconds(2))
        .connect(unixDomainSocketPath: path).get()
    if let probe {
        try? await probe.close()
        throw APIListenFailure(
            message: "another node answers at \(path)",
            fix: "stop it, or give this one its own socket with --api unix:PATH, or --api off")
    }
    try? files.removeItem(atPath: path)
}

/// Turns a bind error into a sentence that names the flag.
private func naming<Result: Sendable>(
    _ address: APIAddress, _ body: () async throws -> Result
) async throws -> Result {
    do {
        return try await body()
    } catch let error as IOError {
        throw APIListenFailure(
            message: "the API cannot listen on \(address): \(describe(error))",
            fix: "choose another place with --api unix:PATH or --api ADDRESS:PORT, or --api off")
    }
}

private func describe(_ error: IOError) -> String {
    switch error.errnoCode {
    case EADDRINUSE: "the address is in use"
    case EADDRNOTAVAIL: "the address is not this machine's"
    case EACCES, EPERM: "permission denied"
    default: "error \(error.errnoCode)"
    }
}
