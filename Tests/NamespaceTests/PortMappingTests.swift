// A router that opens ports for who asks (miniupnpd, as home routers run it), and a member behind
// it who could not be reached directly by the other without:
//
//     anna --- router with miniupnpd ------+
//                                          +--- core --- rosa, public
//     bert --- symmetric router -----------+

import Foundation
import Testing

extension MeshTests {
    @Suite struct PortMappingTests {
        /// How the router may be asked.
        enum Speech: String, CaseIterable, Sendable {
            case pcp = "PCP"
            case natPMP = "NAT-PMP"
            case upnp = "UPnP"
        }

        @Test(arguments: Speech.allCases)
        func aMappedPortMakesHardPairsDirect(_ speech: Speech) async throws {
            try await withMesh { mesh in
                var gateway: Gateway?
                let trio = try await mesh.acquainted(
                    .portRestricted, .symmetricRandom
                ) { gateway = try await Gateway($0, speech) }
                let router = try #require(gateway)
                try await eventually("the gateway maps a port for anna") {
                    let node = try await trio.anna.status().node
                    return node.mapped?.hasPrefix("45.18.2.2:") == true
                        && node.mappedBy == speech.rawValue
                }
                #expect(try await router.mappings() == 1)
                try await trio.anna.becomesDirect(to: "bert")
                try await trio.bert.becomesDirect(to: "anna")
                try await trio.bert.reaches(trio.anna)
                let doctor = try await trio.anna.ask(["doctor"]).output
                #expect(doctor.contains("the gateway sends 45.18.2.2:"))
                trio.annasNode.send(SIGTERM)
                try await trio.annasNode.end(within: .seconds(20))
                try await eventually("the port is given back") {
                    try await router.mappings() == 0
                }
            }
        }

        /// The router forgets its ports, and need not say so.
        @Test(arguments: Speech.allCases)
        func aGatewayThatStartsAnewIsAskedAnew(_ speech: Speech) async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let site = try await nat.site(2, .portRestricted, name: "anna")
                var gateway = try await Gateway(site, speech)
                _ = try await site.machine.up(["--no-mdns"])
                try await eventually("a port is mapped") { try await gateway.mappings() == 1 }
                try await gateway.stop()
                gateway = try await Gateway(site, speech)
                // A UPnP gateway is asked once a minute, and sought when it does not answer.
                let limit = Duration.seconds(speech == .upnp ? 150 : 40)
                try await eventually("it is mapped again", within: limit) {
                    try await gateway.mappings() == 1
                }
                let node = try await site.machine.status().node
                #expect(node.mappedBy == speech.rawValue)
            }
        }

        @Test func nobodyAsksWithoutLeave() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let site = try await nat.site(2, .portRestricted, name: "anna")
                let gateway = try await Gateway(site, .pcp)
                _ = try await site.machine.up(["--no-mdns", "--port-mapping", "off"])
                // Longer than asking takes.
                try await Task.sleep(for: .seconds(5))
                #expect(try await gateway.mappings() == 0)
            }
        }
    }
}

/// miniupnpd on the router of a site.
private struct Gateway {
    private let router: LabHost
    private let daemon: LabProcess

    init(_ site: NATSite, _ speech: MeshTests.PortMappingTests.Speech) async throws {
        let program = "\(ResolverWorld.packages)/miniupnpd-nftables/usr/sbin/miniupnpd"
        guard FileManager.default.fileExists(atPath: program) else {
            throw LabFailure("miniupnpd is missing: .scripts/packages tests unpacks it")
        }
        router = try #require(site.router)
        let index = site.index
        let lab = router.lab
        // A gateway that does not know PCP answers nothing of version 2.
        let deafness = speech == .natPMP ? "udp dport 5351 @th,64,8 2 drop" : ""
        let rules = try lab.file(
            "nft-upnp\(index)",
            """
            table inet filter
            delete table inet filter
            table inet filter {
                chain miniupnpd { }
                chain prerouting_miniupnpd { }
                chain postrouting_miniupnpd { }
                chain forward {
                    type filter hook forward priority 0
                    jump miniupnpd
                }
                chain prerouting {
                    type nat hook prerouting priority -100
                    jump prerouting_miniupnpd
                }
                chain postrouting {
                    type nat hook postrouting priority 90
                    jump postrouting_miniupnpd
                }
                chain input {
                    type filter hook input priority 0
                    \(deafness)
                }
            }
            """)
        try await router.run(["nft", "-f", rules])
        let settings = try lab.file(
            "miniupnpd\(index)",
            """
            lease_file=
            ext_ifname=wan\(index)
            listening_ip=lan\(index)
            enable_natpmp=\(speech == .upnp ? "no" : "yes")
            enable_upnp=yes
            secure_mode=yes
            system_uptime=no
            upnp_table_name=filter
            upnp_nat_table_name=filter
            upnp_forward_chain=miniupnpd
            upnp_nat_chain=prerouting_miniupnpd
            upnp_nat_postrouting_chain=postrouting_miniupnpd
            uuid=6dcd9a06-5f3b-4d11-a0c5-9a0b3e4f1c2d
            allow 1024-65535 192.168.\(index).0/24 1024-65535
            deny 0-65535 0.0.0.0/0 0-65535

            """)
        daemon = try router.start([
            program, "-d", "-f", settings, "-P", "\(lab.directory)/miniupnpd\(index).pid",
        ])
        try await daemon.prints("HTTP listening on port")
    }

    func stop() async throws {
        daemon.send(SIGKILL)
        try await daemon.end(within: .seconds(20))
    }

    /// How many ports the router sends inside.
    func mappings() async throws -> Int {
        let rules = try await router.run([
            "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd",
        ])
        return rules.split(separator: "\n").count { $0.contains("dnat") }
    }
}
