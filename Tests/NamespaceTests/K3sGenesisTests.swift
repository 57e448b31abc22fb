import Foundation
import Testing

/// The settings that all servers share are the founder's, which were certified with READY: neither
/// a server that grants nor a file that somebody edits can change them.
///
///     n1    n2    n3      172.31.78.1 ... .3 on eth0
///      \\    |     /
///       +-switch-+
@Suite(.serialized) struct K3sGenesisTests {
    private static let founders = "cluster-cidr: 10.77.0.0/16\ndisable: [servicelb, traefik]\n"

    @Test func serversHaveTheSettingsOfTheGenesisRecord() async throws {
        try await withClusterLab(
            count: 3, policy: ["--nodes", "3", "--disk-losses", "0"], kind: .k3s
        ) { cluster in
            let pair = Array(cluster.nodes[..<2])
            for node in pair { try node.configure("config.yaml", Self.founders) }
            try await cluster.start(pair)
            let settled = try await cluster.settle(
                pair, servers: 2, agents: 0, within: .seconds(240))
            let founder = try #require(
                pair.first { $0.log.contains("this node founds the cluster") })
            let joiner = cluster.nodes[2]
            #expect(Set(settled.map(\.cluster.founder)).count == 1)

            // Nobody writes its record any more by itself.
            for node in pair {
                try await eventually("\(node.name) wrote down both servers", within: .seconds(60)) {
                    node.knownServers == 2
                }
            }
            // Whoever may grant was tampered with, and its record says nothing of settings, as an
            // older release's: what it grants is not what was certified.
            for node in pair { try node.tamper() }
            // The joiner's own main file says a third thing, which the drop-in overrules.
            try joiner.configure("config.yaml", "cluster-cidr: 10.99.0.0/16\n")
            try joiner.start()
            try await joiner.explains("the grant's settings are not those of the genesis record")
            #expect(joiner.datastore() == nil)

            // One that knows what was certified grants nothing else.
            for node in pair { try node.rememberGenesis(settings: "cluster-cidr: 10.88.0.0/16\n") }
            try await joiner.explains("not a ready server")
            #expect(joiner.datastore() == nil)

            // A file behind the drop-in changes what the joiner would read: it says which key.
            for node in pair { try node.rememberGenesis(settings: nil) }
            try joiner.configure("config.yaml.d/95-late.yaml", "cluster-cidr: 10.99.0.0/16\n")
            try await joiner.explains("`cluster-cidr`")
            #expect(joiner.datastore() == nil)
            try joiner.configure("config.yaml.d/95-late.yaml", "")
            try await cluster.settle(cluster.nodes, servers: 3, agents: 0, within: .seconds(240))
            for node in cluster.nodes {
                try await eventually("\(node.name) has the founder's", within: .seconds(30)) {
                    node.text(of: node.dropIn).hasSuffix(Self.founders)
                }
            }

            // Years later somebody edits the founder's file: it starts no more until that is undone.
            founder.killEverything()
            try await founder.daemon?.end(within: .seconds(5))
            try founder.configure("config.yaml", Self.founders + "flannel-backend: host-gw\n")
            let gate = try await founder.mayStart()
            #expect(gate.status == 3 && gate.output.contains("`flannel-backend`"), "\(gate.output)")
            try founder.start()
            try await founder.explains("`flannel-backend`")
            #expect(founder.datastore() == nil)
            try founder.configure("config.yaml", Self.founders)
            try await cluster.settle(cluster.nodes, servers: 3, agents: 0, within: .seconds(120))
        }
    }
}

extension ClusterNode {
    /// Writes one of the operator's files.
    fileprivate func configure(_ name: String, _ text: String) throws {
        try FileManager.default.createDirectory(
            atPath: "\(k3sConfiguration)/config.yaml.d", withIntermediateDirectories: true)
        try text.write(
            toFile: "\(k3sConfiguration)/\(name)", atomically: true, encoding: .utf8)
    }

    fileprivate func explains(_ words: String) async throws {
        do {
            try await eventually("\(name) says: \(words)", within: .seconds(120)) {
                try await self.status()?.cluster.reason?.contains(words) ?? false
            }
        } catch {
            let reason = try await status()?.cluster.reason ?? "nothing"
            throw LabFailure("\(error), but: \(reason)\n\(lastWords)")
        }
    }

    private var record: String { "\(files)/record" }
    private var settings: String { "\(files)/settings" }

    fileprivate var knownServers: Int {
        let line = text(of: record).split(separator: "\n").first { $0.hasPrefix("endpoints=") }
        return line?.split(separator: ",").count ?? 0
    }

    /// Keeps record and settings aside and makes others.
    fileprivate func tamper() throws {
        for file in [record, settings] {
            try FileManager.default.copyItem(atPath: file, toPath: "\(file).kept")
        }
        let lines = text(of: record).split(separator: "\n")
        #expect(lines.contains { $0.hasPrefix("settings=") }, "\(lines)")
        try lines.filter { !$0.hasPrefix("settings=") }.map { $0 + "\n" }.joined()
            .write(toFile: record, atomically: true, encoding: .utf8)
        try "cluster-cidr: 10.88.0.0/16\n".write(
            toFile: settings, atomically: true, encoding: .utf8)
    }

    /// Puts the record back, and the settings unless there are others.
    fileprivate func rememberGenesis(settings others: String?) throws {
        try text(of: "\(record).kept").write(toFile: record, atomically: true, encoding: .utf8)
        try (others ?? text(of: "\(settings).kept"))
            .write(toFile: settings, atomically: true, encoding: .utf8)
    }
}
