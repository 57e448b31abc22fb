import ClusterPlan
import Cryptography
import FoundationEssentials
import MeshBase
import NetAddress

/// Where k0s is on this machine.
package struct K0sSettings: Sendable {
    /// A name looked up in the usual directories, or a path.
    package var program = "k0s"
    package var dataDirectory = "/var/lib/k0s"
    /// Names and addresses under which the API is reached besides the servers' own.
    package var apiNames: [String] = []

    package init() {}
}

/// k0s: servers are controllers that work, too, agents are workers. Facts are from k0s' documentation
/// of its command line and configuration.
final class K0sDriver: DatastoreDriver {
    private let settings: K0sSettings
    private let directory: String
    private let interrupt: Int32
    /// A server's.
    private let control: K3sControl

    /// Milliseconds.
    private static let limit = 20_000

    init(settings: K0sSettings, directory: String, interrupt: Int32) {
        self.settings = settings
        self.directory = directory
        self.interrupt = interrupt
        control = K3sControl(
            program: settings.program, kubeconfig: settings.dataDirectory + "/pki/admin.conf",
            interrupt: interrupt)
        place = KubernetesPlace(control)
    }

    let name = "k0s"
    let kind = "k0s/1"
    let place: any JoinersPlace

    private var data: String { settings.dataDirectory }
    private var configuration: String { directory + "/k0s.yaml" }
    /// Secret; gone once this machine has joined.
    private var tokenFile: String { directory + "/token" }
    private var authorityFile: String { data + "/pki/ca.crt" }

    func holdsData() throws(HostFailure) -> Bool {
        fileExists(data + "/etcd/member/wal") || fileExists(data + "/kubelet.conf")
    }

    func authority(_ record: HostRecord?) throws(HostFailure) -> [UInt8] {
        try readFile(authorityFile)
    }

    func prepareFounding(_ record: HostRecord) throws(HostFailure) {
        try configure(record)
    }

    func settle(_ record: HostRecord) throws(HostFailure) {
        removeFile(tokenFile)
    }

    /// A controller without a token founds, one with a token joins, and one with data goes on.
    func command(_ record: HostRecord) throws(HostFailure) -> [String] {
        var words = [settings.program, record.role == .server ? "controller" : "worker"]
        words += ["--data-dir", data]
        if record.role == .server { words += ["--config", configuration, "--enable-worker"] }
        words.append(
            "--kubelet-extra-args=--node-ip=\(record.address) --hostname-override=\(record.name)")
        switch record.phase {
        case .founding: break
        case .joining: words += ["--token-file", tokenFile]
        case .agent: if fileExists(tokenFile) { words += ["--token-file", tokenFile] }
        case .server:
            guard try holdsData() else { throw HostFailure("k0s has lost its data") }
        }
        return words
    }

    func checkReadiness(_ record: HostRecord) throws(HostFailure) {
        if record.role == .agent {
            guard fileExists(data + "/kubelet.conf") else {
                throw HostFailure("the worker has no credentials yet")
            }
            // Read once; what it holds may admit more machines.
            removeFile(tokenFile)
            return
        }
        try control.checkReadiness()
    }

    /// Controllers are etcd's members, with the Node at the same address; the other Nodes are
    /// workers. A worker sees Nodes only, by their role.
    func nodes(_ record: HostRecord) throws(HostFailure) -> [K3sNode] {
        let listed = kubectl(
            record, ["get", "nodes", "--no-headers", "-o", K0sDriver.nodeColumns])
        guard listed.succeeded, let nodes = K3sPlan.nodes(inList: listed.output) else {
            throw HostFailure("get nodes: \(listed.problem)")
        }
        guard record.role == .server else { return nodes }
        let members = run(["etcd", "member-list", "--data-dir", data])
        guard members.succeeded, let addresses = K0sDriver.members(inList: members.output) else {
            throw HostFailure("etcd member-list: \(members.problem)")
        }
        return nodes.map { node in
            var node = node
            node.isServer = node.ipv4.map { addresses.contains($0) } ?? false
            node.isVoter = node.isServer
            return node
        }
    }

    /// As ``K3sPlan/nodeColumns``, with the label of controllers in the place of etcd's.
    private static let nodeColumns =
        "custom-columns=NAME:.metadata.name,UID:.metadata.uid,"
        + "IP:.status.addresses[?(@.type==\"InternalIP\")].address,"
        + "SERVER:.metadata.labels.node-role\\.kubernetes\\.io/control-plane,"
        + "VOTER:.metadata.labels.none,"
        + "READY:.status.conditions[?(@.type==\"Ready\")].status"

    /// Reads `{"members": {NAME: "https://ADDRESS:2380"}}`, the last line that has it.
    static func members(inList text: String) -> Set<IPAddress>? {
        struct List: Decodable { var members: [String: String] }
        for line in text.split(separator: "\n").reversed() {
            guard let list = try? JSONDecoder().decode(List.self, from: Data(line.utf8)) else {
                continue
            }
            let addresses = list.members.values.compactMap { url -> IPAddress? in
                guard let host = url.split(separator: "/").last else { return nil }
                return IPAddress(String(host.prefix { $0 != ":" }))
            }
            return addresses.count == list.members.count ? Set(addresses) : nil
        }
        return nil
    }

    /// A token that is good for an hour.
    func grant(
        _ record: HostRecord, to joiner: HostIdentity, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8]? {
        let result = run([
            "token", "create", "--data-dir", data, "--expiry", "1h", "--role",
            role == .server ? "controller" : "worker",
        ])
        guard result.succeeded else { throw HostFailure("token create: \(result.problem)") }
        let token = result.output.split(whereSeparator: \.isNewline).last.map { Array($0.utf8) }
        guard let token, token.count <= DatastoreGrant.secretLimit else {
            throw HostFailure("token create: no token, or a longer one than fits")
        }
        return token
    }

    func prepareJoin(_ record: HostRecord, secret: [UInt8]) throws(HostFailure) {
        try makeDirectory(directory)
        try writeFile(tokenFile, secret)
        if record.role == .server { try configure(record) }
    }

    func remove(_ node: K3sNode, _ record: HostRecord) throws(HostFailure) {
        if node.isServer, let address = node.ipv4 {
            let left = run(["etcd", "leave", "--data-dir", data, "--peer-address", "\(address)"])
            guard left.succeeded || left.errors.contains("not found") else {
                throw HostFailure("etcd leave: \(left.problem)")
            }
        }
        let result = kubectl(
            record, ["delete", "node", node.name, "--ignore-not-found", "--timeout=20s"])
        guard result.succeeded else { throw HostFailure("delete node: \(result.problem)") }
    }

    func setDataAside(_ record: HostRecord?, generation: UInt32) throws(HostFailure) {
        try moveAside(data, suffix: ".fenced-g\(generation)")
    }

    private func configure(_ record: HostRecord) throws(HostFailure) {
        let names = ["\(record.address)", "\(record.ipv6)", record.dnsName] + settings.apiNames
        let text = """
            # Written by edgevpn-swift; changes here are lost.
            apiVersion: k0s.k0sproject.io/v1beta1
            kind: ClusterConfig
            metadata:
              name: k0s
            spec:
              api:
                address: '\(record.address)'
                sans: [\(names.map { "'\($0)'" }.joined(separator: ", "))]
              storage:
                type: etcd
                etcd:
                  peerAddress: '\(record.address)'

            """
        try makeDirectory(directory)
        try writeFile(configuration, Array(text.utf8))
    }

    private func kubectl(_ record: HostRecord, _ words: [String]) -> CommandOutput {
        let kubeconfig = record.role == .server ? "/pki/admin.conf" : "/kubelet.conf"
        return run(["kubectl", "--kubeconfig", data + kubeconfig] + words)
    }

    private func run(_ words: [String]) -> CommandOutput {
        runCommand(
            [locateProgram(settings.program) ?? settings.program] + words, limit: K0sDriver.limit,
            interrupt: interrupt)
    }
}
