// Members that carry for others:
//
//     anna --- router of some kind ---+        +--- rosa, public
//                                     +- core -+
//     bert --- router of some kind ---+        +--- sven, public

import Foundation
import LinuxIO
import NetAddress
import Testing

extension MeshTests {
    @Suite struct RelayTests {
        @Test func packetsSurviveTheChangeFromRelayToDirect() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.portRestricted, .portRestricted)
                let target = try #require(try await trio.bert.status().node.ipv4)
                let echoes = try trio.anna.host.start([
                    "ping", "-n", "-i", "0.02", "-c", "200", "-W", "2", target,
                ])
                try await trio.anna.becomesDirect(to: "bert")
                try await trio.bert.becomesDirect(to: "anna")
                let story = try await echoes.succeed(within: .seconds(60))
                let numbers = story.split(separator: "\n").compactMap { line in
                    line.split(separator: " ").first { $0.hasPrefix("icmp_seq=") }
                        .flatMap { Int($0.dropFirst(9)) }
                }
                // Those before the first answer waited for a session, and may have been too many.
                let first = try #require(numbers.first)
                let lost = Set(first...200).subtracting(numbers)
                #expect(lost.isEmpty, "lost: \(lost.sorted()) \(story.suffix(300))")
            }
        }

        @Test func aRelayThatStopsAnsweringIsReplaced() async throws {
            try await withMesh { mesh in
                let nat = try await NATLab(mesh)
                let sven = try await nat.site(7, .open, name: "sven")
                _ = try await sven.machine.up(["--no-mdns", "--listen", "7001"])
                let trio = try await mesh.acquainted(
                    .symmetricRandom, .symmetricRandom, in: nat,
                    publicly: ["--peer", "45.18.7.2:7001"])
                for machine in [trio.anna, trio.bert] {
                    try await machine.becomesDirect(to: "sven")
                    try await machine.becomesDirect(to: "rosa")
                }
                try await trio.anna.reaches(trio.bert)
                let target = try #require(try await trio.bert.status().node.ipv4)
                let echoes = try trio.anna.host.start(["ping", "-n", "-i", "0.2", target])
                try await echoes.prints("icmp_seq=5 ")
                // Whichever carries, both ends' NATs let nothing else through.
                let relay = try await trio.anna.peer("bert").relay
                let gone = relay == "sven" ? sven.machine : trio.rosa
                #expect(relay == "sven" || relay == "rosa")
                try await gone.host.ip("link set wan\(relay == "sven" ? 7 : 1) down")
                let begin = ContinuousClock.now
                let before = echoes.output.count
                try await eventually("echoes come back", within: .seconds(30)) {
                    echoes.output.dropFirst(before).filter { $0 == "\n" }.count > 5
                }
                report("relay gone, until packets flow again", [ContinuousClock.now - begin])
                try await eventually("the other one carries") {
                    let present = try await trio.anna.peer("bert").relay
                    return present != nil && present != relay
                }
                echoes.send(SIGKILL)
                try await echoes.end(within: .seconds(20))
            }
        }

        @Test func aRelayCarriesNoMoreThanItWasTold() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(
                    .symmetricRandom, .symmetricRandom, relay: "1M")
                try await trio.anna.reaches(trio.bert)
                let target = try #require(try await trio.bert.status().node.ipv4)
                let before = try await trio.bert.peer("anna").rxBytes ?? 0
                let begin = ContinuousClock.now
                // Ten times as much as may pass, in four seconds.
                try await trio.anna.host.run(["python3", "-c", RelayTests.flood, target])
                let passed = (try await trio.bert.peer("anna").rxBytes ?? 0) - before
                let seconds = (ContinuousClock.now - begin) / .seconds(1)
                // A burst of 64 KiB per packet thread comes on top.
                #expect(Double(passed) < 125_000 * seconds + 600_000, "\(seconds) s")
                #expect(passed > 125_000)
                #expect(try await trio.anna.peer("bert").path == "relay")
            }
        }

        private static let flood = """
            import socket, sys, time
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            begin = time.time()
            while time.time() - begin < 4:
                for _ in range(10): out.sendto(bytes(1200), (sys.argv[1], 9))
                time.sleep(0.01)
            """

        /// A frame of a channel that does not exist, or from an address that is no end of it, goes
        /// nowhere.
        @Test func strangersCannotUseChannels() async throws {
            try await withMesh { mesh in
                let trio = try await mesh.acquainted(.symmetricRandom, .symmetricRandom)
                try await trio.anna.reaches(trio.bert)
                let eve = try await trio.nat.site(9, .open, name: "eve")
                let socket = try eve.machine.host.datagrams()
                let rosa = SocketAddress(ip: .v4(0x2D12_0102), port: 7_001)
                let before = try await trio.bert.peer("rosa").rxBytes ?? 0
                for channel in UInt32(1)...500 {
                    let number = (0..<4).map {
                        UInt8(truncatingIfNeeded: channel &* 8_589_935 >> ($0 * 8))
                    }
                    socket.send(
                        [0xEB, 0x56, 1, 4] + number + [UInt8](repeating: 7, count: 600), to: rosa)
                }
                #expect(try await socket.next(within: .seconds(1)) == nil, "no answer")
                let after = try await trio.bert.peer("rosa").rxBytes ?? 0
                #expect(after - before < 100_000)
                try await trio.anna.reaches(trio.bert)
            }
        }
    }
}
