import Configuration
import Glibc
import Storage

// One bridge in a namespace of its own, and each node in one of its own:
//
//      evd<pid>n1          evd<pid>n2          evd<pid>n3
//        eth0                eth0                eth0          172.31.77.<n>/24
//          |                   |                   |
//     +----+-------------------+-------------------+----+
//     | evd<pid>lan            br0                      |
//     +-------------------------------------------------+
//
// Nothing of it is visible on the host. A lab is noted in a directory of its own below
// /run/edgevpn-demo, locked for as long as its demonstration lives, so that the next one can clear
// away what a killed one left.

/// The namespaces, the processes and the files of one demonstration.
struct DemoLab: Sendable {
    /// The tag that every name carries.
    let tag: String
    /// Holds the state of the nodes; on a real disk when there is one.
    let directory: String
    let isDurable: Bool
    let nodes: [DemoNode]
    let environment: [String: String]
    /// Holds the lock on the note.
    private let note: Int32

    static let notes = "/run/edgevpn-demo"
    private var lan: String { "\(tag)lan" }
    private var log: String { "\(directory)/tool.log" }

    /// Chooses names and makes the directory; no namespace yet.
    init(count: Int) throws(CommandFailure) {
        let pid = getpid()
        tag = "evd\(pid)"
        environment = ProcessInput.current.environment.filter { !$0.key.hasPrefix("EDGEVPN") }
        mkdir(DemoLab.notes, 0o700)
        let path = "\(DemoLab.notes)/\(tag)"
        note = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard note >= 0, flock(note, LOCK_EX | LOCK_NB) == 0 else {
            throw .operating("\(path) cannot be made", fix: "see whether /run is writable")
        }
        (directory, isDurable) = try DemoLab.makeDirectory(environment["TMPDIR"])
        edgevpn_swift.write(bytes: Array("\(directory)\n".utf8), to: note)
        let base = directory
        let prefix = tag
        nodes = (1...count).map { DemoNode(number: $0, tag: prefix, base: base) }
    }

    /// A node on tmpfs or overlay must not vote, so a real disk comes first.
    private static func makeDirectory(_ preferred: String?) throws(CommandFailure)
        -> (path: String, isDurable: Bool)
    {
        let places = [preferred, "/var/tmp", "/tmp", "/var/lib", "/root"].compactMap { $0 }
        let durable = places.first { (try? LinuxFileSystem().isDurable(at: $0)) == true }
        let place = durable ?? "/tmp"
        var template = Array("\(place)/edgevpn-demo-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw .operating("no directory can be made in \(place)", fix: "set TMPDIR")
        }
        let bytes = template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return (String(decoding: bytes, as: UTF8.self), durable != nil)
    }

    /// Makes the namespaces and the wires between them.
    func build() throws(CommandFailure) {
        try ip("netns", "add", lan)
        // Snooping would hold multicast back until it has seen who listens.
        try ip("-n", lan, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        try ip("-n", lan, "link", "set", "br0", "up")
        for node in nodes {
            try ip("netns", "add", node.namespace)
            let port = "p\(node.number)"
            try ip(
                "-n", node.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port,
                "netns", lan)
            try ip("-n", lan, "link", "set", port, "master", "br0", "up")
            try ip("-n", node.namespace, "link", "set", "lo", "up")
            try ip("-n", node.namespace, "address", "add", "\(node.underlay)/24", "dev", "eth0")
            try ip("-n", node.namespace, "link", "set", "eth0", "up")
            mkdir(node.directory, 0o700)
        }
    }

    private func ip(_ arguments: String...) throws(CommandFailure) {
        _ = try output(of: ["ip"] + arguments, log: log, environment: environment)
    }

    /// Starts a program in the namespace of `node`.
    func start(_ arguments: [String], in node: DemoNode, log: String?) throws(CommandFailure)
        -> ChildRun
    {
        try ChildRun.start(
            ["ip", "netns", "exec", node.namespace] + arguments, log: log,
            environment: environment)
    }

    /// Runs a program in the namespace of `node` to its end.
    func run(_ arguments: [String], in node: DemoNode, variables: [String: String] = [:])
        throws(CommandFailure) -> String
    {
        try output(
            of: ["ip", "netns", "exec", node.namespace] + arguments,
            log: "\(node.directory)/tool.log",
            environment: environment.merging(variables) { $1 })
    }

    /// Notes that the lab shall stay when this process ends.
    func keep() {
        edgevpn_swift.write(bytes: Array("kept\n".utf8), to: note)
    }

    /// Ends every process of the lab and removes everything; safe to call at any point.
    func remove() {
        DemoLab.remove(tag: tag, directory: directory)
    }

    // MARK: - Clearing away

    /// Removes what earlier demonstrations left: those that were killed and, when asked, those
    /// that were told to stay. Returns how many.
    @discardableResult
    static func removeLeftovers(alsoKept: Bool) -> Int {
        var count = 0
        for tag in names(in: notes) where tag.hasPrefix("evd") {
            let path = "\(notes)/\(tag)"
            let descriptor = open(path, O_RDWR | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { continue }
            let text = String(decoding: (try? readFile(path, limit: 4_096)) ?? [], as: UTF8.self)
            let lines = text.split(separator: "\n").map(String.init)
            if lines.contains("kept"), !alsoKept { continue }
            remove(tag: tag, directory: lines.first)
            count += 1
        }
        return count
    }

    private static func remove(tag: String, directory: String?) {
        let namespaces = names(in: "/run/netns").filter {
            $0 == "\(tag)lan" || $0.hasPrefix("\(tag)n")
        }
        let environment = ProcessInput.current.environment
        let log = "\(notes)/\(tag).log"
        let processes = {
            namespaces.flatMap { namespace -> [pid_t] in
                let text = try? output(
                    of: ["ip", "netns", "pids", namespace], log: log, environment: environment)
                return (text ?? "").split(separator: "\n").compactMap { pid_t($0) }
            }
        }
        for pid in processes() { kill(pid, SIGTERM) }
        for _ in 0..<30 where !processes().isEmpty {
            usleep(100_000)
            while waitpid(-1, nil, WNOHANG) > 0 {}
        }
        for pid in processes() { kill(pid, SIGKILL) }
        for namespace in namespaces {
            _ = try? output(
                of: ["ip", "netns", "delete", namespace], log: log, environment: environment)
        }
        if let directory, directory.contains("/edgevpn-demo-") {
            _ = try? output(of: ["rm", "-rf", directory], log: log, environment: environment)
        }
        unlink("\(notes)/\(tag)")
        unlink(log)
    }
}

/// One node of the lab.
struct DemoNode: Hashable, Sendable {
    let number: Int
    let namespace: String
    let directory: String
    /// The address on the wire below the mesh.
    let underlay: String

    init(number: Int, tag: String, base: String) {
        self.number = number
        namespace = "\(tag)n\(number)"
        directory = "\(base)/n\(number)"
        underlay = "172.31.77.\(number)"
    }

    var hostname: String { "node-\(number)" }
    var state: String { "\(directory)/state" }
    var log: String { "\(directory)/node.log" }
    var api: APIAddress { .unix(path: "\(directory)/api.sock") }
}

/// The names in a directory, sorted; none when it cannot be read.
private func names(in path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var result: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { result.append(name) }
    }
    return result.sorted()
}
