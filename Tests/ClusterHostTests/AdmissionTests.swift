import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress
import Testing

/// Two servers of one cluster are asked at the same time, each by another machine.
///
/// The cluster is a program that keeps Nodes, and the one reservation, in files.
@Suite struct AdmissionTests {
    private final class Server {
        let scratch: ScratchDirectory
        private let box = ReportBox()
        private let executor: ClusterExecutor
        let cluster: ClusterIdentity

        init(_ number: UInt64, of scratch: ScratchDirectory) {
            self.scratch = scratch
            let own = scratch.path + "/server\(number)"
            cluster = ClusterIdentity(
                generation: 1, caHash: sha256(Array("authority\n".utf8)))
            run(["/bin/mkdir", "-p", own + "/cluster", own + "/k0s/pki"])
            write(own + "/k0s/pki/ca.crt", "authority\n")
            write(
                own + "/cluster/record",
                """
                version=1
                phase=server
                generation=1
                authority=\(cluster.caHash)
                node=\(String(repeating: "\(number)", count: 64))
                name=n\(number)-111111
                address=10.0.0.\(number)
                member=1
                endpoints=10.0.0.1

                """)
            var k0s = K0sSettings()
            k0s.program = scratch.path + "/k0s"
            k0s.dataDirectory = own + "/k0s"
            var settings = settings(own + "/cluster", key: number)
            settings.driven = .k0s(k0s)
            executor = ClusterExecutor(settings: settings) { [box] in box.put($0) }
        }

        deinit { executor.shutDown() }

        func admit(_ number: UInt64) -> HostReport? {
            let joiner = HostIdentity(
                name: "n\(number)-111111", node: testNode(number),
                ipv4: .v4(10 << 24 | UInt32(number)), ipv6: .v6(0xFD00 << 48, number),
                dnsName: "n\(number).mesh.internal")
            executor.execute(
                .admit(
                    Admission(
                        nonce: Array(repeating: 7, count: 16), joiner: joiner,
                        joinerKey: testKey(number).publicKey, request: Array("k0s/1".utf8),
                        wish: .auto, serverLimit: 3, replaces: 0, cluster: cluster)))
            return box.next()
        }
    }

    /// The machines 1 to `count`, all servers.
    private static func list(_ count: Int, in scratch: ScratchDirectory) {
        let numbers = 1...count
        write(
            scratch.path + "/nodes",
            numbers.map { "n\($0)-111111 0000000\($0)-0 10.0.0.\($0) true <none> True\n" }
                .joined())
        let members = numbers.map { "\"n\($0)\":\"https://10.0.0.\($0):2380\"" }
        write(
            scratch.path + "/members", "{\"members\":{\(members.joined(separator: ","))}}\n")
    }

    @Test func thePlacesForServersAreGivenOnce() throws {
        let scratch = ScratchDirectory()
        write(
            scratch.path + "/k0s",
            """
            #!/bin/sh
            cd '\(scratch.path)'
            case "$*" in
            *" get nodes "*) cat nodes ;;
            *" get configmap "*) if [ -e place/node ]; then echo "1-1 $(cat place/node)"; fi ;;
            *" create configmap "*)
                mkdir place 2>/dev/null || { echo "already exists" >&2; exit 1; }
                for word in "$@"; do last=$word; done
                echo "${last#*node=}" >place/node
                ;;
            *" delete configmap "*) rm -rf place ;;
            "etcd member-list "*) cat members ;;
            "token create "*) echo secret ;;
            *) echo "what is $*?" >&2; exit 64 ;;
            esac

            """)
        run(["/bin/chmod", "755", scratch.path + "/k0s"])
        AdmissionTests.list(2, in: scratch)
        let servers = [Server(1, of: scratch), Server(2, of: scratch)]

        let first = servers[0].admit(3)
        guard case .admitted(testNode(3), _, .server, _) = first else {
            Issue.record("the first has the last place: \(String(describing: first))")
            return
        }
        // The first has not arrived yet; only the reservation tells of it.
        for server in servers {
            let second = server.admit(4)
            guard case .postponed(testNode(4), _, .anotherJoining) = second else {
                Issue.record("there may be a place or not: \(String(describing: second))")
                return
            }
        }
        guard case .admitted(testNode(3), _, .server, _) = servers[1].admit(3) else {
            Issue.record("the place is the first one's, whomever it asks")
            return
        }
        AdmissionTests.list(3, in: scratch)
        let last = servers[1].admit(4)
        guard case .admitted(testNode(4), _, .agent, _) = last else {
            Issue.record("all places are taken: \(String(describing: last))")
            return
        }
    }
}
