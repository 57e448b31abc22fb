// One namespace with nothing but loopback:
//
//     the test -> 127.0.0.1:5300  name server of the mesh  == TLS ==> 127.0.0.2:853  unbound

import DNS
import Glibc
import LinuxIO
import MeshBase
import NetAddress
import Runtime
import Testing

@Suite(.serialized) struct SecureUpstreamTests {
    @Test func questionsGoOverOneTLSConnection() throws {
        let (answers, connections) = try withSecureUpstream { server, ask in
            let place = SocketAddress(ip: .v4(0x7F00_0002), port: 853)
            let made = try server([place: "dns.example"])
            defer { made.stop() }
            var answers: [String] = []
            for number in 1...20 { answers.append(try ask("n\(number).test")) }
            let sockets = try runProgram(["ss", "-Htn", "state", "established", "dport", "= :853"])
            return (answers, sockets.lines.count)
        }
        #expect(answers == (1...20).map { "192.0.2.\($0)" })
        #expect(connections == 1)
    }

    @Test(arguments: ["other.example", ""])
    func anUpstreamThatCannotProveItsNameHearsNothing(_ name: String) throws {
        let answer = try withSecureUpstream { server, ask in
            let made = try server([SocketAddress(ip: .v4(0x7F00_0002), port: 853): name])
            defer { made.stop() }
            return try ask("n1.test")
        }
        #expect(answer == "code 2")
    }

    @Test func anAddressInTheCertificateIsAProof() throws {
        let answer = try withSecureUpstream(names: "IP:127.0.0.2") { server, ask in
            let made = try server([SocketAddress(ip: .v4(0x7F00_0002), port: 853): ""])
            defer { made.stop() }
            return try ask("n7.test")
        }
        #expect(answer == "192.0.2.7")
    }
}

private typealias Start = ([SocketAddress: String]) throws -> NameServer
private typealias Ask = (String) throws -> String

/// Runs `body` beside an unbound whose certificate is for `names` and trusted.
private func withSecureUpstream<Value: Sendable>(
    names: String = "DNS:dns.example", _ body: @escaping @Sendable (Start, Ask) throws -> Value
) throws -> Value {
    try inNewNamespace {
        var template = Array("/tmp/evlab-names-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw SystemCallError("make a directory") }
        let directory = String(cString: made)
        defer { _ = try? runProgram(["rm", "-r", directory]) }
        let key = try runProgram([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", "\(directory)/key", "-out", "\(directory)/certificate", "-days",
            "2", "-subj", "/CN=test", "-addext", "subjectAltName=\(names)",
        ])
        guard key.status == 0 else { throw LabFailure("no certificate: \(key.output)") }
        setenv("SSL_CERT_FILE", "\(directory)/certificate", 1)
        let lines =
            [
                "server:", " directory: \"\(directory)\"", " chroot: \"\"", " username: \"\"",
                " pidfile: \"\"", " interface: 127.0.0.2@853", " tls-port: 853",
                " tls-service-key: \"\(directory)/key\"",
                " tls-service-pem: \"\(directory)/certificate\"", " do-daemonize: no",
                " use-syslog: no", " access-control: 127.0.0.0/8 allow", " num-threads: 1",
                " module-config: \"iterator\"", " local-zone: \"test.\" static",
            ] + (1...20).map { " local-data: \"n\($0).test. 60 IN A 192.0.2.\($0)\"" }
        try SystemFile.write(
            lines.joined(separator: "\n") + "\n", to: "\(directory)/unbound.conf")
        let unbound = try startProgram(["unbound", "-d", "-c", "\(directory)/unbound.conf"])
        defer { unbound.terminate() }
        let place = SocketAddress(ip: .v4(0x7F00_0002), port: 853)
        for attempt in 0... {
            let listening = try runProgram(["ss", "-Htln", "sport", "= :853"])
            if listening.output.contains("127.0.0.2") { break }
            guard attempt < 200 else { throw SystemCallError("ask \(place)", code: ETIMEDOUT) }
            usleep(50_000)
        }
        let own = SocketAddress(ip: .v4(0x7F00_0001), port: 5300)
        return try body(
            { secure in
                var configuration = NameServerConfiguration(
                    fixedAddresses: [own], upstreams: Array(secure.keys))
                configuration.secureUpstreams = secure
                return try NameServer(
                    configuration, table: NameTable(zone: DNSName("mesh.internal") ?? .root)
                ) { print($0) }
            },
            { name in
                var query = DNSMessage(id: 5, flags: .recursionDesired)
                query.questions = [DNSQuestion(DNSName(name) ?? .root, .a)]
                let reply = try DNSExchange.udp(query.encoded(), to: own, patience: 10_000)
                let message = try DNSMessage(decoding: reply ?? [])
                return message.answers.first?.data.text ?? "code \(message.code.rawValue)"
            })
    }
}
