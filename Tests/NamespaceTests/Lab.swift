// A lab is a handful of network namespaces on this machine, wired together, with real programs in
// them. A test file that uses one opens with a drawing of its topology.
//
// Names carry the process id and its start time. A lab of a process that is gone, killed half-way
// for example, is removed when the next lab is made. Everything in a namespace of ours is ours.

import Glibc
import Testing

/// What stands in the way of a test, or what did not happen; the whole story for the reader.
struct LabFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Namespaces and processes of one test; ``withLab(_:_:)`` makes and removes it.
final class Lab: Sendable {
    /// Files of the test, removed with the lab.
    let directory: String
    private let prefix: String
    private let serial: Int

    static let namespaceDirectory = "/run/netns"

    fileprivate init(serial: Int) throws {
        guard geteuid() == 0 else { throw LabFailure("network namespaces need root") }
        try Lab.requireTool("ip", package: "iproute2")
        self.serial = serial
        let start = try #require(Lab.startTime(of: getpid()))
        prefix = "evlab-\(getpid())-\(start)-\(serial)"
        directory = "/tmp/\(prefix)"
        guard mkdir(directory, 0o700) == 0 else {
            throw LabFailure("cannot make \(directory): \(String(cString: strerror(errno)))")
        }
    }

    /// A machine of its own: a namespace with loopback up.
    func host(_ name: String) async throws -> LabHost {
        let host = LabHost(lab: self, name: name, namespace: "\(prefix)-\(name)")
        try await command(["ip", "netns", "add", host.namespace])
        try await command(["ip", "-n", host.namespace, "link", "set", "lo", "up"])
        return host
    }

    /// A cable between two machines. Its ends have the same name on both.
    func cable(_ name: String, _ first: LabHost, _ second: LabHost) async throws {
        try await command([
            "ip", "-n", first.namespace, "link", "add", name, "type", "veth", "peer", "name", name,
            "netns", second.namespace,
        ])
        for host in [first, second] { try await host.ip("link set \(name) up") }
    }

    /// A switch that joins machines into one LAN: each gets a port called `name`.
    func lan(_ name: String, _ hosts: [LabHost]) async throws -> LabHost {
        let hub = try await host("switch-\(name)")
        try await hub.ip("link add hub type bridge")
        try await hub.ip("link set hub up")
        for (index, host) in hosts.enumerated() {
            try await command([
                "ip", "-n", host.namespace, "link", "add", name, "type", "veth", "peer", "name",
                "port\(index)", "netns", hub.namespace,
            ])
            try await hub.ip("link set port\(index) master hub up")
            try await host.ip("link set \(name) up")
        }
        return hub
    }

    /// An interface name that no other lab uses, for programs that put it where no namespace
    /// reaches: at most 15 bytes.
    func unique(_ letter: Character) -> String { "ev\(letter)\(getpid())x\(serial)" }

    /// Writes a file that only root reads, and gives its path.
    func file(_ name: String, _ text: String) throws -> String {
        let path = "\(directory)/\(name)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw LabFailure("cannot write \(path)") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count else {
            throw LabFailure("cannot write \(path)")
        }
        return path
    }

    @discardableResult
    fileprivate func command(_ arguments: [String]) async throws -> String {
        try await LabProcess.start(arguments, in: directory).succeed(within: .seconds(20))
    }

    /// The program under test: EDGEVPN_BINARY, else the release build of this package.
    static func binary() throws -> String {
        let chosen = getenv("EDGEVPN_BINARY").map { String(cString: $0) }
        let path = chosen ?? ".build/release/edgevpn-swift"
        guard access(path, X_OK) == 0 else {
            throw LabFailure(
                "\(path) is missing: swift build -c release, or set EDGEVPN_BINARY")
        }
        guard let real = realpath(path, nil) else { throw LabFailure("\(path) has no real path") }
        defer { free(real) }
        return String(cString: real)
    }

    /// Fails the test, rather than skip it, when a program is missing.
    static func requireTool(_ name: String, package: String) throws {
        let path = getenv("PATH").map { String(cString: $0) } ?? LabProcess.path
        let found = path.split(separator: ":").contains { access("\($0)/\(name)", X_OK) == 0 }
        guard found else {
            throw LabFailure("\(name) is missing: apt-get install \(package)")
        }
    }
}

/// One machine of a ``Lab``.
struct LabHost: Sendable {
    let lab: Lab
    let name: String
    let namespace: String

    /// Runs a command to its end and gives what it printed; fails the test if it fails.
    @discardableResult
    func run(_ arguments: [String], within limit: Duration = .seconds(30)) async throws -> String {
        try await start(arguments).succeed(within: limit)
    }

    /// Runs a command to its end; its exit code and what it printed.
    func attempt(_ arguments: [String], within limit: Duration = .seconds(30)) async throws
        -> (status: Int32, output: String)
    {
        let process = try start(arguments)
        let status = try await process.end(within: limit)
        return (status, process.output)
    }

    /// Starts a command and leaves it running until it ends or the lab does.
    func start(_ arguments: [String]) throws -> LabProcess {
        try LabProcess.start(
            ["ip", "netns", "exec", namespace] + arguments, in: lab.directory)
    }

    /// `ip` in this namespace, words separated by spaces.
    @discardableResult
    func ip(_ words: String) async throws -> String {
        let words = words.split(separator: " ").map(String.init)
        return try await lab.command(["ip", "-n", namespace] + words)
    }

    /// Whether one echo request to `address` is answered within a second.
    func pings(_ address: String) async throws -> Bool {
        try await attempt(["ping", "-n", "-c", "1", "-W", "1", address]).status == 0
    }
}

/// Runs `body` with a lab, and removes everything afterwards, whatever happened.
func withLab(_ body: (Lab) async throws -> Void) async throws {
    let lab = try Lab(serial: LabNumbers.next())
    do {
        try await body(lab)
    } catch {
        await lab.remove()
        throw error
    }
    await lab.remove()
}

/// Asks again and again until `condition` holds; fails the test with `what` after `limit`.
func eventually(
    _ what: String, within limit: Duration = .seconds(20),
    every pause: Duration = .milliseconds(100),
    _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < end else { throw LabFailure("not within \(limit): \(what)") }
        try await Task.sleep(for: pause)
    }
}
