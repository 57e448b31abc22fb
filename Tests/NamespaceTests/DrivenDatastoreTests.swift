import Foundation
import Testing

/// One of the programs in Tests/DatastoreStandIns.
func datastoreStandIn(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "DatastoreStandIns/\(name)").path
}

/// Datastores behind a driver: k0s, by a stand-in, and the example of an operator's program. Both over
/// real etcd.
///
///     n1    n2    n3    n4      172.31.78.1 ... .4 on eth0
///      \     \    |    /
///       +-----+-switch
@Suite(.serialized) struct DrivenDatastoreTests {
    @Test(arguments: [
        (ClusterLab.Kind.program, "state/cluster/data", "state/cluster/data/etcd/member/wal"),
        (.k0s, "k0s", "k0s/etcd/member/wal"),
    ])
    func threeServersAndAnAgent(
        _ kind: ClusterLab.Kind, _ data: String, _ wal: String
    ) async throws {
        try await withClusterLab(
            count: 4, policy: ["--nodes", "4", "--servers", "3"], kind: kind
        ) { cluster in
            let nodes = cluster.nodes
            try await cluster.start(nodes.shuffled())
            let before = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(240))
            #expect(Set(before.map(\.cluster.founder)).count == 1)
            #expect(nodes.count { $0.log.contains("this node founds the cluster") } == 1)
            let servers = nodes.indices.filter { before[$0].cluster.role == "server" }
            #expect(servers.count == 3)
            for index in servers {
                #expect(FileManager.default.fileExists(atPath: "\(nodes[index].directory)/\(wal)"))
            }
            // What admitted a machine is gone from its disk.
            for node in nodes {
                let names = try FileManager.default.contentsOfDirectory(atPath: node.files)
                #expect(!names.contains("token") && !names.contains("data.grant"), "\(names)")
            }

            // The whole site loses its power.
            for node in nodes { node.killEverything() }
            for node in nodes { try await node.daemon?.end(within: .seconds(5)) }
            for node in nodes.shuffled() { try node.start() }
            let after = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(150))
            #expect(after.map(\.node.ipv4) == before.map(\.node.ipv4))
            #expect(after.map(\.cluster.role) == before.map(\.cluster.role))

            // The founder loses the datastore's data: it joins and founds nothing.
            let founder = try #require(
                nodes.indices.first { before[$0].node.id == before[0].cluster.founder })
            nodes[founder].killEverything()
            try await nodes[founder].daemon?.end(within: .seconds(5))
            try FileManager.default.removeItem(atPath: "\(nodes[founder].directory)/\(data)")
            try nodes[founder].start()
            try await eventually("it holds data again", within: .seconds(200)) {
                FileManager.default.fileExists(atPath: "\(nodes[founder].directory)/\(wal)")
            }
            let last = try await cluster.settle(
                nodes, servers: 3, agents: 1, within: .seconds(150))
            #expect(last.map(\.cluster.founder) == before.map(\.cluster.founder))
            #expect(last.map(\.cluster.role) == before.map(\.cluster.role))
            #expect(nodes.count { $0.log.contains("this node founds the cluster") } == 1)
        }
    }
}
