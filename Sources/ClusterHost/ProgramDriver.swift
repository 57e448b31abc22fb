import ClusterPlan
import MeshBase
import NetAddress

/// An operator's program as a datastore (`--cluster exec:PATH`).
///
/// It is called as `PATH VERB NAME=VALUE ...` with nothing to read, no secret in its arguments, an
/// environment of PATH alone, and a minute each (`run` aside). It answers with its exit code, with
/// what it prints and, when it fails, with the last line of its error output.
/// docs/how-to/bring-your-own-datastore.md lists the verbs.
final class ProgramDriver: DatastoreDriver {
    private let path: String
    private let interface: String
    /// The program's own, 0700.
    private let directory: String
    private let interrupt: Int32

    /// Milliseconds.
    private static let limit = 60_000
    /// sysexits.h, EX_TEMPFAIL: not now, try again.
    private static let notNow = 75

    init(path: String, interface: String, directory: String, interrupt: Int32) {
        self.path = path
        self.interface = interface
        self.directory = directory
        self.interrupt = interrupt
    }

    var name: String { String(path.split(separator: "/").last ?? "datastore") }
    let kind = "exec/1"
    let place: any JoinersPlace = OwnPlace()

    func holdsData() throws(HostFailure) -> Bool {
        guard fileExists(directory) else { return false }
        switch try answer("state", nil) {
        case "none": return false
        case "data": return true
        default: throw HostFailure("\(name) state: neither none nor data")
        }
    }

    func authority(_ record: HostRecord?) throws(HostFailure) -> [UInt8] {
        Array(try answer("authority", record).utf8)
    }

    func prepareFounding(_ record: HostRecord) throws(HostFailure) {
        try makeDirectory(directory)
        _ = try answer("found", record)
    }

    func settle(_ record: HostRecord) throws(HostFailure) {
        _ = try answer("settle", record)
    }

    func command(_ record: HostRecord) throws(HostFailure) -> [String] {
        [path, "run"] + words(record)
    }

    func checkReadiness(_ record: HostRecord) throws(HostFailure) {
        _ = try answer("ready", record)
    }

    func nodes(_ record: HostRecord) throws(HostFailure) -> [K3sNode] {
        guard let nodes = ProgramDriver.nodes(inList: try answer("nodes", record)) else {
            throw HostFailure("\(name) nodes: a line has another shape")
        }
        return nodes
    }

    func grant(
        _ record: HostRecord, to joiner: HostIdentity, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8]? {
        let result = call(
            "grant", record,
            [
                "joiner=\(joiner.name)", "joiner_ipv4=\(joiner.ipv4)",
                "joiner_role=\(role == .server ? "server" : "agent")",
            ])
        if result.status == ProgramDriver.notNow { return nil }
        let secret = Array(try output(of: result, "grant").utf8)
        guard (1...DatastoreGrant.secretLimit).contains(secret.count) else {
            throw HostFailure("\(name) grant: nothing, or more than fits")
        }
        return secret
    }

    func prepareJoin(_ record: HostRecord, secret: [UInt8]) throws(HostFailure) {
        try makeDirectory(directory)
        let file = directory + ".grant"
        try writeFile(file, secret)
        defer { removeFile(file) }
        let result = call("join", record, ["grant=\(file)"])
        _ = try output(of: result, "join")
    }

    func remove(_ node: K3sNode, _ record: HostRecord) throws(HostFailure) {
        let result = call(
            "remove", record,
            ["id=\(String(node.id, radix: 16))", "node=\(node.name)"]
                + (node.ipv4.map { ["node_ipv4=\($0)"] } ?? []))
        _ = try output(of: result, "remove")
    }

    func setDataAside(_ record: HostRecord?, generation: UInt32) throws(HostFailure) {
        guard fileExists(directory) else { return }
        let result = call("aside", record, ["generation=\(generation)"])
        _ = try output(of: result, "aside")
    }

    /// One line a machine: `ID NAME IPV4 server|agent voter|learner|- ready|down`, the id in
    /// hexadecimal digits. `nil` for anything else.
    static func nodes(inList text: String) -> [K3sNode]? {
        var nodes: [K3sNode] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 6, nodes.count < K3sPlan.nodeLimit,
                let id = UInt64(words[0], radix: 16), let address = IPAddress(String(words[2])),
                ["server", "agent"].contains(words[3]),
                ["voter", "learner", "-"].contains(words[4]), ["ready", "down"].contains(words[5])
            else { return nil }
            let isServer = words[3] == "server"
            nodes.append(
                K3sNode(
                    id: id, name: String(words[1].prefix(253)), ipv4: address, isServer: isServer,
                    isVoter: isServer && words[4] == "voter", isReady: words[5] == "ready"))
        }
        return nodes
    }

    // MARK: - Calls

    private func answer(_ verb: String, _ record: HostRecord?) throws(HostFailure) -> String {
        try output(of: call(verb, record, []), verb)
    }

    /// What it printed, without the end of the last line.
    private func output(of result: CommandOutput, _ verb: String) throws(HostFailure) -> String {
        guard result.succeeded else { throw HostFailure("\(name) \(verb): \(result.problem)") }
        return result.output.hasSuffix("\n") ? String(result.output.dropLast()) : result.output
    }

    private func call(_ verb: String, _ record: HostRecord?, _ more: [String]) -> CommandOutput {
        let own = record.map { words($0) } ?? ["directory=\(directory)"]
        return runCommand(
            [path, verb] + own + more, limit: ProgramDriver.limit, interrupt: interrupt)
    }

    private func words(_ record: HostRecord) -> [String] {
        [
            "directory=\(directory)", "role=\(record.role == .server ? "server" : "agent")",
            "name=\(record.name)", "ipv4=\(record.address)", "ipv6=\(record.ipv6)",
            "dns=\(record.dnsName)", "interface=\(interface)",
            "servers=\(record.endpoints.map { "\($0)" }.joined(separator: ","))",
        ]
    }
}
