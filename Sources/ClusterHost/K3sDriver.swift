import ClusterPlan
import Cryptography
import MeshBase
import NetAddress

/// K3s, as a server or as an agent.
///
/// What it writes: one drop-in of K3s' configuration and, in the executor's directory, the token
/// files that the drop-in names. What K3s keeps is renamed at most.
final class K3sDriver: DatastoreDriver {
    private let k3s: K3sSettings
    private let directory: String
    private let interrupt: Int32
    let place: any JoinersPlace

    let name = "k3s"
    let kind = "k3s/1"
    let logName = "k3s.log"

    init(k3s: K3sSettings, directory: String, interrupt: Int32) {
        self.k3s = k3s
        self.directory = directory
        self.interrupt = interrupt
        place = KubernetesPlace(K3sDriver.control(k3s, .server, interrupt))
    }

    private var secretFile: String { directory + "/server-token" }
    private var agentSecretFile: String { directory + "/agent-token" }
    private var genesis: K3sGenesisSettings {
        K3sGenesisSettings(k3s: k3s, directory: directory)
    }
    private var dropInFile: String { k3s.dropInDirectory + "/" + K3sPlan.dropInName }

    func unit(_ role: DatastoreRole) -> String { role == .server ? "k3s" : "k3s-agent" }

    // MARK: - What is on the disk

    func holdsData() throws(HostFailure) -> Bool {
        fileExists(k3s.writeAheadLog) || fileExists(k3s.sqlite)
    }

    func lossOfMember(_ record: HostRecord) throws(HostFailure) -> String? {
        if fileExists(k3s.tombstone) { return "this member was removed from the cluster" }
        return fileExists(k3s.writeAheadLog)
            ? nil : "the datastore's data on this machine is lost"
    }

    /// Its token is deleted when its machine is taken out of the cluster.
    func lossOfAgent(_ record: HostRecord) -> String? {
        guard let text = try? readText(agentSecretFile),
            let token = K3sBootstrapToken(text.prefix { !$0.isWhitespace }),
            fileExists(k3s.agentAuthority),
            let server = record.endpoints.first(where: {
                answers($0, port: UInt16(K3sPlan.apiPort))
            })
        else { return nil }
        let isRefused = control(.agent).isRefused(
            token, by: server, authority: k3s.agentAuthority, file: directory + "/token-check")
        return isRefused ? "this machine was taken out of the cluster" : nil
    }

    func hasJoined(_ record: HostRecord) -> Bool {
        record.role == .server || fileExists(k3s.agentKubeconfig)
    }

    /// The certificate file as it is: K3s puts its hash into its tokens.
    func authority(_ record: HostRecord?) throws(HostFailure) -> [UInt8] {
        try readFile(k3s.authority)
    }

    /// Out of the way of the next start; containers' files stay where they are.
    func setDataAside(_ record: HostRecord?, generation: UInt32) throws(HostFailure) {
        removeFile(dropInFile)
        for name in ["/server", "/agent"] {
            try moveAside(k3s.dataDirectory + name, suffix: ".fenced-g\(generation)")
        }
    }

    // MARK: - Configuration

    /// Tokens and settings; those of an earlier try are kept.
    func prepareFounding(_ record: HostRecord) throws(HostFailure) {
        let files = [secretFile, agentSecretFile, genesis.file]
        if files.allSatisfy({ fileExists($0) }) { return }
        try store(
            secret: randomSecret(), agentSecret: randomSecret(),
            settings: try genesis.configured())
    }

    func prepareJoin(_ record: HostRecord, secret: [UInt8]) throws(HostFailure) {
        let secrets: K3sSecrets
        do throws(DecodingFailure) {
            secrets = try K3sSecrets(decoding: secret, role: record.role)
        } catch {
            throw HostFailure("the grant is malformed")
        }
        if let certified = record.settings, let server = secrets.server,
            K3sPlan.hash(ofSettings: server.settings) != certified
        {
            throw HostFailure(
                "the grant's settings are not those of the genesis record; see "
                    + "\(genesis.file) on the server that made it")
        }
        // K3s compares the hash with the authority before it sends a secret.
        let hash = record.cluster.caHash
        try store(
            secret: secrets.server.map {
                K3sToken(caHash: hash, user: "server", secret: $0.secret).text
            },
            agentSecret: record.role == .agent
                ? K3sToken.agents(caHash: hash, secret: secrets.agent)
                : secrets.agent,
            settings: secrets.server.flatMap { K3sPlan.settings(granted: $0.settings) } ?? [])
    }

    /// Writes the drop-in when it would change. A founder's says `cluster-init` until READY is
    /// certified, everybody else's names a server that answers. From then on an empty data directory
    /// must never found anything again: a bare `k3s server` would; one that is to join a server, and
    /// be it itself, fails. With its data K3s does not ask that server (`shouldBootstrapLoad`).
    func configure(_ record: HostRecord, servers: [IPAddress]) throws(HostFailure) {
        let isServer = record.role == .server
        var dropIn = K3sPlan.DropIn(
            role: record.role, identity: record.identity, interface: k3s.interface,
            tokenFile: isServer ? secretFile : agentSecretFile)
        dropIn.isFounding = record.phase == .founding
        if !dropIn.isFounding {
            let others = servers.filter { $0 != record.address }
            let server =
                others.first { answers($0, port: UInt16(K3sPlan.apiPort)) } ?? others.first
            dropIn.server = K3sPlan.serverURL(server ?? record.address)
        }
        dropIn.names = k3s.apiNames
        if k3s.dataDirectory != K3sSettings.defaultDataDirectory {
            dropIn.dataDirectory = k3s.dataDirectory
        }
        if k3s.configDirectory != K3sSettings.defaultConfigDirectory {
            dropIn.kubeconfig = k3s.kubeconfig
        }
        if isServer {
            dropIn.agentTokenFile = agentSecretFile
            dropIn.settings = try genesis.lines()
        }
        let bytes = Array(dropIn.text.utf8)
        if let known = try? readFile(dropInFile), known == bytes { return }
        try makeDirectories(k3s.dropInDirectory)
        try writeFile(dropInFile, bytes)
    }

    /// A founder, from here on as everybody else.
    func settle(_ record: HostRecord) throws(HostFailure) {
        try configure(record, servers: record.endpoints)
    }

    private func store(secret: String?, agentSecret: String, settings: [String])
        throws(HostFailure)
    {
        if let secret { try writeFile(secretFile, Array((secret + "\n").utf8)) }
        try writeFile(agentSecretFile, Array((agentSecret + "\n").utf8))
        try genesis.store(settings)
    }

    /// 32 bytes of the kernel's randomness.
    private func randomSecret() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in
            let hex = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - hex.count) + hex
        }.joined()
    }

    func settingsHash() throws(HostFailure) -> Bytes32? { try genesis.hash() }

    func checkSettings(_ record: HostRecord) throws(HostFailure) { try genesis.check(record) }

    // MARK: - Process

    func command(_ record: HostRecord) throws(HostFailure) -> [String] {
        var words = [k3s.program, record.role == .server ? "server" : "agent"]
        if k3s.configDirectory != K3sSettings.defaultConfigDirectory {
            words += ["--config", k3s.mainConfiguration]
        }
        return words
    }

    func checkReadiness(_ record: HostRecord) throws(HostFailure) {
        guard record.role == .server else { return }
        try control(.server).checkReadiness()
        guard record.phase == .founding else { return }
        for path in [k3s.serverToken, k3s.agentToken] {
            let line = String(try readText(path).prefix { !$0.isNewline })
            guard K3sToken(line) != nil else { throw HostFailure("\(path) holds no full token") }
        }
    }

    /// The list of Nodes says it all.
    func checkHealth(_ record: HostRecord) throws(HostFailure) {}

    func nodes(_ record: HostRecord) throws(HostFailure) -> [K3sNode] {
        try control(record.role).nodes()
    }

    func isOwn(_ node: K3sNode, _ record: HostRecord) -> Bool { node.name == record.name }

    // MARK: - Others

    func grant(
        _ record: HostRecord, to joiner: HostIdentity, role: DatastoreRole
    ) throws(HostFailure) -> [UInt8]? {
        let shared = try secret(in: agentSecretFile)
        guard role == .server else {
            // Older versions know no other token of agents than the one that all share.
            let own = try control(.server).makeAgentToken(
                for: joiner.name, dataDirectory: k3s.dataDirectory)
            return K3sSecrets(agent: own?.text ?? shared, server: nil).encoded
        }
        let server = K3sSecrets.Server(
            secret: try secret(in: secretFile), settings: try genesis.text())
        return K3sSecrets(agent: shared, server: server).encoded
    }

    /// A secret from a token file; in the full form its last part.
    private func secret(in path: String) throws(HostFailure) -> String {
        let text = String(try readText(path).prefix { !$0.isWhitespace })
        return K3sToken(text)?.secret ?? text
    }

    func remove(_ node: K3sNode, _ record: HostRecord) throws(HostFailure) {
        try control(.server).remove(node.name)
    }

    func takesConnections(_ node: K3sNode) -> Bool {
        node.ipv4.map { answers($0, port: UInt16(K3sPlan.apiPort)) } ?? true
    }

    private func control(_ role: DatastoreRole) -> K3sControl {
        K3sDriver.control(k3s, role, interrupt)
    }

    private static func control(
        _ k3s: K3sSettings, _ role: DatastoreRole, _ interrupt: Int32
    ) -> K3sControl {
        K3sControl(
            program: k3s.program,
            kubeconfig: role == .server ? k3s.kubeconfig : k3s.agentKubeconfig,
            interrupt: interrupt)
    }
}
