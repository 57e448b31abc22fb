import ClusterHost
import ClusterPlan
import Glibc
import MeshBase
import Testing

/// What a unit may do, told from the files that machines of all kinds have.
@Suite struct UnitGateTests {
    private final class Machine {
        let scratch = ScratchDirectory()
        var cluster: String { scratch.path + "/cluster" }
        var server: String { scratch.path + "/k3s/server" }

        init(phase: String? = nil, caHash: String = String(repeating: "0", count: 64)) {
            run(["/bin/mkdir", "-p", cluster, server + "/tls"])
            write(server + "/tls/server-ca.crt", "authority\n")
            guard let phase else { return }
            write(
                cluster + "/record",
                """
                version=1
                phase=\(phase)
                generation=1
                authority=\(caHash)
                node=\(String(repeating: "1", count: 64))
                name=n1-111111
                address=10.1.0.1
                member=0
                endpoints=10.1.0.1

                """)
        }

        func write(_ path: String, _ text: String) {
            guard let file = fopen(path, "w") else { return }
            fputs(text, file)
            fclose(file)
        }

        /// K3s' decision table asks for this directory.
        func addData() { run(["/bin/mkdir", "-p", server + "/db/etcd/member/wal"]) }

        func give(boot: String? = nil, seconds: Int) {
            let id = run(["/bin/cat", "/proc/sys/kernel/random/boot_id"]).output.prefix(36)
            let deadline = Int(bootTime().nanoseconds) + seconds * 1_000_000_000
            write(cluster + "/permit", "\(boot ?? String(id)) \(deadline)\n")
        }

        func mayStart(_ role: DatastoreRole = .server) -> Bool {
            let k3s = K3sSettings(dataDirectory: scratch.path + "/k3s", interface: "")
            if case .allowed = UnitGate.verdict(directory: cluster, k3s: k3s, role: role) {
                return true
            }
            return false
        }
    }

    private let rightHash: String = {
        let scratch = ScratchDirectory()
        run(["/bin/sh", "-c", "echo authority >\(scratch.path)/a"])
        return String(run(["/usr/bin/sha256sum", scratch.path + "/a"]).output.prefix(64))
    }()

    @Test func aMachineOfWhichNothingIsKnownStartsNothing() {
        let machine = Machine()
        #expect(!machine.mayStart())
        #expect(!machine.mayStart(.agent))
        // A cluster that somebody founded by hand.
        machine.addData()
        #expect(!machine.mayStart())
        machine.write(machine.cluster + "/record", "nonsense\n")
        #expect(!machine.mayStart())
    }

    @Test func aMemberStartsWithItsDataAndNotWithoutIt() {
        let machine = Machine(phase: "server", caHash: rightHash)
        #expect(!machine.mayStart(), "a start without data founds a new cluster")
        machine.addData()
        #expect(machine.mayStart())
        #expect(!machine.mayStart(.agent))
        machine.write(machine.server + "/db/etcd/tombstone", "")
        #expect(!machine.mayStart(), "it was removed")
    }

    @Test func dataOfAnotherAuthorityDoesNotStart() {
        let machine = Machine(phase: "server", caHash: String(repeating: "0", count: 64))
        machine.addData()
        #expect(!machine.mayStart())
    }

    @Test func aFounderStartsWhileItsClaimHolds() {
        let machine = Machine(phase: "founding")
        machine.addData()
        #expect(!machine.mayStart())
        machine.give(seconds: 300)
        #expect(machine.mayStart())
        machine.give(seconds: -1)
        #expect(!machine.mayStart(), "the deadline has passed")
        machine.give(boot: "another-boot", seconds: 300)
        #expect(!machine.mayStart(), "instants of another boot mean nothing")
    }

    @Test func aJoinerStartsOnceItIsTold() {
        let machine = Machine(phase: "joining", caHash: rightHash)
        #expect(!machine.mayStart())
        machine.give(seconds: 150)
        #expect(machine.mayStart())
        let agent = Machine(phase: "agent", caHash: rightHash)
        #expect(agent.mayStart(.agent))
        #expect(!agent.mayStart())
    }
}
