import Foundation
import Testing

/// Three servers and two agents of K3s, by the stand-in over real etcd.
///
///     n1    n2    n3    n4    n5      172.31.78.1 ... .5 on eth0
///      \     \    |    /     /
///       +-----+-switch-+----+
@Suite(.serialized) struct K3sTests {
    @Test func fiveMachinesFoundOneK3sCluster() async throws {
        try await withClusterLab(
            count: 5, policy: ["--nodes", "5", "--servers", "3"], kind: .k3s
        ) { cluster in
            let story = try await K3sStory(founding: cluster)
            try story.onlyDropInsWereWritten()
            try await story.kubernetesKnowsEveryMachine()
        }
    }
}

/// The life of one K3s cluster, chapter by chapter.
struct K3sStory {
    let cluster: ClusterLab
    private var nodes: [ClusterNode] { cluster.nodes }
    private var statuses: [ClusterStatus]

    /// Chapter one: started in any order, they found one cluster.
    init(founding cluster: ClusterLab) async throws {
        self.cluster = cluster
        let begin = ContinuousClock.now
        try await cluster.start(cluster.nodes.shuffled())
        statuses = try await cluster.settle(
            cluster.nodes, servers: 3, agents: 2, within: .seconds(240))
        measured("five machines, three servers of K3s, two agents", since: begin)
        #expect(Set(statuses.map(\.cluster.founder)).count == 1)
        let founders = nodes.filter { $0.log.contains("this node founds the cluster") }
        #expect(founders.count == 1, "\(founders.map(\.name))")
    }

    private func index(_ node: ClusterNode) -> Int {
        nodes.firstIndex { $0 === node } ?? 0
    }

    private func role(_ node: ClusterNode) -> String? { statuses[index(node)].cluster.role }

    var servers: [ClusterNode] { nodes.filter { role($0) == "server" } }
    var agents: [ClusterNode] { nodes.filter { role($0) == "agent" } }

    private func address(_ node: ClusterNode) -> String { statuses[index(node)].node.ipv4 ?? "" }

    /// No unit and no file of the operator is touched, and `cluster-init` is gone.
    func onlyDropInsWereWritten() throws {
        for node in nodes {
            let text = node.text(of: node.dropIn)
            let attributes = try FileManager.default.attributesOfItem(atPath: node.dropIn)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
            #expect(!text.contains("cluster-init"), "\(node.name):\n\(text)")
            #expect(text.contains("node-ip: '\(address(node))'"))
            #expect(text.contains("flannel-iface: 'edgevpn0'"))
            #expect(text.contains("advertise-address") == (role(node) == "server"))
            let target = nodes.first { text.contains("server: 'https://\(address($0)):6443'") }
            #expect(target.map { $0 !== node && role($0) == "server" } ?? false, "\(text)")
        }
    }

    func kubernetesKnowsEveryMachine() async throws {
        for server in servers {
            try await eventually("\(server.name) sees five ready Nodes", within: .seconds(60)) {
                let seen = try await server.kubernetesNodes()
                return seen.count == 5 && seen.values.allSatisfy { $0 }
            }
        }
    }
}
