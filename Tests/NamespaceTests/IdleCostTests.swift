// One LAN with a gateway to a world in which nobody answers:
//
//     switch-lan0 --- 192.168.60.1 node0, 192.168.60.2 node1 ...
//              |----- 192.168.60.254 gateway
//
// A mesh of fifty, which takes about five minutes. All namespaces share the kernel's bound of
// neighbours, which must be raised for it:
//
//     sysctl -w net.ipv4.neigh.default.gc_thresh3=16384 net.ipv6.neigh.default.gc_thresh3=16384
//     IDLE_NODES=50 IDLE_SECONDS=60 IDLE_BYTES=1000 .scripts/test --filter IdleCostTests

import Foundation
import Testing

extension MeshTests {
    @Suite struct IdleCostTests {
        /// All that a machine sends counts: tunnels, probes, mDNS, and the kernel's ARP and
        /// neighbour discovery, each with its Ethernet header.
        @Test(arguments: ["off", "private"])
        func anIdleMeshIsQuiet(dht: String) async throws {
            try await withMesh { mesh in
                let count = setting("IDLE_NODES", default: 12)
                let seconds = setting("IDLE_SECONDS", default: 20)
                try checkNeighbourBound(count)
                var machines: [MeshMachine] = []
                for index in 0..<count { machines.append(try await mesh.machine("node\(index)")) }
                let gateway = try await mesh.lab.host("gateway")
                let hub = try await mesh.lab.lan("lan0", machines.map(\.host) + [gateway])
                try await gateway.ip("addr add 192.168.60.254/24 dev lan0")
                try await gateway.run([
                    "nft", "-f", try mesh.lab.file("nft-world", worldCounter),
                ])
                for (index, machine) in machines.enumerated() {
                    try await machine.host.ip("addr add 192.168.60.\(index + 1)/24 dev lan0")
                    try await machine.host.ip("route add default via 192.168.60.254")
                    _ = try machine.start(["--dht", dht])
                }
                for machine in machines {
                    try await eventually("\(machine.name) knows all", within: .seconds(180)) {
                        guard let peers = try? await machine.status().peers else { return false }
                        return peers.count == count - 1 && peers.allSatisfy { $0.hostname != nil }
                    }
                }
                // Searches and probes of the first contact end; on a busy machine they take longer.
                try await eventually("the mesh is quiet", within: .seconds(10 * seconds)) {
                    let rates = try await rates(hub, count, over: .seconds(seconds))
                    let mean = rates.reduce(0, +) / Double(count)
                    print(
                        "measured: \(count) idle nodes, DHT \(dht), each send \(Int(mean)) bytes a "
                            + "second on the wire (\(Int(rates[0])) to \(Int(rates[count - 1])))")
                    // Twice the aim: where a processor is busy, answers come late and are asked again.
                    return mean <= Double(setting("IDLE_BYTES", default: 2_000))
                }
                let world = try await gateway.run(["nft", "list", "table", "ip", "world"])
                #expect(world.contains("packets 0 "), "somebody called the world:\n\(world)")
            }
        }

        /// Beyond the bound the kernel sends nothing to those whom it has to forget, which is not what
        /// machines of their own would see.
        private func checkNeighbourBound(_ count: Int) throws {
            for family in ["ipv4", "ipv6"] {
                let path = "/proc/sys/net/\(family)/neigh/default/gc_thresh3"
                let text = try String(contentsOfFile: path, encoding: .utf8)
                let bound = try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
                guard count * count > bound else { continue }
                throw LabFailure(
                    "\(count) machines need \(count * count) in \(path), not \(bound)")
            }
        }

        /// Bytes a second that each machine sends, ascending.
        private func rates(_ hub: LabHost, _ count: Int, over span: Duration) async throws
            -> [Double]
        {
            let before = try await sentBytes(hub, count)
            let begin = ContinuousClock.now
            try await Task.sleep(for: span)
            let after = try await sentBytes(hub, count)
            let elapsed = (ContinuousClock.now - begin) / .seconds(1)
            return zip(before, after).map { Double($1 - $0) / elapsed }.sorted()
        }

        /// What came in at the ports of the switch, by machine.
        private func sentBytes(_ hub: LabHost, _ count: Int) async throws -> [Int] {
            struct Link: Decodable {
                struct Statistics: Decodable {
                    struct Direction: Decodable { var bytes: Int }
                    var rx: Direction
                }
                var ifname: String
                var stats64: Statistics
            }
            let output = try await hub.run(["ip", "-j", "-s", "link", "show"])
            let links = try JSONDecoder().decode([Link].self, from: Data(output.utf8))
            return try (0..<count).map { index in
                try #require(links.first { $0.ifname == "port\(index)" }).stats64.rx.bytes
            }
        }
    }
}

/// Counts what is for somebody beyond the LAN.
private let worldCounter = """
    table ip world { chain in {
        type filter hook prerouting priority -300
        iif lo accept
        ip daddr { 192.168.60.0/24, 224.0.0.0/4, 255.255.255.255 } accept
        counter
    }
    }
    """
