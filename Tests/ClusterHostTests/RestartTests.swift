import ClusterHost
import ClusterPlan
import Glibc
import MeshBase
import Testing

/// The daemon ends while a datastore starts again that is not ready yet: its others may be down.
///
/// The datastore is a program that runs and never answers.
@Suite(.serialized) struct RestartTests {
    enum Kind: CaseIterable {
        case etcd, k3s, program
    }

    private final class Machine {
        let scratch = ScratchDirectory()
        let kind: Kind
        private let box = ReportBox()

        init(_ kind: Kind, phase: String) {
            self.kind = kind
            let data = scratch.path + "/k3s/server"
            for path in [data + "/tls", data + "/db/etcd/member/wal", cluster + "/etcd/member/wal"]
            {
                run(["/bin/mkdir", "-p", path])
            }
            run(["/bin/mkdir", "-p", cluster + "/data"])
            write(data + "/tls/server-ca.crt", "authority\n")
            write(cluster + "/settings", "")
            write(
                cluster + "/record",
                """
                version=1
                phase=\(phase)
                generation=1
                authority=\(String(repeating: "0", count: 64))
                node=\(String(repeating: "1", count: 64))
                name=n1-111111
                address=127.0.0.1
                member=1
                endpoints=127.0.0.1,127.0.0.2

                """)
            write(
                program,
                """
                #!/bin/sh
                case "$1" in
                server | --config-file | run)
                    echo $$ >'\(scratch.path)/process'
                    exec sleep 600
                    ;;
                state) echo data ;;
                *) exit 1 ;;
                esac

                """)
            run(["/bin/chmod", "755", program])
        }

        private var cluster: String { scratch.path + "/cluster" }
        private var program: String { scratch.path + "/datastore" }

        /// A life of the daemon.
        func daemon() -> ClusterExecutor {
            var settings = settings(cluster, key: 81)
            switch kind {
            case .etcd:
                settings.etcdProgram = program
                settings.etcdctlProgram = program
            case .k3s:
                settings.driven = .k3s(
                    K3sSettings(
                        program: program, dataDirectory: scratch.path + "/k3s",
                        configDirectory: scratch.path + "/etc", interface: "edgevpn0"))
            case .program: settings.driven = .program(path: program, interface: "edgevpn0")
            }
            return ClusterExecutor(settings: settings) { [box] in box.put($0) }
        }

        /// The datastore's process, once it runs.
        func process() -> pid_t? {
            var found: pid_t?
            _ = eventually(within: 30) {
                let text = run(["/bin/cat", scratch.path + "/process"]).output
                found = pid_t(text.prefix { $0.isNumber })
                return found != nil
            }
            return found
        }

        /// What the last command came to.
        func answer() -> HostReport? { box.next() }
    }

    @Test(arguments: Kind.allCases) func aMemberOutlivesADaemonThatEndsAtAnyTime(_ kind: Kind)
        throws
    {
        let machine = Machine(kind, phase: "server")
        let first = machine.daemon()
        first.execute(.restartExisting())
        let process = try #require(machine.process(), "\(String(describing: machine.answer()))")
        first.shutDown()
        #expect(isAlive(process), "the daemon's end took a member with it")

        // The next life is told to stop it before it has taken it over.
        let second = machine.daemon()
        second.execute(.stop(reason: "fenced"))
        second.shutDown()
        #expect(eventually(within: 20) { !isAlive(process) }, "it runs on, fenced or not")
        kill(process, SIGKILL)
    }

    @Test(arguments: Kind.allCases) func aJoinerEndsWithItsDaemon(_ kind: Kind) throws {
        let machine = Machine(kind, phase: "joining")
        let daemon = machine.daemon()
        daemon.execute(.restartExisting())
        let process = try #require(machine.process(), "\(String(describing: machine.answer()))")
        daemon.shutDown()
        #expect(eventually(within: 20) { !isAlive(process) }, "nobody has seen it join yet")
        kill(process, SIGKILL)
    }
}
