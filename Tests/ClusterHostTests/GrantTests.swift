import ClusterHost
import ClusterPlan
import Cryptography
import Glibc
import MeshBase
import NetAddress
import Testing

/// What the admitting server signs and what the joiner accepts, with a real etcd behind the desk.
@Suite(.serialized) struct GrantTests {
    /// One executor and its reports.
    final class Host {
        let scratch = ScratchDirectory()
        let box = ReportBox()
        let executor: ClusterExecutor
        let identity: HostIdentity
        let key: StaticPrivateKey
        var directory: String { scratch.path + "/cluster" }

        init(_ number: UInt64, host: Int) {
            key = testKey(number)
            identity = HostIdentity(
                name: "host\(number)-000000", node: testNode(number), ipv4: testAddress(host),
                ipv6: .v6(0xFD00 << 48, number), dnsName: "host\(number).mesh.internal")
            let box = box
            executor = ClusterExecutor(settings: settings(scratch.path + "/cluster", key: number)) {
                box.put($0)
            }
        }

        deinit {
            executor.execute(.stop(reason: "the test ends"))
            executor.shutDown()
        }

        func ask(_ command: HostCommand) -> HostReport? {
            executor.execute(command)
            return box.next()
        }
    }

    private let server = Host(1, host: 61)
    private let joiner = Host(2, host: 62)
    private let nonce = Array(UInt8(1)...16)

    /// Founds and releases on `server`.
    private func found() throws -> ClusterIdentity {
        let report = server.ask(
            .found(server.identity, generation: 1, deadline: bootTime() + .seconds(600)))
        guard case .founded(let cluster, _) = report else {
            throw Problem(text: "not founded: \(String(describing: report))")
        }
        server.executor.execute(.release(cluster))
        return cluster
    }

    struct Problem: Error { var text: String }

    private func admission(
        _ request: [UInt8], _ cluster: ClusterIdentity, wish: RoleWish = .agent
    ) -> Admission {
        Admission(
            nonce: nonce, joiner: joiner.identity, joinerKey: joiner.key.publicKey,
            request: request, wish: wish, serverLimit: 3, replaces: 0, cluster: cluster)
    }

    @Test func aGrantServesOneMachineOneRequestAndOneCluster() throws {
        let cluster = try found()
        guard case .requestMade(let request) = joiner.ask(.makeRequest(joiner.identity)),
            case .admitted(_, _, .agent, let sealed) = server.ask(
                .admit(admission(request, cluster)))
        else { throw Problem(text: "no grant") }
        #expect(request.count <= JoinMessage.requestLimit)

        let right = GrantDelivery(
            sealed: sealed, nonce: nonce, identity: joiner.identity, cluster: cluster)
        var wrongs: [(String, GrantDelivery)] = []
        var wrong = right
        wrong.sealed[sealed.count / 2] ^= 1
        wrongs.append(("a changed byte", wrong))
        wrong = right
        wrong.nonce = Array(repeating: 9, count: 16)
        wrongs.append(("another request", wrong))
        wrong = right
        wrong.cluster.caHash = .zero
        wrongs.append(("another authority", wrong))
        wrong = right
        wrong.cluster.generation = 2
        wrongs.append(("another generation", wrong))
        wrong = right
        wrong.identity.ipv4 = testAddress(63)
        wrongs.append(("another address", wrong))
        wrong = right
        wrong.identity.node = testNode(3)
        wrongs.append(("another node", wrong))
        for (what, delivery) in wrongs {
            guard case .startFailed(.badGrant, _) = joiner.ask(.startAgent(delivery)) else {
                Issue.record("accepted: \(what)")
                continue
            }
        }
        guard case .startFailed(.badGrant, _) = joiner.ask(.startJoined(right)) else {
            Issue.record("an agent's grant made a server")
            return
        }
        let thief = Host(3, host: 64)
        guard case .startFailed(.badGrant, _) = thief.ask(.startAgent(right)) else {
            Issue.record("another machine opened the grant")
            return
        }
        #expect(joiner.ask(.inspect) == .inspected(.none))
        #expect(joiner.ask(.startAgent(right)) == .running(cluster, .agent))
        #expect(joiner.ask(.inspect) == .inspected(.agent(cluster)))
    }

    @Test func onlyAProperRequestIsSigned() throws {
        let cluster = try found()
        guard case .requestMade(let request) = joiner.ask(.makeRequest(joiner.identity)) else {
            throw Problem(text: "no request")
        }
        let file = joiner.scratch.path + "/rsa.der"
        let made = run([
            "/usr/bin/openssl", "req", "-new", "-newkey", "rsa:1024", "-nodes", "-subj",
            "/CN=x", "-keyout", joiner.scratch.path + "/rsa.key", "-outform", "DER", "-out", file,
        ])
        #expect(made.status == 0)
        var forged = request
        forged[forged.count - 1] ^= 1
        let requests: [(String, [UInt8])] = [
            ("garbage", [1, 2, 3]), ("an RSA key", contents(of: file)), ("a forged one", forged),
        ]
        for (what, bytes) in requests {
            for wish in [RoleWish.agent, .auto] {
                let report = server.ask(.admit(admission(bytes, cluster, wish: wish)))
                let refused = HostReport.refused(
                    joiner: joiner.identity.node, nonce: nonce, .badRequest)
                #expect(report == refused, "\(what)")
            }
        }
        // Nothing of it reached the datastore.
        guard case .observed(let observation) = server.ask(.probe) else {
            throw Problem(text: "no observation")
        }
        #expect(observation.members.map { $0.name } == [server.identity.name])
    }

    @Test func theAuthoritysKeyIsNowhereInClear() throws {
        let cluster = try found()
        guard case .requestMade(let request) = joiner.ask(.makeRequest(joiner.identity)),
            case .admitted(_, _, .server, let sealed) = server.ask(
                .admit(admission(request, cluster, wish: .auto)))
        else { throw Problem(text: "no grant") }
        #expect(sealed.count <= 2 * JoinMessage.partSize, "\(sealed.count) bytes")
        let key = contents(of: server.directory + "/ca.key")
        #expect(key.count == 32)
        let spellings = [key, Array(key.hex.utf8), Array(key.base64.utf8)]
        let commandLines = run(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null"]).output
        let places: [(String, [UInt8])] = [
            ("the sealed grant", sealed), ("the log", contents(of: server.directory + "/etcd.log")),
            ("the configuration", contents(of: server.directory + "/etcd.yaml")),
            ("the record", contents(of: server.directory + "/record")),
            ("a command line", Array(commandLines.utf8)),
        ]
        for (place, bytes) in places {
            #expect(!bytes.isEmpty, "\(place)")
            for spelling in spellings {
                #expect(!contains(bytes, spelling), "the key is in \(place)")
            }
        }
        #expect(contains(key + [7], key))
    }

    private func contents(of path: String) -> [UInt8] {
        guard let file = fopen(path, "r") else { return [] }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return Array(bytes.prefix(count))
    }

    private func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
        guard bytes.count >= part.count else { return false }
        return (0...bytes.count - part.count).contains { start in
            bytes[start] == part[0] && Array(bytes[start..<start + part.count]) == part
        }
    }
}
