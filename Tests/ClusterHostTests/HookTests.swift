import ClusterHost
import ClusterPlan
import Cryptography
import Foundation
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

    /// Who joins has them too, whatever the datastore.
    @Test(arguments: [false, true]) func theyRunAroundTheFirstStartOfAJoiner(isDriven: Bool) throws
    {
        let program = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "DatastoreStandIns/plain-etcd").path
        let driven: DrivenDatastore? =
            isDriven ? .program(path: program, interface: "lo") : nil
        let server = HookedMachine(isDriven ? 72 : 74, driven)
        let joiner = HookedMachine(isDriven ? 73 : 75, driven)
        server.hook("after.server", "echo after >>\(server.log)")
        let report = server.ask(
            .found(server.identity, generation: 1, deadline: bootTime() + .seconds(600)))
        guard case .founded(let cluster, _) = report else {
            Issue.record("not founded: \(String(describing: report))")
            return
        }
        server.executor.execute(.release(cluster))
        #expect(eventually { server.calls == "after\n" })

        let nonce = [UInt8](repeating: 3, count: 16)
        guard case .requestMade(let request) = joiner.ask(.makeRequest(joiner.identity)) else {
            Issue.record("no request")
            return
        }
        let admission = Admission(
            nonce: nonce, joiner: joiner.identity, joinerKey: joiner.key.publicKey,
            request: request, wish: .agent, serverLimit: 3, replaces: 0, cluster: cluster)
        guard case .admitted(_, _, .agent, let sealed) = server.ask(.admit(admission)) else {
            Issue.record("no grant")
            return
        }
        let delivery = GrantDelivery(
            sealed: sealed, nonce: nonce, identity: joiner.identity, cluster: cluster)
        joiner.hook("before.agent", "echo not yet >&2; exit 1")
        joiner.hook("after.agent", "echo after >>\(joiner.log)")
        guard case .startFailed(.transient, let reason) = joiner.ask(.startAgent(delivery)) else {
            Issue.record("it did not wait for its hook")
            return
        }
        #expect(reason.contains("bootstrap.before.agent: not yet"), "\(reason)")
        #expect(joiner.ask(.inspect) == .inspected(.none))

        joiner.hook("before.agent", "echo before >>\(joiner.log)")
        #expect(joiner.ask(.startAgent(delivery)) == .running(cluster, .agent))
        #expect(eventually { joiner.calls == "before\nafter\n" })
    }
}

/// One machine with an executor and the operator's programs.
private final class HookedMachine {
    let scratch = ScratchDirectory()
    let box = ReportBox()
    let executor: ClusterExecutor
    let identity: HostIdentity
    let key: StaticPrivateKey
    var log: String { scratch.path + "/calls" }
    var calls: String { run(["/bin/cat", log]).output }

    init(_ number: UInt64, _ driven: DrivenDatastore?) {
        key = testKey(number)
        identity = HostIdentity(
            name: "hooked-0000\(number)", node: testNode(number), ipv4: testAddress(Int(number)),
            ipv6: .v6(0xFD00 << 48, number), dnsName: "hooked\(number).mesh.internal")
        var settings = settings(scratch.path + "/cluster", key: number)
        settings.hookDirectory = scratch.path + "/hooks"
        settings.driven = driven
        let box = box
        executor = ClusterExecutor(settings: settings) { box.put($0) }
        run(["/bin/mkdir", "-p", settings.hookDirectory])
    }

    deinit {
        executor.execute(.stop(reason: "the test ends"))
        executor.shutDown()
    }

    func hook(_ name: String, _ script: String) {
        let path = scratch.path + "/hooks/bootstrap." + name
        guard let file = fopen(path, "w") else { return }
        fputs("#!/bin/sh\n\(script)\n", file)
        fclose(file)
        run(["/bin/chmod", "755", path])
    }

    func ask(_ command: HostCommand) -> HostReport? {
        executor.execute(command)
        return box.next()
    }
}
