// What people see of the ways between two that stay relayed:
//
//     anna --- symmetric router, random ---+        +--- rosa, public
//                                          +- core -+
//     bert --- port-restricted router -----+        +--- sven, public

import Foundation
import Testing

extension MeshTests {
    @Suite struct SightTests {
        @Test func theUserSeesWhichWayAndWhy() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let sven = try await nat.site(7, .open, name: "sven")
                _ = try await sven.machine.up(["--no-mdns", "--listen", "7001"])
                let trio = try await mesh.acquainted(
                    .symmetricRandom, .portRestricted, in: nat,
                    publicly: ["--peer", "45.18.7.2:7001"])
                try await trio.anna.reaches(trio.bert)
                // Two who see it tell the kinds of NAT apart.
                try await eventually("both know their NATs", within: .seconds(60)) {
                    let anna = try await trio.anna.status().node.nat
                    let bert = try await trio.bert.status().node.nat
                    return anna == "symmetric" && bert == "endpoint-independent"
                }
                try await eventually("bert's address was tried") {
                    let bert = try await trio.anna.peer("bert")
                    return bert.candidates?.contains { $0.hasPrefix("45.18.3.2:") } == true
                }
                let bert = try await trio.anna.peer("bert")
                #expect(bert.path == "relay" && bert.endpoint == nil)
                #expect(bert.relay == "rosa" || bert.relay == "sven")
                #expect(bert.pathReason == "the only one that answers")
                #expect(try await trio.anna.status().node.observed?.isEmpty == false)

                let doctor = try await trio.anna.ask(["doctor"]).output
                for words in [
                    "the NAT gives each connection another port (symmetric)",
                    "--birthday-punching on", "bert through ", "(the only one that answers)",
                    "; no answer from ", "45.18.3.2:", "rosa directly at 45.18.1.2:7001",
                ] {
                    #expect(doctor.contains(words), "\(words) in\n\(doctor)")
                }
                let status = try await trio.anna.ask(["status"]).output
                #expect(status.contains("symmetric") && status.contains("45.18.2.2:"), "\(status)")
                let peers = try await trio.anna.ask(["peers"]).output
                let line = peers.split(separator: "\n").first { $0.contains("bert") }
                #expect(line?.contains("the only one that answers") == true, "\(peers)")
            }
        }

        /// On a screen the list stays in its place and follows what happens; into a pipe it goes as
        /// one JSON list after another.
        @Test func peersLiveOnTheScreen() async throws {
            try await withMesh { mesh in
                let machines = try await mesh.lan(["anna", "bert"])
                let (anna, bert) = (machines[0], machines[1])
                _ = try await anna.up()
                let process = try await bert.up()
                try await anna.sees(bert, "alive")
                let command = [try Lab.binary(), "peers", "--watch", "--api", anna.api]
                let terminal = ["python3", "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
                let screen = try anna.host.start(terminal + command)
                let list = try anna.host.start(command + ["--json"])
                try await screen.prints("alive")
                try await list.prints("\"alive\"")
                process.send(SIGTERM)
                try await process.end(within: .seconds(20))
                try await screen.prints("left")
                try await list.prints("\"left\"")
                let pictures = screen.output.components(separatedBy: "\u{1B}[H")
                #expect(pictures.count > 2, "\(screen.output)")
                #expect(pictures.last?.contains("alive") == false, "\(screen.output)")
                for program in [screen, list] {
                    program.send(SIGTERM)
                    try await program.end(within: .seconds(20))
                }
                #expect(!list.output.contains("\u{1B}"))
            }
        }
    }
}
