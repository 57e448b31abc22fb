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

        init(
            phase: String? = nil, caHash: String = String(repeating: "0", count: 64),
            settings: String? = nil
        ) {
            run(["/bin/mkdir", "-p", cluster, server + "/tls", scratch.path + "/etc/config.yaml.d"])
            if let settings { write(cluster + "/settings", settings) }
            let certified = settings.map { "\nsettings=\(K3sPlan.hash(ofSettings: $0))" } ?? ""
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
                endpoints=10.1.0.1\(certified)

                """)
        }

        /// K3s' decision table asks for this directory.
        func addData() { run(["/bin/mkdir", "-p", server + "/db/etcd/member/wal"]) }

        func give(boot: String? = nil, seconds: Int) {
            let id = run(["/bin/cat", "/proc/sys/kernel/random/boot_id"]).output.prefix(36)
            let deadline = Int(bootTime().nanoseconds) + seconds * 1_000_000_000
            write(cluster + "/permit", "\(boot ?? String(id)) \(deadline)\n")
        }

        func mayStart(_ role: DatastoreRole = .server) -> Bool {
            if case .allowed = verdict(role) { true } else { false }
        }

        func verdict(_ role: DatastoreRole = .server) -> UnitGate.Verdict {
            let k3s = K3sSettings(
                dataDirectory: scratch.path + "/k3s", configDirectory: scratch.path + "/etc",
                interface: "")
            return UnitGate.verdict(directory: cluster, k3s: k3s, role: role)
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
        write(machine.cluster + "/record", "nonsense\n")
        #expect(!machine.mayStart())
    }

    @Test func aMemberStartsWithItsDataAndNotWithoutIt() {
        let machine = Machine(phase: "server", caHash: rightHash)
        #expect(!machine.mayStart(), "a start without data founds a new cluster")
        machine.addData()
        #expect(machine.mayStart())
        #expect(!machine.mayStart(.agent))
        write(machine.server + "/db/etcd/tombstone", "")
        #expect(!machine.mayStart(), "it was removed")
    }

    @Test func dataOfAnotherAuthorityDoesNotStart() {
        let machine = Machine(phase: "server", caHash: String(repeating: "0", count: 64))
        machine.addData()
        #expect(!machine.mayStart())
    }

    /// Whoever edits the settings that all servers share would have a server that differs from the
    /// others from its next start on, and nothing would say so.
    @Test func aServerStartsWithTheCertifiedSettingsOnly() {
        let certified = "cluster-cidr: 10.52.0.0/16\n"
        let machine = Machine(phase: "server", caHash: rightHash, settings: certified)
        machine.addData()
        #expect(machine.mayStart())
        // The drop-in overrules the main file, and what comes behind it says the same.
        let main = machine.scratch.path + "/etc/config.yaml"
        let late = machine.scratch.path + "/etc/config.yaml.d/95-late.yaml"
        write(main, "cluster-cidr: 10.99.0.0/16\nnode-label: [a=b]\n")
        write(late, "cluster-cidr: '10.52.0.0/16'\n")
        #expect(machine.mayStart())
        write(late, "cluster-cidr: 10.98.0.0/16\n")
        guard case .refused(let reason) = machine.verdict() else {
            Issue.record("a later file changed what all servers share")
            return
        }
        #expect(reason.contains("`cluster-cidr`") && reason.contains("genesis record"), "\(reason)")
        write(late, "")
        #expect(machine.mayStart())
        // What the founder left at K3s' default stays there.
        write(main, "flannel-backend: host-gw\n")
        #expect(!machine.mayStart())
        write(main, "")
        write(machine.cluster + "/settings", "cluster-cidr: 10.53.0.0/16\n")
        #expect(!machine.mayStart(), "the settings on this machine are not the certified ones")

        // An older release's record says nothing of them.
        let older = Machine(phase: "server", caHash: rightHash)
        older.addData()
        write(older.scratch.path + "/etc/config.yaml", "flannel-backend: host-gw\n")
        #expect(older.mayStart())
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
