import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress
import Testing

/// Real etcd processes, founded and joined by coordinators:
///
///     node1 founder   127.x.y.N      node3 server   127.x.y.N+2
///     node2 server    127.x.y.N+1    node4 agent    127.x.y.N+3
@Suite(.serialized) struct LiveClusterTests {
    /// Founds on node 1 and certifies READY.
    private func found(_ mesh: LiveMesh) -> Bool {
        mesh.setFounding(
            FoundingSummary(
                phase: .starting, generation: 1, startDeadline: bootTime() + .seconds(600)),
            owner: 0)
        guard mesh.run(until: { $0.foundingReady != nil }) else { return false }
        mesh.setFounding(
            FoundingSummary(phase: .ready, generation: 1, caHash: mesh.foundingReady), owner: 0)
        return true
    }

    private func record(of index: Int, in mesh: LiveMesh) -> String {
        run(["/bin/cat", mesh.path(index, "record")]).output
    }

    private func isComplete(_ mesh: LiveMesh, servers: Int, agents: Int) -> Bool {
        mesh.members.indices.allSatisfy { index in
            let view = mesh.view(index)
            return [.ready, .joined].contains(view.phase) && view.members.count == servers
                && view.members.allSatisfy { $0.isVoter && $0.isStarted && $0.node != nil }
                && view.agents.count == agents
        }
    }

    @Test func threeServersAndAnAgentFormOneCluster() throws {
        let mesh = LiveMesh(roles: [.auto, .auto, .auto, .auto], firstHost: 21)
        #expect(found(mesh), "\(mesh.story)")
        #expect(mesh.leftBeforeReady == [])
        #expect(mesh.run { isComplete($0, servers: 3, agents: 1) }, "\(mesh.story)")
        let agent = try #require(mesh.members.indices.first { mesh.view($0).role == .agent })

        // Only servers hold the authority's key; nobody else may read any of it.
        for index in mesh.members.indices {
            let holdsKey = access(mesh.path(index, "ca.key"), F_OK) == 0
            #expect(holdsKey == (index != agent))
            #expect(mode(of: mesh.path(index, "node.key")) == 0o600)
            let chain = run([
                "/usr/bin/openssl", "verify", "-x509_strict", "-CAfile",
                mesh.path(index, "ca.crt"), mesh.path(index, "node.crt"),
            ])
            #expect(chain.status == 0, "\(chain.output)")
        }
        let names = run([
            "/usr/bin/openssl", "x509", "-in", mesh.path(1, "node.crt"), "-noout", "-text",
        ]).output
        #expect(names.contains("IP Address:\(mesh.members[1].address)"))
        #expect(names.contains("IP Address:FD00:0:0:0:0:0:0:2"))
        #expect(names.contains("DNS:node2.mesh.internal"))
        #expect(names.contains("Not Before: Jan  1 00:00:00 1970 GMT"))
        #expect(names.contains("Not After : Dec 31 23:59:59 9999 GMT"))
        #expect(names.contains("TLS Web Server Authentication, TLS Web Client Authentication"))

        // The agent's certificate works at every server; no certificate works nowhere.
        for server in mesh.members.indices where server != agent {
            #expect(mesh.etcdctl(as: agent, at: server, ["put", "k\(server)", "v"]).0 == 0)
        }
        let anonymous = run([
            "/usr/bin/env", "ETCDCTL_API=3", "/usr/bin/etcdctl", "--command-timeout=3s",
            "--endpoints=https://\(mesh.members[0].address):2379",
            "--cacert=" + mesh.path(0, "ca.crt"), "get", "k0",
        ])
        #expect(anonymous.status != 0)

        // The leader's machine freezes; the others stay writable.
        let leader = try #require(
            mesh.members.indices.first { index in
                index != agent
                    && mesh.etcdctl(as: index, at: index, ["endpoint", "status"]).1
                        .split(separator: ",").dropFirst(4).first == " true"
            })
        let frozen = try #require(etcdProcess(in: mesh.members[leader].directory))
        let other = try #require(
            mesh.members.indices.first { $0 != agent && $0 != leader })
        kill(frozen, SIGSTOP)
        defer { kill(frozen, SIGKILL) }
        mesh.setCut(leader, true)
        #expect(
            mesh.run { mesh in
                let put = ["--command-timeout=2s", "put", "after", "loss"]
                return mesh.etcdctl(as: other, at: other, put).0 == 0
            }, "\(mesh.story)")
    }

    @Test func aFounderWhoseDataIsLostNeverFoundsAgain() throws {
        let mesh = LiveMesh(roles: [.auto], serverLimit: 1, firstHost: 51)
        #expect(found(mesh), "\(mesh.story)")
        #expect(mesh.run { isComplete($0, servers: 1, agents: 0) }, "\(mesh.story)")
        mesh.members[0].executor.execute(.stop(reason: "the disk breaks"))
        #expect(mesh.run { etcdProcess(in: $0.members[0].directory) == nil })
        run(["/bin/rm", "-rf", mesh.path(0, "etcd")])
        mesh.crash(0)
        #expect(
            mesh.run { $0.view(0).reason.contains("no ready server is reachable") },
            "\(mesh.story)")
        #expect(mesh.view(0).phase == .joining)
        #expect(etcdProcess(in: mesh.members[0].directory) == nil)
    }

    @Test func aKilledDatastoreProcessIsStartedAgain() throws {
        let mesh = LiveMesh(roles: [.auto], serverLimit: 1, firstHost: 31)
        #expect(found(mesh), "\(mesh.story)")
        #expect(mesh.run { isComplete($0, servers: 1, agents: 0) }, "\(mesh.story)")
        #expect(mesh.etcdctl(as: 0, at: 0, ["put", "kept", "yes"]).0 == 0)
        let first = try #require(etcdProcess(in: mesh.members[0].directory))
        kill(first, SIGKILL)
        #expect(
            mesh.run { mesh in
                let process = etcdProcess(in: mesh.members[0].directory)
                return process != nil && process != first
                    && isComplete(mesh, servers: 1, agents: 0)
            }, "\(mesh.story)")
        // The process is back before the datastore answers again.
        #expect(
            mesh.run { $0.etcdctl(as: 0, at: 0, ["get", "kept"]).1.contains("yes") },
            "\(mesh.story)")
    }

    @Test func aMemberWhoseDataIsLostJoinsAgain() throws {
        let mesh = LiveMesh(roles: [.auto, .auto, .auto], firstHost: 41)
        #expect(found(mesh), "\(mesh.story)")
        #expect(mesh.run { isComplete($0, servers: 3, agents: 0) }, "\(mesh.story)")
        let lost = try #require(
            mesh.view(0).members.first { $0.node == testNode(3) })
        mesh.members[2].executor.execute(.stop(reason: "the disk breaks"))
        mesh.members[2].executor.execute(.setAside(generation: 1))
        #expect(mesh.run { _ in access(mesh.path(2, "record"), F_OK) != 0 })
        mesh.crash(2)
        #expect(mesh.run { isComplete($0, servers: 3, agents: 0) }, "\(mesh.story)")
        #expect(mesh.view(0).members.contains { $0.name == lost.name })
        #expect(mesh.etcdctl(as: 2, at: 2, ["put", "again", "here"]).0 == 0)
        let kept = run(["/bin/ls", "-d", mesh.members[2].directory + ".fenced-g1"])
        #expect(kept.status == 0, "the old data must be renamed, not deleted")
    }

    /// The founder hangs while the second machine joins it, and an operator resets the founding.
    @Test func aResetEndsAJoinThatHangs() throws {
        let mesh = LiveMesh(roles: [.auto, .auto], firstHost: 91)
        #expect(found(mesh), "\(mesh.story)")
        let former = try #require(mesh.foundingReady)
        #expect(
            mesh.run { mesh in
                record(of: 1, in: mesh).contains("phase=joining")
            }, "\(mesh.story)")
        kill(try #require(etcdProcess(in: mesh.members[0].directory)), SIGSTOP)
        mesh.setFounding(
            FoundingSummary(
                phase: .starting, generation: 2, startDeadline: mesh.now.boot + .seconds(60)),
            owner: 1)
        // Alone it would try for two minutes.
        #expect(mesh.run(within: 60) { $0.foundingReady != former }, "\(mesh.story)")
        #expect(record(of: 1, in: mesh).contains("generation=2"))
        // The data is renamed, not deleted; what hangs takes a while to be stopped.
        #expect(
            mesh.run { mesh in
                mesh.members.allSatisfy { access($0.directory + ".fenced-g1", F_OK) == 0 }
            }, "\(mesh.story)")
    }
}
