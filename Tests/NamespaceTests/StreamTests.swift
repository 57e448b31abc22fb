// A network that drops UDP, and members that can be reached by TCP:
//
//     anna --- router that drops UDP ---+
//                                       +--- core --- rosa, public
//     bert --- router of some kind -----+

import Foundation
import LinuxIO
import NetAddress
import Testing

extension MeshTests {
    @Suite struct StreamTests {
        @Test(arguments: [SiteKind.noUDP, .portRestricted, .symmetricRandom])
        func aSiteWithoutUDPReachesTheOthersByTCP(_ other: SiteKind) async throws {
            try await withMesh { mesh in
                let begin = ContinuousClock.now
                let trio = try await mesh.acquainted(.noUDP, other)
                try await trio.anna.reaches(trio.bert)
                try await trio.bert.reaches(trio.anna)
                report(
                    "from start until a site without UDP talks with \(other.rawValue)",
                    [ContinuousClock.now - begin])
                #expect(try await trio.anna.path(to: "bert") == "relay")
                let rosa = try await trio.anna.peer("rosa")
                #expect(rosa.via == "tcp" && rosa.endpoint == "45.18.1.2:7001")
                let doctor = try await trio.anna.ask(["doctor"]).output
                #expect(
                    doctor.contains("this network drops UDP; packets go by TCP through rosa"),
                    "\(doctor)")
                #expect(doctor.contains("let UDP out (any port) for direct ways"), "\(doctor)")
            }
        }

        @Test func onlyPort443IsOpen() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(
                    .noUDP, .open, publicly: ["--relay-tls", "on"]
                ) { anna in
                    let rules = try mesh.lab.file(
                        "nft-https",
                        """
                        table ip https { chain forward {
                            type filter hook forward priority 0
                            oifname "wan2" tcp dport != 443 drop
                        }
                        }
                        """)
                    try await #require(anna.router).run(["nft", "-f", rules])
                }
                try await trio.anna.reaches(trio.bert)
                let rosa = try await trio.anna.peer("rosa")
                #expect(rosa.via == "tls" && rosa.endpoint == "45.18.1.2:443")
            }
        }

        /// When the network lets UDP through again, packets take it.
        @Test func theStreamIsLeftForUDP() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.noUDP, .open)
                #expect(try await trio.anna.peer("rosa").via == "tcp")
                try await #require(trio.sites[1].router).run([
                    "nft", "delete", "table", "ip", "block",
                ])
                try await trio.anna.becomesDirect(to: "rosa", within: .seconds(90))
                try await trio.anna.becomesDirect(to: "bert", within: .seconds(90))
                try await trio.anna.reaches(trio.bert)
            }
        }

        /// A stranger learns from the port that somebody listens, and nothing else.
        @Test func strangersGetNoByte() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let rosa = try await nat.site(1, .open, name: "rosa")
                let eve = try await nat.site(2, .open, name: "eve")
                _ = try await rosa.machine.up(["--no-mdns", "--listen", "7001"])
                // A greeting of another protocol, half a frame, a frame that opens to nothing.
                let attempts = ["474554202f0d0a", "", "0400eb5601", "0008eb56010100000000"]
                for attempt in attempts {
                    let answer = try await eve.machine.host.run(
                        ["python3", "-c", StreamTests.stranger, attempt])
                    #expect(answer == "0 closed\n", "\(attempt)")
                }
                #expect(try await rosa.machine.status().peers.isEmpty)
            }
        }

        /// Sends bytes and waits for the end: prints how many came back.
        private static let stranger = """
            import socket, sys
            connection = socket.create_connection(("45.18.1.2", 7001), 10)
            connection.sendall(bytes.fromhex(sys.argv[1]))
            connection.settimeout(20)
            received = b""
            try:
                while True:
                    data = connection.recv(4096)
                    if not data: break
                    received += data
                print(len(received), "closed")
            except ConnectionResetError:
                print(len(received), "closed")
            """
    }
}
