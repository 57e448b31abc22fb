// The DHT in the open among our own nodes alone, on the small Internet of NATLab.swift:
//
//     core --- 45.18.N.2: public machines, strangers to each other
//      |------ members behind routers, with one token
//
// The measured meetings, ten of each:
//
//     MEETINGS=10 swift test -c release --filter RendezvousTimeTests

import Foundation
import Kademlia
import MeshBase
import NetAddress
import Testing

extension MeshTests {
    @Suite struct PublicDHTTests {
        private let quiet = ["--no-mdns", "--interface", "none", "--dns", "off", "--dht", "public"]

        /// Everybody knows machine 1 only, all have just started, and each looks for a mesh of its own. A
        /// mesh of two, behind routers, has to meet in that storm.
        @Test(arguments: [0, 20]) func ourNodesAloneAreADHT(lossPercent: Int) async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                try await nat.lose(percent: lossPercent)
                let count = setting("PUBLIC_DHT_NODES", default: 50)
                let machines = try await nat.worldOfOurs(count, quiet)
                let anna = try await nat.site(
                    101, .portRestricted, name: "anna", refusesInput: true)
                let bert = try await nat.site(
                    102, .portRestricted, name: "bert", refusesInput: true)
                let begin = ContinuousClock.now
                let options = ["--no-mdns", "--dht", "public", "--dht-bootstrap"]
                _ = try await anna.machine.up(options + ["45.18.1.2:6881"])
                _ = try await bert.machine.up(options + ["45.18.\(count).2:6881"])
                try await anna.machine.reaches(bert.machine, within: .seconds(60))
                report(
                    "two met among \(count) public nodes, \(lossPercent) % lost",
                    [ContinuousClock.now - begin])
                try await eventually("all know eight others", within: .seconds(180)) {
                    for machine in machines {
                        let dht = try await machine.machine.status().dht
                        guard let dht, dht.nodesIPv4 >= min(8, count - 2) else { return false }
                    }
                    return true
                }
                let resident = try machines.map { try residentKiB($0.process) }
                print(
                    "measured: \(count) nodes with the public DHT hold "
                        + "\(resident.reduce(0, +) / count) KiB each")
                // Whoever has a public address serves, and nobody behind a router.
                #expect(try await machines[1].machine.status().dht?.reachable == true)
                let dht = try #require(try await anna.machine.status().dht)
                #expect(!dht.reachable && dht.storedItems == 0)
                #expect(dht.observedIPv4?.hasPrefix("45.18.101.2:") == true)
                var kept = 0
                for machine in machines {
                    kept += try await machine.machine.status().dht?.storedItems ?? 0
                }
                #expect(kept > 0)

                // The disk remembers nodes: the next start needs nobody to be named.
                let last = machines[count - 1]
                last.process.send(SIGTERM)
                try await last.process.end(within: .seconds(20))
                _ = try await last.machine.up(quiet + ["--listen", "6881"])
                try await eventually("it is back from what the disk knows", within: .seconds(60)) {
                    try await last.machine.status().dht?.nodesIPv4 ?? 0 >= min(8, count - 2)
                }
            }
        }

        /// A flood of questions and of rubbish at a machine that serves the world.
        @Test func aFloodOfKRPCCostsNoMemoryAndFewAnswers() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let machines = try await nat.worldOfOurs(2, quiet)
                let flooder = try await nat.site(3, .open, name: "flooder").machine.host
                for last in 3...200 {
                    try await flooder.ip("addr add 45.18.3.\(last)/24 dev wan3")
                }
                let path = try mesh.lab.file("krpc-flood.py", krpcFlood)
                let node = machines[0].process
                let memory = try residentKiB(node)
                let count = setting("FLOOD_DATAGRAMS", default: 100_000)
                let output = try await flooder.run(
                    ["/usr/bin/python3", path, "45.18.1.2", "6881", "\(count)"],
                    within: .seconds(180))
                let figures = output.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
                try #require(figures.count == 3, "\(output)")
                let (seconds, sent, answered) = (figures[0], figures[1], figures[2])
                let growth = try residentKiB(node) - memory
                print(
                    "measured: \(count) datagrams of KRPC and rubbish in \(seconds) s: \(sent) bytes "
                        + "in, \(answered) bytes of answers; memory \(memory) KiB, then "
                        + "\(growth) KiB more")
                // One network: 50 answers at once and 5 a second; and what it asks to know them.
                #expect(answered < (50 + 6 * seconds) * 1_024 + 10_000)
                #expect(growth < max(8_192, count / 32))
                let status = try await machines[0].machine.status().dht
                #expect(status?.storedItems ?? 0 <= 500)
                // Others are still served.
                let asker = try await nat.site(4, .open, name: "asker").machine.host
                var probe = try KRPCProbe(asker, "45.18.1.2:6881")
                #expect(try await probe.insist(.ping)["r"] != nil)
            }
        }
    }

    /// Two that share the token and one address of the DHT, behind routers of different sites.
    @Suite struct RendezvousTimeTests {
        @Test func twoBehindRoutersMeetByOneAddress() async throws {
            var traffic: [Duration] = []
            var direct: [Duration] = []
            for _ in 0..<setting("MEETINGS", default: 1) {
                try await withMesh { mesh in
                    let nat = try await NATLab(mesh)
                    _ = try await nat.strangers(1...1)
                    let anna = try await nat.site(
                        2, .portRestricted, name: "anna", refusesInput: true
                    ).machine
                    let bert = try await nat.site(
                        3, .portRestricted, name: "bert", refusesInput: true
                    ).machine
                    let options = [
                        "--no-mdns", "--dht", "private", "--dht-plain", "--dht-bootstrap",
                        "45.18.1.2:6881",
                    ]
                    let begin = ContinuousClock.now
                    _ = try anna.start(options)
                    _ = try bert.start(options)
                    try await eventually("anna has an address") {
                        (try? await anna.status().node.ipv6) != nil
                    }
                    try await eventually("bert has an address") {
                        (try? await bert.status().node.ipv6) != nil
                    }
                    let target = try #require(try await bert.status().node.ipv6)
                    try await eventually("an echo comes back", every: .milliseconds(20)) {
                        try await anna.host.attempt([
                            "ping", "-n", "-c", "1", "-W", "0.2", target,
                        ]).status == 0
                    }
                    traffic.append(ContinuousClock.now - begin)
                    try await anna.becomesDirect(to: "bert")
                    direct.append(ContinuousClock.now - begin)
                }
            }
            report("from the start of two behind routers until traffic", traffic)
            report("from the start of two behind routers until direct", direct)
        }
    }
}

/// A machine on the small Internet and its node.
struct RunningMachine: Sendable {
    let machine: MeshMachine
    let process: LabProcess
}

extension NATLab {
    /// Public machines in sites 1 to `count`, each with a token of its own, all on port 6881. They
    /// know the first one.
    func worldOfOurs(_ count: Int, _ options: [String]) async throws -> [RunningMachine] {
        var machines: [RunningMachine] = []
        for index in 1...count {
            let site = try await site(index, .open, name: "world\(index)")
            let token = try await MeshLab.newToken(mesh.lab)
            let machine = MeshMachine(
                host: site.machine.host,
                tokenPath: try mesh.lab.file("token-world\(index)", "\(token)\n"))
            let known = index == 1 ? [] : ["--dht-bootstrap", "45.18.1.2:6881"]
            let process = try machine.start(options + ["--listen", "6881"] + known)
            machines.append(RunningMachine(machine: machine, process: process))
        }
        for machine in machines { try await machine.machine.answers(machine.process) }
        return machines
    }
}

/// Sends questions of every kind, some broken, from 198 addresses of one network, and counts the
/// bytes that come back. Prints seconds, bytes sent, bytes answered.
private let krpcFlood = """
    import os, random, socket, sys, time

    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    random.seed(1)
    sockets = []
    for last in range(3, 201):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("45.18.3.%d" % last, 0))
        s.setblocking(False)
        sockets.append(s)

    def name():
        return bytes(random.randrange(256) for _ in range(20))

    def query(method, arguments):
        return (b"d1:ad2:id20:" + name() + arguments + b"e1:q%d:" % len(method) + method
                + b"1:t2:aa1:y1:qe")

    answered = sent = 0
    def drain():
        global answered
        for s in sockets:
            try:
                while True:
                    answered += len(s.recv(4096))
            except BlockingIOError:
                pass

    begin = time.time()
    for index in range(count):
        kind = index % 6
        if kind == 0:
            data = query(b"find_node", b"6:target20:" + name())
        elif kind == 1:
            data = query(b"get_peers", b"9:info_hash20:" + name())
        elif kind == 2:
            data = query(b"get", b"6:target20:" + name())
        elif kind == 3:
            data = query(b"announce_peer", b"12:implied_porti1e9:info_hash20:" + name()
                         + b"4:porti1e5:token8:abcdefgh")
        elif kind == 4:
            data = bytearray(query(b"ping", b""))
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        else:
            data = b"d" + os.urandom(random.randrange(1, 1400)) + b"e"
        try:
            sent += sockets[index % len(sockets)].sendto(bytes(data), (host, port))
        except BlockingIOError:
            pass
        if index % 500 == 0:
            drain()
    time.sleep(1)
    drain()
    print(time.time() - begin, sent, answered)
    """
