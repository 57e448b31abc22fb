import Configuration
import Foundation
import HTTPAPI
import NetAddress
import Testing

/// A directory of its own for one test's socket.
private func withDirectory(_ body: (String) async throws -> Void) async throws {
    let name =
        "/tmp/api-test-\(ProcessInfo.processInfo.processIdentifier)-\(UInt32.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: name, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: name) }
    try await body(name)
}

/// Serves a fake node at `address` while `body` runs.
private func serving(
    _ address: APIAddress, _ body: (APIClient) async throws -> Void
) async throws {
    let server = try await APIServer.bind(to: address, control: FakeNode())
    server.admit(bearer: "secret")
    try await withThrowingTaskGroup { tasks in
        tasks.addTask { try await server.run() }
        try await body(APIClient(server.address, bearer: "secret"))
        tasks.cancelAll()
        try await tasks.waitForAll()
    }
}

@Suite("The API over its sockets")
struct ServerTests {
    @Test func aUnixSocketAnswersEveryQuestion() async throws {
        try await withDirectory { directory in
            let path = "\(directory)/made/by/the/server/api.sock"
            try await serving(.unix(path: path)) { client in
                let mode = try FileManager.default.attributesOfItem(atPath: path)
                #expect(mode[.posixPermissions] as? Int == 0o600)
                let status = try await client.status()
                #expect(status.node.hostname == "a")
                #expect(status.peers.map(\.id) == [FakeNode.peer])
                #expect(try await client.clusterStatus().cluster.phase == .none)
                let founding = try await client.clusterOrder(ClusterOrderModel(order: .found))
                #expect(founding.cluster.phase == .claiming)
                await #expect(throws: APIClientFailure.self) {
                    try await client.clusterOrder(ClusterOrderModel(order: .takeover))
                }
                #expect(try await client.removeFromCluster("c d").name == "c d-abcdef")
                await #expect(throws: APIClientFailure.self) {
                    try await client.removeFromCluster("b")
                }
                let lease = try await client.lease("a b", LeaseRequestModel(session: "ff"))
                #expect(lease.number == 7 && lease.reason == "a b ff")
                #expect(try await client.names().first?.name == "a.mesh.internal")
                #expect(try await client.ping("b", timeoutMilliseconds: 100).rttMs == 0.25)
            }
            #expect(
                !FileManager.default.fileExists(atPath: path), "the socket goes with the server")
        }
    }

    @Test func theLedgerTakesTextAndBytesUnderAnyKey() async throws {
        try await withDirectory { directory in
            try await serving(.unix(path: "\(directory)/api.sock")) { client in
                let key = "a key/with ✓ and 100%"
                let entry = try await client.putLedgerEntry(
                    bucket: "files", key: key, value: Array("hello".utf8))
                #expect(entry.value == "hello" && entry.key == key && entry.version == 1)
                let binary = try await client.putLedgerEntry(
                    bucket: "files", key: "blob", value: [0xFF, 0, 1])
                #expect(binary.value == nil && binary.valueBase64 == "/wAB")
                #expect(try await client.ledgerEntries().count == 2)
                #expect(try await client.ledgerEntries(bucket: "files", key: key) == [entry])
                try await client.deleteLedgerEntry(bucket: "files", key: key)
                #expect(try await client.ledgerEntries(bucket: "files") == [binary])
                #expect(try await client.ledgerEntries(bucket: "dns").isEmpty)
                let watch = try await client.watchLedger(
                    bucket: "files", key: "blob", after: nil, timeoutMilliseconds: 0)
                #expect(watch.entries == [binary])
                for query in ["after=x", "timeoutMs=60001", "until=3"] {
                    let answer = try await client.send(
                        APIRequest(method: "GET", target: "/v1/watch?\(query)"))
                    #expect(answer.status == 400)
                }
                try await client.adoptLedgerEntry([1, 2, 3])
                await #expect(throws: APIClientFailure.self) {
                    try await client.adoptLedgerEntry([4])
                }
            }
        }
    }

    @Test func refusalsKeepTheirKindOnTheWay() async throws {
        try await withDirectory { directory in
            try await serving(.unix(path: "\(directory)/api.sock")) { client in
                for (name, kind) in [
                    ("dangerous", ControlFailure.Kind.refused), ("busy", .unavailable),
                    ("x", .notFound),
                ] {
                    let error = await #expect(throws: APIClientFailure.self) {
                        try await client.ping(name, timeoutMilliseconds: 100)
                    }
                    guard case .answered(let failure) = error else {
                        Issue.record("\(name): \(String(describing: error))")
                        continue
                    }
                    #expect(failure.kind == kind)
                }
                await #expect(throws: APIClientFailure.self) {
                    try await client.ping("b", timeoutMilliseconds: 60_001)
                }
            }
        }
    }

    @Test(arguments: [
        ("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/nothing", 404),
        ("POST", "/v1/status", 400), ("GET", "/v1/ping", 400), ("PUT", "/v1/ledger/a", 400),
        ("POST", "/v1/ping", 400), ("PATCH", "/v1/ledger/a/b", 400), ("GET", "/v1/%zz", 400),
        ("GET", "/v1/%ff", 400), ("GET", "/v1/ledger/a/b/c", 404), ("GET", "//", 404),
        ("PUT", "/v1/ledger/a/b", 400), ("GET", "/v1/status?x=1", 200),
    ])
    func badRequestsAreAnsweredWithAnErrorAndAFix(_ method: String, _ target: String, _ code: Int)
        async throws
    {
        let routes = Routes(control: FakeNode())
        let response = await routes.respond(to: APIRequest(method: method, target: target))
        #expect(response.status == code)
        if code != 200 {
            let problem = try decodeJSON(ErrorModel.self, from: response.body)
            #expect(!problem.error.isEmpty && !problem.fix.isEmpty)
        }
    }

    @Test func aBodyThatIsTooLargeIsRefused() async throws {
        try await withDirectory { directory in
            try await serving(.unix(path: "\(directory)/api.sock")) { client in
                let body = [UInt8](repeating: 0x20, count: Routes.bodyLimit + 1)
                let answer = try? await client.send(
                    APIRequest(method: "PUT", target: "/v1/ledger/a/b", body: body))
                #expect(answer == nil || answer?.status == 400)
                let entries = try await client.ledgerEntries()
                #expect(entries.isEmpty)
            }
        }
    }

    @Test func aLiveSocketIsLeftAloneAndAStaleOneIsReplaced() async throws {
        try await withDirectory { directory in
            let address = APIAddress.unix(path: "\(directory)/api.sock")
            try await serving(address) { client in
                let failure = await #expect(throws: APIListenFailure.self) {
                    _ = try await APIServer.bind(to: address, control: FakeNode())
                }
                #expect(failure?.fix.contains("--api") == true)
                let status = try await client.status()
                #expect(status.node.hostname == "a")
            }
            let stale = try staleSocket(at: "\(directory)/api.sock")
            #expect(stale)
            try await serving(address) { client in
                let status = try await client.status()
                #expect(status.node.hostname == "a")
            }
        }
    }

    @Test func aFileThatIsNoSocketIsNotTouched() async throws {
        try await withDirectory { directory in
            let path = "\(directory)/precious"
            try Data("keep me".utf8).write(to: URL(fileURLWithPath: path))
            await #expect(throws: APIListenFailure.self) {
                _ = try await APIServer.bind(to: .unix(path: path), control: FakeNode())
            }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "keep me")
        }
    }

    @Test func aTCPPortAnswersAndASecondServerNamesTheFlag() async throws {
        let loopback = IPAddress.v4(0x7F00_0001)
        try await serving(.tcp(SocketAddress(ip: loopback, port: 0))) { client in
            let status = try await client.status()
            #expect(status.node.hostname == "a")
            let failure = await #expect(throws: APIListenFailure.self) {
                _ = try await APIServer.bind(to: client.address, control: FakeNode())
            }
            #expect(failure?.fix.contains("--api") == true)
        }
    }

    @Test func aTCPPortAnswersToItsTokenOnly() async throws {
        let loopback = IPAddress.v4(0x7F00_0001)
        try await serving(.tcp(SocketAddress(ip: loopback, port: 0))) { client in
            #expect(try await client.status().node.hostname == "a")
            for wrong in [nil, "", "Secret", "secret2", "secre", "secret secret"] {
                let stranger = APIClient(client.address, bearer: wrong)
                let request = APIRequest(method: "GET", target: "/v1/status", body: [])
                let answer = try await stranger.send(request)
                #expect(answer.status == 401, "\(wrong ?? "none")")
                #expect(!String(decoding: answer.body, as: UTF8.self).contains("hostname"))
                #expect(!String(decoding: answer.body, as: UTF8.self).contains("secret"))
            }
        }
    }

    /// A node that has not read its token yet has nobody's.
    @Test func beforeTheTokenIsKnownNobodyPasses() async throws {
        let loopback = IPAddress.v4(0x7F00_0001)
        let server = try await APIServer.bind(
            to: .tcp(SocketAddress(ip: loopback, port: 0)), control: FakeNode())
        try await withThrowingTaskGroup { tasks in
            tasks.addTask { try await server.run() }
            for bearer in [nil, "", "x"] {
                let answer = try await APIClient(server.address, bearer: bearer)
                    .send(APIRequest(method: "GET", target: "/v1/status", body: []))
                #expect(answer.status == 401)
            }
            tasks.cancelAll()
            try await tasks.waitForAll()
        }
    }

    /// An operator may open the socket to others; they read and change nothing.
    @Test func otherUsersOfTheSocketMayOnlyRead() async throws {
        try #require(geteuid() == 0, "another user is needed")
        try await withDirectory { directory in
            let path = "\(directory)/api.sock"
            try await serving(.unix(path: path)) { client in
                #expect(chmod(directory, 0o755) == 0 && chmod(path, 0o666) == 0)
                let read = try await asNobody(path, ["/v1/status"])
                #expect(read.hasPrefix("200 "), "\(read)")
                for words in [
                    ["-X", "DELETE", "/v1/ledger/users/x"], ["-d", "{}", "/v1/cluster"],
                    ["-X", "DELETE", "/v1/cluster/machines/x"],
                    ["-X", "PUT", "-d", "{\"value\": \"x\"}", "/v1/ledger/users/x"],
                ] {
                    let refused = try await asNobody(path, words)
                    #expect(
                        refused.hasPrefix("403 ") && refused.contains("only read"), "\(refused)")
                }
                _ = try await client.putLedgerEntry(bucket: "users", key: "x", value: [1])
            }
        }
    }

    /// Asks as the user nobody; the status and the answer.
    private func asNobody(_ path: String, _ words: [String]) async throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
        process.arguments =
            ["--reuid", "65534", "--clear-groups", "curl", "-s", "--max-time", "20"]
            + ["--unix-socket", path, "-w", "\n%{http_code}"] + words.dropLast()
            + ["http://localhost\(words.last ?? "")"]
        let output = Pipe()
        process.standardOutput = output
        return try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { _ in
                let data = output.fileHandleForReading.readDataToEndOfFile()
                let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
                continuation.resume(
                    returning: ([lines.last ?? ""] + lines.dropLast()).joined(separator: " "))
            }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
    }

    @Test func nobodyThereIsSaidSo() async throws {
        let client = APIClient(.unix(path: "/tmp/nobody-listens-here.sock"))
        let error = await #expect(throws: APIClientFailure.self) { try await client.status() }
        #expect(error == .unreachable(client.address))
    }

    /// Leaves a socket file behind that nobody listens on.
    private func staleSocket(at path: String) throws -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) == 0 }
        }
    }
}

@Suite("Who may talk to a TCP port")
struct OriginTests {
    private static let loopback = SocketAddress(ip: .v4(0x7F00_0001), port: 8080)

    @Test(arguments: [
        (["127.0.0.1:8080"], [], true),
        (["localhost:8080"], [], true),
        (["127.0.0.1:8080"], ["http://127.0.0.1:8080"], true),
        (["127.0.0.1:8080"], ["http://evil.example"], false),
        (["127.0.0.1:8080"], ["null"], false),
        (["evil.example:8080"], [], false),
        (["127.0.0.1:9090"], [], false),
        (["127.0.0.1"], [], false),
        ([], [], false),
        (["127.0.0.1:8080", "127.0.0.1:8080"], [], false),
    ])
    func headersDecide(_ host: [String], _ origin: [String], _ allowed: Bool) {
        let problem = OriginCheck.problem(
            host: host, origin: origin, listening: OriginTests.loopback)
        #expect((problem == nil) == allowed)
    }
}

@Suite("The models in JSON")
struct ModelTests {
    @Test func unknownIsAbsentAndKeysAreSorted() throws {
        let peer = PeerModel(id: "ab", state: .known)
        #expect(
            String(decoding: try encodeJSON(peer), as: UTF8.self) == #"{"id":"ab","state":"known"}"#
        )
    }

    @Test func theStatusHasExactlyTheDocumentedKeys() throws {
        let status = StatusModel(
            node: NodeModel(
                id: "i", hostname: "h", ipv4: "4", ipv6: "6", port: 1, version: "v"),
            peers: [
                PeerModel(
                    id: "i", hostname: "h", ipv4: "4", ipv6: "6", state: .alive, path: .relay,
                    endpoint: "e", rttMs: 1, lastHandshakeSeconds: 2, rxBytes: 3, txBytes: 4,
                    suite: "s")
            ],
            cluster: ClusterModel(
                phase: .joined, generation: 1, founder: "i", role: "server", voters: ["i"],
                quorum: 2, reason: "r", members: ["i"], agents: []))
        let json = try JSONSerialization.jsonObject(with: Data(try encodeJSON(status)))
        let object = try #require(json as? [String: Any])
        #expect(Set(object.keys) == ["node", "peers", "cluster"])
        let node = try #require(object["node"] as? [String: Any])
        #expect(Set(node.keys) == ["id", "hostname", "ipv4", "ipv6", "port", "version"])
        let peer = try #require((object["peers"] as? [[String: Any]])?.first)
        #expect(
            Set(peer.keys) == [
                "id", "hostname", "ipv4", "ipv6", "state", "path", "endpoint", "rttMs",
                "lastHandshakeSeconds", "rxBytes", "txBytes", "suite",
            ])
        let cluster = try #require(object["cluster"] as? [String: Any])
        #expect(
            Set(cluster.keys) == [
                "phase", "generation", "founder", "role", "voters", "quorum", "reason", "members",
                "agents",
            ])
        #expect(try decodeJSON(StatusModel.self, from: try encodeJSON(status)) == status)
    }
}
