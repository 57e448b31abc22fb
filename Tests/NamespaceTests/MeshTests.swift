// Whole nodes on one LAN, found by multicast DNS:
//
//     anna 192.168.60.1 ---+
//     bert 192.168.60.2 ---+--- switch
//     carl 192.168.60.3 ---+

import Foundation
import Testing

extension MeshTests {
    @Suite struct LifeTests {
        /// On the LAN of one machine an answer takes microseconds: who sends before its packet
        /// threads know the session drops it, and whatever was said is repeated a second later.
        @Test func nothingSaidOnANewSessionIsLost() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                for machine in machines { _ = try await machine.up() }
                for machine in machines {
                    for peer in machines where peer.name != machine.name {
                        try await machine.sees(peer, "alive")
                        try await machine.reaches(peer)
                    }
                    let drops = try #require(try await machine.status().drops)
                    #expect(drops["packet unknownSession"] == nil, "\(machine.name): \(drops)")
                }
            }
        }

        @Test func threeMachinesWithATokenResolveAndReachEachOther() async throws {
            var durations: [Duration] = []
            for _ in 0..<setting("MESH_RUNS", default: 1) {
                try await withMesh { mesh in
                    let machines = try await mesh.lan(["anna", "bert", "carl"])
                    for machine in machines { _ = try machine.start() }
                    let begin = ContinuousClock.now
                    var found: [String: [String]] = [:]
                    try await withThrowingTaskGroup(of: (String, [String]).self) { group in
                        for machine in machines {
                            let others = machines.map(\.name).filter { $0 != machine.name }
                            group.addTask {
                                (machine.name, try await machine.meets(others))
                            }
                        }
                        for try await (name, addresses) in group { found[name] = addresses }
                    }
                    durations.append(ContinuousClock.now - begin)
                    // What the name servers said is what the machines say of themselves.
                    var own: [String: [String]] = [:]
                    for machine in machines {
                        let node = try await machine.status().node
                        own[machine.name] = [try #require(node.ipv4), try #require(node.ipv6)]
                    }
                    for machine in machines {
                        let expected = machines.filter { $0.name != machine.name }
                            .flatMap { own[$0.name] ?? [] }
                        #expect(found[machine.name] == expected)
                    }
                }
            }
            report("from the last start until three machines resolve and ping", durations)
        }

        @Test func aSingleNodeHasAddressNameAndStatus() async throws {
            var durations: [Duration] = []
            for _ in 0..<setting("MESH_RUNS", default: 1) {
                try await withMesh { mesh in
                    let anna = try await mesh.machine("anna")
                    let process = try anna.start()
                    let begin = ContinuousClock.now
                    let resolved = try await anna.meets(["anna"])
                    try await anna.answers(process)
                    durations.append(ContinuousClock.now - begin)
                    let node = try await anna.status().node
                    #expect(resolved == [node.ipv4, node.ipv6])
                    #expect(node.hostname == "anna")
                    let server = try #require(node.ipv6)
                    let reverse = try await anna.host.run([
                        "dig", "+short", "@\(server)", "-x", server,
                    ])
                    #expect(reverse == "anna.lab.internal.\n")
                    #expect(
                        try await anna.resolve("bert.lab.internal", "A", at: server).code
                            == "NXDOMAIN")
                }
            }
            report("from the start until a single node has address, name and status", durations)
        }

        @Test func restartsKeepIdentityAddressesAndPort() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                let (anna, bert) = (machines[0], machines[1])
                var process = try await anna.up()
                _ = try await bert.up()
                let node = try await anna.status().node.own
                try await bert.reaches(anna)
                for signal in [SIGTERM, SIGKILL, SIGKILL] {
                    process.send(signal)
                    let code = try await process.end(within: .seconds(20))
                    #expect(code == (signal == SIGTERM ? 0 : 128 + signal), "\(process.output)")
                    #expect(
                        try await anna.host.attempt(["ip", "link", "show", "edgevpn0"]).status != 0)
                    process = try await anna.up()
                    #expect(try await anna.status().node.own == node)
                    try await bert.reaches(anna)
                    try await anna.reaches(bert)
                }
            }
        }

        @Test func aNodeThatSaysGoodbyeIsGoneAtOnceAndComesBack() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                var processes: [LabProcess] = []
                for machine in machines { processes.append(try await machine.up()) }
                let carl = machines[2]
                for machine in machines.dropLast() { try await machine.sees(carl, "alive") }
                processes[2].send(SIGTERM)
                #expect(try await processes[2].end(within: .seconds(20)) == 0)
                for machine in machines.dropLast() {
                    // No suspicion has to ripen: the goodbye was sent before the end.
                    try await machine.sees(carl, "left", within: .seconds(3))
                    let server = try #require(try await machine.status().node.ipv4)
                    let answer = try await machine.resolve("carl.lab.internal", "A", at: server)
                    #expect(answer.code == "NXDOMAIN")
                    let other = try await machine.resolve("anna.lab.internal", "A", at: server)
                    #expect(other.code == "NOERROR")
                }
                _ = try await carl.up()
                for machine in machines.dropLast() {
                    try await machine.sees(carl, "alive")
                    try await machine.reaches(carl)
                    let server = try #require(try await machine.status().node.ipv4)
                    let answer = try await machine.resolve("carl.lab.internal", "A", at: server)
                    #expect(answer.code == "NOERROR")
                }
            }
        }

        @Test func theNameOfADeadMachineDisappears() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert", "carl"])
                var processes: [LabProcess] = []
                for machine in machines { processes.append(try await machine.up()) }
                let carl = machines[2]
                for machine in machines.dropLast() { try await machine.sees(carl, "alive") }
                processes[2].send(SIGKILL)
                for machine in machines.dropLast() {
                    try await machine.sees(carl, "dead", within: .seconds(60))
                    let server = try #require(try await machine.status().node.ipv4)
                    let answer = try await machine.resolve("carl.lab.internal", "AAAA", at: server)
                    #expect(answer.code == "NXDOMAIN")
                }
            }
        }

        @Test func aMachineOfAnotherMeshIsNotAnswered() async throws {
            try await withMesh { mesh in
                let anna = try await mesh.machine("anna")
                let bert = try await mesh.machine("bert")
                let stranger = try await mesh.machine(
                    "carl", token: try await MeshLab.newToken(mesh.lab))
                try await mesh.connect([anna, bert, stranger])
                _ = try await anna.up(["--listen", "7001"])
                let capture = try anna.host.start([
                    "tcpdump", "-n", "-l", "-i", "lan0", "udp", "port", "7001", "and", "host",
                    "192.168.60.3",
                ])
                try await capture.prints("listening on")
                _ = try await stranger.up(["--peer", "192.168.60.1:7001"])
                // The knocks arrive, ...
                try await capture.prints("> 192.168.60.1.7001")
                _ = try await bert.up(["--peer", "192.168.60.1:7001"])
                try await anna.sees(bert, "alive")
                try await bert.reaches(anna)
                // ... and nothing goes back.
                #expect(!capture.output.contains("192.168.60.1.7001 >"), "\(capture.output)")
                #expect(try await stranger.status().peers.isEmpty)
                #expect(try await anna.status().peers.map(\.hostname) == ["bert"])
            }
        }

        @Test func aNodeWithoutAnInterfaceNeedsNoRoot() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                let (anna, bert) = (machines[0], machines[1])
                _ = try await anna.up()
                // A home that the user nobody owns, with a copy of what it must be able to read.
                let files = FileManager.default
                let home = bert.state
                try files.createDirectory(atPath: home, withIntermediateDirectories: false)
                try files.copyItem(atPath: try Lab.binary(), toPath: "\(home)/program")
                try files.copyItem(atPath: bert.tokenPath, toPath: "\(home)/token")
                try await bert.host.run(["chown", "-R", "nobody", home])
                try files.setAttributes([.posixPermissions: 0o711], ofItemAtPath: bert.directory)
                let api = "unix:\(home)/api.sock"
                let asNobody = ["setpriv", "--reuid", "nobody", "--clear-groups", "--no-new-privs"]
                let process = try bert.host.start(
                    asNobody + [
                        "\(home)/program", "up", "--token-file", "\(home)/token", "--state-dir",
                        "\(home)/state", "--hostname", "bert", "--api", api, "--dht", "off",
                        "--interface", "none",
                    ])
                try await anna.sees(bert, "alive")
                #expect(process.exitCode == nil, "\(process.output)")
                let ping = try await bert.host.attempt([
                    try Lab.binary(), "ping", "anna", "--count", "2", "--interval", "100", "--api",
                    api,
                ])
                #expect(ping.status == 0, "\(ping.output)")
                #expect(ping.output.contains("2 answered"))
                let put = try await bert.host.attempt([
                    try Lab.binary(), "ledger", "put", "files", "greeting", "hello", "--api", api,
                ])
                #expect(put.status == 0, "\(put.output)")
                try await eventually("anna has the entry") {
                    try await anna.ask(["ledger", "get"]).output.contains("greeting")
                }
                #expect(try await anna.ask(["ping", "bert", "--count", "1"]).status == 0)
            }
        }
    }
}

extension MeshMachine {
    /// Waits until the name server on the own overlay addresses knows every machine in `names`, and
    /// until each answers an echo request at both addresses and by name.
    ///
    /// - Returns: the IPv4 and IPv6 address of each.
    fileprivate func meets(_ names: [String]) async throws -> [String] {
        let script = """
            own() { ip "-$1" -o addr show dev edgevpn0 scope global 2>/dev/null \
                | awk '{ sub("/.*", "", $4); print $4; exit }'; }
            until s4=$(own 4) && [ -n "$s4" ] && s6=$(own 6) && [ -n "$s6" ]; do sleep 0.02; done
            echo "nameserver $s6" > "$1"
            mount --bind "$1" /etc/resolv.conf
            shift
            for name in "$@"
            do  for query in "A $s4" "AAAA $s6"
                do  until a=$(dig +short +time=1 +tries=1 "@${query#* }" "$name" "${query% *}") \
                        && [ -n "$a" ]
                    do sleep 0.02; done
                    until ping -n -q -c 1 -W 1 "$a" > /dev/null; do sleep 0.02; done
                    echo "found $a"
                done
                ping -4 -q -c 1 -W 2 "$name" > /dev/null && ping -6 -q -c 1 -W 2 "$name" > /dev/null \
                    || echo "found nothing by name"
            done
            """
        let names = names.map { "\($0).lab.internal" }
        let output = try await host.run(
            ["sh", "-c", script, "sh", try host.lab.file("resolv-\(name)", "")] + names,
            within: .seconds(60))
        return output.split(separator: "\n").filter { $0.hasPrefix("found ") }
            .map { String($0.dropFirst("found ".count)) }
    }
}
