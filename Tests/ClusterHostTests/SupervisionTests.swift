import ClusterHost
import ClusterPlan
import Glibc
import MeshBase
import NetAddress
import Testing

/// Who dies with whom. Every process here is real: a small daemon (the probe), its supervisor and
/// etcd.
@Suite(.serialized) struct SupervisionTests {
    /// A running probe; killed at the end whatever happens.
    final class Daemon {
        let process: pid_t
        private let output: Int32

        init(_ arguments: [String]) {
            var ends: [Int32] = [-1, -1]
            precondition(pipe(&ends) == 0)
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
            posix_spawn_file_actions_addclose(&actions, ends[0])
            posix_spawn_file_actions_addclose(&actions, ends[1])
            var argv = ([probeProgram] + arguments).map { strdup($0) }
            argv.append(nil)
            var id: pid_t = 0
            let status = posix_spawn(&id, probeProgram, &actions, nil, argv, environ)
            precondition(status == 0, "the probe cannot be started")
            posix_spawn_file_actions_destroy(&actions)
            for argument in argv { free(argument) }
            close(ends[1])
            process = id
            output = ends[0]
        }

        deinit {
            kill()
            close(output)
        }

        /// The next line that the probe prints.
        func line() -> String {
            var text = [UInt8]()
            var byte: UInt8 = 0
            while read(output, &byte, 1) == 1, byte != 10 { text.append(byte) }
            return String(decoding: text, as: UTF8.self)
        }

        private var isReaped = false

        func kill() {
            guard !isReaped else { return }
            isReaped = true
            Glibc.kill(process, SIGKILL)
            var status: Int32 = 0
            waitpid(process, &status, 0)
        }
    }

    private let scratch = ScratchDirectory()
    private var directory: String { scratch.path + "/cluster" }

    private func start(_ host: Int, seconds: Int, _ mode: String) -> Daemon {
        Daemon(["daemon", directory, "\(testAddress(host))", "\(seconds)", mode])
    }

    @Test func beforeReadyTheDatastoreDiesWithTheDaemon() throws {
        let daemon = start(11, seconds: 600, "hold")
        #expect(daemon.line() == "founded")
        let etcd = try #require(etcdProcess(in: directory))
        #expect(isAlive(etcd))
        daemon.kill()
        #expect(eventually(within: 20) { !isAlive(etcd) }, "etcd outlived the daemon before READY")
    }

    @Test func afterReadyTheDatastoreSurvivesAndIsAdopted() throws {
        let daemon = start(12, seconds: 600, "release")
        #expect(daemon.line() == "released")
        let etcd = try #require(etcdProcess(in: directory))
        daemon.kill()
        usleep(500_000)
        #expect(isAlive(etcd), "etcd died with the daemon after READY")

        let box = ReportBox()
        let executor = ClusterExecutor(settings: settings(directory, key: 1)) { box.put($0) }
        executor.execute(.inspect)
        guard case .inspected(.server(let cluster)) = box.next() else {
            Issue.record("the record does not say server")
            return
        }
        executor.execute(.restartExisting())
        #expect(box.next() == .running(cluster, .server))
        #expect(etcdProcess(in: directory) == etcd, "the running etcd was not adopted")

        // Its end is noticed although it is no child of this process.
        kill(etcd, SIGKILL)
        guard case .exited = box.next() else {
            Issue.record("the end of an adopted etcd went unnoticed")
            return
        }
        executor.execute(.restartExisting())
        #expect(box.next() == .running(cluster, .server))
        let again = try #require(etcdProcess(in: directory))
        #expect(again != etcd)
        executor.execute(.stop(reason: "the test ends"))
        executor.shutDown()
        #expect(!isAlive(again))
    }

    @Test func theDeadlineEndsADatastoreThatIsNotReady() throws {
        let daemon = start(13, seconds: 6, "hold")
        #expect(daemon.line() == "founded")
        let etcd = try #require(etcdProcess(in: directory))
        #expect(eventually(within: 30) { !isAlive(etcd) }, "etcd outlived its deadline")
        #expect(isAlive(daemon.process))
    }

    @Test func aDeadSupervisorTakesTheDatastoreAlong() throws {
        let daemon = start(14, seconds: 600, "hold")
        #expect(daemon.line() == "founded")
        let etcd = try #require(etcdProcess(in: directory))
        let parent = run(["/bin/ps", "-o", "ppid=", "-p", "\(etcd)"]).output
        let supervisor = try #require(pid_t(parent.filter { $0.isNumber }))
        #expect(supervisor != daemon.process)
        kill(supervisor, SIGKILL)
        #expect(eventually(within: 20) { !isAlive(etcd) })
        #expect(daemon.line().hasPrefix("unexpected exited"))
    }

    @Test func childrenInheritNeitherEnvironmentNorSecrets() throws {
        setenv("EDGEVPNTOKEN", "evpn1-secret", 1)
        defer { unsetenv("EDGEVPNTOKEN") }
        let daemon = start(15, seconds: 600, "hold")
        #expect(daemon.line() == "founded")
        let etcd = try #require(etcdProcess(in: directory))
        let environment = run(["/bin/sh", "-c", "tr \\\\0 \\\\n < /proc/\(etcd)/environ"]).output
        #expect(environment.contains("PATH="))
        #expect(!environment.contains("EDGEVPNTOKEN"))
        for name in ["ca.key", "node.key", "etcd.yaml", "record", "etcd.log"] {
            #expect(mode(of: directory + "/" + name) == 0o600, "\(name)")
        }
        #expect(mode(of: directory) == 0o700)
    }
}
