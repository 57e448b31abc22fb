import ClusterHost
import ClusterPlan
import Glibc
import MeshBase
import Testing

/// The operator's programs around a founding, with a real etcd.
@Suite(.serialized) struct HookTests {
    private let scratch = ScratchDirectory()
    private let identity = HostIdentity(
        name: "hooked-000000", node: testNode(71), ipv4: testAddress(71),
        ipv6: .v6(0xFD00 << 48, 71), dnsName: "hooked.mesh.internal")

    private func hook(_ stage: String, _ script: String) {
        let path = scratch.path + "/hooks/bootstrap.\(stage).server"
        run(["/bin/mkdir", "-p", scratch.path + "/hooks"])
        guard let file = fopen(path, "w") else { return }
        fputs("#!/bin/sh\n\(script)\n", file)
        fclose(file)
        run(["/bin/chmod", "755", path])
    }

    private var calls: String { run(["/bin/cat", scratch.path + "/calls"]).output }

    @Test func theyRunBeforeAndAfterAndAFailureDelaysTheStart() throws {
        let box = ReportBox()
        var settings = settings(scratch.path + "/cluster", key: 71)
        settings.hookDirectory = scratch.path + "/hooks"
        let executor = ClusterExecutor(settings: settings) { box.put($0) }
        defer {
            executor.execute(.stop(reason: "the test ends"))
            executor.shutDown()
        }
        let order = HostCommand.found(
            identity, generation: 1, deadline: bootTime() + .seconds(600))

        hook("before", "echo not yet >&2; exit 1")
        executor.execute(order)
        guard case .foundingFailed(_, let reason) = box.next() else {
            Issue.record("it did not wait for its hook")
            return
        }
        #expect(reason.contains("bootstrap.before.server: not yet"), "\(reason)")
        #expect(etcdProcess(in: settings.directory) == nil)

        let log = scratch.path + "/calls"
        hook("before", "echo before $# $(env | grep -c TOKEN) >>\(log)")
        hook("after", "echo after >>\(log); echo cannot label >&2; exit 7")
        executor.execute(order)
        guard case .founded(let cluster, _) = box.next() else {
            Issue.record("not founded")
            return
        }
        #expect(calls == "before 0 0\n")
        executor.execute(.release(cluster))
        #expect(eventually { calls == "before 0 0\nafter\n" })
        let problem = scratch.path + "/cluster/hook-problem"
        #expect(eventually { run(["/bin/cat", problem]).output.contains("cannot label") })
    }
}
