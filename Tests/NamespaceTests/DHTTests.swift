// Members on two networks that meet through a DHT of strangers:
//
//     anna 10.91.0.2 --- west --- 10.91.0.1 guide 10.92.0.1 --- east --- bert 10.92.0.2
//
// The guide forwards packets and is the DHT; it does not have the token. Multicast is off.

import Foundation
import Testing

extension MeshTests {
    @Suite struct DHTTests {
        private struct World {
            var anna, bert: MeshMachine
            var guide: MeshMachine
        }

        /// The guide gets a token of its own: it is a stranger.
        private func world(_ mesh: MeshLab) async throws -> World {
            let foreign = try await MeshLab.newToken(mesh.lab)
            let guide = try await mesh.machine("guide", token: foreign)
            let anna = try await mesh.machine("anna")
            let bert = try await mesh.machine("bert")
            for (machine, link, net) in [(anna, "west", 91), (bert, "east", 92)] {
                try await mesh.lab.cable(link, machine.host, guide.host)
                try await machine.host.ip("addr add 10.\(net).0.2/24 dev \(link)")
                try await guide.host.ip("addr add 10.\(net).0.1/24 dev \(link)")
                try await machine.host.ip("route add default via 10.\(net).0.1")
            }
            try await guide.host.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
            return World(anna: anna, bert: bert, guide: guide)
        }

        private let plain = ["--no-mdns", "--dht", "private", "--dht-plain"]

        @Test func twoThatShareOnlyTheTokenMeetThroughOneStranger() async throws {
            try await withMesh { mesh in
                let world = try await world(mesh)
                _ = try await world.guide.up(plain + ["--listen", "6881", "--interface", "none"])
                let begin = ContinuousClock.now
                _ = try await world.anna.up(plain + ["--dht-bootstrap", "10.91.0.1:6881"])
                _ = try await world.bert.up(plain + ["--dht-bootstrap", "10.92.0.1:6881"])
                try await world.anna.reaches(world.bert, within: .seconds(60))
                report("two members meet through one DHT node", [ContinuousClock.now - begin])
                #expect(try await world.guide.status().peers.isEmpty)
                #expect(try await world.anna.status().peers.map(\.hostname) == ["bert"])
                let dht = try #require(try await world.guide.status().dht)
                #expect(dht.storedItems > 0)
                let doctor = try await world.anna.ask(["doctor"]).output
                #expect(doctor.contains("dht: private, "), "\(doctor)")
                #expect(doctor.contains("dht: others see this machine at 10.91.0.2:"))
                let shown = try await world.anna.ask(["status"]).output
                #expect(shown.contains("private, "), "\(shown)")
                #expect(
                    try await world.anna.status().dht?.observedIPv4?.hasPrefix("10.91.0.2:") == true
                )
            }
        }

        /// Inside the envelope nothing on the wire looks like KRPC, and strangers get no answer.
        @Test func privateMeansUnseen() async throws {
            try await withMesh { mesh in
                let world = try await world(mesh)
                let capture = try world.guide.host.start([
                    "tcpdump", "-n", "-l", "-X", "-i", "west", "udp",
                ])
                try await capture.prints("listening on")
                let hidden = ["--no-mdns", "--dht", "private"]
                _ = try await world.anna.up(hidden + ["--listen", "6881"])
                _ = try await world.bert.up(hidden + ["--dht-bootstrap", "10.91.0.2:6881"])
                try await world.anna.reaches(world.bert, within: .seconds(60))
                try await eventually("both are in each other's tables") {
                    let anna = try await world.anna.status().dht?.nodesIPv4
                    let bert = try await world.bert.status().dht?.nodesIPv4
                    return anna == 1 && bert == 1
                }
                #expect(!capture.output.contains("find_node"))
                #expect(!capture.output.contains("1:y1:q"))
                let ping = "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"
                let answer = try await world.guide.host.run([
                    "/usr/bin/python3", "-c",
                    """
                    import socket
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    s.settimeout(2)
                    s.sendto(b"\(ping)", ("10.91.0.2", 6881))
                    try:
                        print("answer", s.recv(2048))
                    except TimeoutError:
                        print("silence")
                    """,
                ])
                #expect(answer.contains("silence"), "\(answer)")
            }
        }
    }
}
