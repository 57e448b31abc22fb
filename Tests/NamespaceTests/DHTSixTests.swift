// The DHT where there is no IPv4 at all:
//
//     anna 2001:db8:1::2 --- west --- 2001:db8:1::1 guide 2001:db8:2::1 --- east --- bert 2001:db8:2::2
//
// The guide forwards packets and is the DHT; it does not have the token. Multicast is off.

import Kademlia
import MeshBase
import NetAddress
import Testing

extension MeshTests {
    @Suite struct DHTSixTests {
        @Test func membersMeetWithoutIPv4() async throws {
            try await withMesh { mesh in
                let foreign = try await MeshLab.newToken(mesh.lab)
                let guide = try await mesh.machine("guide", token: foreign)
                let anna = try await mesh.machine("anna")
                let bert = try await mesh.machine("bert")
                try await guide.host.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
                for (machine, link, net) in [(anna, "west", 1), (bert, "east", 2)] {
                    try await mesh.lab.cable(link, machine.host, guide.host)
                    try await machine.host.ip("addr add 2001:db8:\(net)::2/64 dev \(link) nodad")
                    try await guide.host.ip("addr add 2001:db8:\(net)::1/64 dev \(link) nodad")
                    try await machine.host.ip("-6 route add default via 2001:db8:\(net)::1")
                }
                let plain = ["--no-mdns", "--dht", "private", "--dht-plain"]
                _ = try await guide.up(plain + ["--listen", "6881", "--interface", "none"])
                let begin = ContinuousClock.now
                _ = try await anna.up(plain + ["--dht-bootstrap", "[2001:db8:1::1]:6881"])
                _ = try await bert.up(plain + ["--dht-bootstrap", "[2001:db8:2::1]:6881"])
                try await anna.reaches(bert, within: .seconds(60))
                report("two members meet by IPv6 alone", [ContinuousClock.now - begin])
                let dht = try #require(try await anna.status().dht)
                #expect(dht.nodesIPv6 >= 1 && dht.nodesIPv4 == 0)
                #expect(dht.observedIPv6?.hasPrefix("[2001:db8:1::2]:") == true)

                // BEP 32: the family of the transport, or what is wanted; peers have 18 bytes.
                var probe = try KRPCProbe(anna.host, "[2001:db8:1::1]:6881")
                let target = KademliaID(hashing: Array("somewhere".utf8))
                let answer = try #require(try await probe.ask(.findNode(target: target))?["r"])
                #expect(answer["nodes"] == nil)
                let nodes = try #require(answer["nodes6"]?.bytesValue)
                #expect(!nodes.isEmpty && nodes.count.isMultiple(of: 38))
                let other = try #require(
                    try await probe.ask(.findNode(target: target), want: [.v4])?["r"])
                #expect(other["nodes6"] == nil)
                let token = try #require(
                    try await probe.ask(.getPeers(infoHash: target))?["r"]?["token"]?.bytesValue)
                _ = try await probe.ask(
                    .announcePeer(infoHash: target, port: 7, isImplied: false, token: token))
                #expect(try await probe.peers(of: target) == ["[2001:db8:1::2]:7"])
            }
        }
    }
}
